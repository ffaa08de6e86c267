"""What the tests of layers share: a layer with given parameters, compared with stored values; a user's classes."""

import numpy as np

from framework import Layer, Model
from framework.models import Composite

TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


def settings_of(case):
    """Return the numbers in the name of a stored case, by name."""
    return {name: int(value) for name, value in (part.split("=") for part in case.split())}


def filled(layer, parameters):
    """Give a layer these parameters, all of them, and return it."""
    assert {name: value.shape for name, value in parameters.items()} == layer.layout()
    for name, value in parameters.items():
        layer.parameters[name][...] = value
    return layer


def require_close(ours, theirs, dtype):
    assert ours.dtype == dtype
    scale = max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype] * scale)


def compare(make, parameters, x, output, upstream, dx, gradients):
    """Compare value and every gradient of a layer with others, in float64 and in float32.

    Args:
        make: (dtype) -> the layer.
        parameters: Its parameters by name; likewise ``gradients``.
        x: A batch; ``output``, ``upstream`` and ``dx`` are the layer's output and the gradients of both.
    """
    for dtype in TOLERANCES:
        layer = filled(make(dtype), parameters)
        require_close(layer(x.astype(dtype)), output, dtype)
        require_close(layer.forward(x.astype(dtype)), output, dtype)
        require_close(layer.backward(upstream.astype(dtype)), dx, dtype)
        assert set(gradients) == set(layer.parameters)
        for name, gradient in gradients.items():
            require_close(layer.parameters.gradients[name], gradient, dtype)


class Gated(Composite):
    """A product of two parts."""

    value: Model
    gate: Model

    def children(self):
        return {"value": self.value, "gate": self.gate}

    def apply(self, x, values, record):
        record["parts"] = v, g = [self.forward_child(name, x, record) for name in ("value", "gate")]
        return v * g

    def apply_backward(self, gradient, values, record, gradients):
        v, g = record["parts"]
        dx = self.backward_child("value", gradient * g, record)
        return dx + self.backward_child("gate", gradient * v, record)


class Longer(Layer):
    """The first place once more behind the last one."""

    def shape_after(self, shape):
        return (shape[0] + 1, *shape[1:])

    def formula(self, x):
        return np.concatenate([x, x[:, :1]], axis=1)


class LastStep(Layer):
    """The last step; a row as it is."""

    def formula(self, x):
        return x[:, -1] if len(x.shape) == 3 else x
