"""What a model's answers are worth: how they are got from a model, metrics, their uncertainty, and tables of them."""
