"""Cells: arrays that record what an optimizer's ``update`` does to them in place.

A symbol of ``formulas`` stands for one value for good. ``update`` changes its arguments, so a cell holds the symbol of
its newest value, and every operation reads the newest values of its operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from framework.formulas.symbols import Symbol, refuse

_WHOLE = (slice(None), Ellipsis, ())


class Cell(NDArrayOperatorsMixin):
    """An array inside ``update``: its newest value, as a symbol or a number."""

    __slots__ = ("value",)
    __array_priority__ = 1e7

    def __init__(self, value: Any) -> None:
        """Hold a first value."""
        self.value = value

    @property
    def dtype(self) -> Any:
        """The dtype that the formula is recorded for."""
        return self.value.dtype

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Record an operation; with ``out``, which the operators in place give, that cell has a new value."""
        (out,) = options.pop("out", (None,))
        result = getattr(ufunc, method)(*map(_value, inputs), **options)
        if out is None:
            return Cell(result)
        if not isinstance(out, Cell):
            refuse(f"np.{ufunc.__name__} with out={type(out).__name__}", "write into values or memory")
        out.value = result
        return out

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, options: Any) -> Any:
        """Record a function; ``out`` and the first argument of ``np.copyto`` have a new value."""
        options = dict(options)
        out = options.pop("out", None)
        if function is np.copyto and len(args) == 2 and isinstance(args[0], Cell):
            return args[0]._copy_from(_value(args[1]), _value(options.get("where", True)))
        if out is not None and not isinstance(out, Cell):
            refuse(f"np.{function.__name__} with out={type(out).__name__}", "write into values or memory")
        result = function(*map(_value, args), **{name: _value(option) for name, option in options.items()})
        if isinstance(out, Cell):
            out.value = result
            return out
        return Cell(result) if isinstance(result, Symbol) else result

    def __getitem__(self, index: Any) -> Cell:
        """Return the array itself for ``values[...]``."""
        if not any(index is whole or index == whole for whole in _WHOLE):
            refuse("an index into an array", "write for the whole array, with np.where for choices")
        return self

    def __setitem__(self, index: Any, value: Any) -> None:
        """Give the array a new value: ``values[...] = ...``."""
        self[index].value = _value(value)

    def _copy_from(self, new: Any, where: Any) -> None:
        """Have a new value, or where a mask is false the old one."""
        self.value = new if where is True else np.where(where, new, self.value)

    def copy(self) -> Cell:
        """Return an array of its own with the same value."""
        return Cell(self.value)

    def __getattr__(self, name: str) -> Any:
        """Refuse what a record does not have, in the words of Symbol."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.value, name)

    def __bool__(self) -> bool:
        """Refuse."""
        return bool(self.value)

    def __float__(self) -> float:
        """Refuse."""
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        """Refuse."""
        return np.asarray(self.value)


def _value(x: Any) -> Any:
    return x.value if isinstance(x, Cell) else x
