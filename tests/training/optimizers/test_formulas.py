import numpy as np
import pytest
from catalogue import catalogue
from oracles import stored

from framework import AdamOptimizer, AdamWOptimizer, Dense, MeanSquaredError, Neuron, Optimizer, Sequential, Tanh
from framework.base.errors import DivergedError, SettingsError
from framework.formulas import InverseTimeSchedule
from framework.training import AdadeltaOptimizer, AdagradOptimizer, LionOptimizer, NAdamOptimizer, RMSPropOptimizer

ALL = catalogue(Optimizer)


def of_kind(kind, *model, **settings):
    """Return an optimizer of the catalogue, with those of the settings that it has."""
    return kind(*model, learning_rate=0.01, **{name: settings[name] for name in settings if name in kind.model_fields})


TWINS = {  # PyTorch's optimizer, and the same of ours
    "Adam": AdamOptimizer(),
    "Adam, other settings": AdamOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, epsilon=1e-4),
    "Adam, decay": AdamOptimizer(learning_rate=0.01, weight_decay=0.1),
    "Adam, no momentum": AdamOptimizer(learning_rate=0.01, beta1=0.0),
    "AdamW": AdamWOptimizer(),
    "AdamW, other settings": AdamWOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, weight_decay=0.5),
    "AdamW, no decay": AdamWOptimizer(learning_rate=0.01, weight_decay=0.0),
    "NAdam": NAdamOptimizer(),
    "NAdam, other settings": NAdamOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, momentum_decay=0.1),
    "NAdam, decay": NAdamOptimizer(learning_rate=0.01, weight_decay=0.1),
    "NAdam, momentum decay": NAdamOptimizer(learning_rate=0.001, beta1=0.5, momentum_decay=1.0),
    "RMSprop": RMSPropOptimizer(),
    "RMSprop, momentum": RMSPropOptimizer(learning_rate=0.0005, rho=0.9, momentum=0.9, epsilon=1e-6),
    "RMSprop, centered": RMSPropOptimizer(centered=True, epsilon=1e-3),
    "RMSprop, all": RMSPropOptimizer(learning_rate=0.001, momentum=0.5, centered=True, weight_decay=0.1, epsilon=1e-3),
    "Adagrad": AdagradOptimizer(),
    "Adagrad, other settings": AdagradOptimizer(learning_rate=0.1, initial=0.1, weight_decay=0.1, epsilon=1e-6),
    "Adagrad, rate decay": AdagradOptimizer(learning_rate=InverseTimeSchedule(initial=0.1, decay=0.02)),
    "Adadelta": AdadeltaOptimizer(),
    "Adadelta, other settings": AdadeltaOptimizer(learning_rate=0.5, rho=0.95, epsilon=1e-4, weight_decay=0.1),
}
STEPS = stored("optimizers")["steps"]["steps"].tolist()  # after which PyTorch's numbers are stored, up to 200


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize("twin", TWINS)
def test_200_steps_on_a_network_are_pytorchs(twin):
    x, y, start = stored("optimizers")["network"].values()
    model = Sequential(Dense(3, 8, Tanh()), Dense(8, 2))
    model.parameters.vector[:] = start
    optimizer = TWINS[twin].bind(model)
    theirs = iter(stored("optimizers")[twin]["network"])
    for step in range(1, STEPS[-1] + 1):
        model.forward(x)
        MeanSquaredError().backward(model, y)
        optimizer.step()
        if step in STEPS:
            assert_close(model.parameters.vector, next(theirs))
    assert next(theirs, None) is None
    assert np.abs(model.parameters.vector - start).max() > 0.01


SCALES = stored("optimizers")["quadratic"]["scales"]  # curvatures of the quadratic 1/2 sum(s w^2)


def neuron(dtype="float64"):
    return Neuron.from_weights(stored("optimizers")["quadratic"]["start"], train_bias=False, dtype=dtype)


@pytest.mark.parametrize("twin", TWINS)
def test_200_steps_on_a_badly_scaled_quadratic_are_pytorchs(twin):
    model = neuron()
    optimizer = TWINS[twin].bind(model)
    theirs = iter(stored("optimizers")[twin]["quadratic"])
    for step in range(1, STEPS[-1] + 1):
        optimizer.parameters.gradients["weights"][:] = SCALES * model.weights
        optimizer.step()
        if step in STEPS:
            assert_close(model.weights, next(theirs))
    assert next(theirs, None) is None


def lion_of_the_paper(weights, gradient, rates, beta1, beta2, decay):
    """Algorithm 2 of Chen et al. (2023), line by line."""
    theta, m = weights.copy(), np.zeros_like(weights)
    for eta in rates:
        g = gradient(theta)
        c = beta1 * m + (1 - beta1) * g
        theta = theta - eta * (np.sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
    return theta


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.003},
        {"learning_rate": 0.01, "weight_decay": 0.5},
        {"learning_rate": 0.01, "beta1": 0.5, "beta2": 0.9, "weight_decay": 0.1},
    ],
)
def test_lion_is_the_papers_algorithm(settings):
    model = neuron()
    start = model.weights.copy()
    optimizer = LionOptimizer(model, **settings)
    for _ in range(STEPS[-1]):
        model.parameters.gradients["weights"][:] = SCALES * model.weights
        optimizer.step()
    rate, beta1, beta2, decay = optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.weight_decay
    expected = lion_of_the_paper(start, lambda w: SCALES * w, [rate] * STEPS[-1], beta1, beta2, decay)
    np.testing.assert_array_equal(model.weights, expected)


@pytest.mark.parametrize("kind", ALL)
def test_float32_stays_float32(kind):
    values, gradients = np.ones(4, np.float32), np.array([0.0, 1e-3, -1.0, 1e3], np.float32)
    memory = [np.zeros(4, np.float32) for _ in kind.memory]
    optimizer = of_kind(kind, weight_decay=0.1, momentum=0.5, centered=True)
    made = []

    class Watched(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
            inputs = [np.asarray(i) if isinstance(i, Watched) else i for i in inputs]
            result = getattr(ufunc, method)(*inputs, out=tuple(map(np.asarray, out)) or None, **options)
            made.append(result.dtype)
            return result.view(Watched)

    watched = [array.view(Watched) for array in (values, gradients, *memory)]
    for step in (1, 2):
        optimizer.update(*watched[:2], 0.1, step, *watched[2:])
    assert made
    assert set(made) == {np.dtype(np.float32)}
    assert np.isfinite(values).all()


@pytest.mark.parametrize("kind", ALL)
def test_gradients_are_left_as_they_are(kind):
    values, gradients = np.ones(3), np.array([0.5, -2.0, 0.0])
    kept = gradients.copy()
    of_kind(kind, weight_decay=0.1).update(values, gradients, 0.1, 1, *(np.zeros(3) for _ in kind.memory))
    np.testing.assert_array_equal(gradients, kept)


@pytest.mark.parametrize("kind", ALL)
def test_a_gradient_whose_square_overflows_is_refused_by_the_formulas_that_square_it(kind):
    model = neuron()
    start, gradients = model.weights.copy(), np.full(len(SCALES), 1e200)
    memory = [np.zeros(len(SCALES)) for _ in kind.memory]
    with np.errstate(over="ignore", invalid="ignore"):
        kind(learning_rate=0.1).update(start.copy(), gradients, 0.1, 1, *memory)
    optimizer = kind(model, learning_rate=0.1)
    model.parameters.gradients["weights"][:] = gradients
    if np.isfinite(memory).all():
        optimizer.step()
    else:
        with pytest.raises(DivergedError, match="squares the gradient"):
            optimizer.step()
    assert np.array_equal(model.weights, start) != np.isfinite(memory).all()


@pytest.mark.parametrize("kind", ALL)
def test_a_gradient_that_is_always_0_moves_nothing(kind):
    model = neuron()
    start = model.weights.copy()
    optimizer = of_kind(kind, model, weight_decay=0.0)
    for _ in range(3):
        optimizer.step()
    np.testing.assert_array_equal(model.weights, start)


@pytest.mark.parametrize("kind", ALL)
def test_an_update_in_blocks_is_the_update_of_the_whole(kind):
    assert kind.elementwise
    rng = np.random.default_rng(0)
    values, gradients = rng.normal(size=10), rng.normal(size=10)
    memory = [np.zeros(10) for _ in kind.memory]
    parts, part_memory = values.copy(), [array.copy() for array in memory]
    for step in (1, 2, 3):
        of_kind(kind).update(values, gradients, 0.1, step, *memory)
        for part in (slice(0, 3), slice(3, 10)):
            of_kind(kind).update(parts[part], gradients[part], 0.1, step, *(array[part] for array in part_memory))
    np.testing.assert_array_equal(values, parts)


OUT_OF_RANGE = {
    "learning_rate": (0.0, -0.1),
    "clip_norm": (0.0, -1.0),
    "clip_value": (0.0, -1.0),
    "beta1": (1.0, -0.1),
    "beta2": (1.0, -0.1),
    "rho": (1.0, -0.1),
    "epsilon": (0.0, -1e-8),
    "momentum": (1.0, -0.1),
    "momentum_decay": (-1.0,),
    "initial": (-1.0,),
    "weight_decay": (-0.1,),
}
NOT_NUMBERS = {"rate_factors", "decay_factors", "centered", "nesterov"}


@pytest.mark.parametrize(
    ("kind", "setting"), [(kind, name) for kind in ALL for name in kind.model_fields if name not in NOT_NUMBERS]
)
def test_a_setting_out_of_range_is_refused(kind, setting):
    for value in (*OUT_OF_RANGE[setting], np.nan, np.inf):
        with pytest.raises(SettingsError, match=setting):
            kind(**{"learning_rate": 0.1, setting: value})


def test_centered_rmsprop_survives_a_constant_gradient():
    gradients, theirs = stored("optimizers")["RMSprop, constant gradient"].values()
    values, memory = np.ones(50), [np.zeros(50) for _ in range(3)]
    optimizer = RMSPropOptimizer(centered=True, rho=0.5)
    for step in range(1, 201):
        optimizer.update(values, gradients, 1e-12, step, *memory)
    assert np.isfinite(values).all()
    assert np.isnan(theirs).any()  # PyTorch's; what the clip is for


@pytest.mark.parametrize(("beta1", "decay"), [(0.9, 0.004), (0.9, 1.0), (0.99, 0.3), (0.0, 0.004), (0.5, 0.0)])
def test_nadam_keeps_what_the_product_of_all_factors_lacks_of_1(beta1, decay):
    optimizer = NAdamOptimizer(beta1=beta1, momentum_decay=decay)
    values, memory = np.ones(1), [np.zeros(1) for _ in range(3)]
    product = 1.0
    for step in range(1, 5001):
        product *= beta1 * (1 - 0.5 * 0.96 ** (step * decay))
        optimizer.update(values, np.ones(1), 1e-3, step, *memory)
        if step % 100 == 0 or step < 50:
            assert memory[2] == pytest.approx(1 - product, rel=1e-14)
