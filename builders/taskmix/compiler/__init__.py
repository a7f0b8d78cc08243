"""The compiler: a template becomes steps on a frame of rows, which give what Jinja gives row by row."""

from taskmix.compiler.templates import RowWise, Vectorised, compile_template, outcome

__all__ = ["RowWise", "Vectorised", "compile_template", "outcome"]
