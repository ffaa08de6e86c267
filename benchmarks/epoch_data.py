"""What both sides of the epoch benchmark train on: the same rows, first weights and settings."""

import numpy as np

ROWS, INPUTS, UNITS, CLASSES = 60_000, 784, 128, 10
BATCH, RATE, EPOCHS, SEED = 128, 0.01, 4, 0


def epoch_data():
    """Return x, y and the first weights of both layers; all float32. The classes can be learnt from ten of the pixels.

    Nothing here multiplies matrices, so that the PyTorch side starts no threads of NumPy's.
    """
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((ROWS, INPUTS), dtype=np.float32)
    hidden = rng.standard_normal((INPUTS, UNITS), dtype=np.float32) / np.float32(INPUTS**0.5)
    output = rng.standard_normal((UNITS, CLASSES), dtype=np.float32) / np.float32(UNITS**0.5)
    return x, x[:, :CLASSES].argmax(axis=1), hidden, output
