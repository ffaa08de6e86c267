"""Make an own activation, loss or layer of plain functions, with a derivative written by hand."""

import numpy as np

from framework import Activation, Layer, Loss, RowLoss


def sigmoid(h):
    return 1 / (1 + np.exp(np.minimum(-h, 709.0)))


def softmax(h):
    e = np.exp(h - np.max(h, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def opaque(function):
    """Return a function that NumPy calls for each element, so that no derivative can be derived from it."""
    return np.vectorize(function, otypes=[float])


def _made(base, settings, **methods):
    fields = {"__annotations__": dict.fromkeys(settings, float), "__module__": __name__, **settings}
    return type(base)("Own", (base,), fields | {name: method for name, method in methods.items() if method})()


def _method(function):
    """Return a method that hands the settings to a function by name."""
    return function and (lambda self, *arguments: function(*arguments, **self.settings()))


def activation(formula, derivative=None, **settings):
    return _made(
        Activation,
        settings,
        __call__=_method(formula),
        derivative=_method(derivative),
    )


def row_activation(formula, backward=None, **settings):
    return _made(Activation, settings, __call__=_method(formula), backward=_method(backward))


def loss(value, slope=None, **settings):
    return _made(Loss, settings, value=_method(value), slope=_method(slope))


def row_loss(value, slope=None, **settings):
    return _made(RowLoss, settings, value=_method(value), slope=_method(slope))


def layer(shapes, apply, backward, *, sample=(3,), output=None):
    """Make a layer of ``apply(x, values)`` and of ``backward(gradient, x, values)``, which returns all gradients."""

    def apply_method(self, x, values, record):
        record["x"] = x
        return apply(x, values)

    def backward_method(self, gradient, values, record, gradients):
        found = dict(backward(gradient, record["x"], values))
        result = found.pop("x")
        for name, array in found.items():
            gradients[name][...] = array
        return result

    return _made(
        Layer,
        {},
        shapes=lambda self: dict(shapes),
        apply=apply_method,
        apply_backward=backward_method,
        input_shape=property(lambda self: sample),
        output_shape=property(lambda self: sample if output is None else output),
    )


# forward passes of layers, to which right and wrong backward passes are written


def linear(x, v):
    return x @ v["weights"] + v["bias"]


def linear_backward(g, x, v):
    return {"weights": x.T @ g, "bias": g.sum(axis=0), "x": g @ v["weights"].T}


def recurrent(x, v):
    h = np.zeros_like(x[:, 0])
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] + h @ v["u"])
    return h


def convolution(x, v):
    return sum(x[:, k : k + 4] * v["kernel"][k] for k in range(3))


def attended(x, v):
    return softmax(x @ v["query"] @ x.swapaxes(1, 2)) @ x
