import numpy as np
import pytest
import torch

from framework.activations import Tanh
from framework.errors import SettingsError
from framework.losses import MeanSquaredError
from framework.models import Dense, Neuron, Sequential
from framework.optimizers import (
    AdadeltaOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    AdamWOptimizer,
    LionOptimizer,
    NAdamOptimizer,
    RMSPropOptimizer,
)
from framework.schedules import InverseTimeSchedule

STEPS = 200
ALL = [
    AdadeltaOptimizer,
    AdagradOptimizer,
    AdamOptimizer,
    AdamWOptimizer,
    LionOptimizer,
    NAdamOptimizer,
    RMSPropOptimizer,
]

# The rates are such that training is not chaotic: a change of the first weights by 1e-15 stays below 1e-11.
TWINS = [
    (AdamOptimizer(), torch.optim.Adam, {}),
    (
        AdamOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, epsilon=1e-4),
        torch.optim.Adam,
        {"lr": 0.002, "betas": (0.8, 0.95), "eps": 1e-4},
    ),
    (AdamOptimizer(learning_rate=0.01, weight_decay=0.1), torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (AdamOptimizer(learning_rate=0.01, beta1=0.0), torch.optim.Adam, {"lr": 0.01, "betas": (0.0, 0.999)}),
    (AdamWOptimizer(), torch.optim.AdamW, {}),
    (
        AdamWOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, weight_decay=0.5),
        torch.optim.AdamW,
        {"lr": 0.002, "betas": (0.8, 0.95), "weight_decay": 0.5},
    ),
    (AdamWOptimizer(learning_rate=0.01, weight_decay=0.0), torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    (NAdamOptimizer(), torch.optim.NAdam, {}),
    (
        NAdamOptimizer(learning_rate=0.002, beta1=0.8, beta2=0.95, momentum_decay=0.1),
        torch.optim.NAdam,
        {"lr": 0.002, "betas": (0.8, 0.95), "momentum_decay": 0.1},
    ),
    (NAdamOptimizer(learning_rate=0.01, weight_decay=0.1), torch.optim.NAdam, {"lr": 0.01, "weight_decay": 0.1}),
    (
        NAdamOptimizer(learning_rate=0.001, beta1=0.5, momentum_decay=1.0),
        torch.optim.NAdam,
        {"lr": 0.001, "betas": (0.5, 0.999), "momentum_decay": 1.0},
    ),
    (RMSPropOptimizer(), torch.optim.RMSprop, {}),
    (
        RMSPropOptimizer(learning_rate=0.0005, rho=0.9, momentum=0.9, epsilon=1e-6),
        torch.optim.RMSprop,
        {"lr": 0.0005, "alpha": 0.9, "momentum": 0.9, "eps": 1e-6},
    ),
    (RMSPropOptimizer(centered=True, epsilon=1e-3), torch.optim.RMSprop, {"centered": True, "eps": 1e-3}),
    (
        RMSPropOptimizer(learning_rate=0.001, momentum=0.5, centered=True, weight_decay=0.1, epsilon=1e-3),
        torch.optim.RMSprop,
        {"lr": 0.001, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 1e-3},
    ),
    (AdagradOptimizer(), torch.optim.Adagrad, {}),
    (
        AdagradOptimizer(learning_rate=0.1, initial=0.1, weight_decay=0.1, epsilon=1e-6),
        torch.optim.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.1, "eps": 1e-6},
    ),
    (
        AdagradOptimizer(learning_rate=InverseTimeSchedule(initial=0.1, decay=0.02)),
        torch.optim.Adagrad,
        {"lr": 0.1, "lr_decay": 0.02},
    ),
    (AdadeltaOptimizer(), torch.optim.Adadelta, {}),
    (
        AdadeltaOptimizer(learning_rate=0.5, rho=0.95, epsilon=1e-4, weight_decay=0.1),
        torch.optim.Adadelta,
        {"lr": 0.5, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.1},
    ),
]
NAMES = [f"{type(ours).__name__}-{i}" for i, (ours, _, _) in enumerate(TWINS)]


@pytest.fixture(autouse=True)
def _double():
    """PyTorch keeps NAdam's product of momenta in the default dtype, which costs it 9 digits when that is float32."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize(("recipe", "kind", "settings"), TWINS, ids=NAMES)
def test_200_steps_on_a_network_are_pytorchs(recipe, kind, settings):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
    model = Sequential(Dense(3, 8, Tanh()), Dense(8, 2), seed=1)
    twin = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
    with torch.no_grad():
        for ours, theirs in zip(model.parameters.values(), twin.parameters(), strict=True):
            theirs.copy_(torch.from_numpy(ours.T.copy()))
    start = model.parameters.vector.copy()
    optimizer, other = recipe.bind(model), kind(twin.parameters(), **settings)
    for _ in range(STEPS):
        model.forward(x)
        MeanSquaredError().backward(model, y)
        optimizer.step()
        other.zero_grad()
        torch.nn.functional.mse_loss(twin(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        other.step()
        theirs = np.concatenate([p.detach().numpy().T.reshape(-1) for p in twin.parameters()])
        assert_close(model.parameters.vector, theirs)
    assert np.abs(model.parameters.vector - start).max() > 0.01


SCALES = np.logspace(-4, 4, 9)  # curvatures of the quadratic 1/2 sum(s w^2)


def neuron(dtype="float64"):
    weights = np.where(np.arange(9) % 2, -1.0, 1.0) * np.linspace(0.5, 2.0, 9)
    return Neuron.from_weights(weights, train_bias=False, dtype=dtype)


@pytest.mark.parametrize(("recipe", "kind", "settings"), TWINS, ids=NAMES)
def test_200_steps_on_a_badly_scaled_quadratic_are_pytorchs(recipe, kind, settings):
    model = neuron()
    w = torch.tensor(model.weights, requires_grad=True)
    optimizer, other = recipe.bind(model), kind([w], **settings)
    for _ in range(STEPS):
        optimizer.binding.parameters.gradients["weights"][:] = SCALES * model.weights
        optimizer.step()
        other.zero_grad()
        (0.5 * torch.from_numpy(SCALES) * w * w).sum().backward()
        other.step()
        assert_close(model.weights, w.detach().numpy())


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
    for _ in range(STEPS):
        model.parameters.gradients["weights"][:] = SCALES * model.weights
        optimizer.step()
    rate, beta1, beta2, decay = optimizer.learning_rate, optimizer.beta1, optimizer.beta2, optimizer.weight_decay
    expected = lion_of_the_paper(start, lambda w: SCALES * w, [rate] * STEPS, beta1, beta2, decay)
    np.testing.assert_array_equal(model.weights, expected)


@pytest.mark.parametrize("kind", ALL)
def test_float32_stays_float32(kind):
    values, gradients = np.ones(4, np.float32), np.array([0.0, 1e-3, -1.0, 1e3], np.float32)
    memory = [np.zeros(4, np.float32) for _ in kind.memory]
    settings = {"momentum": 0.5, "centered": True} if kind is RMSPropOptimizer else {}
    optimizer = kind(weight_decay=0.1, **settings)
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
    kind(weight_decay=0.1).update(values, gradients, 0.1, 1, *(np.zeros(3) for _ in kind.memory))
    np.testing.assert_array_equal(gradients, kept)


@pytest.mark.parametrize("kind", ALL)
def test_a_gradient_that_is_always_0_moves_nothing(kind):
    model = neuron()
    start = model.weights.copy()
    optimizer = kind(model, **({"weight_decay": 0.0} if kind is AdamWOptimizer else {}))
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
        kind().update(values, gradients, 0.1, step, *memory)
        for part in (slice(0, 3), slice(3, 10)):
            kind().update(parts[part], gradients[part], 0.1, step, *(array[part] for array in part_memory))
    np.testing.assert_array_equal(values, parts)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 0.0),
        ("beta1", 1.0),
        ("beta2", -0.1),
        ("rho", 1.0),
        ("epsilon", 0.0),
        ("momentum", 1.0),
        ("momentum_decay", -1.0),
        ("initial", -1.0),
        ("weight_decay", -0.1),
    ],
)
def test_a_setting_out_of_range_is_refused(kind, setting, value):
    if setting in kind.model_fields:
        with pytest.raises(SettingsError, match=setting):
            kind(**{setting: value})


def test_centered_rmsprop_survives_a_constant_gradient():
    values, memory = np.ones(50), [np.zeros(50) for _ in range(3)]
    gradients = np.logspace(-3, 3, 50)
    optimizer = RMSPropOptimizer(centered=True, rho=0.5)
    for step in range(1, 201):
        optimizer.update(values, gradients, 1e-12, step, *memory)
    assert np.isfinite(values).all()
    w = torch.ones(50, dtype=torch.float64, requires_grad=True)
    other = torch.optim.RMSprop([w], lr=1e-12, alpha=0.5, centered=True)
    for _ in range(200):
        w.grad = torch.from_numpy(gradients.copy())
        other.step()
    assert torch.isnan(w).any()  # what the clip is for


@pytest.mark.parametrize(("beta1", "decay"), [(0.9, 0.004), (0.9, 1.0), (0.99, 0.3), (0.0, 0.004), (0.5, 0.0)])
def test_nadams_product_stops_where_no_factor_matters(beta1, decay):
    optimizer = NAdamOptimizer(beta1=beta1, momentum_decay=decay)
    product = 1.0
    for step in range(1, 5001):
        product *= beta1 * (1 - 0.5 * 0.96 ** (step * decay))
        if step % 100 == 0 or step < 50:
            assert 1 - optimizer._product(step) == pytest.approx(1 - product, rel=1e-14)
