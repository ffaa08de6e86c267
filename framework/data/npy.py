"""Arrays in .npy files as a Dataset, of which only the rows that are asked for are read."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from framework.base.arrays import Array
from framework.base.errors import Advice, DataError, SettingsError, ShapeError
from framework.base.trees import flatten, leaf_name, map_leaves
from framework.data.files import File, locate_files


class NPY:
    """A Dataset of arrays in ``.npy`` files, as ``np.save`` writes them, or of memory maps.

    Rows are read by their bytes: files need not fit in memory, and may be in file systems of fsspec. An array that is
    already open, such as ``np.load(path, mmap_mode="r")``, is cut into blocks in the same way.

    Args:
        x: A file, a pattern such as ``"x/*.npy"``, a folder, a URL, a list of them, whose rows follow one another, or
            an array; or a dict of these by name, for a model of several inputs.
        y: The same for the targets.
        weight: The same for the weights, or None.
        read_ahead: Whether a thread reads the next rows while the current ones are trained on.

    Raises:
        DataError: A file is missing, is not a ``.npy`` file, or cannot be read by rows.
        ShapeError: Arrays differ in rows, or files in the shape or dtype of a row.

    Example:
        >>> np.save("x.npy", np.arange(6.0).reshape(3, 2))
        >>> np.save("y.npy", np.arange(3.0))
        >>> NPY("x.npy", "y.npy").read(1, 3)
        (array([[2., 3.],
               [4., 5.]]), array([1., 2.]))
    """

    def __init__(self, x: Any, y: Any, weight: Any = None, *, read_ahead: bool = True) -> None:
        """Read the headers of the files."""
        self.read_ahead = read_ahead
        parts = {"x": x, "y": y} | ({} if weight is None else {"weight": weight})
        self._parts = {name: _open_tree(source, name) for name, source in parts.items()}
        rows = {name: leaf.rows for key, tree in self._parts.items() for name, leaf in flatten(tree, key).items()}
        if len({*rows.values()}) > 1:
            got = ", ".join(f"{count} in {name}" for name, count in rows.items())
            raise ShapeError(f"arrays must have the same number of rows; got {got}", where="NPY")
        self._rows = next(iter(rows.values()))

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._rows)

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop."""
        return tuple(map_leaves(lambda leaf: leaf.read(start, stop), tree) for tree in self._parts.values())

    def read_rows(self, rows: Sequence[int]) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of some rows, ascending; of files, those between them are read too."""
        places = np.asarray(rows) - rows[0]
        return tuple(map_leaves(lambda leaf: leaf[places], tree) for tree in self.read(rows[0], rows[-1] + 1))


class _Rows:
    """The rows of arrays, one array after another.

    Attributes:
        rows: How many.
    """

    def __init__(self, arrays: Sequence[Any], name: str) -> None:
        first = arrays[0]
        for array in arrays:
            if len(array.shape) == 0:
                where = getattr(array, "url", "an array")
                raise ShapeError(f"must have rows; got one number in {where}", name=f"NPY: argument {name!r}")
            if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise ShapeError(
                    f"NPY: argument {name!r} must have rows of one form; got {array.dtype} {array.shape[1:]} in "
                    f"{array.url}, {first.dtype} {first.shape[1:]} in {first.url}"
                )
        self.arrays = arrays
        self.starts = [0, *accumulate(array.shape[0] for array in arrays)]
        self.rows = self.starts[-1]

    def read(self, start: int, stop: int) -> Array:
        first = bisect_right(self.starts, start) - 1
        parts = [
            array[max(start, begin) - begin : min(stop, end) - begin]
            for array, (begin, end) in zip(self.arrays[first:], pairwise(self.starts[first:]), strict=True)
            if begin < stop
        ]
        empty = np.empty((0, *self.arrays[0].shape[1:]), self.arrays[0].dtype)
        return parts[0] if len(parts) == 1 else np.concatenate([empty, *parts])


class _File:
    """An array in a file, of which a slice reads some rows; the file is open meanwhile."""

    def __init__(self, file: File, name: str) -> None:
        """Read the header."""
        self.file, self.url = file, file.url
        self._stamp = file.stamp()
        with file.open_plain() as opened:
            try:
                version = np.lib.format.read_magic(opened)
                reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                self.shape, fortran, self.dtype = reader[version](opened)
            except (ValueError, KeyError) as error:
                raise DataError(
                    f"NPY: argument {name!r}: {file.url} is not a .npy file of numbers, or is damaged: {error}; write "
                    "it by np.save"
                ) from None
            self._offset = opened.tell()
        self._by_column = fortran and len(self.shape) > 1
        if self.dtype.hasobject:
            raise DataError(f"NPY: argument {name!r}: {file.url} holds Python objects; save an array of real numbers")

    def __getitem__(self, rows: slice) -> Array:
        start, stop = rows.start, rows.stop
        if self.file.stamp() != self._stamp:
            advice = Advice("make a new NPY(...)", command="start the command again")
            raise DataError("was changed after it was opened", name=f"NPY: {self.url}", advice=advice)
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        # In Fortran's order the rows of a column follow one another, so the columns are read one by one.
        columns = math.prod(self.shape[1:]) if self._by_column else 1
        width = self.dtype.itemsize if self._by_column else row_bytes
        chunks = []
        with self.file.open_plain() as opened:
            for column in range(columns):
                opened.seek(self._offset + (column * self.shape[0] + start) * width)
                chunks.append(opened.read((stop - start) * width))
        data = b"".join(chunks)
        if len(data) != (stop - start) * row_bytes:
            raise DataError(f"{self.url} ends before row {stop}; is it complete?", where="NPY")
        order: Literal["F", "C"] = "F" if self._by_column else "C"
        return np.frombuffer(data, self.dtype).reshape(stop - start, *self.shape[1:], order=order)


def _open_tree(source: Any, name: str) -> Any:
    if isinstance(source, Mapping):
        return {key: _open_tree(child, leaf_name(name, key)) for key, child in source.items()}
    if isinstance(source, np.ndarray):
        return _Rows([source], name)
    paths = [source] if isinstance(source, str | Path) else source
    if not isinstance(paths, list | tuple) or not all(isinstance(path, str | Path) for path in paths):
        raise SettingsError("must be a path, a list of paths or an array", name=f"NPY: argument {name!r}", got=source)
    return _Rows([_File(file, name) for file in locate_files(map(str, paths), ".npy", "NPY")], name)
