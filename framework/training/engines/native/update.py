"""The functions of a kernel besides its nests: rows of the data, checks, clipping, and the update of an optimizer."""

from __future__ import annotations

from typing import Any

from framework.graph.node import Node, order_nodes
from framework.training.engines.native.expressions import Expressions, literal
from framework.training.engines.plan import Update
from framework.training.engines.records import bare

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


def gather_beside(n: int, width: int, lane: int, lanes: int, rows: ints, x: reals, to: reals) -> float:
    total = real(0.0)
    for i in range(n):
        for k in range(width):
            value = x[rows[i * lanes + lane] * width + k]
            to[(i * width + k) * lanes + lane] = value
            total += value * value
    return float(total)


def gather_ids_beside(n: int, width: int, lane: int, lanes: int, rows: ints, y: ints, to: ints):
    for i in range(n):
        for k in range(width):
            to[(i * width + k) * lanes + lane] = y[rows[i * lanes + lane] * width + k]


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
"""

CLIPS = {
    "norm": """
def clip_norm(runs: int, spans: ints, x: reals, limits: floats):
    for lane in range({lanes}):
        norm = real(limits[lane])
        top = real(0.0)
        for r in range(runs):
            part = x[spans[3 * r + 1]:]
            for i in range(lane, spans[3 * r + 2], {lanes}):
                top = largest(top, abs(part[i]))
        total = real(0.0)
        if top > 0.0:
            for r in range(runs):
                part = x[spans[3 * r + 1]:]
                for i in range(lane, spans[3 * r + 2], {lanes}):
                    scaled = part[i] / top
                    total += scaled * scaled
        length = sqrt(total)
        if top > 0.0 and length > norm / top:
            share = norm / length
            for r in range(runs):
                part = x[spans[3 * r + 1]:]
                for i in range(lane, spans[3 * r + 2], {lanes}):
                    part[i] = part[i] / top * share
""",
    "value": """
def clip_value(runs: int, spans: ints, x: reals, limits: floats):
    for lane in range({lanes}):
        value = real(limits[lane])
        for r in range(runs):
            part = x[spans[3 * r + 1]:]
            for i in range(lane, spans[3 * r + 2], {lanes}):
                part[i] = minimum(maximum(part[i], -value), value)
""",
}
"""The functions that clip the gradients of each of some models, by the names of the clips."""


def update_text(name: str, update: Update, models: int = 1) -> str:
    """Return the text of an update of some numbers of the flat vector.

    Args:
        name: The name of the function.
        update: The update.
        models: The number of models whose numbers lie side by side in the vector. The function of several takes their
            rates and settings in an array, that of one each as an argument.
    """
    texts: dict[Any, str] = {node: f"x{index}" for index, node in enumerate(update.inputs.values())}
    numbers = [f"number{index}" for index in range(len(update.numbers))]
    texts |= dict(zip(update.numbers, numbers, strict=True))
    formal, lines = [*texts.values()], list[str]()

    def text_of(value: Any) -> str:
        value = bare(value)
        return texts[value] if isinstance(value, Node) else literal(value)

    for node in order_nodes(map(bare, update.outputs.values()), [*texts]):
        if node not in texts and bare(node) is node:
            lines.append(f"    v{len(lines)} = {Expressions(text_of).expression(node)}")
            texts[node] = f"v{len(lines) - 1}"
    changed = {key: node for key, node in update.outputs.items() if node is not update.inputs[key]}
    results = [text_of(node) for node in changed.values()]
    formula = [f"def {name}_formula({', '.join(formal)}):", *lines, f"    return {', '.join(results)}", "", ""]
    kinds = ["n: int", *(f"{array}: reals" for array in update.inputs)]
    kinds += ["numbers: floats"] if models > 1 else [f"{number}: real" for number in numbers]
    at, loops, pad = "i", ["    for i in range(n):"], " " * 8
    if models > 1:
        at, pad = "i + lane", " " * 12
        loops = [f"    for i in range(0, n, {models}):", f"        for lane in range({models}):"]
        numbers = [f"real(numbers[{index * models} + lane])" for index in range(len(numbers))]
    arguments = [*(f"{array}[{at}]" for array in update.inputs), *numbers]
    outputs = [f"r{index}" for index in range(len(changed))]
    lines = [f"{pad}{', '.join(outputs)} = {name}_formula({', '.join(arguments)})"]
    lines += [f"{pad}{array}[{at}] = {output}" for array, output in zip(changed, outputs, strict=True)]
    return "\n".join([*formula, f"def {name}({', '.join(kinds)}):", *loops, *lines])
