"""What is wrong with templates and tasks before anything is built: a linter with named rules."""
