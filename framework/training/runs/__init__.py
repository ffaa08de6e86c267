"""Runs: everything that changes in one training, and what is found out about it."""
