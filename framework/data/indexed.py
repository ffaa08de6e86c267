"""Objects whose rows are read by number, such as the datasets of PyTorch and of Hugging Face, as Datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.base.errors import DataError, SettingsError, nearest
from framework.base.extras import load_module
from framework.data.parts import stack_items


class Indexed:
    """A Dataset of an object with ``len(data)`` and ``data[i]``, such as a map-style dataset of PyTorch.

    ``data[i]`` is (x, y) or (x, y, weight) of one row, or a dict of the row's values by name: then ``target`` names y,
    and x is the dict of the others. ``fit`` takes such an object without this class where no name is needed. A dataset
    of Hugging Face is read in blocks, as a table of Arrow.

    Args:
        data: The object.
        target: The name of y, where rows have names; or a tuple of names.
        weight: The name of the weight, where rows have names.
        read_ahead: Whether a thread reads the next rows while the current ones are trained on.

    Raises:
        SettingsError: ``data`` has no length or no rows by number.

    Example:
        >>> rows = [{"x": [1.0, 2.0], "label": 3.0}, {"x": [4.0, 5.0], "label": 6.0}]
        >>> Indexed(rows, target="label").read(0, 2)
        ({'x': array([[1., 2.],
               [4., 5.]])}, array([3., 6.]))
    """

    def __init__(
        self,
        data: Any,
        target: str | tuple[str, ...] | None = None,
        weight: str | None = None,
        *,
        read_ahead: bool = False,
    ) -> None:
        """Check that rows can be read by number."""
        if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
            raise SettingsError("must have len() and rows by number", name="Indexed: argument 'data'", got=data)
        self.data, self.target, self.weight, self.read_ahead = data, target, weight, read_ahead

    @property
    def _name(self) -> str:
        return f"Indexed({type(self.data).__name__})"

    @property
    def _named(self) -> tuple[str, ...]:
        """The names of y and of the weight."""
        target = (self.target,) if isinstance(self.target, str) else self.target or ()
        return (*target, *([] if self.weight is None else [self.weight]))

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.data)

    def read(self, start: int, stop: int) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of the rows start..stop; see ``read_rows``."""
        return self.read_rows(range(start, min(stop, len(self))))

    def read_rows(self, rows: Sequence[int]) -> tuple[Any, ...]:
        """Return (x, y) or (x, y, weight) of some rows.

        Raises:
            DataError: A row has another form than the first, or has no value of a name.
        """
        if hasattr(self.data, "with_format"):
            return self._table(slice(rows.start, rows.stop) if isinstance(rows, range) else [*rows])
        many = getattr(self.data, "__getitems__", None)
        items = [self.data[row] for row in rows] if many is None else [*many([*rows])]
        if items and isinstance(items[0], dict):
            for index, (item, row) in enumerate(zip(items, rows, strict=True)):
                self._require([*item], f"row {row}")
                x = {name: value for name, value in item.items() if name not in self._named}
                y = item[self.target] if isinstance(self.target, str) else [item[name] for name in self.target or ()]
                items[index] = (x, y) if self.weight is None else (x, y, item[self.weight])
        elif self._named:
            raise DataError(f"{self._named[0]!r} is the name of a value; but rows have no names", where=self._name)
        x, y, weight = stack_items(items, self._name, rows)
        return (x, y) if weight is None else (x, y, weight)

    def _table(self, rows: slice | list[int]) -> tuple[Any, ...]:
        """Return rows of a dataset of Hugging Face, which has them as Arrow tables."""
        table = self.data.with_format("arrow")[rows]
        table = load_module("pyarrow", self._name).table(table.columns, table.column_names)  # without its description
        self._require(table.column_names, "the dataset")
        x = table.select([name for name in table.column_names if name not in self._named])
        y = table.column(self.target) if isinstance(self.target, str) else table.select(self.target)
        return (x, y) if self.weight is None else (x, y, table.column(self.weight))

    def _require(self, names: Sequence[str], where: str) -> None:
        shown = ", ".join(map(str, names))
        if self.target is None:
            raise DataError(f"rows have names; write Indexed(data, target=...). Names: {shown}", where=self._name)
        for name in self._named:
            if name not in names:
                raise DataError(f"{self._name}: {where} has no {name!r}{nearest(name, names) or '.'} Names: {shown}")
