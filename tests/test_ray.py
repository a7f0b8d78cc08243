"""With Ray itself: the same bytes. What a node that dies changes is for `python tests/ray_nodes.py`."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

import taskmix
from taskmix.catalog.builtin import catalog_path
from tests.test_engines import digests

pytest.importorskip("ray", reason="Ray is not installed: pip install 'taskmix[ray]'")

RUN = "from taskmix.cli import main; main()"


def test_a_ray_that_is_started_here_gives_the_bytes_of_the_local_engine(tmp_path: Path) -> None:
    taskmix.build("starter", catalog=taskmix.load_catalog(catalog_path()), out=tmp_path / "local")
    # in a process of its own: what Ray's processes leave behind is no concern of the other tests
    own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "TASKMIX_CATALOG": str(catalog_path())}
    command = ["build", "starter", "--engine", "ray", "--workers", "1", "--out", "ray"]
    ended = subprocess.run(
        [sys.executable, "-c", RUN, *command],
        cwd=tmp_path,
        env={**{name: value for name, value in os.environ.items() if not name.startswith("RAY_")}, **own},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ended.returncode == 0, ended.stderr
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")
