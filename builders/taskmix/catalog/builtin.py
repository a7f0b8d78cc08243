"""Where the built-in catalog lies: inside an installed package, or at the root of a checkout."""

from pathlib import Path

_PACKAGED = Path(__file__).parent.parent / "data"
_CHECKOUT = Path(__file__).parent.parent.parent.parent


def root() -> Path:
    """Return the folder that holds the built-in catalog.yaml, templates/ and starter data."""
    return _PACKAGED if (_PACKAGED / "catalog.yaml").is_file() else _CHECKOUT


def catalog_path() -> Path:
    """Return the built-in catalog file."""
    return root() / "catalog.yaml"


def templates_folder() -> Path:
    """Return the folder of the built-in templates, which holds the kinds' own."""
    return root() / "templates"
