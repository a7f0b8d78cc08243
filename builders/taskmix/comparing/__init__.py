"""What changed from one mixture to another: what their locks say, and the texts of rows that both have."""
