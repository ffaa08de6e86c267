"""The matrix products of a layer as lines of source: by BLAS, or by loops where they are too small for a call.

In each style ``forward`` is h = x w, ``weights`` is gw = x^T h with delta in place of h, ``descend`` is the plain step
w <- w - rate x^T h in one, ``inputs`` is s = h w^T, and ``more`` s <- s + h w^T, for n rows. {i} is the layer, {m} the
matrix that it reads, and {u} where ``sizes`` has its number of units.
"""

from __future__ import annotations

import re

_MATRIX = {
    "forward": """
gemm(address, 0, n, sizes[{u}], sizes[{m}], one, x_{m}, w_{i}, zero, h_{i})
""",
    "weights": """
gemm(address, 1, sizes[{m}], sizes[{u}], n, one, x_{m}, h_{i}, zero, gw_{i})
""",
    "descend": """
gemm(address, 1, sizes[{m}], sizes[{u}], n, -rate, x_{m}, h_{i}, one, w_{i})
""",
    "inputs": """
gemm(address, 2, n, sizes[{m}], sizes[{u}], one, h_{i}, w_{i}, zero, s_{m})
""",
    "more": """
gemm(address, 2, n, sizes[{m}], sizes[{u}], one, h_{i}, w_{i}, one, s_{m})
""",
}

_VECTOR = {
    "forward": """
for i in range(n):
    product = zero
    for k in range(sizes[{m}]):
        product += x_{m}[i, k] * w_{i}[k]
    h_{i}[i, 0] = product
""",
    "weights": """
for k in range(sizes[{m}]):
    gw_{i}[k] = x_{m}[0, k] * h_{i}[0, 0]
for i in range(1, n):
    for k in range(sizes[{m}]):
        gw_{i}[k] += x_{m}[i, k] * h_{i}[i, 0]
""",
    "descend": """
for i in range(n):
    d = rate * h_{i}[i, 0]
    for k in range(sizes[{m}]):
        w_{i}[k] -= x_{m}[i, k] * d
""",
    "inputs": """
for i in range(n):
    for k in range(sizes[{m}]):
        s_{m}[i, k] = h_{i}[i, 0] * w_{i}[k]
""",
    "more": """
for i in range(n):
    for k in range(sizes[{m}]):
        s_{m}[i, k] += h_{i}[i, 0] * w_{i}[k]
""",
}

_ONLINE = {
    "forward": """
for j in range(sizes[{u}]):
    h_{i}[0, j] = x_{m}[0, 0] * w_{i}[0, j]
for k in range(1, sizes[{m}]):
    for j in range(sizes[{u}]):
        h_{i}[0, j] += x_{m}[0, k] * w_{i}[k, j]
""",
    "weights": """
for k in range(sizes[{m}]):
    for j in range(sizes[{u}]):
        gw_{i}[k, j] = x_{m}[0, k] * h_{i}[0, j]
""",
    "descend": """
for k in range(sizes[{m}]):
    d = rate * x_{m}[0, k]
    for j in range(sizes[{u}]):
        w_{i}[k, j] -= d * h_{i}[0, j]
""",
    "inputs": """
for k in range(sizes[{m}]):
    product = zero
    for j in range(sizes[{u}]):
        product += h_{i}[0, j] * w_{i}[k, j]
    s_{m}[0, k] = product
""",
    "more": """
for k in range(sizes[{m}]):
    product = zero
    for j in range(sizes[{u}]):
        product += h_{i}[0, j] * w_{i}[k, j]
    s_{m}[0, k] += product
""",
}

_STYLES = {"matrix": _MATRIX, "vector": _VECTOR, "online": _ONLINE}


def product(style: str, what: str, layer: int, matrix: int, units: int) -> list[str]:
    """Return the lines of a product of a layer.

    Example:
        >>> product("matrix", "forward", 0, 0, 1)
        ['gemm(address, 0, n, sizes[1], sizes[0], one, x_0, w_0, zero, h_0)']
    """
    return _STYLES[style][what].format(i=layer, m=matrix, u=units).strip().splitlines()


def in_place(lines: list[str], soon: str) -> list[str]:
    """Return the lines of a product of the first layer that read the rows of a batch where they lie in the data.

    In the forward pass of a single unit, the line ``soon`` prefetches later rows, and the squares are added up.

    Example:
        >>> in_place(["for i in range(n):", "    product += x_0[i, k] * w_0[k]"], "fetch_row(x, s)")[2:4]
        ['    r = rows[begin + i]', '    fetch_row(x, s)']
    """
    forward = any("product +=" in line for line in lines)
    found = ["r = rows[begin]"]
    for line in lines:
        found.append(re.sub(r"x_0\[\w+, (\w+)\]", r"x[r, \1]", line))
        if line.startswith("for i in range("):
            found += ["    r = rows[begin + i]", *([f"    {soon}"] if forward else [])]
        if "product +=" in line:
            found.append(line.partition("product")[0] + "square_0 += x[r, k] * x[r, k]")
    return found
