"""Fingerprints: a short text that tells data from other data, so that a resume on changed data is noticed."""

from __future__ import annotations

import hashlib

import numpy as np

from framework.arrays import Array
from framework.random_streams import random_generator

_WORDS = 8192
"""8-byte words that become one; less than so many are hashed as they are."""


def fingerprint(array: Array) -> str:
    """Return the dtype and shape of an array and a digest of its contents.

    The digest is SHA-256 over sums of 8192 words, each times an odd number of its own: as fast as memory, it sees every
    change of one value, and an exchange of two but for a chance of one in 2^50. It is no protection against somebody
    who wants to deceive.

    Example:
        >>> fingerprint(np.zeros((2, 3)))
        'float64 (2, 3) 4c564769e8be'
        >>> fingerprint(np.arange(3.0)) == fingerprint(np.array([0.0, 2.0, 1.0]))
        False
    """
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(raw) - len(raw) % (8 * _WORDS)
    if whole:
        factors = random_generator(0, "fingerprint").integers(0, 2**63, _WORDS, np.uint64) * np.uint64(2) + np.uint64(1)
        products = np.empty(_WORDS, np.uint64)
        for words in raw[:whole].view(np.uint64).reshape(-1, _WORDS):
            np.multiply(words, factors, out=products)
            digest.update(int(np.add.reduce(products)).to_bytes(8, "little"))
    digest.update(raw[whole:].data)
    return f"{array.dtype.name} {array.shape} {digest.hexdigest()[:12]}"


def fingerprints(x: Array, y: Array, weight: Array | None) -> str:
    """Return the fingerprint of each part of some data.

    Example:
        >>> fingerprints(np.zeros((2, 3)), np.zeros(2), None)  # doctest: +ELLIPSIS
        'x float64 (2, 3) 4c564769e8be, y float64 (2,) ...'
    """
    named = {"x": x, "y": y, "weight": weight}
    return ", ".join(f"{name} {fingerprint(array)}" for name, array in named.items() if array is not None)
