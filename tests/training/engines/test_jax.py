"""The JAX engine gives the NumPy engine's runs: every kind of layer, loss, optimizer and setting."""

import jax
import numpy as np
import pytest
from catalogue import catalogue
from jax_pieces import RNG, both, quick, require_close  # noqa: F401 (quick is a fixture)
from layer_pieces import Gated
from oracles import quickly

from framework import (
    GELU,
    GRU,
    L2,
    LSTM,
    Accuracy,
    Activation,
    AdamOptimizer,
    AdamWOptimizer,
    BatchNorm,
    BinaryCrossEntropy,
    Conv2D,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GlobalAverage,
    HalfSquaredError,
    Heads,
    Huber,
    Identity,
    Join,
    Layer,
    LayerNorm,
    Loss,
    MaxPool,
    Model,
    MultiHeadAttention,
    Neuron,
    Optimizer,
    ReLU,
    Residual,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    SimpleRNN,
    Softmax,
    Softplus,
    Tanh,
    Trainer,
    on,
)
from framework.data import load_digits
from framework.formulas import Focal, MultiQuantile, OutputLosses, OutputMetric, Poisson, Sort
from framework.models import L1, AveragePool, Composite, Conv1D, Input, PositionalEncoding
from framework.training.engines.jax.plan import update_source
from framework.training.engines.plan import Update
from framework.training.engines.records import rehearse_update

pytestmark = pytest.mark.share(1 / 3)

CLASSES = RNG.integers(0, 3, 16)
YES = RNG.integers(0, 2, 20)
X = RNG.normal(size=(20, 5))
WEIGHT = RNG.random(20)
LENGTHS = np.arange(6) < RNG.integers(1, 7, 16)[:, None]
NETWORK = Sequential(Dense(5, 4, Tanh()), Dense(4, 1, Sigmoid()))


def softmax(*layers):
    return Sequential(*layers, Dense(units=3, activation=Softmax()))


def block():
    return [
        PositionalEncoding(),
        Residual(LayerNorm(4), MultiHeadAttention(heads=2, inputs=4, causal=True, masking=0.0)),
        Residual(LayerNorm(4), Dense(4, 6, GELU()), Dropout(0.2), Dense(6, 4)),
        Flatten(),
    ]


MODELS = {
    "images": (
        softmax(
            *(Conv2D(filters=4, kernel=3, padding="same", inputs=2), ReLU(), MaxPool(window=2)),
            *(Conv2D(filters=3, kernel=2, stride=2, dilation=2, padding=1), AveragePool(window=2, stride=1), Flatten()),
        ),
        RNG.normal(size=(16, 2, 9, 8)),
    ),
    "signals": (
        softmax(Conv1D(filters=4, kernel=3, inputs=2), MaxPool(window=3, stride=2, padding=1), GlobalAverage()),
        RNG.normal(size=(16, 2, 12)),
    ),
    "sequences": (
        softmax(GRU(units=4, inputs=3, masking=0.0, returns="all"), LSTM(units=3, masking=0.0)),
        RNG.normal(size=(16, 6, 3)) * LENGTHS[..., None],
    ),
    "attention": (softmax(*block()), RNG.normal(size=(16, 5, 4))),
    "ids": (softmax(Embedding(7, 3), SimpleRNN(units=4)), RNG.integers(0, 7, (16, 5))),
    "norm": (softmax(Dense(4, 6), BatchNorm(6), ReLU(), Dropout(0.3)), RNG.normal(size=(16, 4))),
}


@pytest.mark.share(1 / 3)
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_layer_learns_as_with_numpy(name):
    model, x = MODELS[name]
    require_close(both(model.copy, (x, CLASSES), optimizer=SGDOptimizer(learning_rate=0.1), epochs=2))


def test_a_network_on_real_images_learns_as_with_numpy():
    x, y = load_digits()
    model = Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))
    runs = both(model.copy, (x / 16, y), batch_size=32, epochs=3, metrics=[Accuracy()])
    require_close(runs)
    assert runs[1].history[-1]["accuracy"] > 0.9
    assert runs[1].recipe["device"].startswith("JAX ")


def test_float32_learns_as_with_numpy_to_rounding():
    model, optimizer = NETWORK.in_dtype("float32"), AdamOptimizer(learning_rate=0.01)
    runs = both(model.copy, (X, YES), loss=BinaryCrossEntropy(), optimizer=optimizer, epochs=2)
    assert runs[1].model.parameters.vector.dtype == np.float32
    require_close(runs, 1e-5, 1e-6)


def head(loss):
    """Return a layer and targets that a loss has a meaning for."""
    first = np.abs(X[:, :2])
    if loss.by_row:
        activation = Sort() if isinstance(loss, MultiQuantile) else Softmax()
        return Dense(units=3, activation=activation), RNG.dirichlet(np.ones(3), 20)
    if isinstance(loss, BinaryCrossEntropy | Focal):
        return Dense(units=2, activation=Sigmoid()), (first > 0.5).astype(float)
    if "Hinge" in type(loss).__name__:
        return Dense(units=2), np.where(first > 0.5, 1.0, -1.0)
    return Dense(units=2, activation=Softplus() if isinstance(loss, Poisson) else Identity()), first


@pytest.mark.share(1 / 3)
def test_every_activation_and_every_loss_is_that_of_numpy():
    """Each is an output of one model, because each program takes time to compile."""
    losses = {cls.__name__: cls() for cls in catalogue(Loss) if cls is not OutputLosses}
    heads, targets = {}, {}
    for name, loss in losses.items():
        heads[name], targets[name] = head(loss)
    for cls in catalogue(Activation):
        heads[cls.__name__] = Dense(units=3, activation=cls())
        targets[cls.__name__], losses[cls.__name__] = X[:, :3], HalfSquaredError()
    model = Sequential(Dense(5, 6), Heads(**heads))
    model.settle((5,))
    model.parameters.vector *= 2.0  # beyond every kink
    weight = RNG.random(20)
    settings = {"loss": OutputLosses(**losses), "optimizer": SGDOptimizer(learning_rate=1e-3), "batch_size": 20}
    runs = both(model.copy, (X, targets, weight), **settings)
    require_close(runs)
    gradients = runs[1].model.parameters.gradients.items()
    assert all(np.abs(gradient).max() > 1e-9 for name, gradient in gradients if name.endswith("weights"))


def test_every_optimizer_is_that_of_numpy():
    recipes = [cls(learning_rate=0.01) for cls in catalogue(Optimizer)]
    updates = [Update(rehearse_update(recipe, "float64")) for recipe in recipes]
    given, expected = [], []
    for recipe, update in zip(recipes, updates, strict=True):
        values, gradient, *memory = np.abs(RNG.normal(size=(2 + len(recipe.memory), 6)))
        gradient *= -1
        numbers = update.numbers_at(np.array([0.1, 0.2]), np.array([2.0, 3.0]))[1]
        given.append((values.copy(), gradient, *map(np.copy, memory), *numbers))
        recipe.update(values, gradient, 0.2, 3, *memory)
        expected.append([values, *memory])
    functions = [update_source(update).function(jax) for update in updates]
    with jax.enable_x64(True):
        together = quickly(lambda given: [function(*x) for function, x in zip(functions, given, strict=True)])
        found = together(given)
    for recipe, arrays, wanted in zip(recipes, found, expected, strict=True):
        np.testing.assert_allclose(arrays, wanted, rtol=1e-12, err_msg=repr(recipe))


def test_branches_outputs_and_their_losses_are_those_of_numpy():
    model = Sequential(
        Join(numbers=Input(4), city=Embedding(5, 3)),
        Dense(units=6, activation=GELU()),
        Heads(
            price=Dense(units=2), late=Dense(units=1, activation=Sigmoid()), kind=Dense(units=3, activation=Softmax())
        ),
    )
    x = {"numbers": RNG.normal(size=(20, 4)), "city": RNG.integers(0, 5, 20)}
    y = {"price": RNG.normal(size=(20, 2)), "late": YES, "kind": RNG.integers(0, 3, 20)}
    loss = OutputLosses(
        price=Huber(), late=BinaryCrossEntropy(), kind=CrossEntropy(), weights={"price": 0.3, "kind": 0}
    )
    runs = both(model.copy, (x, y), loss=loss, epochs=2)
    require_close(runs)
    assert runs[1].history[0]["price_loss"] > 0


@pytest.mark.parametrize(("without", "steps"), [(slice(8, 16), 4), (slice(8, None), 2)])
def test_metrics_weights_and_batches_without_weight_are_those_of_numpy(without, steps):
    weight = RNG.random(20)
    weight[without] = 0.0  # these batches are skipped; after the last ones, the gradient is that of the step before
    settings = {
        "loss": BinaryCrossEntropy(),
        "shuffle": False,
        "metrics": [Accuracy(), HalfSquaredError()],
        "epochs": 2,
    }
    runs = both(NETWORK.copy, (X, YES, weight), **settings)
    require_close(runs)
    assert [run.step for run in runs] == [steps, steps]


@pytest.mark.parametrize("hook", ["epoch_end", "gradients"])
def test_a_loss_as_a_metric_is_computed_in_the_step(monkeypatch, hook):
    late = [OutputMetric("late", HalfSquaredError())]
    losses = OutputLosses(price=Huber(), late=BinaryCrossEntropy())
    cases = [
        (NETWORK, BinaryCrossEntropy(), YES, [HalfSquaredError(), Accuracy()]),
        (Heads(price=Neuron(5), late=Neuron(5, Sigmoid())), losses, {"price": X[:, 0], "late": YES}, late),
    ]
    for model, loss, y, metrics in cases:
        settings = {"loss": loss, "metrics": metrics, "epochs": 2}
        settings |= {"optimizer": SGDOptimizer(learning_rate=0.1), "callbacks": [on(hook)(lambda _: None)]}
        runs = []
        for engine in ("numpy", "jax"):
            with monkeypatch.context() as patch:
                if engine == "jax":
                    patch.setattr(Loss, "output_sums", None)  # NumPy would call it
                runs.append(Trainer(engine=engine, **settings).fit(model.copy(), (X, y, WEIGHT)))
        require_close(runs)


def test_penalties_clipping_factors_and_schedules_are_those_of_numpy():
    optimizer = AdamWOptimizer(
        learning_rate=CosineSchedule(initial=0.1, length=5),
        clip_norm=0.1,
        clip_value=0.05,
        rate_factors=(("0.*", 0.1),),
        decay_factors=(("*.bias", 0.0),),
    )
    settings = {"optimizer": optimizer, "loss": BinaryCrossEntropy(), "epochs": 2}
    settings |= {"regularizers": [L2(strength=0.1), L1(strength=0.01, parameters="1.*")]}

    def frozen():
        model = NETWORK.copy()
        model.parameters.freeze("0.bias")
        return model

    runs = both(frozen, (X, YES), **settings)
    require_close(runs)
    assert not runs[1].model.parameters["0.bias"].any()


def test_penalties_of_frozen_parameters_alone_are_those_of_numpy():
    model = NETWORK.copy()
    model.parameters.freeze("*.weights")
    require_close(both(model.copy, (X, YES), loss=BinaryCrossEntropy(), regularizers=[L2(strength=0.1)]))


def test_parts_of_a_batch_are_those_of_numpy():
    model = Sequential(Dense(5, 6), BatchNorm(6), Dropout(0.3), Dense(6, 1, Sigmoid()))
    settings = {"batch_size": 3, "accumulate": 3, "optimizer": SGDOptimizer(learning_rate=0.1)}
    settings |= {"regularizers": [L2(strength=0.1)], "metrics": [Accuracy()]}
    require_close(both(model.copy, (X[:18], YES[:18]), loss=BinaryCrossEntropy(), **settings))


class Squared(Layer):
    def apply(self, x, values, record):
        record["x"] = x
        return x * x

    def apply_backward(self, gradient, values, record, gradients):
        return 2 * record["x"] * gradient


def test_formulas_of_users_are_compiled():
    gate = Sequential(
        Dropout(0.2), Dense(5, 4, Activation.of(lambda h: np.maximum(h, 0) + np.log1p(np.exp(-np.abs(h)))))
    )
    model = Sequential(Gated(value=Sequential(Dense(5, 4), Dropout(0.5)), gate=gate), Squared(), Neuron(4))
    loss = Loss.of(lambda prediction, target: np.abs(prediction - target) ** 1.5)
    require_close(both(model.copy, (X, YES), loss=loss, optimizer=SGDOptimizer(learning_rate=0.01)))


class Noisy(Layer):
    def draws(self, shape):
        return {"noise": shape}

    def formula(self, x, noise):
        return x + 0.1 * noise

    def predict_formula(self, x):
        return x


def test_a_formula_computes_with_random_numbers_in_the_dtype_of_the_model():
    model = Sequential(Noisy(), Neuron(5, Sigmoid()))  # 0.1 * noise in float32 is wrong in the ninth digit
    runs = both(model.copy, (X, YES), loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    require_close(runs, 1e-14, 1e-15)


class Twice(Composite):
    child: Model

    def children(self):
        return {"child": self.child}

    def apply(self, x, values, record):
        return self.forward_child("child", self.forward_child("child", x, record), record)

    def apply_backward(self, gradient, values, record, gradients):
        return self.backward_child("child", self.backward_child("child", gradient, record), record)


def test_each_call_of_a_child_moves_its_buffers_as_with_numpy():
    model = Sequential(Twice(child=Sequential(Dense(5, 5), BatchNorm(5))), Neuron(5, Sigmoid()))
    require_close(both(model.copy, (X, YES), loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1)))
