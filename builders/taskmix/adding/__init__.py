"""A catalog entry for a dataset, guessed from its columns and values."""
