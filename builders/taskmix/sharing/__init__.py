"""A mixture elsewhere: pushed to the dataset hub or to any store that fsspec knows, and read back, checked."""
