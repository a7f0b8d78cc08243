"""What a mixture is made of: holdout, sampling, which row takes which template."""
