"""Recurrent layers against PyTorch, with sequences of different lengths, and their states."""

import numpy as np
import pytest
from layer_pieces import compare, require_close
from oracles import jax_gradients, jnp, stored

from framework import GRU, LSTM, CrossEntropy, Dense, Sequential, SettingsError, ShapeError, SimpleRNN, Softmax
from framework.backends.step import StepProgram
from framework.base import UsageError
from framework.graph.step import StepGraph
from framework.models import Bidirectional

LAYERS = {"rnn": SimpleRNN, "gru": GRU, "lstm": LSTM}
EACH = pytest.mark.parametrize("cls", LAYERS.values(), ids=LAYERS)


def ours(values, part, name):
    """Return PyTorch's parameters or gradients as ours; a gradient of added biases is that of each."""
    weights, recurrent, bias, other = (
        values[f"{part}.{key}_l0"] for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    found = {"weights": weights.T, "recurrent": recurrent.T, "bias": bias}
    if name == "gru":
        found["reset_bias"] = other[8:]
        if part == "parameters":
            found["bias"] = bias + np.where(np.arange(12) < 8, other, 0.0)
    elif part == "parameters":
        found["bias"] = bias + other
    return found


def batch_of(values):
    """Return x with a number that marks the steps after the end of each row, and the steps that count."""
    x = values["x"].copy()
    live = np.arange(6) < values.get("lengths", np.full(len(x), 6))[:, None]
    x[~live] = -9.0
    return x, live


@pytest.mark.parametrize(("name", "case"), [(name, case) for name in LAYERS for case in stored(name)])
def test_value_and_gradients_are_those_of_pytorch(name, case):
    values = stored(name)[case]
    x, live = batch_of(values)
    settings = {"returns": "last" if case.startswith("last") else "all", "masking": None if live.all() else -9.0}
    compare(
        lambda dtype: LAYERS[name](units=4, inputs=3, dtype=dtype, **settings),
        ours(values, "parameters", name),
        x,
        values["output"],
        values["upstream"],
        values["gradients.x"],
        ours(values, "gradients", name),
    )


@pytest.mark.parametrize("returns", ["last", "all"])
def test_both_directions_are_those_of_jax(returns):
    model = Bidirectional(SimpleRNN(3, inputs=2, returns=returns))
    rng = np.random.default_rng(0)
    model.parameters.vector[:] = rng.normal(size=model.parameters.vector.size)
    x = rng.normal(size=(4, 5, 2))

    def theirs(x, p):
        def states(name, order):
            state, kept = jnp.zeros((len(x), 3)), {}
            for t in order:
                entry = x[:, t] @ p[f"{name}.weights"] + state @ p[f"{name}.recurrent"]
                kept[t] = state = jnp.tanh(entry + p[f"{name}.bias"])
            return state if returns == "last" else jnp.stack([kept[t] for t in range(5)], axis=1)

        return jnp.concatenate([states("forwards", range(5)), states("backwards", range(4, -1, -1))], axis=-1)

    ours = model.forward(x)
    upstream = rng.normal(size=ours.shape)
    output, (dx, gradients) = jax_gradients(theirs, x, dict(model.parameters), upstream=upstream)
    require_close(ours, output, "float64")
    require_close(model.backward(upstream), dx, "float64")
    for name, gradient in gradients.items():
        require_close(model.parameters.gradients[name], gradient, "float64")


@EACH
def test_each_direction_is_the_layer_alone_and_skips_the_same_steps(cls):
    model = Bidirectional(cls(3, inputs=2, masking=0.0, returns="all"))
    x = np.random.default_rng(0).normal(size=(2, 5, 2))
    x[:, 3:] = 0.0
    one, other = (layer.copy() for layer in model)
    assert not np.array_equal(one.parameters.vector, other.parameters.vector)
    short = x[:, :3]
    expected = np.concatenate([one(short), other(short[:, ::-1])[:, ::-1]], axis=-1)
    require_close(model(x)[:, :3], expected, "float64")
    assert not model(x)[:, 3:].any()


def test_both_directions_fit_together_and_with_their_neighbours():
    model = Sequential(GRU(4, inputs=3, returns="all"), Bidirectional(LSTM(2), GRU(5)), Dense(units=2))
    assert model.settled
    assert (model[1].shape_after((None, 4)), model[2].inputs) == ((7,), 7)
    assert [layer.inputs for layer in model[1]] == [4, 4]
    alike = Bidirectional(GRU(2, inputs=3, seed=1))
    assert np.array_equal(*(layer.parameters.vector for layer in alike))
    with pytest.raises(SettingsError, match=r"'forwards' must be a SimpleRNN, GRU or LSTM; got Dense\(.*a Composite"):
        Bidirectional(Dense(2, 3))
    with pytest.raises(UsageError, match="layer forwards already belongs to a model"):
        Bidirectional(alike.forwards)


@pytest.mark.parametrize(
    ("ahead", "back"),
    [({}, {"returns": "all"}), ({}, {"masking": 0.0}), ({"masking": 1.0}, {"masking": 0.0}), ({}, {"inputs": 5})],
    ids=["returns", "masking", "mask", "inputs"],
)
def test_directions_that_cannot_go_together_are_refused(ahead, back):
    (name,) = back
    with pytest.raises(SettingsError, match=f"both layers must have the same {name}; got .* and {back[name]!r} in 'ba"):
        Bidirectional(GRU(2, **({"inputs": 3} | ahead)), LSTM(2, **({"inputs": 3} | back)))


@pytest.mark.parametrize("inputs", [(3, None), (None, 3)])
def test_one_direction_takes_the_number_of_inputs_from_the_other(inputs):
    model = Bidirectional(*(GRU(2, inputs=count) for count in inputs))
    assert [layer.inputs for layer in model] == [3, 3]
    assert model(np.zeros((4, 5, 3))).shape == (4, 4)


def test_one_layer_cannot_read_in_both_directions():
    layer = GRU(2, inputs=3)
    with pytest.raises(UsageError, match=r"layer backwards already belongs to a model; give layer\.copy\(\)"):
        Bidirectional(layer, layer)
    twin = layer.copy()
    assert Bidirectional(layer, twin).backwards is twin


@EACH
def test_a_masked_row_is_as_the_row_alone(cls):
    layer = cls(units=3, inputs=2, masking=0.0)
    x = np.random.default_rng(0).normal(size=(2, 5, 2))
    x[0, 3:] = 0.0
    x[1, 1] = 0.0  # a gap inside is skipped too
    require_close(layer(x)[:1], layer(x[:1, :3]), "float64")
    require_close(layer(x)[1:], layer(np.delete(x[1:], 1, axis=1)), "float64")


@EACH
def test_the_next_layer_skips_what_the_first_skipped(cls):
    model = Sequential(cls(units=3, inputs=2, returns="all", masking=0.0), cls(units=4, masking=0.0))
    x = np.random.default_rng(0).normal(size=(2, 5, 2))
    x[0, 3:] = 0.0
    gradients = []
    for batch in (x[:1], x[:1, :3]):
        a = model.forward(batch)
        dx = model.backward(np.ones((1, 4)))
        gradients.append((a, dx[:, :3], model.parameters.gradient.copy()))
    for padded, alone in zip(*gradients, strict=True):
        require_close(padded, alone, "float64")


@EACH
def test_a_row_of_skipped_steps_keeps_the_first_state(cls):
    layer = cls(units=3, inputs=2, masking=0.0)
    np.testing.assert_array_equal(layer(np.zeros((2, 4, 2))), np.zeros((2, 3)))


@EACH
def test_any_number_of_steps_is_taken(cls):
    layer = cls(units=3, inputs=2)
    x = np.random.default_rng(0).normal(size=(2, 7, 2))
    every = layer.replace(returns="all")
    every.parameters.vector[:] = layer.parameters.vector
    for steps in (1, 4, 7):
        require_close(layer(x[:, :steps]), every(x)[:, steps - 1], "float64")


@EACH
def test_inputs_come_from_the_layer_before(cls):
    model = Sequential(cls(units=3, inputs=2, returns="all"), cls(units=5))
    assert model[1].inputs == 3
    assert model.output_shape == (5,)
    assert model.shape_after((9, 2)) == (5,)
    assert model[0].shape_after((9, 2)) == (9, 3)


@EACH
def test_the_graph_does_not_grow_with_the_steps(cls):
    layer = cls(units=3, inputs=2)
    passes = [layer.passes((steps, 2), training=True) for steps in (5, 50)]
    sizes = [len(each.backward(input_gradient=True).source) for each in passes]
    assert sizes[1] - sizes[0] < 20


@EACH
def test_what_does_not_fit_is_named(cls):
    with pytest.raises(SettingsError, match="returns"):
        cls(units=3, returns="first")
    with pytest.raises(SettingsError, match="units"):
        cls(units=0)
    with pytest.raises(ShapeError, match=r"\(any, 2\)"):
        cls(units=3, inputs=2)(np.ones((4, 5, 3)))


@EACH
def test_a_step_goes_through_the_sequence_once_forward_and_once_back(cls):
    model = Sequential(cls(units=3, inputs=2), Dense(3, 2, Softmax()))
    batch = np.ones((4, 5, 2)), np.zeros(4, int), None
    program = StepProgram(StepGraph(model, CrossEntropy(), batch), kept=False)
    assert program.function.source.count("    for t") == 2
