"""The mixture on disk: formats, shards, card, lock, and the exchange that makes it appear whole."""
