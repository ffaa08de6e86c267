"""Sweeps: many runs of one experiment with varied settings, each in a folder of its own."""
