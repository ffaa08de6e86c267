"""Formulas one by one, as symbols: what this engine alone reads of activations, losses, regularizers and layers.

NumPy and JAX read the graph of a whole step, of ``graph.step``, and do not import this module: it goes with the engine.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from framework.engines.records import CannotLower, bare, reason
from framework.graph.node import Node
from framework.graph.rows import over_shards
from framework.graph.symbol import Symbol, value_of
from framework.graph.trace import Traced
from framework.models.layer import LayerGraph

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


@lru_cache(maxsize=64)
def of_shards(program: LayerGraph) -> Traced:
    """Return the formula of a layer for a shard, a part of a batch: sums over rows go over all shards.

    Raises:
        DerivativeError: The formula mixes rows by something else.
    """
    program.require_shards()
    names = [*program.traced.inputs]
    found = over_shards([*program.traced.outputs, *program.traced.inputs.values()])
    outputs, inputs = found[: -len(names)], found[-len(names) :]
    return Traced(dict(zip(names, inputs, strict=True)), tuple(outputs))
