"""Random layers: formulas on arrays of any shape, with products, loops, windows, views, joins, look-ups and reductions.

Where ``graph.random_formulas`` has each operation of the table on one shape, these have many shapes, with long axes and
axes of 1, and parameters of the shapes that the operations need.
"""

import math
from contextlib import suppress

import numpy as np

from framework import (
    Dense,
    DerivativeError,
    Layer,
    MeanSquaredError,
    Sequential,
    SGDOptimizer,
    ShapeError,
    Trainer,
    loop,
)

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 20)
MOST = 400
"""How many numbers of a row an array may have."""


class RandomFormula:
    """A formula of some random operations, ``formula(x, *parameters)``.

    Attributes:
        shape: The shape of a row of x.
        shapes: Those of the parameters, by name.
    """

    def __init__(self, seed, operations=4):
        """Draw the operations, and find the shapes of the parameters on two rows of zeros."""
        self.seed, self.operations = seed, operations
        rng = np.random.default_rng([seed, 0])
        self.shape = drawn_shape(rng, int(rng.integers(1, 4)), 60)
        self.shapes, self.names = {}, []
        self._compute(np.zeros((2, *self.shape)), self._add)

    def _add(self, *shape):
        name = f"p{len(self.shapes)}"
        self.shapes[name] = shape
        return np.zeros(shape)

    def __call__(self, x, *parameters):
        given = iter(parameters)
        return self._compute(x, lambda *_: next(given))

    def _compute(self, x, parameter):
        rng = np.random.default_rng([self.seed, 1])
        known, self.names = [x], []
        for _ in range(self.operations):
            while True:
                operation = OPERATIONS[rng.integers(len(OPERATIONS))]
                made = operation(rng, known, parameter)
                if made is not None:
                    break
            self.names.append(operation.__name__)
            known.append(made)
        ends = [known[-1], *(known[place] for place in rng.integers(len(known), size=2))]
        return np.concatenate([np.reshape(end, (len(x), -1))[:, :30] for end in ends], axis=1)

    @property
    def layer(self):
        """The formula as a layer."""
        names = ", ".join(self.shapes)
        return Layer.of(eval(f"lambda formula: lambda x, {names}: formula(x, {names})")(self), shapes=self.shapes)


class FormulaModel:
    """A random formula before a Dense, and what a training of it needs, as a ``WholeModel`` has it.

    Attributes:
        formula: The formula.
        model: The model, with its first numbers.
        x: The inputs.
        data: x and y.
    """

    def __init__(self, *seed, operations=4, dtype="float64"):
        """Draw a formula, numbers of float32, and the size of the batches, the last of which is smaller."""
        rng = np.random.default_rng([*seed, 2])
        self.seed, self.size = seed, int(rng.choice([1, 2, 7, 16, 33]))
        self.formula, self.model = next(self._traced(rng, operations))
        rows = 2 * self.size + int(rng.integers(self.size))
        self.x, y = (rng.normal(size=(rows, *shape)).astype("f").astype(float) for shape in (self.formula.shape, (2,)))
        self.data = self.x, y
        vector = self.model.parameters.vector
        vector[...] = 0.4 * rng.normal(size=vector.shape).astype("f")
        self.model = self.model.in_dtype(dtype)

    @staticmethod
    def _traced(rng, operations):
        """Give formulas that can be traced, each in a model."""
        while True:
            formula = RandomFormula(int(rng.integers(1 << 32)), operations)
            model = Sequential(formula.layer, Dense(units=2))
            with suppress(ShapeError, DerivativeError):
                model.settle(formula.shape)
                yield formula, model

    def trainer(self, **settings):
        optimizer = SGDOptimizer(learning_rate=1e-3)
        return Trainer(loss=MeanSquaredError(), optimizer=optimizer, batch_size=self.size, seed=0, **settings)

    def __repr__(self):
        return f"FormulaModel{self.seed}: {self.formula.names} of {self.x.shape} in batches of {self.size}"


def drawn_shape(rng, axes, most):
    while True:
        shape = tuple(int(size) for size in rng.choice(SIZES, axes))
        if math.prod(shape) <= most:
            return shape


def chosen(rng, known):
    """Return one of the arrays; the last one most often."""
    return known[-1] if rng.random() < 0.6 else known[rng.integers(len(known))]


def axis_of(rng, a):
    return int(rng.integers(1, a.ndim)) if a.ndim > 1 else None


def axes_of(rng, a):
    axes = [axis for axis in range(1, a.ndim) if rng.random() < 0.5]
    return tuple(axes) or (a.ndim - 1,)


def size_of(a):
    return math.prod(a.shape[1:])


UNARY = (
    np.tanh,
    np.sin,
    np.exp2,
    lambda a: np.exp(-a * a),
    lambda a: np.sqrt(1.0 + a * a),
    lambda a: 1.0 / (1.0 + np.exp(-a)),
    lambda a: np.log1p(np.abs(a)),
    lambda a: np.where(a > 0.1, a, 0.3 * a),
    lambda a: np.maximum(a, -0.2),
    lambda a: np.square(a) * 0.3,
    lambda a: a.astype(int) * a,
)
BINARY = (
    lambda a, b: a + b,
    lambda a, b: a - 0.3 * b,
    lambda a, b: a * np.tanh(b),
    lambda a, b: a / (1.5 + np.cos(b)),
    lambda a, b: np.maximum(a, 0.7 * b),
    lambda a, b: np.where(a > b, a, 0.5 * b),
    lambda a, b: np.where((a < 0.3) & (b > -0.5), a * b, np.sin(a)),
)


def bounded(a):
    """Return an array with numbers of about 1, whatever was summed."""
    return a / np.sqrt(1.0 + 0.1 * a * a)


def unary(rng, known, _parameter):
    return UNARY[rng.integers(len(UNARY))](bounded(chosen(rng, known)))


def binary(rng, known, parameter):
    a, compute = chosen(rng, known), BINARY[rng.integers(len(BINARY))]
    match rng.integers(4):
        case 0:
            b = parameter(*(size if rng.random() < 0.7 else 1 for size in a.shape[1:]))
        case 1:
            same = [other for other in known if other.shape == a.shape]
            b = same[rng.integers(len(same))]
        case 2:
            b = np.mean(a, axis=axes_of(rng, a), keepdims=True) if a.ndim > 1 else np.sin(a)
        case _:
            b = chosen(rng, known)
            if size_of(a) * size_of(b) > MOST or a.ndim + b.ndim > 6:
                return None
            a = np.reshape(a, (*a.shape, *(1 for _ in b.shape[1:])))
            b = np.reshape(b, (len(b), *(1 for _ in range(a.ndim - b.ndim)), *b.shape[1:]))
    return compute(a, b)


def product(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    units = int(rng.choice(SIZES))
    if size_of(a) // a.shape[-1] * units > MOST:
        return None
    return bounded(a @ parameter(a.shape[-1], units))


def einsum_of_parameter(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim > 5:
        return None
    letters = "ijkl"[: a.ndim - 1]
    sizes = dict(zip(letters, a.shape[1:], strict=True))
    mine = [letter for letter in letters if rng.random() < 0.6]
    for new in "uv"[: rng.integers(3)]:
        sizes[new] = int(rng.choice(SIZES))
        mine.append(new)
    rng.shuffle(mine)
    output = [letter for letter in sizes if rng.random() < (0.5 if letter in mine and letter in letters else 0.9)]
    rng.shuffle(output)
    if math.prod(sizes[letter] for letter in output) > MOST or math.prod(sizes.values()) > 20_000:
        return None
    w = parameter(*(sizes[letter] for letter in mine))
    return bounded(np.einsum(f"n{letters},{''.join(mine)}->n{''.join(output)}", a, w))


def einsum_of_two(rng, known, _parameter):
    a, b = chosen(rng, known), known[rng.integers(len(known))]
    if a.ndim > 5 or b.ndim > 5:
        return None
    letters = "ijkl"[: a.ndim - 1]
    sizes = dict(zip(letters, a.shape[1:], strict=True))
    others = []
    for new, size in zip("uvwx"[: b.ndim - 1], b.shape[1:], strict=True):
        shared = [letter for letter in letters if sizes[letter] == size and letter not in others]
        letter = shared[0] if shared and rng.random() < 0.8 else new
        sizes[letter] = size
        others.append(letter)
    output = [letter for letter in sizes if rng.random() < 0.6]
    rng.shuffle(output)
    if math.prod(sizes[letter] for letter in output) > MOST or math.prod(sizes.values()) > 20_000:
        return None
    return bounded(np.einsum(f"n{letters},n{''.join(others)}->n{''.join(output)}", a, b))


def attention(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim != 3 or a.shape[1] ** 2 > MOST:
        return None
    scores = a @ np.swapaxes(a * parameter(a.shape[2]), 1, 2)
    scores = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return scores / np.sum(scores, axis=-1, keepdims=True) @ a


def transpose(rng, known, _parameter):
    a = chosen(rng, known)
    return np.transpose(a, (0, *(1 + rng.permutation(a.ndim - 1)).tolist()))


def reshape(rng, known, _parameter):
    a = chosen(rng, known)
    sizes = [*a.shape[1:]]
    if len(sizes) > 1 and rng.random() < 0.5:
        place = rng.integers(len(sizes) - 1)
        sizes[place : place + 2] = [sizes[place] * sizes[place + 1]]
    elif sizes:
        place = rng.integers(len(sizes))
        divisors = [d for d in range(1, sizes[place] + 1) if sizes[place] % d == 0]
        divisor = int(rng.choice(divisors))
        sizes[place : place + 1] = [divisor, sizes[place] // divisor]
    return np.reshape(a, (len(a), *sizes)) if len(sizes) < 5 else None


def part(rng, known, _parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    axis = axis_of(rng, a)
    size = a.shape[axis]
    start, step = int(rng.integers(size)), int(rng.choice([1, 1, 2, -1]))
    index = slice(start, None, step) if rng.random() < 0.7 else start
    if index == start and a.ndim < 3:
        return None
    return a[(*(slice(None) for _ in range(axis)), index)]


def join(rng, known, _parameter):
    a = chosen(rng, known)
    same = [other for other in known if other.shape == a.shape]
    b = same[rng.integers(len(same))]
    if a.ndim < 2 or a.ndim > 4 or size_of(a) * 2 > MOST:
        return None
    axis = axis_of(rng, a)
    return (np.concatenate if rng.random() < 0.6 else np.stack)([np.sin(a), b], axis=axis)


def pad(rng, known, _parameter):
    a = chosen(rng, known)
    width = [(0, 0), *((int(rng.integers(3)), int(rng.integers(2))) for _ in a.shape[1:])]
    made = np.pad(a, width, constant_values=float(rng.choice([0.0, 0.4])))
    return made if size_of(made) <= MOST else None


def windows(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim < 2 or a.ndim > 4:
        return None
    axis = axis_of(rng, a)
    width = int(rng.integers(1, min(4, a.shape[axis]) + 1))
    seen = np.lib.stride_tricks.sliding_window_view(a, width, axis=axis)
    seen = seen[(*(slice(None) for _ in range(axis)), slice(None, None, int(rng.choice([1, 1, 2]))))]
    match rng.integers(4):
        case 0:
            return np.max(seen, axis=-1)
        case 1:
            return np.mean(seen, axis=-1)
        case 2:
            return bounded(seen @ parameter(width))
        case _:
            letters = "ijkl"[: a.ndim - 1]
            if size_of(a) * 3 > MOST:
                return None
            inner = letters[: axis - 1] + letters[axis:]
            summed = inner[:1] if rng.random() < 0.5 else ""
            w = parameter(3, width, *(a.shape[1 + letters.index(letter)] for letter in summed))
            output = "".join(letter for letter in letters if letter not in summed)
            return bounded(np.einsum(f"n{letters}z,oz{summed}->n{output}o", seen, w))


def reduce(rng, known, _parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    axes, keepdims = axes_of(rng, a), bool(rng.random() < 0.4)
    which = (np.sum, np.mean, np.max, np.min, np.var, lambda a, **along: np.prod(np.cos(a), **along))
    return bounded(which[rng.integers(len(which))](a, axis=axes, keepdims=keepdims))


def normalize(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    along = {"axis": axes_of(rng, a), "keepdims": True}
    if rng.random() < 0.5:
        shares = np.exp(a - np.max(a, **along))
        return shares / np.sum(shares, **along)
    return (a - np.mean(a, **along)) / np.sqrt(np.var(a, **along) + 0.2) * parameter(a.shape[-1])


def running_sum(rng, known, _parameter):
    a = chosen(rng, known)
    return None if a.ndim < 2 else bounded(np.cumsum(a, axis=axis_of(rng, a)))


def look_up(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    match rng.integers(4):
        case 0:
            axis = axis_of(rng, a)
            ids = rng.integers(-a.shape[axis], a.shape[axis], int(rng.integers(1, 6)))
            return np.take(a, ids % a.shape[axis], axis=axis)
        case 1:
            axis = axis_of(rng, a)
            return np.take_along_axis(a, np.argmax(a, axis=axis, keepdims=True), axis=axis)
        case 2:
            if size_of(a) * 3 > MOST or a.ndim > 4:
                return None
            return parameter(5, 3)[(np.abs(np.tanh(a)) * 4.9).astype(int)]
        case _:
            first = np.sum(a, axis=tuple(range(1, a.ndim)))
            return a[np.arange(len(a)), (np.abs(np.tanh(first)) * (a.shape[1] - 0.1)).astype(int)]


def recurrence(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim != 3 or a.shape[1] > 9:
        return None
    width, units = a.shape[2], int(rng.choice(SIZES[:7]))
    w, u, b = parameter(width, units), parameter(units, units), parameter(units)
    every = rng.random() < 0.6
    start = np.zeros_like(a, shape=(len(a), units))
    if rng.random() < 0.5:

        def step(state, entry):
            state = np.tanh(state @ u + entry @ w + b)
            return state, state * 0.9

        last, all_steps = loop(step, start, a)
        return all_steps if every else last

    def gated(state, entries):
        fast, slow = state
        entry, projected = entries
        gate = 1.0 / (1.0 + np.exp(-(slow @ u + projected)))
        fast = gate * fast + (1.0 - gate) * np.sum(entry, axis=1, keepdims=True) * 0.1
        slow = 0.8 * slow + np.sin(fast) * b
        return (fast, slow), np.concatenate([fast, slow], axis=1)

    (_, last), all_steps = loop(gated, (start, start), (a, a @ w))
    return all_steps if every else last


def assign(rng, known, _parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    axis = axis_of(rng, a)
    place = int(rng.integers(a.shape[axis]))
    made = np.copy(a)
    made[(*(slice(None) for _ in range(axis)), place)] = (
        0.3 if rng.random() < 0.5 else np.sin(a[(*(slice(None) for _ in range(axis)), 0)])
    )
    return made


def repeat(rng, known, _parameter):
    a = chosen(rng, known)
    if a.ndim < 2:
        return None
    axis = axis_of(rng, a)
    if rng.random() < 0.5:
        return np.roll(a, 1, axis=axis) * 0.9
    return np.repeat(a, 2, axis=axis) if size_of(a) * 2 <= MOST else None


def of_parameters(rng, known, parameter):
    a = chosen(rng, known)
    if a.ndim < 2 or a.shape[-1] > 20:
        return None
    w = parameter(a.shape[-1], 4)
    match rng.integers(4):
        case 0:
            return bounded(a @ (w @ np.swapaxes(w, 0, 1)))
        case 1:
            shares = np.exp(w - np.max(w, axis=0))
            return bounded(a @ (shares / np.sum(shares, axis=0)))
        case 2:
            return a * np.sum(w * w, axis=1) / (1.0 + np.sqrt(np.sum(w * w) + 0.1))
        case _:
            return bounded(a + np.tanh(w)[:, 1] * np.mean(w))


OPERATIONS = (
    *(unary, unary, binary, binary, binary, product, product, einsum_of_parameter, einsum_of_parameter),
    *(einsum_of_two, attention, transpose, reshape, reshape, part, join, pad, windows, windows, reduce, reduce),
    *(normalize, normalize, running_sum, look_up, recurrence, recurrence, assign, repeat, of_parameters),
)
