"""Tables and text on a terminal, or in a pipe."""

import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from taskmix.text import visible

_PIPE_WIDTH = 240
"""Columns where stdout is no terminal: wide enough that no name is broken over two lines."""


def printed(*parts: Table | Text | str) -> str:
    """Return rich output as text, in colour where stdout shows it."""
    target = Console()
    width = target.width if target.is_terminal else _PIPE_WIDTH
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=target.is_terminal,
        color_system="standard" if target.is_terminal else None,
        highlight=False,
    )
    with console.capture() as capture:
        for part in parts:
            console.print(part, markup=False, soft_wrap=isinstance(part, Text | str))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def table(head: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]], title: str = "") -> Table:
    """Return a table; `head` has the name of each column, and `right` for figures."""
    made = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, justify in head:
        made.add_column(name, justify="right" if justify == "right" else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(visible(cell)) for cell in row))
    return made
