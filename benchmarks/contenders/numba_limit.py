"""What a person would write by hand for Numba, for one neuron and for two layers: no allocation in a step."""

import numpy as np
from numba import njit

OPTIONS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
LOG2_E, LN2_HIGH, LN2_LOW = 1.4426950408889634, 0.693147180369123816490, 1.90821492927058770002e-10


@njit(**OPTIONS)
def sigmoid(h, slope, bits, power):
    """Put 1 / (1 + exp(-slope h)) in place of h. The exponential has no branch, so that the loop becomes vectors.

    Args:
        h: A vector of float64.
        slope: A number.
        bits: Memory for as many int64.
        power: The same memory, seen as float64: powers of two are made there.
    """
    for j in range(len(h)):
        z = min(max(-slope * h[j], -700.0), 700.0)
        k = np.floor(z * LOG2_E + 0.5)
        r = z - k * LN2_HIGH - k * LN2_LOW
        p = 1 / 6227020800  # Taylor's series to the order 13, enough for |r| < 0.35
        p = p * r + 1 / 479001600
        p = p * r + 1 / 39916800
        p = p * r + 1 / 3628800
        p = p * r + 1 / 362880
        p = p * r + 1 / 40320
        p = p * r + 1 / 5040
        p = p * r + 1 / 720
        p = p * r + 1 / 120
        p = p * r + 1 / 24
        p = p * r + 1 / 6
        p = p * r + 1 / 2
        p = p * r + 1.0
        bits[j] = (np.int64(k) + 1023) << 52
        h[j] = p * r + 1.0
    for j in range(len(h)):
        h[j] = 1 / (1 + h[j] * power[j])


@njit(**OPTIONS)
def train_online(x, y, order, rate, w, bias):
    """One epoch of a sigmoid neuron with binary cross-entropy, row by row."""
    b = bias[0]
    for row in order:
        h = b
        for j in range(len(w)):
            h += x[row, j] * w[j]
        delta = rate * (1 / (1 + np.exp(-h)) - y[row])
        for j in range(len(w)):
            w[j] -= delta * x[row, j]
        b -= delta
    bias[0] = b


@njit(**OPTIONS)
def train_neuron(x, y, order, batch, rate, w, bias):
    """One epoch of a sigmoid neuron with binary cross-entropy, in batches."""
    h, gradient = np.zeros(batch), np.empty(len(w))
    bits = np.empty(batch, np.int64)
    power = bits.view(np.float64)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        for i, row in enumerate(rows):
            h[i] = bias[0]
            for j in range(len(w)):
                h[i] += x[row, j] * w[j]
        sigmoid(h, 1.0, bits, power)
        gradient[:] = 0
        total = 0.0
        for i, row in enumerate(rows):
            delta = h[i] - y[row]
            for j in range(len(w)):
                gradient[j] += delta * x[row, j]
            total += delta
        share = rate / len(rows)
        for j in range(len(w)):
            w[j] -= share * gradient[j]
        bias[0] -= share * total


@njit(**OPTIONS)
def train_network(x, y, order, batch, rate, slope, w1, b1, w2, b2):  # noqa: C901, PLR0912 (one function is the point)
    """One epoch of a hidden layer 1 / (1 + exp(-slope h)) and softmax with cross-entropy; float64."""
    inputs, units = w1.shape
    outputs = len(b2)
    x_all, a1_all = np.zeros((batch, inputs)), np.zeros((batch, units))
    d1_all, d2_all = np.zeros((batch, units)), np.zeros((batch, outputs))
    g1, g2 = np.zeros_like(w1), np.zeros_like(w2)
    bits = np.empty(batch * units, np.int64)
    power = bits.view(np.float64)
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        n = len(rows)
        x_batch, a1, d1, d2 = x_all[:n], a1_all[:n], d1_all[:n], d2_all[:n]
        for i in range(n):
            for k in range(inputs):
                x_batch[i, k] = x[rows[i], k]
        np.dot(x_batch, w1, a1)
        for i in range(n):
            for j in range(units):
                a1[i, j] += b1[j]
        sigmoid(a1_all.reshape(-1), slope, bits, power)
        share = rate / n
        for i in range(n):
            top = -np.inf
            for o in range(outputs):
                h = b2[o]
                for j in range(units):
                    h += a1[i, j] * w2[j, o]
                d2[i, o] = h
                top = max(top, h)
            total = 0.0
            for o in range(outputs):
                d2[i, o] = np.exp(d2[i, o] - top)
                total += d2[i, o]
            for o in range(outputs):
                d2[i, o] = share * (d2[i, o] / total - (o == y[rows[i]]))
        g2[:] = 0
        for i in range(n):
            for j in range(units):
                back = 0.0
                for o in range(outputs):
                    back += d2[i, o] * w2[j, o]
                    g2[j, o] += a1[i, j] * d2[i, o]
                d1[i, j] = back * slope * a1[i, j] * (1 - a1[i, j])
        np.dot(x_batch.T, d1, g1)
        for i in range(n):
            for j in range(units):
                b1[j] -= d1[i, j]
            for o in range(outputs):
                b2[o] -= d2[i, o]
        for k in range(inputs):
            for j in range(units):
                w1[k, j] -= g1[k, j]
        for j in range(units):
            for o in range(outputs):
                w2[j, o] -= g2[j, o]
