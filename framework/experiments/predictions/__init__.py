"""Predictions of tables, as one file or as a folder of part files."""
