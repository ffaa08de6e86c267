"""The seams of a training step: parts of a batch, the halves of a step, and workers that share a batch."""

import numpy as np
import pytest

from framework import (
    L2,
    Accuracy,
    Activation,
    AdamOptimizer,
    CrossEntropy,
    Dense,
    HalfSquaredError,
    Huber,
    MeanSquaredError,
    Neuron,
    ReLU,
    Sequential,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    on,
)
from framework.backends.step import Slot, StepProgram, finish
from framework.data.pieces import rows_of_batch
from framework.models.rows import prepare
from framework.training.engines import Engine, step
from framework.training.runs.figures import Figures
from framework.training.runs.run import Run

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
CLASSES = RNG.integers(0, 3, 50)
VALUES = RNG.normal(size=(50, 3))
WEIGHTS = RNG.uniform(size=50) * (np.arange(50) >= 8)  # a whole part of a batch weighs nothing


def classifier():
    return Sequential(Dense(4, 6, Tanh()), Dense(6, 3, Softmax()))


def regressor():
    return Sequential(Dense(4, 6, ReLU()), Dense(6, 3))


TASKS = [(classifier, CrossEntropy(), CLASSES), (regressor, MeanSquaredError(), VALUES)]


@pytest.mark.parametrize("weight", [(), (WEIGHTS,)], ids=["unweighted", "weighted"])
@pytest.mark.parametrize(("model", "loss", "y"), TASKS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_accumulated_batches_train_as_one_large_batch_does(model, loss, y, weight, shuffle):
    settings = {
        "loss": loss,
        "optimizer": AdamOptimizer(learning_rate=0.05),
        "epochs": 3,
        "shuffle": shuffle,
        "regularizers": (L2(strength=0.01),),
    }
    whole, parts = model(), model()
    one = Trainer(batch_size=16, **settings).fit(whole, (X, y, *weight))
    other = Trainer(batch_size=4, accumulate=4, **settings).fit(parts, (X, y, *weight))
    np.testing.assert_allclose(parts.parameters.vector, whole.parameters.vector, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.history["loss"], one.history["loss"], rtol=1e-12)
    assert (other.step, other.epoch) == (one.step, one.epoch) == (12, 3)


def test_accumulated_training_resumes_bit_for_bit():
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=SGDOptimizer(learning_rate=0.1, momentum=0.9),
        batch_size=4,
        accumulate=3,
        epochs=4,
    )
    straight, broken = classifier(), classifier()
    trainer.fit(straight, (X, CLASSES))
    run = trainer.fit(broken, (X, CLASSES), epochs=2)
    trainer.resume(run, (X, CLASSES))
    assert broken.parameters.vector.tobytes() == straight.parameters.vector.tobytes()


def engine_for(model, loss, *, metrics=(), regularizers=(), part_rows=16, strategy=None):
    run = Run(model, SGDOptimizer(learning_rate=0.1).bind(model), loss, 0)
    options = {"part_rows": part_rows, "regularizers": regularizers, "strategy": strategy}
    return run, Engine(run, Figures(loss, metrics), lambda _hook: None, **options)


def test_the_halves_of_a_step_make_the_bits_of_whole_steps():
    whole, halves = classifier(), classifier()
    loss = CrossEntropy()
    trainer = Trainer(
        loss=loss, optimizer=SGDOptimizer(learning_rate=0.1), batch_size=16, epochs=1, metrics=(Accuracy(),)
    )
    fitted = trainer.fit(whole, (X, CLASSES))
    run, engine = engine_for(halves, loss, metrics=(Accuracy(),))
    source = prepare((X, CLASSES), halves, (loss,), "fit")
    for batch in source.cut_batches(16, 0, (0, 0)):
        sums = engine.gradient(batch)
        engine.update()
        run.finish_step(sums)
    assert halves.parameters.vector.tobytes() == whole.parameters.vector.tobytes()
    results = engine.figures.results(run.sums)
    assert results == {key: fitted.history[0][key] for key in ("loss", "accuracy")}


class Halves:
    """Two workers with half of the rows each, one after the other in this process."""

    def gradient(self, fill, model, batch, key):
        half, slot = len(batch[1]) // 2, Slot.of(model)
        first = finish(fill(rows_of_batch(batch, slice(0, half)), (*key, 0), slot, None))
        kept = model.parameters.gradient.copy()
        second = finish(fill(rows_of_batch(batch, slice(half, None)), (*key, 1), slot, None))
        model.parameters.gradient += kept
        return {key: tuple(a + b for a, b in zip(first[key], second[key], strict=True)) for key in first}


def test_two_workers_with_half_the_rows_each_have_the_gradient_of_all_rows():
    whole, halves = classifier(), classifier()
    loss, penalty = CrossEntropy(), (L2(strength=0.1),)
    _, alone = engine_for(whole, loss, regularizers=penalty)
    batch = (X[:16], CLASSES[:16], None)
    sums = alone.gradient(batch)
    run, engine = engine_for(halves, loss, regularizers=penalty, strategy=Halves())
    shared = engine.gradient(batch)
    np.testing.assert_allclose(halves.parameters.gradient, whole.parameters.gradient, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(shared["loss"], sums["loss"], rtol=1e-12)
    assert run.batch_loss == pytest.approx(sums["loss"][0] / sums["loss"][1], rel=1e-12)


@pytest.mark.parametrize(("model", "loss", "y"), TASKS)
def test_parts_with_the_count_of_the_whole_add_up_to_the_whole(model, loss, y):
    whole, parts = model(), model()
    whole.forward(X)
    expected = loss.backward(whole, y, WEIGHTS)
    count = loss.count(y.shape, WEIGHTS)
    found = 0.0
    for place, part in enumerate([slice(0, 8), slice(8, 30), slice(30, 50)]):
        parts.forward(X[part])
        found += loss.backward(parts, y[part], WEIGHTS[part], count=count, accumulate=place > 0)
    assert found == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(parts.parameters.gradient, whole.parameters.gradient, rtol=1e-10, atol=1e-14)


def test_accumulating_without_a_count_adds_means():
    model = regressor()
    loss = MeanSquaredError()
    gradients = []
    for part in (slice(0, 10), slice(10, 50)):
        model.forward(X[part])
        loss.backward(model, VALUES[part])
        gradients.append(model.parameters.gradient.copy())
    for place, part in enumerate((slice(0, 10), slice(10, 50))):
        model.forward(X[part])
        loss.backward(model, VALUES[part], accumulate=place > 0)
    np.testing.assert_allclose(model.parameters.gradient, sum(gradients), rtol=1e-13)


def test_one_sample_is_divided_by_the_count_that_is_given():
    neuron = Neuron.from_weights([0.1, 0.2], activation=Sigmoid())
    loss = HalfSquaredError()
    neuron.forward([1.0, 1.0])
    whole = loss.backward(neuron, 5.0)
    gradient = neuron.parameters.gradient.copy()
    neuron.forward([1.0, 1.0])
    assert loss.backward(neuron, 5.0, count=4.0) == pytest.approx(whole / 4, rel=1e-15)
    np.testing.assert_allclose(neuron.parameters.gradient, gradient / 4, rtol=1e-15)


def test_a_loss_that_writes_backward_anew_is_trained_by_it():
    class Doubled(Huber):
        def backward(self, model, target, weight=None, **options):
            loss = super().backward(model, target, weight, **options)
            model.parameters.gradient *= 2.0
            return loss

    vectors = []
    for loss, rate in ((Doubled(), 0.1), (Huber(), 0.2)):
        trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=rate), epochs=2, engine="numpy")
        vectors.append(trainer.fit(regressor(), (X, VALUES)).model.parameters.vector)
    np.testing.assert_allclose(*vectors, rtol=1e-14)


@pytest.mark.parametrize("engine", ["numpy", "compiled", "jax"])
def test_a_metric_with_a_method_of_its_own_is_computed_by_it(engine):
    class AgainstZero(Huber):
        def expand(self, array, shape):
            return np.zeros(shape)

    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=1e-12),
        metrics=[AgainstZero()],
        engine=engine,
        epochs=1,
    )
    (row,) = trainer.fit(regressor(), (X, VALUES), validation=(X, VALUES)).history.rows
    assert row["against_zero"] == pytest.approx(row["val_against_zero"], rel=1e-6)


FACTOR = 1.0


class ReadsAGlobal(Activation):
    """An activation whose graph is for one model alone, because it reads a global."""

    def __call__(self, h):
        return np.tanh(FACTOR * h)


def own_model():
    return Sequential(Dense(4, 2, ReadsAGlobal()), Dense(2, 3))


def test_a_run_that_freezes_and_unfreezes_in_turn_traces_its_step_twice(monkeypatch):
    made = []
    monkeypatch.setattr(step, "StepProgram", lambda *given, **named: made.append(1) or StepProgram(*given, **named))

    @on("batch_begin")
    def take_turns(run):
        parameters = run.model.parameters
        (parameters.freeze if run.step % 2 else parameters.unfreeze)("0.weights")

    descent = SGDOptimizer(learning_rate=0.1)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=descent, batch_size=12, callbacks=[take_turns])
    trainer.fit(own_model(), (X[:48], VALUES[:48]), epochs=4)
    assert len(made) == 2


@pytest.mark.parametrize("layers", [(Dense(4, 3), ReadsAGlobal()), (Dense(4, 3, ReadsAGlobal()),)])
def test_a_further_fit_traces_an_activation_with_the_new_value_of_a_global(monkeypatch, layers):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=1)
    model = Sequential(*layers)
    trainer.fit(model, (X, VALUES))
    twin = model.copy()
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    trainer.fit(model, (X, VALUES))
    trainer.fit(twin, (X, VALUES))
    assert np.array_equal(model.parameters.vector, twin.parameters.vector)
