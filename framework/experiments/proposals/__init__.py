"""A first experiment for a table."""
