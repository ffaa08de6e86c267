"""Runs as people look at them: side by side, as a page, and in the terminal while they train."""
