"""What tests share: where the real datasets lie, and a project folder to write a catalog into."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# a busy machine is no failure; on CI the same examples every time, so that a run says something about the change
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("TASKMIX_TEST_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that all tests of a run share, apart from that of whoever runs them."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKMIX_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled datasets; $TASKMIX_TEST_SHARED names another than ../shared."""
    data = SHARED / "data"
    if not data.is_dir():
        pytest.skip(f"no real datasets in {data}: set TASKMIX_TEST_SHARED to the folder that holds data/")
    return data


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a project's files and returns its catalog.yaml.

    `project("version: 1 …", **{"templates/t.yaml": "…", "data/train.jsonl": "…"})`
    """

    def write(catalog: str, files: dict[str, str | bytes] | None = None) -> Path:
        for name, content in {"catalog.yaml": catalog, **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "catalog.yaml"

    return write
