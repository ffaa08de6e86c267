"""Ties: where kinks of a formula meet, found by computing it at some numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from framework.graph.node import Node, nodes_in, ordered
from framework.graph.region import Region, elementwise
from framework.special import erf, erfc

_SIZES = np.geomspace(1e-3, 1e3, 60)
_GRID = np.concatenate([np.arange(-12.0, 12.5, 0.5), -_SIZES, _SIZES])

Probe = dict[Node, Any]
"""Values of the variable, and a number for each other input of a region."""

_NUMBERS: dict[str, Callable[..., Any]] = {"erf": erf, "erfc": erfc}


def probes(region: Region, kinks: list[tuple[Any, Any]]) -> list[Probe]:
    """Return the values of the variable at kinks, if any kinks meet, for two choices of the region's other inputs."""
    numbers = {float(arg) for node in region.members for arg in node.args if not isinstance(arg, Node)}
    numbers = {size for number in numbers if math.isfinite(number) for size in (number, -number)}
    grid = np.unique([*_GRID, *numbers])
    leaves = _leaves(region)
    compute = computation([side for pair in kinks for side in pair], {region.variable, *leaves})
    found, meeting = [], False
    for first in (True, False)[: 2 if leaves else 1]:
        values = {leaf: _sample(leaf, first) for leaf in leaves}

        def differences(h: Any, values: Probe = values) -> Any:
            """Return the sign of the difference of each kink's sides, and whether they are equal."""
            computed = [np.broadcast_to(side, h.shape) for side in compute({region.variable: h, **values})]
            a, b = np.array(computed[::2]), np.array(computed[1::2])
            return (a > b) * 1 - (a < b), a == b

        signs = differences(grid)[0]
        kink, place = np.nonzero(signs[:, :-1] * signs[:, 1:] < 0)
        low, high = grid[place], grid[place + 1]
        each = np.arange(len(place))
        for _ in range(10 if len(place) else 0):  # each time, keep the one of 64 parts where the sign changes
            parts = np.append(low + (high - low) * np.linspace(0.0, 1.0, 65)[:-1, None], [high], axis=0)
            inside = differences(parts.ravel())[0].reshape(len(signs), *parts.shape)[kink, :, each]
            end = np.argmax(inside != signs[kink, place][:, None], axis=1)
            low, high = parts[end - 1, each], parts[end, each]
        points = np.concatenate([grid, low, high])
        tied = differences(points)[1].sum(axis=0)
        meeting |= bool((tied > 1).any())
        found.append({region.variable: points[tied > 0], **values})
    return found if meeting else []


def _leaves(region: Region) -> list[Node]:
    """Return the other inputs of a region: what its members read, followed through elementwise operations."""
    found: dict[Node, None] = {}
    waiting = list(region.members)
    known = {region.variable}
    while waiting:
        node = waiting.pop()
        if node in known:
            continue
        known.add(node)
        if elementwise(node) or node.op in ("broadcast_to", "reshape"):
            waiting.extend(nodes_in(node.args))
        else:
            found[node] = None
    return list(found)


def _sample(leaf: Node, first: bool) -> Any:
    """Return a number for a node that does not depend on the variable."""
    if leaf.op == "constant":
        return leaf.attributes["value"].value.flat[0 if first else -1]
    return {"f": 0.5 if first else -1.5, "i": int(first), "b": first}[leaf.kind]


def computation(outputs: list[Any], given: Collection[Node]) -> Callable[[Probe], list[Any]]:
    """Return a function from the values of the given nodes to those of the outputs."""
    steps = ordered(outputs, given)

    def compute(values: Probe) -> list[Any]:
        known: dict[Any, Any] = dict(values)
        with np.errstate(all="ignore"):
            for node in steps:
                if node not in known:
                    known[node] = _computed(node, [known[arg] if isinstance(arg, Node) else arg for arg in node.args])
        return [known[output] if isinstance(output, Node) else output for output in outputs]

    return compute


def _computed(node: Node, args: list[Any]) -> Any:
    if node.op in ("broadcast_to", "reshape"):
        return args[0]
    if node.op == "astype":
        return np.asarray(args[0]).astype({"f": float, "i": int, "b": bool}[node.kind])
    return (_NUMBERS.get(node.op) or getattr(np, node.op))(*args)
