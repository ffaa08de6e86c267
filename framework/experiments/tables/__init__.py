"""The tables of experiments: how files are read, and which rows have a target."""
