"""Fingerprints: a short text that tells data from other data, so that a resume on changed data is noticed."""

from __future__ import annotations

import hashlib

import numpy as np

from framework.arrays import Array

_GROUP = 256
_CHUNK = 256 * _GROUP


def fingerprint(*arrays: Array | None) -> str:
    """Return the shapes and dtypes of some arrays and a digest of their contents.

    The 8-byte words are laid out in rows of 256; the digest is SHA-256 over the sums of the rows and of the columns.
    So every change of one word and every exchange of two is seen, at the speed of memory. It is no protection against
    somebody who wants to deceive.

    Example:
        >>> fingerprint(np.zeros((2, 3)), None)
        'float64 (2, 3), 77133ff7b6d9'
        >>> fingerprint(np.arange(3.0)) == fingerprint(np.array([0.0, 2.0, 1.0]))
        False
    """
    given = [array for array in arrays if array is not None]
    digest = hashlib.sha256()
    for array in given:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        whole = len(raw) - len(raw) % (8 * _GROUP)
        words = raw[:whole].view(np.uint64)
        columns = np.zeros(_GROUP, np.uint64)
        for start in range(0, len(words), _CHUNK):  # in the cache, so that both sums cost one pass over memory
            rows = words[start : start + _CHUNK].reshape(-1, _GROUP)
            digest.update(np.add.reduce(rows, axis=1).data)
            columns += np.add.reduce(rows, axis=0)
        digest.update(columns.data)
        digest.update(raw[whole:].data)
    forms = ", ".join(f"{array.dtype.name} {array.shape}" for array in given)
    return f"{forms}, {digest.hexdigest()[:12]}"
