"""Instruction templates: their files, the sandbox they run in, and how they are rendered."""
