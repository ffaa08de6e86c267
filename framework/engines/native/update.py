"""The functions of a kernel besides its nests: rows of the data, checks, clipping, and the update of an optimizer."""

from __future__ import annotations

from typing import Any

from framework.engines.native.expressions import expression, literal
from framework.engines.plan import Update
from framework.engines.records import bare
from framework.graph.node import Node, ordered

AHEAD = 32
"""How many rows ahead a row is prefetched: enough to hide the latency of memory."""

HELPERS = """
def gather(n: int, width: int, left: int, rows: ints, x: reals, to: reals):
    for i in range(n):
        fetch_row(x, rows[min(i + {ahead}, left - 1)] * width, width)
        copy(to[i * width:], x[rows[i] * width:], width)


def gather_squares(n: int, width: int, left: int, rows: ints, x: reals, to: reals) -> float:
    gather(n, width, left, rows, x, to)
    total = real(0.0)
    for i in range(n * width):
        total += to[i] * to[i]
    return float(total)


def fetch_row(x, start, width):
    for k in range(0, width, {line}):
        prefetch(x, start + k)
    prefetch(x, start + width - 1)
    return 0


def gather_ids(n: int, width: int, left: int, rows: ints, y: ints, to: ints):
    for i in range(n):
        prefetch(y, rows[min(i + {ahead}, left - 1)] * width)
        for k in range(width):
            to[i * width + k] = y[rows[i] * width + k]


def finite(n: int, x: reals) -> real:
    total = real(0.0)
    for i in range(n):
        total += x[i] * real(0.0)
    return total


def squares(runs: int, spans: ints, x: reals) -> real:
    total = real(0.0)
    for r in range(runs):
        part = x[spans[3 * r + 1]:]
        for i in range(spans[3 * r + 2]):
            total += part[i] * part[i]
    return total


def clip_norm(runs: int, spans: ints, x: reals, norm: real):
    top = real(0.0)
    for r in range(runs):
        part = x[spans[3 * r + 1]:]
        for i in range(spans[3 * r + 2]):
            top = largest(top, abs(part[i]))
    if top == 0.0:
        return
    total = real(0.0)
    for r in range(runs):
        part = x[spans[3 * r + 1]:]
        for i in range(spans[3 * r + 2]):
            scaled = part[i] / top
            total += scaled * scaled
    length = sqrt(total)
    if length > norm / top:
        share = norm / length
        for r in range(runs):
            part = x[spans[3 * r + 1]:]
            for i in range(spans[3 * r + 2]):
                part[i] = part[i] / top * share


def clip_value(runs: int, spans: ints, x: reals, value: real):
    for r in range(runs):
        part = x[spans[3 * r + 1]:]
        for i in range(spans[3 * r + 2]):
            part[i] = minimum(maximum(part[i], -value), value)
"""


def update_text(name: str, update: Update) -> str:
    """Return the text of an update of some numbers of the flat vector."""
    texts: dict[Any, str] = {node: f"x{place}" for place, node in enumerate(update.inputs.values())}
    numbers = [f"number{place}" for place in range(len(update.numbers))]
    texts |= dict(zip(update.numbers, numbers, strict=True))
    formal, lines = [*texts.values()], list[str]()

    def text_of(value: Any) -> str:
        value = bare(value)
        return texts[value] if isinstance(value, Node) else literal(value)

    for node in ordered(map(bare, update.outputs.values()), [*texts]):
        if node not in texts and bare(node) is node:
            lines.append(f"    v{len(lines)} = {expression(node, [text_of(arg) for arg in node.args])}")
            texts[node] = f"v{len(lines) - 1}"
    changed = {key: node for key, node in update.outputs.items() if node is not update.inputs[key]}
    results = [text_of(node) for node in changed.values()]
    formula = [f"def {name}_formula({', '.join(formal)}):", *lines, f"    return {', '.join(results)}", "", ""]
    head = ["n: int", *(f"{array}: reals" for array in update.inputs), *(f"{number}: real" for number in numbers)]
    given = [*(f"{array}[i]" for array in update.inputs), *numbers]
    outputs = [f"r{place}" for place in range(len(changed))]
    loop = [f"def {name}({', '.join(head)}):", "    for i in range(n):"]
    loop.append(f"        {', '.join(outputs)} = {name}_formula({', '.join(given)})")
    loop += [f"        {array}[i] = {output}" for array, output in zip(changed, outputs, strict=True)]
    return "\n".join([*formula, *loop])
