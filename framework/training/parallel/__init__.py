"""Data-parallel training: one model on several workers, with the same bits for any number of them."""
