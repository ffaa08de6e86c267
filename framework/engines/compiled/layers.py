"""The functions of layers in the kernel language: products, rows of the data, embeddings, descent.

A Dense has the kind "dense". That of a single unit is "unit", whose products are loops, and "place" where it reads the
rows of the data where they lie. In batches of one row a Dense has the kind "row", whose products are loops too. In
prediction it has the kind "alone".
"""

from __future__ import annotations

import re
from functools import cache

_CALL = re.compile(r"(?<!def )\b\w+(?=\()")

AHEAD = 32
"""How many rows ahead a row is prefetched: enough to hide the latency of memory."""

_TEXT = '''
def gather(n: int, width: int, left: int, rows: ints, x: reals, to: reals) -> float:
    """Copy the rows of a batch, and return the sum of the squares."""
    for i in range(n):
        fetch_row(x, rows[min(i + {ahead}, left - 1)] * width, width)
        copy(to[i * width:], x[rows[i] * width:], width)
    return squared(n * width, to)


def fetch_row(x, start, width):
    for k in range(0, width, {line}):
        prefetch(x, start + k)
    prefetch(x, start + width - 1)
    return 0


def columns(n: int, width: int, stride: int, rows: ints, x: reals, to: reals) -> float:
    """Copy the rows of an input into columns of a matrix, and return the sum of the squares."""
    square = real(0.0)
    for i in range(n):
        for k in range(width):
            v = x[rows[i] * width + k]
            to[i * stride + k] = v
            square += v * v
    return float(square)


def targets(n: int, width: int, left: int, rows: ints, y: reals, to: reals):
    """Copy the targets of a batch."""
    for i in range(n):
        prefetch(y, rows[min(i + {ahead}, left - 1)] * width)
        for k in range(width):
            to[i * width + k] = y[rows[i] * width + k]


def classes(n: int, left: int, rows: ints, y: ints, to: ints):
    """Copy the classes of a batch."""
    for i in range(n):
        prefetch(y, rows[min(i + {ahead}, left - 1)])
        to[i] = y[rows[i]]


def weights(n: int, rows: ints, weight: reals, to: reals) -> float:
    """Copy the weights of a batch, and return their sum."""
    count = 0.0
    for i in range(n):
        to[i] = weight[rows[i]]
        count += float(to[i])
    return count


def squared(n: int, x: reals) -> float:
    """Return the sum of the squares."""
    square = real(0.0)
    for i in range(n):
        square += x[i] * x[i]
    return float(square)


def embed(n: int, width: int, stride: int, rows: ints, x: reals, ids: ints, table: reals, to: reals) -> float:
    """Copy the rows of an embedding into columns of a matrix, and return the sum of the squares."""
    square = real(0.0)
    for i in range(n):
        ids[i] = int(x[rows[i]])
        for k in range(width):
            v = table[ids[i] * width + k]
            to[i * stride + k] = v
            square += v * v
    return float(square)


def embed_change(n: int, width: int, stride: int, change: reals) -> float:
    square = real(0.0)
    for i in range(n):
        for k in range(width):
            square += change[i * stride + k] * change[i * stride + k]
    return float(square)


def embed_add(n: int, width: int, stride: int, factor: real, ids: ints, change: reals, table: reals):
    """Add a multiple of dL/d(row) to the rows of an embedding, or of its gradient."""
    for i in range(n):
        for k in range(width):
            table[ids[i] * width + k] += factor * change[i * stride + k]


def fill(n: int, value: real, x: reals):
    for i in range(n):
        x[i] = value


def add_multiple(n: int, factor: real, x: reals, to: reals):
    for i in range(n):
        to[i] += factor * x[i]


def bias_gradient(n: int, units: int, h: reals, gb: reals):
    for j in range(units):
        gb[j] = real(0.0)
    bias_descend(n, units, real(-1.0), h, gb)


def bias_descend(n: int, units: int, rate: real, h: reals, b: reals):
    """Four rows at a time: a number that has just been stored is slow to read."""
    whole = n - n % 4
    for i in range(0, whole, 4):
        first, second = h[i * units:], h[(i + 1) * units:]
        third, fourth = h[(i + 2) * units:], h[(i + 3) * units:]
        for j in range(units):
            b[j] -= rate * (first[j] + second[j] + third[j] + fourth[j])
    for i in range(whole, n):
        for j in range(units):
            b[j] -= rate * h[i * units + j]


def dense_forward(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    """h = x w + b."""
    product(0, n, units, inputs, real(1.0), x, w, real(0.0), h)
    for i in range(n):
        for j in range(units):
            h[i * units + j] += b[j]


def alone_forward(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    """As dense_forward; a row of h has the same bits whatever n is."""
    product(3, n, units, inputs, real(1.0), x, w, real(0.0), h)
    for i in range(n):
        for j in range(units):
            h[i * units + j] += b[j]


def dense_weights(n: int, inputs: int, units: int, x: reals, h: reals, gw: reals, gb: reals):
    """The gradients of the weights and the bias, with delta in place of h."""
    product(1, inputs, units, n, real(1.0), x, h, real(0.0), gw)
    bias_gradient(n, units, h, gb)


def dense_descend(n: int, inputs: int, units: int, rate: real, x: reals, h: reals, w: reals, b: reals):
    """A plain step of descent in one with the product."""
    product(1, inputs, units, n, -rate, x, h, real(1.0), w)
    bias_descend(n, units, rate, h, b)


def dense_inputs(n: int, inputs: int, units: int, begun: real, h: reals, w: reals, s: reals):
    """dL/dx, which is added to s where another layer has begun it."""
    product(2, n, inputs, units, real(1.0), h, w, begun, s)


def unit_forward(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    for i in range(n):
        total = real(0.0)
        for k in range(inputs):
            total += x[i * inputs + k] * w[k]
        h[i] = total + b[0]


def unit_weights(n: int, inputs: int, units: int, x: reals, h: reals, gw: reals, gb: reals):
    for k in range(inputs):
        gw[k] = x[k] * h[0]
    for i in range(1, n):
        for k in range(inputs):
            gw[k] += x[i * inputs + k] * h[i]
    bias_gradient(n, 1, h, gb)


def unit_descend(n: int, inputs: int, units: int, rate: real, x: reals, h: reals, w: reals, b: reals):
    for i in range(n):
        d = rate * h[i]
        for k in range(inputs):
            w[k] -= x[i * inputs + k] * d
        b[0] -= d


def unit_inputs(n: int, inputs: int, units: int, begun: real, h: reals, w: reals, s: reals):
    if begun == 0.0:
        for i in range(n):
            for k in range(inputs):
                s[i * inputs + k] = h[i] * w[k]
    else:
        for i in range(n):
            for k in range(inputs):
                s[i * inputs + k] += h[i] * w[k]


def place_forward(n: int, inputs: int, left: int, rows: ints, x: reals, w: reals, b: reals, h: reals) -> float:
    """As unit_forward, for the rows where they lie in the data; return the sum of their squares."""
    square = real(0.0)
    for i in range(n):
        fetch_row(x, rows[min(i + {ahead}, left - 1)] * inputs, inputs)
        total = real(0.0)
        for k in range(inputs):
            v = x[rows[i] * inputs + k]
            total += v * w[k]
            square += v * v
        h[i] = total + b[0]
    return float(square)


def place_weights(n: int, inputs: int, rows: ints, x: reals, h: reals, gw: reals, gb: reals):
    for k in range(inputs):
        gw[k] = x[rows[0] * inputs + k] * h[0]
    for i in range(1, n):
        for k in range(inputs):
            gw[k] += x[rows[i] * inputs + k] * h[i]
    bias_gradient(n, 1, h, gb)


def place_descend(n: int, inputs: int, rate: real, rows: ints, x: reals, h: reals, w: reals, b: reals):
    for i in range(n):
        d = rate * h[i]
        for k in range(inputs):
            w[k] -= x[rows[i] * inputs + k] * d
        b[0] -= d


def row_forward(n: int, inputs: int, units: int, x: reals, w: reals, b: reals, h: reals):
    for j in range(units):
        h[j] = b[j]
    for k in range(inputs):
        for j in range(units):
            h[j] += x[k] * w[k * units + j]


def row_weights(n: int, inputs: int, units: int, x: reals, h: reals, gw: reals, gb: reals):
    for k in range(inputs):
        for j in range(units):
            gw[k * units + j] = x[k] * h[j]
    copy(gb, h, units)


def row_descend(n: int, inputs: int, units: int, rate: real, x: reals, h: reals, w: reals, b: reals):
    for k in range(inputs):
        d = rate * x[k]
        for j in range(units):
            w[k * units + j] -= d * h[j]
    for j in range(units):
        b[j] -= rate * h[j]


def row_inputs(n: int, inputs: int, units: int, begun: real, h: reals, w: reals, s: reals):
    for k in range(inputs):
        total = real(0.0)
        for j in range(units):
            total += h[j] * w[k * units + j]
        s[k] = total if begun == 0.0 else s[k] + total


def keep(n: int, width: int, stride: int, x: reals, to: reals):
    """Copy rows into columns of a matrix."""
    for i in range(n):
        for j in range(width):
            to[i * stride + j] = x[i * width + j]


def norm(n: int, gradient: reals) -> float:
    square = 0.0
    for i in range(n):
        square += float(gradient[i]) * float(gradient[i])
    return square


def scale(n: int, factor: real, gradient: reals):
    for i in range(n):
        gradient[i] *= factor


def clip(n: int, most: real, gradient: reals):
    for i in range(n):
        gradient[i] = minimum(maximum(gradient[i], -most), most)
'''


@cache
def _functions(dtype: str) -> dict[str, str]:
    """Return the functions by name."""
    text = _TEXT.format(ahead=AHEAD, line={"float64": 8, "float32": 16}[dtype])
    return {part[4 : part.index("(")]: part for part in text.strip().split("\n\n\n")}


def layers_source(called: str, dtype: str) -> str:
    """Return the functions that a text calls, and those that they call."""
    functions, found, waiting = _functions(dtype), set[str](), [called]
    while waiting:
        names = {name for name in _CALL.findall(waiting.pop()) if name in functions} - found
        found |= names
        waiting += map(functions.__getitem__, names)
    return "\n\n\n".join(text for name, text in functions.items() if name in found)
