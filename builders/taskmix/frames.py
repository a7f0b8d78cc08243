"""The columns that frames of rows carry from one room to the next."""

SOURCE_ROW = "source_row"
"""The row's number in its source split, from 0, before any cut or filter (UInt64)."""

DRAW = "draw"
"""A hash of the row and the template, from which a template's `choice` follows (UInt64)."""
