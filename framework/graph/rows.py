"""Rows: whether a formula treats each row alone."""

from __future__ import annotations

from framework.graph.node import Node, nodes_in, ordered


def mixing(*outputs: Node) -> str | None:
    """Return the operation by which a row's outputs depend on other rows, or None.

    Example:
        >>> from framework.graph.trace import ROWS, trace
        >>> mixing(trace(lambda x: x - x.mean(axis=0), {"x": (ROWS, 3)}).output)
        'mean over the rows'
    """
    for node in ordered(outputs):
        found = mixing(*node.attributes["body"].outputs) if node.op == "loop" else _mixes(node)
        if found is not None:
            return found
    return None


def _mixes(node: Node) -> str | None:
    rows = node.graph.rows_in
    shapes = [arg.shape for arg in nodes_in(node.args)]
    axes = node.attributes.get("axes", ())
    if node.op in _REDUCING and any(rows(shapes[0][axis]) for axis in axes):
        return f"{node.op} over the rows"
    if node.op == "cumsum" and rows(shapes[0][node.attributes["axis"]]):
        return "cumsum along the rows"
    if node.op == "matmul" and rows(shapes[0][-1]):
        return "a product over the rows"
    if node.op == "einsum":
        inputs, result = node.attributes["subscripts"].split("->")
        for term, shape in zip(inputs.split(","), shapes, strict=True):
            if any(rows(size) and letter not in result for letter, size in zip(term, shape, strict=True)):
                return "a product over the rows"
    if node.op == "index" and any(
        part == "reversed" and rows(n) for part, n in zip(node.attributes["index"], shapes[0], strict=True)
    ):
        return "the rows in reverse"
    if node.op == "gather" and any(rows(shapes[0][axis]) for axis in axes) and not _own_row(node):
        return "an index into the rows"
    if node.shape and sum(rows(size) > 0 for size in node.shape) > 1:
        return "pairs of rows"
    return "the number of rows" if node.op == "rows" else None


_REDUCING = frozenset({"sum", "mean", "var", "max", "min", "prod", "any", "all", "argmax", "argmin", "softmax"})


def _own_row(node: Node) -> bool:
    """Return whether a look-up reads from each row itself: x[np.arange(len(x)), classes]."""
    index = node.args[1]
    while index.op == "reshape":
        index = index.args[0]
    return bool(index.op == "row_numbers")
