"""The matrix products of a kernel as source: by BLAS, or by loops where a product is too small for a call.

In each style ``forward`` is h = x w, ``weights`` is g = x^T d and ``inputs`` is out = d w^T, for n rows.
"""

from __future__ import annotations

MATRIX = '''
@fast
def forward_matrix(address, n, x, w, h):
    gemm(address, 0, n, w.shape[1], w.shape[0], real(1.0), x, w, real(0.0), h)


@fast
def weights_matrix(address, n, x, d, g):
    gemm(address, 1, g.shape[0], g.shape[1], n, real(1.0), x, d, real(0.0), g)


@fast
def descend_matrix(address, n, x, d, w, rate):
    """A plain step of descent as part of the product: w <- w - rate * x^T d."""
    gemm(address, 1, w.shape[0], w.shape[1], n, real(-rate), x, d, real(1.0), w)


@fast
def inputs_matrix(address, n, d, w, out):
    gemm(address, 2, n, w.shape[0], w.shape[1], real(1.0), d, w, real(0.0), out)
'''

VECTOR = """
@fast
def forward_vector(address, n, x, w, h):
    for i in range(n):
        total = real(0.0)
        for k in range(w.shape[0]):
            total += x[i, k] * w[k, 0]
        h[i, 0] = total


@fast
def weights_vector(address, n, x, d, g):
    for k in range(g.shape[0]):
        g[k, 0] = x[0, k] * d[0, 0]
    for i in range(1, n):
        for k in range(g.shape[0]):
            g[k, 0] += x[i, k] * d[i, 0]


@fast
def inputs_vector(address, n, d, w, out):
    for i in range(n):
        for k in range(w.shape[0]):
            out[i, k] = d[i, 0] * w[k, 0]
"""

ONLINE = """
@fast
def forward_online(address, n, x, w, h):
    for j in range(w.shape[1]):
        h[0, j] = x[0, 0] * w[0, j]
    for k in range(1, w.shape[0]):
        for j in range(w.shape[1]):
            h[0, j] += x[0, k] * w[k, j]


@fast
def weights_online(address, n, x, d, g):
    for k in range(g.shape[0]):
        for j in range(g.shape[1]):
            g[k, j] = x[0, k] * d[0, j]


@fast
def inputs_online(address, n, d, w, out):
    for k in range(w.shape[0]):
        total = real(0.0)
        for j in range(w.shape[1]):
            total += d[0, j] * w[k, j]
        out[0, k] = total
"""

STYLES = {"matrix": MATRIX, "vector": VECTOR, "online": ONLINE}
