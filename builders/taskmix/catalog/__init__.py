"""The catalog: which tasks there are, and which mixtures are made of them."""
