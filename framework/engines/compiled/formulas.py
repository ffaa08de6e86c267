"""Formulas one by one, as symbols: activations, losses and regularizers for kernels of dense models.

The engines that train one model read the graph of a whole step, of ``graph.step``, and do not import this module.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.engines.records import CannotLower, bare, reason
from framework.graph.node import Node
from framework.graph.symbol import Symbol, value_of

REDUCTIONS = frozenset({"sum", "mean", "max", "min"})


def arguments(node: Node) -> tuple[Any, ...]:
    """Return a node's arguments without views."""
    return tuple(map(bare, node.args))


def fixed(value: Any) -> Any:
    """Return a value as an argument of a formula, which the formula must not change."""
    value = value_of(value)
    return Symbol(value, fixed=True) if isinstance(value, Node) else value


def called(component: Any, method: str, *arguments: Any) -> Any:
    """Call a formula on symbols and numbers.

    Raises:
        CannotLower: It fails, or gives no array; names it.
    """
    name = name_of(component, method)
    try:
        with np.errstate(all="ignore"):
            result = getattr(component, method)(*map(fixed, arguments))
    except Exception as error:  # noqa: BLE001 (whatever a formula does with a symbol: NumPy computes it)
        raise CannotLower(reason(name, error)) from None
    if not isinstance(result, Symbol | int | float | np.number):
        raise CannotLower(f"{name} returns {type(result).__name__}; expected an array")
    return result


def name_of(component: Any, method: str) -> str:
    """Return what a message calls a formula."""
    return f"{type(component).__name__}.{method}".removesuffix("._formula")
