import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from framework import (
    CSV,
    L2,
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    Dense,
    EarlyStopping,
    MeanSquaredError,
    Neuron,
    Preprocess,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Tanh,
    Trainer,
    on,
)
from framework.base import UsageError
from framework.data import load_breast_cancer
from framework.training.rates import LearningRateSearch

mpl.use("Agg")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 3))
Y = X @ [1.0, -2.0, 0.5]
TRAINER = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), batch_size=10)


def test_rates_grow_by_a_constant_factor_from_the_lowest_to_the_highest():
    search = TRAINER.find_learning_rate(Neuron(3), (X, Y), lowest=1e-5, highest=1e-2, steps=31)
    np.testing.assert_allclose(search.rates, np.geomspace(1e-5, 1e-2, 31))


def test_losses_are_those_of_a_training_by_hand():
    search = TRAINER.replace(shuffle=False).find_learning_rate(Neuron(3), (X, Y), highest=0.1, steps=25)
    neuron, losses = Neuron(3), []
    for step, rate in enumerate(np.geomspace(1e-7, 0.1, 25)):
        rows = slice(step % 10 * 10, step % 10 * 10 + 10)
        error = X[rows] @ neuron.weights + neuron.bias - Y[rows]
        losses.append(np.mean(error**2))
        neuron.weights = neuron.weights - rate * 2 * X[rows].T @ error / 10
        neuron.bias = neuron.bias - rate * 2 * error.mean()
    np.testing.assert_allclose(search.losses, losses, rtol=1e-12)


def test_losses_are_smoothed_on_both_sides_alike():
    search = TRAINER.find_learning_rate(Neuron(3), (X, Y), highest=0.01)
    wide = {"sigma": 3.0, "mode": "constant", "radius": 200}
    expected = gaussian_filter1d(search.losses, **wide) / gaussian_filter1d(np.ones(100), **wide)
    np.testing.assert_allclose(search.smoothed, expected)


@pytest.mark.parametrize(
    "optimizer", [SGDOptimizer(learning_rate=0.1, momentum=0.9), AdamOptimizer(learning_rate=0.01)]
)
def test_the_suggestion_trains_and_lies_below_divergence(optimizer):
    trainer = TRAINER.replace(optimizer=optimizer)
    search = trainer.find_learning_rate(Neuron(3), (X, Y))
    assert search.suggestion in search.rates
    assert search.suggestion < search.rates[search.smoothed.argmin()]
    fitted = trainer.replace(optimizer=optimizer.replace(learning_rate=search.suggestion), epochs=10)
    history = fitted.fit(Neuron(3), (X, Y)).history
    assert history[-1]["loss"] < 0.05 * history[0]["loss"]


def test_the_search_stops_when_the_loss_diverges():
    search = TRAINER.find_learning_rate(Neuron(3), (X, Y), highest=1e6)
    assert len(search.rates) < 100
    assert search.rates[-1] < 1e3


def test_a_loss_that_is_not_finite_ends_the_search():
    search = TRAINER.replace(batch_size=100).find_learning_rate(Neuron(3), (X, Y), lowest=1e-3, highest=1e300, steps=20)
    assert len(search.losses) < 20
    assert np.isfinite(search.losses).all()


def test_model_trainer_and_callbacks_stay_as_they_are():
    called = []

    @on("epoch_end")
    def count(run):
        called.append(run.epoch)

    model = Sequential(Dense(3, 4, Tanh()), Dense(4, 2, Softmax()))
    trainer = Trainer(
        loss=CrossEntropy(),
        optimizer=AdamOptimizer(learning_rate=0.01),
        metrics=[Accuracy()],
        regularizers=[L2(strength=0.01)],
        callbacks=[count, EarlyStopping()],
    )
    before, settings, y = model.parameters.vector.tobytes(), repr(trainer), (Y > 0).astype(int)
    search = trainer.find_learning_rate(model, (X, y))
    assert (model.parameters.vector.tobytes(), repr(trainer), called) == (before, settings, [])
    assert np.array_equal(search.losses, trainer.find_learning_rate(model, (X, y)).losses)


def test_a_loss_that_never_falls_gives_no_suggestion():
    trainer = TRAINER.replace(shuffle=False, batch_size=100)
    search = trainer.find_learning_rate(Neuron.from_weights([1.0, -2.0, 0.5]), (X, Y))
    assert search.suggestion is None
    assert repr(search).startswith("LearningRateSearch(suggestion=None, ")
    labels = [drawn.get_label() for drawn in search.plot(axis=Figure().subplots()).lines]
    assert labels == ["loss of the batch", "smoothed"]


def test_a_fall_after_the_loss_has_risen_again_is_not_suggested():
    x, y = load_breast_cancer()
    model = Sequential(Dense(30, 16, Tanh()), Dense(16, 1, Sigmoid()))
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=AdamOptimizer(learning_rate=0.01), batch_size=8)
    search = trainer.find_learning_rate(model, ((x - x.mean(axis=0)) / x.std(axis=0), y))
    assert search.rates[search.smoothed.argmin()] > 5  # where the weights are so large that most rows have no loss
    assert 0.001 < search.suggestion < 0.05


def test_a_fall_within_what_batches_differ_by_chance_is_not_suggested():
    noise = np.random.default_rng(1).normal(size=400)
    trainer = TRAINER.replace(batch_size=2)
    search = trainer.find_learning_rate(Neuron(1), (np.ones((400, 1)), 1.0 + noise), highest=1e-3)
    assert search.smoothed.min() < search.smoothed[:10].mean()
    assert search.suggestion is None


def test_the_plot_shows_the_losses_and_the_suggestion():
    search = TRAINER.find_learning_rate(Neuron(3), (X, Y))
    axis = search.plot(axis=Figure().subplots())
    raw, smoothed, star = axis.lines
    assert np.array_equal(raw.get_xydata(), np.stack([search.rates, search.losses], axis=1))
    assert np.array_equal(smoothed.get_ydata(), search.smoothed)
    assert star.get_xdata().tolist() == [search.suggestion]
    assert star.get_ydata()[0] == pytest.approx(search.smoothed[search.rates == search.suggestion][0])
    assert axis.get_xscale() == "log"
    assert isinstance(search, LearningRateSearch)


def test_tables_in_files_and_open_inputs_are_searched_as_fit_takes_them(tmp_path):
    path = tmp_path / "rows.csv"
    rows = [f"{a},{b},{c}" for (a, b, _), c in zip(X.tolist(), Y.tolist(), strict=True)]
    path.write_text("\n".join(["size,age,price", *rows]))
    model = Dense(units=1)
    search = TRAINER.replace(
        preprocess=Preprocess({"size": [Standardize()], "age": [Standardize()]})
    ).find_learning_rate(model, CSV(path, target="price"), steps=30)
    assert len(search.rates) >= 20
    assert (model.settled, model.list_unsettled()) == (False, [model])


def test_rows_that_can_be_read_once_are_refused():
    batches = ((X[start : start + 10], Y[start : start + 10]) for start in range(0, 100, 10))
    with pytest.raises(UsageError, match="find_learning_rate: a generator can be read once, and the search"):
        TRAINER.find_learning_rate(Neuron(3), batches)


def test_data_that_does_not_fit_is_refused_by_the_name_of_the_search():
    with pytest.raises(ShapeError, match=r"find_learning_rate: argument 'x' must have the shape \(rows, 3\)"):
        TRAINER.find_learning_rate(Neuron(3), (X[:, :1], Y))


def test_numbers_of_numpy_are_numbers_and_rates_may_be_any_distance_apart():
    search = TRAINER.find_learning_rate(
        Neuron(3), (X, Y), lowest=np.float32(1e-30), highest=np.float64(1e300), steps=np.int64(20)
    )
    assert search.rates[0] == pytest.approx(1e-30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lowest": 0.0}, "find_learning_rate: argument 'lowest' must be a positive number; got 0.0"),
        ({"highest": np.inf}, "argument 'highest' must be a positive number; got inf"),
        ({"lowest": 1.0, "highest": 0.1}, "argument 'lowest' must be at most half of 'highest', 0.1; got 1"),
        ({"lowest": 1.0, "highest": 1.0 + 1e-15}, "argument 'lowest' must be at most half of 'highest'"),
        ({"steps": 19}, "argument 'steps' must be a whole number from 20; got 19"),
        ({"steps": True}, "argument 'steps' must be a whole number from 20; got True"),
    ],
)
def test_rates_and_steps_are_checked(arguments, message):
    with pytest.raises(SettingsError, match=message):
        TRAINER.find_learning_rate(Neuron(3), (X, Y), **arguments)


def test_losses_that_stay_at_a_large_number_are_drawn():
    large = np.full(30, 1e17)
    LearningRateSearch(np.geomspace(1e-3, 1.0, 30), large, large, None).plot(axis=(axis := Figure().subplots()))
    low, high = axis.get_ylim()
    assert low < 1e17 < high
