"""With Ray itself: the same bytes. What a node that dies changes is for `python tests/ray_nodes.py`."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import taskmix
from taskmix.catalog.builtin import catalog_path
from taskmix.errors import SourceError
from taskmix.urls import opened
from tests.moto_server import serving
from tests.test_buckets import CATALOG, TEMPLATES, TOY
from tests.test_engines import digests

pytest.importorskip("ray", reason="Ray is not installed: pip install 'taskmix[ray]'")

RUN = "from taskmix.cli import main; main()"


def test_a_ray_that_is_started_here_gives_the_bytes_of_the_local_engine(tmp_path: Path) -> None:
    taskmix.build("starter", catalog=taskmix.load_catalog(catalog_path()), out=tmp_path / "local")
    build_with_ray(tmp_path, "starter", {"TASKMIX_CATALOG": str(catalog_path())})
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")


def build_with_ray(folder: Path, mixture: str, environment: Mapping[str, str]) -> None:
    """Build into the folder `ray`, in a process of its own: what Ray leaves behind is no concern of other tests."""
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), **environment}
    command = ["build", mixture, "--engine", "ray", "--workers", "1", "--out", "ray"]
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *command],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, **own},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr


def test_a_source_in_a_store_gives_the_bytes_of_the_local_engine(
    tmp_path: Path, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = project(CATALOG.format(path="s3://data/toy", more=""), {"templates/toy.yaml": TEMPLATES})
    with serving(os.environ) as found:
        for name, value in found.items():
            monkeypatch.setenv(name, value)
        files, _ = opened("s3://data", SourceError)
        files.mkdir("data")
        for name, text in TOY.items():
            files.pipe_file(f"data/{name}", text.encode())
        taskmix.build("tiny", catalog=taskmix.load_catalog(catalog), out=tmp_path / "local")
        build_with_ray(tmp_path, "tiny", {"TASKMIX_CATALOG": str(catalog), "TASKMIX_CACHE": str(tmp_path / "other")})
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
