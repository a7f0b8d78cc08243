"""Models: opening and making them, and what training changes about them."""
