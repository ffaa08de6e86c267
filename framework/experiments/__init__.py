"""Experiments: data, model and training in one file, and a folder for each run of it."""
