"""Sequences: recurrence, a state that each step changes; and attention, where each step is a mean of all steps.

A sample is (steps, inputs), a batch (rows, steps, inputs): batch first. Attention weighs the steps by similarity.

The state of a recurrent layer starts at zero. Weights of all gates stand side by side, in PyTorch's order of gates:
``weights`` (inputs, gates * units) for the inputs, ``recurrent`` (units, gates * units) for the state.

Sequences of different lengths are padded to one length with steps of a number that ``masking`` names. A step whose
inputs all equal this number is skipped: the state stays, and in ``returns="all"`` its output is 0, so that a next
layer with ``masking=0.0`` skips it too.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from framework.base.arrays import Arrays, Record
from framework.base.errors import SettingsError, brief
from framework.base.settings.component import Count, Positive
from framework.base.shapes import Shape
from framework.formulas.activations.basic import Sigmoid, Softmax
from framework.graph.loop import loop
from framework.models.composite import Composite
from framework.models.initializers import Glorot, Initializer, Orthogonal
from framework.models.layer import Layer, require_multiple

_SIGMOID = Sigmoid()


class _Recurrent(Layer):
    """The base of recurrent layers."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    units: Count
    returns: Literal["last", "all"] = "last"
    masking: float | None = None
    inputs: Count | None = None
    initializer: Initializer = Glorot()
    recurrent_initializer: Initializer = Orthogonal()

    @property
    def input_shape(self) -> Shape:
        return (None, self.inputs)

    def shape_after(self, shape: Shape) -> Shape:
        return (self.units,) if self.returns == "last" else (*shape[-2:-1], self.units)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        width = self.gates * self.units
        return {"weights": (self.inputs or 0, width), "recurrent": (self.units, width), "bias": (width,)}

    def initializers(self) -> Mapping[str, Initializer]:
        return {"recurrent": self.recurrent_initializer}

    def formula(self, x: Any, weights: Any, recurrent: Any, bias: Any, **more: Any) -> Any:
        x = x.swapaxes(0, 1)
        start = (np.zeros_like(x, shape=(x.shape[1], self.units)),) * self.states
        entries = [x @ weights + bias]  # of all steps at once
        if self.masking is not None:
            entries.append((x != self.masking).any(axis=-1, keepdims=True))

        def step(state: Any, entry: Any) -> tuple[Any, Any]:
            new = self.step(state, entry[0], recurrent, **more)
            if self.masking is None:
                return new, new[0]
            kept = tuple(np.where(entry[1], after, before) for after, before in zip(new, state, strict=True))
            return kept, np.where(entry[1], new[0], 0.0)

        states, outputs = loop(step, start, tuple(entries), axis=0)
        return states[0] if self.returns == "last" else outputs.swapaxes(0, 1)

    @abstractmethod
    def step(self, state: tuple[Any, ...], entry: Any, recurrent: Any, **more: Any) -> tuple[Any, ...]:
        """Return the state after a step, the layer's output first; ``entry`` is x @ weights + bias of the step."""

    def by_gate(self, h: Any) -> Any:
        """Return (gates, rows, units): NumPy computes with a whole array faster than with a part of each row."""
        return np.reshape(h, (len(h), self.gates, self.units)).swapaxes(0, 1)


class SimpleRNN(_Recurrent):
    """h = tanh(x W + h' U + b), where h' is the state before the step.

    A sample (steps, inputs) gives the last state (units,), or all states (steps, units).

    Args:
        units: The size of the state.
        returns: "last" for the state after the last step, "all" for the states after each step.
        masking: A step whose inputs all equal this number is skipped; None skips none. See the module.
        inputs: The number of inputs of a step; left out, it comes from the layer before or from the data.
        initializer: Draws ``weights`` (inputs, units); ``bias`` (units,) starts at 0.
        recurrent_initializer: Draws ``recurrent`` (units, units).

    Example:
        >>> import numpy as np
        >>> SimpleRNN(3, returns="all")
        SimpleRNN(units=3, returns='all')
        >>> SimpleRNN(3, inputs=2, returns="all")(np.zeros((4, 5, 2))).shape
        (4, 5, 3)

    Source:
        Elman, Finding structure in time (1990).
    """

    gates = 1

    def step(self, state: tuple[Any, ...], entry: Any, recurrent: Any, **more: Any) -> tuple[Any, ...]:
        return (np.tanh(entry + state[0] @ recurrent),)


class GRU(_Recurrent):
    """A gated recurrent unit: the gates decide how much of the state a step replaces.

    With h' the state before the step, r = σ(x W_r + h' U_r + b_r), z = σ(x W_z + h' U_z + b_z),
    n = tanh(x W_n + b_n + r (h' U_n + c)) and h = (1 - z) n + z h'. The gates stand in the order r, z, n.

    This is the variant of PyTorch and of Keras's ``reset_after=True``: r multiplies the product h' U_n + c. In the
    first version of the paper r multiplies h'. The paper's z is 1 - z here.

    The settings are those of SimpleRNN; ``weights`` are (inputs, 3 units), ``recurrent`` (units, 3 units), and ``bias``
    (3 units,) and ``reset_bias`` c (units,) start at 0.

    Example:
        >>> import numpy as np
        >>> GRU(3, inputs=2)(np.zeros((4, 5, 2))).shape
        (4, 3)

    Source:
        Cho et al., Learning phrase representations using RNN encoder-decoder (2014), equations 5 to 8, with r after
        the product as in its first version.
    """

    gates = 3

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {**super().shapes(), "reset_bias": (self.units,)}

    def step(self, state: tuple[Any, ...], entry: Any, recurrent: Any, **more: Any) -> tuple[Any, ...]:
        (before,) = state
        entry, product = self.by_gate(entry), self.by_gate(before @ recurrent)
        gates = _SIGMOID(entry[:2] + product[:2])
        new = np.tanh(entry[2] + gates[0] * (product[2] + more["reset_bias"]))
        return (new + gates[1] * (before - new),)


class LSTM(_Recurrent):
    """Long short-term memory: a cell that gates write, keep and read.

    With h' and c' the state before the step, i = σ(x W_i + h' U_i + b_i), f and o likewise,
    g = tanh(x W_g + h' U_g + b_g), c = f c' + i g and h = o tanh(c). The gates stand in the order i, f, g, o. There are
    no peepholes. Every bias starts at 0, that of f too; write ``layer.parameters["bias"][units : 2 * units] = 1.0`` to
    start with a cell that keeps.

    The settings are those of SimpleRNN, and the outputs h; ``weights`` are (inputs, 4 units), ``recurrent`` (units,
    4 units) and ``bias`` (4 units,).

    Example:
        >>> import numpy as np
        >>> LSTM(3, inputs=2)(np.zeros((4, 5, 2))).shape
        (4, 3)

    Source:
        Hochreiter and Schmidhuber, Long short-term memory (1997), with the forget gate of Gers, Schmidhuber and
        Cummins, Learning to forget (2000).
    """

    gates = 4
    states = 2  # h and c

    def step(self, state: tuple[Any, ...], entry: Any, recurrent: Any, **more: Any) -> tuple[Any, ...]:
        before, cell = state
        h = self.by_gate(entry + before @ recurrent)
        gates = _SIGMOID(h[:2])
        cell = gates[1] * cell + gates[0] * np.tanh(h[2])
        return _SIGMOID(h[3]) * np.tanh(cell), cell


class Bidirectional(Composite):
    """Two recurrent layers, the second of which reads the sequence from its end: a[t] = (h[t], g[t]).

    A sample is (steps, inputs). With ``returns="all"``, h[t] are the states of ``forwards`` after the steps up to t and
    g[t] those of ``backwards`` after the steps from the last one down to t, side by side on the last axis: (steps,
    2 units). With ``returns="last"`` they are the states after the whole sequence, (2 units,). Steps that ``masking``
    skips are skipped in both directions.

    Args:
        forwards: A ``SimpleRNN``, ``GRU`` or ``LSTM``.
        backwards: The layer that reads from the end; left out, one with the settings of ``forwards`` and parameters of
            its own, which start like those of ``forwards`` only if that has a seed.
        dtype: "float64" or "float32", which the layers become; None is that of the layers.

    Raises:
        SettingsError: A layer is not recurrent, or the two differ in ``returns``, ``masking`` or ``inputs``.
        UsageError: A layer already belongs to a model, or an optimizer is bound to it.

    Example:
        >>> import numpy as np
        >>> model = Bidirectional(GRU(3, inputs=2, returns="all"))
        >>> model(np.zeros((4, 5, 2))).shape
        (4, 5, 6)
        >>> list(model.parameters)[::4]
        ['forwards.weights', 'backwards.weights']

    Source:
        Schuster and Paliwal, Bidirectional recurrent neural networks (1997); joined as by Keras's ``Bidirectional`` and
        PyTorch's ``bidirectional=True``.
    """

    forwards: Layer
    backwards: Layer

    def __init__(self, forwards: Layer, backwards: Layer | None = None, *, dtype: npt.DTypeLike | None = None) -> None:
        layers = {"forwards": forwards} if backwards is None else {"forwards": forwards, "backwards": backwards}
        for name, layer in layers.items():
            if not isinstance(layer, _Recurrent):
                problem = f"must be a SimpleRNN, GRU or LSTM; got {brief(layer)}; for other layers, write a Composite"
                raise SettingsError(problem, name=f"Bidirectional: argument '{name}'")
        backwards = forwards.replace() if backwards is None else backwards
        for name in ("returns", "masking", "inputs"):
            ahead, back = getattr(forwards, name), getattr(backwards, name)
            if ahead != back and not (name == "inputs" and None in (ahead, back)):
                raise SettingsError(
                    f"both layers must have the same {name}; got {ahead!r} in 'forwards' and {back!r} in 'backwards'",
                    where="Bidirectional",
                )
        super().__init__(forwards=forwards, backwards=backwards, dtype=dtype)

    def children(self) -> Mapping[str, Layer]:
        return {"forwards": self.forwards, "backwards": self.backwards}

    def _connect(self) -> None:
        self.settle((self.forwards if self.forwards.settled else self.backwards).input_shape)

    def settle(self, shape: Shape) -> Shape:
        for layer in self.parts.values():
            layer.infer_shape(shape, settle=True)
        return self.shape_after(shape)

    def shape_after(self, shape: Shape) -> Shape:
        (*steps, units), (*_, more) = (layer.infer_shape(shape) for layer in self.parts.values())
        return (*steps, units + more)

    def apply(self, x: Any, values: Arrays, record: Record) -> Any:
        ahead, back = self.forward_child("forwards", x, record), self.forward_child("backwards", x[:, ::-1], record)
        return np.concatenate([ahead, back[:, ::-1] if back.ndim == x.ndim else back], axis=-1)


_SOFTMAX = Softmax()
_NEVER = -1e30
"""The score of a hidden key: its weight is 0. Unlike -inf, it gives no NaN where every key is hidden."""


class MultiHeadAttention(Layer):
    """Self-attention: softmax(q k' / sqrt(d)) v in each head, q, k and v linear in x; then a linear map of all heads.

    x (rows, steps, inputs) gives (rows, steps, inputs). ``weights`` (inputs, 3 units) and ``bias`` (3 units,) give q,
    k and v, in this order, each with the heads side by side, d = units / heads numbers each. ``output_weights`` (units,
    inputs) and ``output_bias`` (inputs,) map the heads back.

    Args:
        heads: The number of heads.
        units: The numbers of all heads together; left out, as many as inputs.
        causal: Whether a step sees only itself and those before it.
        masking: Steps whose inputs all equal this number are hidden from every step, and their own outputs have no
            meaning; None hides none.
        mask: ``mask[query][key]`` is True where step ``query`` sees step ``key``, the opposite of PyTorch's, for
            sequences of this length; None lets every step see all.
        inputs: The number of inputs of a step; left out, it comes from the layer before or from the data.
        initializer: Draws the weights; the biases start at 0.

    Raises:
        SettingsError: A setting is out of range, or the units cannot be split over the heads.

    Example:
        >>> import numpy as np
        >>> layer = MultiHeadAttention(heads=2, inputs=4, causal=True)
        >>> x = np.random.default_rng(0).normal(size=(3, 5, 4))
        >>> later = x.copy()
        >>> later[:, 3:] = 0.0
        >>> layer(x).shape, bool(np.allclose(layer(x)[:, :3], layer(later)[:, :3]))
        ((3, 5, 4), True)

    Source:
        Vaswani et al., Attention is all you need (2017), section 3.2.
    """

    heads: Count
    units: Count | None = None
    causal: bool = False
    masking: float | None = None
    mask: tuple[tuple[bool, ...], ...] | None = None
    inputs: Count | None = None
    initializer: Initializer = Glorot()

    def model_post_init(self, context: object) -> None:
        """Refuse units that cannot be split over the heads, and a mask that is not square."""
        self._size()
        if self.mask is not None and {len(row) for row in self.mask} != {len(self.mask)}:
            raise SettingsError("must have as many columns as rows: mask[query][key]", name="setting 'mask'")

    def _size(self, inputs: int | None = None) -> int:
        """Return the numbers of one head."""
        units = self.units or inputs or self.inputs or self.heads
        require_multiple(self, "units", units, "heads")
        return units // self.heads

    def inputs_of(self, shape: Shape) -> int | None:
        self._size(shape[-1])
        return super().inputs_of(shape)

    @property
    def input_shape(self) -> Shape:
        return (None if self.mask is None else len(self.mask), self.inputs)

    def shape_after(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.inputs)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        inputs, units = self.inputs or 0, self.heads * self._size()
        return {
            "weights": (inputs, 3 * units),
            "bias": (3 * units,),
            "output_weights": (units, inputs),
            "output_bias": (inputs,),
        }

    def formula(self, x: Any, weights: Any, bias: Any, output_weights: Any, output_bias: Any) -> Any:
        rows, steps, size = len(x), x.shape[1], self._size()
        packed = (x @ weights + bias).reshape(rows, steps, 3, self.heads, size)
        query, key, value = np.moveaxis(packed, (2, 3), (0, 2))  # each (rows, heads, steps, size)
        scores = query / math.sqrt(size) @ key.swapaxes(-1, -2)
        if self.causal:
            scores = np.where(np.tri(steps, dtype=bool), scores, _NEVER)
        if self.mask is not None:
            scores = np.where(np.array(self.mask), scores, _NEVER)
        if self.masking is not None:
            scores = np.where((x != self.masking).any(axis=-1)[:, None, None, :], scores, _NEVER)
        heads = _SOFTMAX(scores) @ value
        return heads.swapaxes(1, 2).reshape(rows, steps, self.heads * size) @ output_weights + output_bias


class PositionalEncoding(Layer):
    """a[t, 2j] = x[t, 2j] + sin(t / base^(2j / n)) and a[t, 2j + 1] = x[t, 2j + 1] + cos(t / base^(2j / n)).

    t is the step, from 0 on, and n the number of inputs: x (rows, steps, n) gives the same shape. There is nothing to
    learn.

    Args:
        base: The wavelengths run from 2 pi to 2 pi base.

    Example:
        >>> import numpy as np
        >>> PositionalEncoding()(np.zeros((1, 2, 4))).round(2)
        array([[[0.  , 1.  , 0.  , 1.  ],
                [0.84, 0.54, 0.01, 1.  ]]])

    Source:
        Vaswani et al., Attention is all you need (2017), section 3.5.
    """

    base: Positive = Field(default=10000.0, kw_only=True)  # for 64, elsewhere, is the number of units

    @property
    def input_shape(self) -> Shape:
        return (None, None)

    def shape_after(self, shape: Shape) -> Shape:
        return shape

    def formula(self, x: Any) -> Any:
        steps, inputs = x.shape[1:]
        even = np.arange(inputs) // 2 * 2
        angles = np.arange(steps)[:, None] / self.base ** (even / inputs)
        return x + np.where(np.arange(inputs) % 2 == 0, np.sin(angles), np.cos(angles))
