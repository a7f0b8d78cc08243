"""Models trained on mixtures and raw tasks."""
