"""`python -m taskmix` is `mix`, for what starts Python modules, such as torchrun."""

from taskmix.cli import main

main(prog_name="mix")
