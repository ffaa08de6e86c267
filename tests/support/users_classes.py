"""Classes as users write them: all kinds of formulas, gradients by hand, and children that are called several times."""

import numpy as np

from framework import Activation, Layer, Loss, Model, Optimizer, RowLoss, Sigmoid, Softmax, loop
from framework.models import Composite, Regularizer


class Standardized(Activation):
    """A formula with two means of a row."""

    def __call__(self, h):
        centered = h - np.mean(h, axis=-1, keepdims=True)
        return centered / np.sqrt(np.mean(centered * centered, axis=-1, keepdims=True) + 0.1)


class Bent(Activation):
    """A formula in pieces, with a setting."""

    bend: float = 0.3

    def __call__(self, h):
        return np.where(h > 0.0, np.log1p(np.maximum(h, 0.0)), self.bend * np.expm1(np.minimum(h, 0.0)))


class Cubic(Activation):
    """A derivative by hand."""

    def __call__(self, h):
        return h - h**3 / 30.0

    def derivative(self, h):
        return 1.0 - h**2 / 10.0


class Logistic(Sigmoid):
    """Another class than that on whose h a loss works."""


class Shares(Softmax):
    """Another class than that on whose h a loss works."""


class Power(Loss):
    """A value without a slope."""

    def value(self, prediction, target):
        return np.abs(prediction - target) ** 1.5


class Distance(RowLoss):
    """A value of a row with a sum and a maximum."""

    def value(self, prediction, target):
        difference = prediction - target
        return np.sqrt(np.sum(difference * difference, axis=-1) + 1.0) + 0.1 * np.max(difference, axis=-1)


class Quartic(Regularizer):
    """A penalty without a slope."""

    def value(self, values):
        return (values**4).sum()


class Momentum(Optimizer):
    """A user's update."""

    momentum: float = 0.9
    memory = ("velocity",)

    def update(self, values, gradients, rate, step, velocity):
        velocity *= self.momentum
        velocity += gradients
        values -= rate * velocity / (1.0 + 0.1 * step)


class Product(Layer):
    """The product of two linear maps."""

    units: int
    inputs: int | None = None

    def shapes(self):
        return {"first": (self.inputs, self.units), "second": (self.inputs, self.units), "bias": (self.units,)}

    def formula(self, x, first, second, bias):
        return (x @ first) * np.tanh(x @ second) + bias


class Quadratic(Layer):
    """A quadratic form beside x, from one einsum."""

    inputs: int | None = None

    def shapes(self):
        return {"form": (self.inputs, self.inputs)}

    def formula(self, x, form):
        return np.concatenate([x, np.tanh(np.einsum("ni,ij,nj->n", x, form, x))[:, None]], axis=1)


class Pairs(Layer):
    """All products of two inputs, mapped back to the width."""

    inputs: int | None = None

    def shapes(self):
        return {"weights": (self.inputs, self.inputs, self.inputs), "scale": ()}

    def formula(self, x, weights, scale):
        outer = x[:, :, None] * x[:, None, :]
        return np.tensordot(outer, weights, axes=((1, 2), (0, 1))) * scale + x


class Chosen(Layer):
    """One of two formulas for each number."""

    inputs: int | None = None

    def shapes(self):
        return {"threshold": (self.inputs,), "slope": (self.inputs,)}

    def formula(self, x, threshold, slope):
        return np.where(x > threshold, x * (1.0 + slope), np.sin(x) - threshold)


class Looked(Layer):
    """Rows of a table, by the largest input and by a rounded one."""

    units: int
    inputs: int | None = None

    def shapes(self):
        return {"table": (7, self.units), "weights": (self.inputs, self.units)}

    def formula(self, x, table, weights):
        index = np.clip(np.floor(2.0 * x[:, 0]) + 3.0, 0.0, 6.0).astype(int)
        return np.take(table, index, axis=0) + table[np.argmax(x, axis=1) % 7] * 0.5 + x @ weights


class Repeated(Layer):
    """One matrix three times, in a loop of Python."""

    inputs: int | None = None

    def shapes(self):
        return {"weights": (self.inputs, self.inputs), "bias": (self.inputs,)}

    def formula(self, x, weights, bias):
        for turn in range(3):
            x = np.tanh(x @ weights + bias) + x / (turn + 2.0)
        return x


class Tracked(Layer):
    """A mean of the batch, a buffer that follows it, and random numbers."""

    mixes_rows = True
    inputs: int | None = None

    def shapes(self):
        return {"weights": (self.inputs, self.inputs)}

    def initial_buffers(self):
        return {"mean": np.zeros(self.inputs), "steps": np.zeros(())}

    def draws(self, shape):
        return {"noise": shape}

    def formula(self, x, weights, mean, steps, noise):
        center = x.mean(axis=0)
        new = {"mean": 0.8 * mean + 0.2 * center, "steps": steps + 1.0}
        return (x - center) @ weights + 0.1 * noise - 0.5 * mean, new

    def predict_formula(self, x, weights, mean, steps):
        return (x - mean) @ weights + 0.0 * steps


class Noisy(Layer):
    """Random numbers times a parameter."""

    inputs: int | None = None

    def shapes(self):
        return {"size": (self.inputs,)}

    def draws(self, shape):
        return {"first": shape, "second": (shape[-1],)}

    def formula(self, x, size, first=None, second=None):
        return x * (1.0 + size * (first - 0.5)) + np.where(second > 0.4, size, 0.0)

    def predict_formula(self, x, size):
        return x


class Bowl(Layer):
    """Both passes by hand, without parameters."""

    def apply(self, x, values, record):
        record["root"] = root = np.sqrt(1.0 + x * x)
        record["x"] = x
        return root - 0.5 * x

    def apply_backward(self, gradient, values, record, gradients):
        return (record["x"] / record["root"] - 0.5) * gradient


class Scaled(Layer):
    """Both passes by hand, with a parameter."""

    units: int

    @property
    def input_shape(self):
        return (self.units,)

    @property
    def output_shape(self):
        return (self.units,)

    def shapes(self):
        return {"scale": (self.units,)}

    def apply(self, x, values, record):
        record["x"] = x
        return x * (1.0 + values["scale"])

    def apply_backward(self, gradient, values, record, gradients):
        gradients["scale"][...] = np.sum(gradient * record["x"], axis=0)
        return gradient * (1.0 + values["scale"])


class Mixed(Layer):
    """Two inputs by name."""

    units: int

    @property
    def input_shape(self):
        return {"left": (3,), "right": (2,)}

    def shapes(self):
        return {"left_weights": (3, self.units), "right_weights": (2, self.units)}

    def formula(self, x, left_weights, right_weights):
        return np.tanh(x["left"] @ left_weights) * (x["right"] @ right_weights)


class Scan(Layer):
    """A recurrence of the user's, over the steps of a sequence."""

    units: int
    every: bool = True
    inputs: int | None = None

    @property
    def input_shape(self):
        return (None, self.inputs)

    def shapes(self):
        return {"weights": (self.inputs, self.units), "recurrent": (self.units, self.units), "decay": (self.units,)}

    def formula(self, x, weights, recurrent, decay):
        def step(state, entry):
            fast, slow = state
            fast = np.tanh(fast @ recurrent + entry)
            slow = slow * (0.5 + decay) + fast
            return (fast, slow), fast * slow

        start = np.zeros_like(x, shape=(len(x), self.units))
        (_, last), outputs = loop(step, (start, start), x @ weights)
        return outputs if self.every else last


class Steps(Layer):
    """Sums and differences of the steps of a sequence, and a look-up of steps."""

    inputs: int | None = None

    @property
    def input_shape(self):
        return (None, self.inputs)

    def shapes(self):
        return {"scale": (self.inputs,)}

    def formula(self, x, scale):
        order = [0, *range(x.shape[1] - 1)]
        return np.cumsum(x, axis=1) * (0.3 + scale) - x[:, order] + np.roll(x, 1, axis=2) * 0.5


class Compared(Layer):
    """Each step as a mean of all steps by likeness, from einsums."""

    inputs: int | None = None

    @property
    def input_shape(self):
        return (None, self.inputs)

    def shapes(self):
        return {"weights": (self.inputs, self.inputs)}

    def formula(self, x, weights):
        scores = np.einsum("nsi,ij,ntj->nst", x, weights, x)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares = shares / shares.sum(axis=-1, keepdims=True)
        return np.einsum("nst,nti->nsi", shares, x)


class Twice(Composite):
    """A child that is called on its own output."""

    child: Model

    def children(self):
        return {"child": self.child}

    def apply(self, x, values, record):
        a = self.forward_child("child", x, record)
        b = self.forward_child("child", a, record)
        record["outputs"] = a, b
        return a * b

    def apply_backward(self, gradient, values, record, gradients):
        a, b = record["outputs"]
        return self.backward_child("child", gradient * b + self.backward_child("child", gradient * a, record), record)


class Twins(Composite):
    """A child that is called on both halves of a row, and another one on the difference."""

    half: int
    child: Model
    last: Model

    def children(self):
        return {"child": self.child, "last": self.last}

    @property
    def input_shape(self):
        return (2 * self.half,)

    def apply(self, x, values, record):
        left = self.forward_child("child", x[:, : self.half], record)
        right = self.forward_child("child", x[:, self.half :], record)
        return self.forward_child("last", left - right, record)

    def apply_backward(self, gradient, values, record, gradients):
        difference = self.backward_child("last", gradient, record)
        right = self.backward_child("child", -difference, record)
        left = self.backward_child("child", difference, record)
        return np.concatenate([left, right], axis=1)
