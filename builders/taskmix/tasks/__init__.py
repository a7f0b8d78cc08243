"""Tasks: a source seen as one kind, checked against what the catalog says of it."""
