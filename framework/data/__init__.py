"""Data: arrays or a Dataset, checked, and given as batches."""
