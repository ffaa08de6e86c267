"""Recurrence: a loop over steps as one operation with a body, and the parts of its result; see ``graph.loop``."""

from framework.graph.operations.base import Operation, given_shape

RECURRENCE: dict[str, Operation] = {
    "loop": Operation(given_shape),
    "part": Operation(given_shape, text="{0}[{index}]", latex="{0}_{{{index}}}", numpy="{0}[{index}]"),
}
