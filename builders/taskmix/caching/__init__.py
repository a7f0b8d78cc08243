"""The cache: what is expensive, kept under a key that says all that it depends on, and made anew when it is damaged."""
