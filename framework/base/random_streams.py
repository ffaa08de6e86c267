"""Random numbers as a pure function of a key: no stream runs on, so nothing about it has to be saved or restored.

A generator is made for a key (seed, purpose, epoch, step, ...) when it is asked for. The same key gives the same
numbers in any process and in any order; two keys give independent numbers. NumPy's global stream is never touched.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence


def random_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a fresh generator for (seed, purpose, counters).

    The key is the 128-bit BLAKE2b digest of all three, given to the counter-based generator Philox.

    Args:
        seed: The seed of the whole run.
        purpose: What the numbers are for: ``"shuffle"``, ``"initialize"``, ...
        *counters: Epoch, step, place of the layer: whatever tells this use from the others.

    Returns:
        A generator in its first state.

    Example:
        >>> a, b = random_generator(0, "shuffle", 3), random_generator(0, "shuffle", 3)
        >>> bool(a.random() == b.random())
        True

    Source:
        Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (2011).
    """
    text = f"{purpose}|{seed}|" + "|".join(map(str, counters))
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(_Key(digest)))  # type: ignore[arg-type]  # NumPy's stubs are narrower


class _Key(ISeedSequence):
    """A key in place of a seed. With ``key=``, NumPy also asks the system for random bits, at the same cost again."""

    def __init__(self, digest: bytes) -> None:
        self.words = np.frombuffer(digest, "<u8")

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        """Return the key, for which Philox asks."""
        return self.words
