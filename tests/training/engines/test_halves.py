"""A step by hand is the step of the NumPy engine, to the bit, and its gradients are those of the loss's formula.

The models are drawn at random; those of each rotation are others.
"""

import numpy as np
import pytest
from whole_models import WholeModel

from framework import (
    Dense,
    Dropout,
    HalfSquaredError,
    Huber,
    Layer,
    MeanSquaredError,
    Neuron,
    Sequential,
    Sigmoid,
    Tanh,
    on,
)
from framework.backends.arithmetic import limit_threads
from framework.base.trees import flatten, map_leaves
from framework.formulas.derivatives import derivative_bounds, resolve_bounds

TOLERANCES = {"float64": 1e-11, "float32": 1e-4}
EACH = 10
"""How many models a case has."""


def drawn_models(start, rotation, dtype="float64"):
    return [WholeModel(rotation, 1, start + place, dtype=dtype) for place in range(EACH)]


def rows_of(tree, rows):
    return map_leaves(lambda leaf: leaf[rows], tree)


def by_hand(drawn):
    """Train as the documentation does it by hand; return the model, the optimizer and the loss of each batch."""
    model, loss, size = drawn.model.copy(), drawn.loss, drawn.size
    optimizer = drawn.settings["optimizer"].bind(model)
    losses = []
    for start in range(0, drawn.rows, drawn.batch):
        rows = slice(start, min(start + drawn.batch, drawn.rows))
        y, weight = rows_of(drawn.y, rows), None if drawn.weight is None else drawn.weight[rows]
        if weight is not None and not weight.any():
            continue
        key = (drawn.settings["seed"], 0, len(losses))
        if drawn.batch == size:
            model.forward(rows_of(drawn.x, rows), key=key)
            losses.append(loss.backward(model, y, weight))
        else:
            losses.append(in_parts(drawn, model, rows, y, weight, key))
        for regularizer in drawn.settings["regularizers"]:
            regularizer.backward(model)
        optimizer.step()
    return model, optimizer, losses


def in_parts(drawn, model, rows, y, weight, key):
    """Fill the gradients from a batch that goes through the model in parts, and return its loss."""
    shape = (rows.stop - rows.start,) if isinstance(y, dict) else y.shape
    weight = None if weight is None else weight.astype(model.dtype)
    count, total = drawn.loss.count(shape, weight), 0.0
    for number, start in enumerate(range(rows.start, rows.stop, drawn.size)):
        part = slice(start, min(start + drawn.size, rows.stop))
        inside = slice(part.start - rows.start, part.stop - rows.start)
        model.forward(rows_of(drawn.x, part), key=(*key, number) if number else key)
        own = None if weight is None else weight[inside]
        settings = {"count": count, "accumulate": number > 0}
        total += count * drawn.loss.backward(model, rows_of(y, inside), own, **settings)
    return total / count


def bits(model, optimizer):
    arrays = {f"parameter {name}": value for name, value in model.parameters.items()}
    arrays |= {f"gradient {name}": value for name, value in model.parameters.gradients.items()}
    arrays |= {f"buffer {name}": value for name, value in model.buffers.items()}
    arrays |= {f"memory {name}": value for name, value in optimizer.memory.items()}
    return {name: (value.dtype, value.tobytes()) for name, value in arrays.items()}


EXACT = np.lib.NumpyVersion(np.__version__) >= "2.1.0"
"""Whether equal steps give equal bits: some of NumPy 2.0 depend on where arrays lie in memory."""


def agree(found, expected):
    if EXACT or found[0] != expected[0] or len(found[1]) != len(expected[1]):
        return found == expected
    found, expected = (np.frombuffer(data, dtype) for dtype, data in (found, expected))
    return np.abs(found - expected).max(initial=0.0) <= TOLERANCES[str(found.dtype)] * np.abs(expected).max(initial=1.0)


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("start", range(0, 60, EACH))
def test_a_loop_by_hand_gives_the_bits_of_the_numpy_engine(start, dtype, pytestconfig):
    for drawn in drawn_models(start, pytestconfig.option.rotation, dtype):
        with limit_threads():  # as in the engine: the last bits of a product depend on them
            model, optimizer, losses = by_hand(drawn)
        seen = []
        trainer = drawn.trainer(engine="numpy", shuffle=False, flush_to_zero=False)
        plain = trainer.fit(drawn.model.copy(), drawn.data)
        hooked = trainer.replace(callbacks=[on("batch_end")(lambda run, seen=seen: seen.append(run.batch_loss))])
        hooked = hooked.fit(drawn.model.copy(), drawn.data)
        for run in (plain, hooked):
            expected = bits(model, optimizer)
            differing = [
                name for name, value in bits(run.model, run.optimizer).items() if not agree(value, expected[name])
            ]
            assert not differing, (drawn, differing)
        # The engine divides the sum over all parts of a batch, and a loop by hand adds up what backward returns.
        exact = EXACT and drawn.size == drawn.batch
        assert seen == (losses if exact else pytest.approx(losses, rel=1e-14 if EXACT else TOLERANCES[dtype])), drawn


def by_gradient(drawn, eps, turn):
    """Return the gradients from the loss's gradient by the prediction, which is rounded ``turn`` times anew."""
    model, rng = drawn.model.copy(), np.random.default_rng(turn)

    def rounded(leaf):
        return (leaf * (1.0 - turn * eps * rng.random(leaf.shape))).astype(leaf.dtype)  # a probability stays below 1

    prediction = map_leaves(rounded, model.forward(drawn.x, key=(0, 0, 0)))
    with np.errstate(all="ignore"):  # without h, a saturated output has no finite slope
        model.backward(drawn.loss.gradient(prediction, drawn.y, drawn.weight))
    return model.parameters.gradients


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("start", range(0, 60, EACH))
def test_the_gradient_of_a_loss_by_itself_gives_the_gradients_of_its_backward(start, dtype, pytestconfig):
    compared, eps = 0, float(np.finfo(dtype).eps)
    for drawn in drawn_models(start, pytestconfig.option.rotation, dtype):
        model = drawn.model.copy()  # a forward moves buffers
        model.forward(drawn.x, key=(0, 0, 0))
        drawn.loss.backward(model, drawn.y, drawn.weight)
        found, *close = (by_gradient(drawn, eps, turn) for turn in range(3))
        whole = np.abs(model.parameters.gradient).max(initial=0.0)
        for name, gradient in model.parameters.gradients.items():
            if not np.isfinite(found[name]).all():
                break
            spread = max(np.abs(found[name] - other[name]).max(initial=0.0) for other in close)
            allowed = TOLERANCES[dtype] * np.abs(gradient).max(initial=0.0) + 200.0 * eps * whole + 10.0 * spread
            assert np.abs(found[name] - gradient).max(initial=0.0) <= allowed, (drawn, name)
        else:
            compared += 1
    assert compared >= EACH // 2


def moved(loss, leaf, direction):
    """Return the loss as a function of offsets, (n, 1), that a leaf of the input is moved by along a direction."""
    kept = leaf.copy()

    def losses(offsets):
        values = []
        for offset in offsets[:, 0]:
            leaf[...] = kept + offset * direction
            values.append([loss()])
        leaf[...] = kept
        return np.array(values)

    return losses


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("start", range(0, 60, EACH))
def test_backward_returns_the_slope_by_the_inputs(start, pytestconfig):
    for drawn in drawn_models(start, pytestconfig.option.rotation):
        if "Step()" in repr(drawn.model):  # whose gradients pass straight through
            continue
        model, x = drawn.model, map_leaves(np.copy, drawn.x)
        buffers = {name: value.copy() for name, value in model.buffers.items()}

        def predict(model=model, x=x, buffers=buffers):
            for name, value in buffers.items():
                model.buffers[name][...] = value
            return model.forward(x, key=(0, 0, 0))

        def loss(drawn=drawn, predict=predict):
            return drawn.loss(predict(), drawn.y, drawn.weight)

        prediction = predict()
        slopes = flatten(model.backward(drawn.loss.gradient(prediction, drawn.y, drawn.weight)), "x")
        assert slopes.keys() == flatten(x, "x").keys()
        for name, leaf in flatten(x, "x").items():
            slope = slopes[name]
            assert slope.shape == leaf.shape
            if leaf.dtype.kind != "f":
                assert not slope.any(), (drawn, name)
                continue
            direction = np.random.default_rng(0).normal(size=leaf.shape)
            direction[leaf == 0.0] = np.abs(direction[leaf == 0.0])  # all padding leaves a kink on the same side
            value = np.array([np.sum(slope * direction)])
            slack = 1e-6 * np.sum(np.abs(slope * direction)) + 1e-9
            bounds = derivative_bounds(moved(loss, leaf, direction), np.zeros(1))
            if not bounds.hold(value, slack)[0]:
                bounds = resolve_bounds(moved(loss, leaf, direction), np.zeros(1))
            assert bounds.hold(value, slack)[0] or not bounds.judged[0], (drawn, name)


class ScaledByKey(Layer):
    """A layer that Python runs, and that depends on the key of the pass."""

    inputs: int = 1

    def apply(self, x, values, record):
        record["factor"] = 1.0 if record.key is None else 1.0 / (1 + record.key[1] % 5)
        return record["factor"] * x

    def apply_backward(self, gradient, values, record, gradients):
        return record["factor"] * gradient


class Centered(Layer):
    """A layer that moves a buffer in each forward pass."""

    inputs: int = 1
    mixes_rows = True

    def initial_buffers(self):
        return {"mean": np.zeros(self.inputs)}

    def formula(self, x, mean):
        return x - mean, {"mean": 0.5 * mean + 0.5 * np.mean(x, axis=0)}


REPEATED = {
    "neuron": lambda: Neuron(3, Sigmoid(), seed=1),
    "float32": lambda: Neuron(3, Tanh(), dtype="float32", seed=1),
    "layers": lambda: Sequential(Dense(3, 4, Tanh()), Dense(4, 1, Sigmoid()), seed=1),
    "buffers": lambda: Sequential(Dense(3, 4), Centered(4), Dense(4, 1), seed=1),
    "draws": lambda: Sequential(Dense(3, 4), Dropout(0.5), Dense(4, 1), seed=1),
    "written": lambda: Sequential(Dense(3, 4), ScaledByKey(inputs=4), Dense(4, 1), seed=1),
}
REPEATED_LOSSES = (HalfSquaredError(), MeanSquaredError(), Huber(delta=0.5), Huber(delta=0.1))
"""The losses of a loop by hand; a model may keep what it has prepared for one of them."""
FORMS = (np.asfortranarray, np.ndarray.tolist, np.float32, lambda x: np.repeat(x, 2, -1)[..., ::2])


def step_of(model, number):
    """Take a step by hand that is drawn at random; return its prediction, its loss and the gradient."""
    rng = np.random.default_rng(number)
    shape = (*([(2,), (2,), (2,), (5,), ()][rng.integers(5)]), 3)
    x, y = rng.normal(size=shape), rng.normal(size=(*shape[:-1], 1))
    x = x.astype(model.dtype) if rng.random() < 0.7 else FORMS[rng.integers(len(FORMS))](x)
    weight = None if rng.random() < 0.7 else rng.uniform(0.5, 2.0, size=shape[:1] if len(shape) > 1 else (1,))
    loss = REPEATED_LOSSES[0 if rng.random() < 0.7 else rng.integers(len(REPEATED_LOSSES))]
    loss = loss if rng.random() < 0.8 else loss.replace()
    freeze = [model.parameters.freeze, model.parameters.unfreeze, *5 * [lambda _: None]]
    freeze[rng.integers(len(freeze))]("*bias")
    prediction = model.forward(x, key=(1, number))
    freeze[rng.integers(len(freeze))]("*bias")
    value = loss.backward(model, y, weight, accumulate=rng.random() < 0.2)
    return prediction, value, model.parameters.gradient.copy()


@pytest.mark.parametrize("name", REPEATED)
def test_a_step_by_hand_does_not_depend_on_the_forms_of_the_steps_before(name):
    model = REPEATED[name]()
    tolerance = TOLERANCES[model.dtype] / 10
    for number in range(100):
        twin = model.copy()
        twin.parameters.gradient = model.parameters.gradient
        for value, expected in zip(*(step_of(m, number) for m in (model, twin)), strict=True):
            np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)
        for buffer, expected in zip(model.buffers.values(), twin.buffers.values(), strict=True):
            np.testing.assert_allclose(buffer, expected, rtol=tolerance)
        model.parameters.vector -= 0.05 * model.parameters.gradient


@pytest.mark.parametrize("ready", [False, True])
def test_a_layer_that_becomes_part_of_a_model_goes_on_with_the_numbers_of_the_model(ready):
    layer, x = Dense(3, 1), np.ones((2, 3))
    for _ in range(2):
        layer.forward(x)
        HalfSquaredError().backward(layer, [0.0, 0.0])
    if ready:
        layer.forward(x)
    model = Sequential(layer)
    part, parameters = model[0], model.parameters
    if ready:
        HalfSquaredError().backward(part, [0.0, 0.0])
    parameters.vector = [1.0, 2.0, 3.0, 4.0]
    assert part.forward(x).tolist() == [[10.0], [10.0]]
    assert HalfSquaredError().backward(part, [9.0, 9.0]) == 0.5
    assert parameters.gradient.tolist() == [1.0, 1.0, 1.0, 1.0]
