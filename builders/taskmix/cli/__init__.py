"""The command `mix`, installed as `taskmix` too."""

from taskmix.cli.commands import main

__all__ = ["main"]
