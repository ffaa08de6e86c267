"""Training of models of several outputs: figures, targets, engines, resuming, and what is refused."""

import copy

import numpy as np
import pytest

from framework import (
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    CrossEntropy,
    CSVLog,
    DataError,
    Dense,
    DivergedError,
    EarlyStopping,
    Embedding,
    HalfSquaredError,
    Heads,
    Join,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    Neuron,
    Preprocess,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Standardize,
    Stream,
    Tanh,
    Trainer,
    check_gradients,
    compare_steps,
    load,
    on,
    save,
    split,
    verify_resume,
)
from framework.base.errors import within
from framework.formulas import ROCAUC, OutputLosses, OutputMetric, Poisson
from framework.models import Composite
from framework.preprocessing import Levels

RNG = np.random.default_rng(0)
ROWS = 40
X = RNG.normal(size=(ROWS, 3))
Y = {"price": X.sum(axis=1) + 1.0, "late": (X[:, 0] > 0).astype(int)}
WEIGHT = RNG.uniform(0.2, 2.0, ROWS)
LOSSES = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"price": 0.25})


def network(**heads):
    heads = heads or {"price": Dense(units=1), "late": Dense(units=1, activation=Sigmoid())}
    return Sequential(Dense(3, 6, Tanh()), Heads(**heads))


def trainer(**settings):
    recipe = {"loss": LOSSES, "optimizer": AdamOptimizer(learning_rate=0.02), "batch_size": 7, "epochs": 3}
    return Trainer(**recipe | settings)


def test_the_loss_is_the_weighted_sum_of_the_losses_of_each_output():
    metrics = [
        OutputMetric("late", Accuracy()),
        OutputMetric("late", ROCAUC()),
        OutputMetric("price", MeanAbsoluteError()),
    ]
    model = network()
    run = trainer(metrics=metrics).fit(model, (X, Y, WEIGHT), (X, Y, WEIGHT))
    row, found = run.history[-1], model(X)
    expected = {
        "price_loss": MeanSquaredError()(found["price"][:, 0], Y["price"], WEIGHT),
        "late_loss": BinaryCrossEntropy()(found["late"][:, 0], Y["late"], WEIGHT),
        "late_accuracy": Accuracy()(found["late"], Y["late"], WEIGHT),
        "late_roc_auc": ROCAUC()(found["late"], Y["late"], WEIGHT),
        "price_mean_absolute_error": MeanAbsoluteError()(found["price"][:, 0], Y["price"], WEIGHT),
    }
    expected["loss"] = 0.25 * expected["price_loss"] + expected["late_loss"]
    assert {name: row[f"val_{name}"] for name in expected} == pytest.approx(expected, rel=1e-12)
    assert trainer(metrics=metrics).evaluate(model, (X, Y, WEIGHT)) == pytest.approx(expected, rel=1e-12)
    assert row["loss"] == pytest.approx(0.25 * row["price_loss"] + row["late_loss"], rel=1e-12)
    assert [*row][:6] == ["epoch", "loss", "price_loss", "late_loss", "late_accuracy", "price_mean_absolute_error"]


def test_heads_on_a_frozen_trunk_learn_as_two_models_that_share_nothing():
    both = network()
    loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy())
    both.parameters.freeze("0.*")
    for name, head in both[1].children().items():
        alone = Sequential(both[0].copy(), head.copy())
        alone.parameters.freeze("0.*")
        trainer(loss=loss.losses[name]).fit(alone, (X, Y[name], WEIGHT))
        twin = both.copy()
        trainer(loss=loss).fit(twin, (X, Y, WEIGHT))
        np.testing.assert_array_equal(twin.parameters[f"1.{name}.weights"], alone.parameters["1.weights"])
        np.testing.assert_array_equal(twin.parameters[f"1.{name}.bias"], alone.parameters["1.bias"])


def test_one_head_trains_as_the_model_without_heads():
    alone = Sequential(Dense(3, 6, Tanh()), Dense(6, 1, Sigmoid()))
    headed = Sequential(alone[0].copy(), Heads(late=alone[1].copy()))
    recipe = trainer(loss=BinaryCrossEntropy(), accumulate=2)
    runs = [
        recipe.fit(alone, (X, Y["late"], WEIGHT)),
        recipe.replace(loss=OutputLosses(late=BinaryCrossEntropy())).fit(headed, (X, {"late": Y["late"]}, WEIGHT)),
    ]
    np.testing.assert_array_equal(alone.parameters.vector, headed.parameters.vector)
    assert runs[1].history[-1]["late_loss"] == pytest.approx(runs[0].history[-1]["loss"], rel=1e-14)
    assert runs[1].history[-1]["loss"] == pytest.approx(runs[0].history[-1]["loss"], rel=1e-14)


def test_an_output_of_weight_0_is_not_trained_and_leaves_the_trunk_alone():
    loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"late": 0.0})
    model, alone = network(), network(price=Dense(units=1))
    run = trainer(loss=loss).fit(model, (X, Y))
    trainer(loss=OutputLosses(price=MeanSquaredError())).fit(alone, (X, {"price": Y["price"]}))
    np.testing.assert_array_equal(model.parameters["0.weights"], alone.parameters["0.weights"])
    assert not model.parameters["1.late.bias"].any()
    assert run.history[-1]["loss"] == run.history[-1]["price_loss"]
    assert run.history[-1]["late_loss"] > 0


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_an_output_of_weight_0_does_not_end_a_run_by_its_loss(engine):
    y = Y | {"price": np.full(ROWS, 1e200)}  # its square is not finite
    model, other = network(), network()
    recipe = trainer(
        loss=OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"price": 0.0}), engine=engine
    )
    row = recipe.fit(model, (X, y), (X, y)).history[-1]
    recipe.fit(other, (X, Y))
    np.testing.assert_allclose(model.parameters.vector, other.parameters.vector, rtol=1e-12)
    assert not np.isfinite(row["price_loss"])
    assert row["loss"] == row["late_loss"]
    assert row["val_loss"] == row["val_late_loss"]


def test_an_error_of_an_output_keeps_its_notes():
    error = DataError("y is empty")
    error.add_note("in epoch 2")
    with pytest.raises(DataError, match="output 'late': y is empty") as caught, within("output 'late'"):
        raise error
    assert caught.value.__notes__ == ["in epoch 2"]


def test_accumulated_batches_train_as_large_ones():
    large, small = network(), network()
    trainer(batch_size=12).fit(large, (X, Y, WEIGHT))
    trainer(batch_size=4, accumulate=3).fit(small, (X, Y, WEIGHT))
    np.testing.assert_allclose(small.parameters.vector, large.parameters.vector, rtol=1e-9)


def test_a_loss_written_by_hand_on_the_outputs_gives_the_same_gradient():
    model = network()
    model.forward(X)
    value = LOSSES.backward(model, Y, WEIGHT)
    fused = model.parameters.gradient.copy()
    prediction = model.forward(X)
    target = {name: np.reshape(part, (ROWS, 1)) for name, part in Y.items()}
    back = model.backward(LOSSES.gradient(prediction, target, WEIGHT))
    np.testing.assert_allclose(model.parameters.gradient, fused, rtol=1e-9)
    assert back.shape == X.shape
    assert LOSSES(prediction, target, WEIGHT) == pytest.approx(value, rel=1e-12)
    model.forward(X)
    LOSSES.backward(model, Y, WEIGHT, accumulate=True)
    np.testing.assert_allclose(model.parameters.gradient, 2.0 * fused, rtol=1e-9)


def test_a_saturated_output_has_a_gradient_of_full_size():
    model = Heads(late=Neuron.from_weights([1.0], activation=Sigmoid()), price=Neuron.from_weights([1.0]))
    model.forward([[1000.0]])
    loss = OutputLosses(late=BinaryCrossEntropy(), price=MeanSquaredError())
    assert loss.backward(model, {"late": [0.0], "price": [1000.0]}) == 1000.0
    assert model.parameters.gradients["late.weights"].tolist() == [1000.0]


def test_outputs_nest():
    inner = Heads(p=Dense(units=1), q=Dense(units=3, activation=Softmax()))
    model = network(a=inner, late=Neuron(6, Sigmoid()))
    loss = OutputLosses(
        a=OutputLosses(p=MeanSquaredError(), q=CrossEntropy(), weights={"q": 2.0}),
        late=BinaryCrossEntropy(),
        weights={"a": 0.5},
    )
    y = {"a": {"p": Y["price"], "q": Y["late"]}, "late": Y["late"]}
    metric = OutputMetric("a", OutputMetric("q", Accuracy()))
    row = trainer(loss=loss, metrics=[metric]).fit(model, (X, y), (X, y)).history[-1]
    assert {"a_loss", "a_p_loss", "a_q_loss", "late_loss", "a_q_accuracy", "val_a_q_accuracy"} <= row.keys()
    assert row["a_loss"] == pytest.approx(row["a_p_loss"] + 2.0 * row["a_q_loss"])
    assert row["loss"] == pytest.approx(0.5 * row["a_loss"] + row["late_loss"])
    assert trainer(loss=loss).predict(model, X)["a"]["q"].shape == (ROWS, 3)


def test_predictions_are_arrays_by_name():
    model = network()
    found = trainer().predict(model, X)
    assert {name: part.shape for name, part in found.items()} == {"late": (ROWS, 1), "price": (ROWS, 1)}
    np.testing.assert_array_equal(found["late"], model(X)["late"])
    assert {part.shape for part in trainer().predict(model, X[:0]).values()} == {(0, 1)}


def recipe_and_data():
    model = Sequential(
        Join(numbers=None, city=Embedding(4, 2)), Heads(price=Dense(units=1), late=Dense(units=1, activation=Sigmoid()))
    )
    x = {"numbers": X, "city": np.arange(ROWS) % 4}
    stop = EarlyStopping(monitor="val_late_loss", restore_best=True)
    return trainer(metrics=[OutputMetric("late", Accuracy())], callbacks=[stop]), model, (x, Y), (x, Y)


@pytest.mark.share(1 / 3)
def test_training_resumes_bit_for_bit():
    assert verify_resume(*recipe_and_data()) == (1, 6, 9, 17)


def test_arrays_and_a_dataset_train_alike():
    class Rows:
        def __len__(self):
            return ROWS

        def read(self, start, stop):
            return X[start:stop], {name: part[start:stop] for name, part in Y.items()}, WEIGHT[start:stop]

    one, other = network(), network()
    trainer().fit(one, (X, Y, WEIGHT))
    trainer().fit(other, Rows())
    np.testing.assert_array_equal(one.parameters.vector, other.parameters.vector)


def test_the_targets_of_a_table_are_found_by_their_names():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({f"x{place}": X[:, place] for place in range(3)} | Y)
    one, other = network(), network()
    trainer().fit(one, (X, Y))
    trainer().fit(other, (table, ["late", "price"]))
    np.testing.assert_array_equal(one.parameters.vector, other.parameters.vector)
    with pytest.raises(DataError, match=r"'y' has 'x0', for which there is no loss\. Outputs: price, late"):
        trainer().fit(network(), (X, table[["late", "price", "x0"]]))


def test_predictions_come_in_the_unit_of_each_target():
    pandas = pytest.importorskip("pandas")
    cities = np.array(["Rome", "Oslo", "Lima", "Kyiv"])[np.arange(ROWS) % 4]
    table = pandas.DataFrame({"size": X[:, 0], "city": cities, "price": 1e6 + X[:, 0], "age": -50.0 * X[:, 1]})
    model = Sequential(Join(numbers=None, city=Embedding(12, 2)), Heads(price=Dense(units=1), age=Dense(units=1)))
    loss = OutputLosses(price=MeanSquaredError(), age=MeanSquaredError())
    steps = Preprocess(columns={"size": [Standardize()], "city": [Levels(10)]}, target=[Standardize()])
    data = (table, ["price", "age"])
    run = trainer(loss=loss, preprocess=steps, optimizer=SGDOptimizer(learning_rate=0.1), epochs=50).fit(
        model, data, data
    )
    found = model.predict(table[["city", "size"]])
    scaled = np.square(found["price"][:, 0] - table["price"]).mean() / table["price"].var(ddof=0)
    assert scaled == pytest.approx(run.history[-1]["val_price_loss"], rel=1e-6)
    assert abs(found["age"].mean() - table["age"].mean()) < 5.0
    with pytest.raises(SettingsError, match="classify: the model must have one output; it has price, age"):
        model.classify(table)


def test_split_and_callbacks_see_targets_by_name(tmp_path):
    seen = []
    train, test = split((X, Y), 0.25)
    assert {name: len(part) for name, part in test[1].items()} == {"late": 10, "price": 10}
    watch = on("batch_end")(lambda run: seen.append({name: part.shape for name, part in run.current[1].items()}))
    trainer(callbacks=[watch, CSVLog(path=str(tmp_path / "log.csv"))], epochs=1).fit(network(), train, test)
    assert seen[0] == {"late": (7, 1), "price": (7, 1)}
    assert "val_price_loss" in (tmp_path / "log.csv").read_text()


def test_steps_are_those_of_plain_numpy():
    model = Heads(a=Neuron.from_weights([0.5, 0.1, 0.2]), b=Neuron.from_weights([0.3, 0.2, 0.1]))
    w = {name: model.parameters[name].copy() for name in ("a.weights", "b.weights")}
    bias = {"a.bias": np.zeros(()), "b.bias": np.zeros(())}

    def step(x, y):
        for name in "ab":
            error = x @ w[f"{name}.weights"] + bias[f"{name}.bias"] - y[name]
            w[f"{name}.weights"] = w[f"{name}.weights"] - 0.125 * (error / len(x)) @ x
            bias[f"{name}.bias"] = bias[f"{name}.bias"] - 0.125 * error.mean()
        return w | bias

    loss = OutputLosses(a=HalfSquaredError(), b=HalfSquaredError())
    recipe = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.125), batch_size=8)
    found = compare_steps(recipe, step, model=model, data=(X, {"a": Y["price"], "b": -Y["price"]}))
    assert found.largest_ulps < 64


class Split(Composite):
    """Two outputs of a user's own model."""

    body: Dense

    def children(self):
        return {"body": self.body}

    def apply(self, x, values, record):
        a = self.forward_child("body", x, record)
        return {"first": a[:, :1], "rest": a[:, 1:]}

    def apply_backward(self, gradient, values, record, gradients):
        return self.backward_child("body", np.hstack([gradient["first"], gradient["rest"]]), record)


def test_an_own_composite_may_give_several_outputs():
    model = Split(body=Dense(units=3, activation=Tanh()))
    y = {"first": Y["price"], "rest": np.zeros((ROWS, 2))}
    loss = OutputLosses(first=MeanSquaredError(), rest=MeanAbsoluteError())
    run = trainer(loss=loss, metrics=[OutputMetric("rest", MeanSquaredError())]).fit(model, (X, y), (X, y))
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert model.output_shape == {"first": (1,), "rest": (2,)}
    with pytest.raises(SettingsError, match="MeanSquaredError is for one output, and the model has first, rest"):
        trainer(loss=MeanSquaredError()).fit(model, (X, Y["price"]))


class LogError(Loss):
    def value(self, prediction, target):
        return np.log(prediction - target - 1e9)


def test_a_loss_that_is_not_finite_is_named_by_its_output():
    loss = OutputLosses(price=MeanSquaredError(), late=LogError())
    with pytest.raises(DivergedError, match="output 'late': LogError: the loss is not finite") as caught:
        trainer(loss=loss, shuffle=False).fit(network(), (X, Y))
    assert "the loss of output 'late' is nan in 7 of 7 rows: rows 0, 1, 2" in " ".join(caught.value.__notes__)


def test_the_row_of_an_output_that_diverges_counts_within_the_whole_batch():
    a, y = {"price": np.array([[1.0], [np.inf]])}, {"price": np.zeros((2, 1))}
    error = OutputLosses(price=MeanSquaredError()).divergence(a, None, None, y, {("price",): np.inf})
    error.row += 4  # as the caller does that has cut the batch
    assert "first at row 5 of the batch" in str(error)


def test_a_layer_that_diverges_is_named_within_its_branch():
    class Root(Tanh):
        def __call__(self, h):
            return np.sqrt(h)

        def derivative(self, h):
            return 0.5 / np.sqrt(h)

        check = "off"

    x = {"numbers": X, "city": np.arange(ROWS) % 4}
    heads = Heads(price=Dense(units=1), late=Dense(units=1, activation=Sigmoid()))
    for model, place in [
        (Sequential(Join(numbers=Root(), city=Embedding(4, 2)), heads), "layer 0.numbers Root gives nan"),
        (
            Sequential(Join(numbers=None, city=Embedding(4, 2)), Heads(price=Root(), late=Dense(units=1))),
            "1.price Root",
        ),
    ]:
        loss = OutputLosses(price=MeanSquaredError(), late=MeanSquaredError())
        targets = Y | {"price": np.zeros((ROWS, 5))} if "price Root" in place else Y
        with pytest.raises(DivergedError) as caught:
            trainer(loss=loss).fit(model, (x, targets))
        assert place in " ".join(caught.value.__notes__)


REFUSED_TARGETS = [
    (
        Y["price"],
        DataError,
        "'y' must be a dict of arrays by name; got ndarray; the losses are for",
    ),
    ({"price": Y["price"]}, DataError, "'y' must have 'late' too; it has price"),
    (
        {"price": Y["price"], "lat": Y["late"]},
        DataError,
        r"'y' has 'lat', for which there is no loss; did you mean 'late'\?",
    ),
    ({**Y, "more": Y["late"]}, DataError, r"'y' has 'more', for which there is no loss\. Outputs: "),
    ({**Y, "late": Y["late"] + 1}, DataError, r"y\['late'\] must lie in \[0, 1\]; got 2"),
    ({**Y, "price": np.full(ROWS, np.nan)}, DataError, r"y\['price'\] must be finite; got nan at y\['price'\]\[0\]"),
    ({**Y, "price": Y["price"][1:]}, ShapeError, r"got shapes \(40, 3\) and \{'price': \(39,\), 'late': \(40,\)\}"),
    ({**Y, "price": np.zeros((ROWS, 2))}, ShapeError, r"y\['price'\] must have the shape of the output, \(40, 1\)"),
]


@pytest.mark.parametrize(("y", "error", "message"), REFUSED_TARGETS)
def test_targets_that_do_not_fit_are_named(y, error, message):
    model = network()
    before = model.parameters.vector.copy()
    with pytest.raises(error, match=message):
        trainer().fit(model, (X, y))
    np.testing.assert_array_equal(model.parameters.vector, before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"loss": MeanSquaredError()},
            r"MeanSquaredError is for one output, .* loss=OutputLosses\(price=",
        ),
        (
            {"loss": OutputLosses(price=MeanSquaredError())},
            r"output 'late' has no loss; .* with weights=\{'late': 0.0\}",
        ),
        (
            {"loss": OutputLosses(price=MeanSquaredError(), lat=BinaryCrossEntropy())},
            r"a loss for 'lat', which the model does not give; did you mean 'late'\? Outputs: price, late",
        ),
        (
            {"loss": OutputLosses(price=BinaryCrossEntropy(), late=BinaryCrossEntropy())},
            r"output 'price': BinaryCrossEntropy needs outputs in \[0, 1\]",
        ),
        ({"metrics": [Accuracy()]}, r"'accuracy' is of one output, .* write OutputMetric\('price', Accuracy\(\)\)"),
        ({"metrics": [OutputMetric("lat", Accuracy())]}, r"of output 'lat', .* did you mean 'late'\? Outputs: "),
        ({"metrics": [OutputMetric("price", Poisson())]}, r"output 'price': Poisson needs outputs in \[0, inf\]"),
        ({"callbacks": [EarlyStopping(monitor="lat_loss")]}, r"did you mean 'late_loss'\?"),
        ({"callbacks": [EarlyStopping(monitor="late_loss", mode="max")]}, "judges 'late_loss' by mode='max'"),
    ],
)
def test_settings_that_do_not_fit_the_outputs_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        trainer(**settings).fit(network(), (X, Y))


def test_a_model_of_one_output_takes_one_loss_and_metrics_of_it():
    with pytest.raises(SettingsError, match="a loss for each of price, late, but the model has one output"):
        trainer().fit(Dense(3, 1), (X, Y))
    recipe = trainer(loss=MeanSquaredError(), metrics=[OutputMetric("late", Accuracy())])
    with pytest.raises(SettingsError, match=r"'late_accuracy' is of output 'late', .* it has one output"):
        recipe.fit(Dense(3, 1), (X, Y["price"]))
    with pytest.raises(SettingsError, match="got 'late_accuracy' twice"):
        trainer(metrics=[OutputMetric("late", Accuracy()), OutputMetric("late", Accuracy())])
    with pytest.raises(DataError, match="output 'price': Accuracy of one output needs targets 0 and 1"):
        trainer(metrics=[OutputMetric("price", Accuracy())]).fit(network(), (X, Y))


class OwnCount(OutputLosses):
    def count(self, shape, weight):
        return super().count(shape, weight)


class OwnBackward(OutputLosses):
    def backward(self, model, target, weight=None, **settings):
        if target["late"].sum() % 2:
            return super().backward(model, target, weight, **settings)
        prediction = model.last_pass().tree
        model.backward(self.gradient(prediction, target, weight))
        return self(prediction, target, weight)


@pytest.mark.parametrize("kind", [OwnCount, OwnBackward])
def test_losses_with_a_loop_of_their_own_train_and_report_as_others_do(kind):
    model = Sequential(Dense(3, 4), Heads(price=Dense(4, 1, Sigmoid()), late=Dense(4, 1, Sigmoid())), seed=1)
    own = kind(**LOSSES.losses, weights=LOSSES.weights)
    own, plain = (trainer(loss=loss, batch_size=ROWS // 2).fit(model.copy(), (X, Y)) for loss in (own, LOSSES))
    for key in ("loss", "price_loss", "late_loss"):
        np.testing.assert_allclose(own.history[key], plain.history[key], rtol=1e-9)
    np.testing.assert_allclose(own.model.parameters.vector, plain.model.parameters.vector, rtol=1e-9)


def test_a_loss_by_hand_refuses_what_does_not_fit_before_it_changes_a_gradient():
    model = network()
    for loss, target, message in [
        (MeanSquaredError(), Y["price"], "MeanSquaredError is for one output"),
        (LOSSES, {"price": Y["price"]}, "target must have 'late' too"),
        (LOSSES, {**Y, "late": Y["late"] - 1}, r"target\['late'\] must lie in \[0, 1\]"),
        (LOSSES, {**Y, "late": Y["late"][:-1]}, r"target\['late'\] must have the shape"),
    ]:
        model.forward(X)
        with pytest.raises((SettingsError, DataError, ShapeError), match=message):
            loss.backward(model, target)
        assert not model.parameters.gradient.any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            OutputLosses,
            r"OutputLosses: give each output a name: OutputLosses\(price=MeanSquaredError\(\), late=...\)",
        ),
        (lambda: OutputLosses(MeanSquaredError()), r"got MeanSquaredError\(\) without a name"),
        (lambda: OutputLosses(a="mse"), r"setting 'a' must be of class Loss; got 'mse'; write MeanSquaredError\(\)"),
        (lambda: OutputLosses(price=MeanSquaredError(), weights={"prise": 1.0}), r"did you mean 'price'\?"),
        (
            lambda: OutputLosses(price=MeanSquaredError(), weights={"price": -1.0}),
            "greater than or equal to 0; got -1",
        ),
        (lambda: OutputLosses(price=MeanSquaredError(), weights={"price": 0.0}), "must have a weight above 0"),
        (lambda: OutputLosses(price=MeanSquaredError(), weights=[0.1]), "must be a dict of numbers by name; got"),
    ],
)
def test_losses_that_make_no_sense_are_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


def test_losses_travel_as_json_and_compare():
    assert Loss.from_json(LOSSES.to_json()) == LOSSES
    assert repr(LOSSES).endswith("weights={'price': 0.25})")
    other = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"late": 1.0, "price": 0.25})
    assert other == other.replace()
    assert other != LOSSES
    metric = OutputMetric("late", Accuracy())
    assert Metric.from_json(metric.to_json()) == metric
    with pytest.raises(DataError, match="output 'late': target must be finite"):
        LOSSES({"price": [1.0], "late": [0.5]}, {"price": [1.0], "late": [np.nan]})


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_outputs_stay_in_the_order_of_the_user(engine, tmp_path):
    y = {"late": Y["late"], "price": Y["price"]}  # as sorting would have them, and not as the model
    loss = OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"late": 2.0, "price": 0.25})
    run = trainer(loss=loss, engine=engine).fit(network(), (X, y), (X, y))
    assert run.engine == engine
    save(run, tmp_path / "run.safetensors")
    again = load(tmp_path / "run.safetensors")
    for one in (run, copy.copy(run), again):
        model = one.model
        assert [*one.history[-1]][:7] == [
            *("epoch", "loss", "price_loss", "late_loss", "val_loss", "val_price_loss", "val_late_loss")
        ]
        for names in (model.predict(X), model(X), model(X[0]), model.forward(X), model.output_shape):
            assert [*names] == ["price", "late"]
        assert "{'price': (rows, 1), 'late': (rows, 1)}" in model.summary()
    assert [*trainer(loss=loss).evaluate(again.model, (X, y))] == ["loss", "price_loss", "late_loss"]
    written = Loss.from_json(loss.to_json())
    assert ([*written.losses], [*dict(written.weights)]) == (["price", "late"], ["price", "late"])
    assert written == loss == loss.replace(weights={"price": 0.25, "late": 2.0})
    assert Loss.from_json(loss.to_json().replace('"price":0.25,"late":2.0', '"late":2.0,"price":0.25')) == loss
    other = OutputLosses(late=BinaryCrossEntropy(), price=MeanSquaredError(), weights={"late": 2.0, "price": 0.25})
    turned = trainer(loss=other, engine=engine).fit(network(), (X, Y))
    np.testing.assert_allclose(turned.model.parameters.vector, run.model.parameters.vector, rtol=1e-12)


def test_the_order_of_inputs_changes_nothing_but_their_order():
    x = {"right": X[:, :1], "left": X[:, 1:]}
    model = Sequential(Join(left=Dense(2, 3), right=Embedding(2, 2)), Dense(units=1))
    x["right"] = (X[:, 0] > 0).astype(float)
    recipe = trainer(loss=MeanSquaredError())
    run = recipe.fit(model, (x, Y["price"]))
    turned = {"left": x["left"], "right": x["right"]}
    other = recipe.fit(Sequential(Join(left=Dense(2, 3), right=Embedding(2, 2)), Dense(units=1)), (turned, Y["price"]))
    np.testing.assert_array_equal(model.parameters.vector, other.model.parameters.vector)
    assert run.recipe == other.recipe  # with the fingerprint of the data
    assert [*model.input_shape] == ["left", "right"]
    report = check_gradients(model, MeanSquaredError(), x, Y["price"])
    assert [row.parameter for row in report.rows][-1] == "x['left']"


def test_batches_of_a_stream_may_name_inputs_in_any_order():
    x = {"left": X[:, :1], "right": X[:, 1:]}
    turned = dict(reversed(x.items()))
    parts = [({name: leaf[:20] for name, leaf in x.items()}, Y["price"][:20])]
    parts += [({name: leaf[20:] for name, leaf in turned.items()}, Y["price"][20:])]
    models = [Sequential(Join(left=None, right=None), Dense(units=1)) for _ in range(2)]
    recipe = trainer(loss=MeanSquaredError(), shuffle=False)
    recipe.fit(models[0], Stream(lambda _: parts))
    recipe.fit(models[1], (x, Y["price"]))
    np.testing.assert_array_equal(models[0].parameters.vector, models[1].parameters.vector)


def test_a_loss_that_writes_its_own_backward_is_refused():
    class Doubled(Loss):
        def value(self, prediction, target):
            return (prediction - target) ** 2

        def backward(self, model, target, weight=None, **options):
            return 2 * super().backward(model, target, weight, **options)

    with pytest.raises(SettingsError, match="loss of 'price' must not write backward"):
        OutputLosses(price=Doubled())


@pytest.mark.parametrize(
    ("losses", "column"),
    [
        (OutputLosses(val=MeanSquaredError(), late=MeanSquaredError()), "val_loss"),  # the loss of validation, too
        (OutputLosses(a_b=MeanSquaredError(), a=OutputLosses(b=MeanSquaredError())), "a_b_loss"),
    ],
)
def test_outputs_whose_columns_are_taken_are_refused(losses, column):
    with pytest.raises(SettingsError, match=f"got '{column}' twice; the outputs of OutputLosses give columns too"):
        trainer(loss=losses)


@pytest.mark.parametrize("engine", ["numpy", "compiled"])
def test_losses_of_nested_outputs_add_up_over_parts_of_batches(engine):
    y = {"p": X[:, :2], "q": {"k": np.arange(ROWS) % 3, "f": (X[:, :1] > 0).astype(float)}}
    weight = np.where(np.arange(ROWS) < 4, 0.0, WEIGHT)
    inner = OutputLosses(k=CrossEntropy(), f=BinaryCrossEntropy(), weights={"f": 3.0})
    loss = OutputLosses(p=MeanSquaredError(), q=inner, weights={"q": 0.5})
    last = Heads(k=Dense(units=3, activation=Softmax()), f=Dense(units=1, activation=Sigmoid()))
    model = network(p=Dense(units=2), q=last)
    recipe = trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=1e-13), batch_size=3, accumulate=3, epochs=1)
    row = recipe.replace(engine=engine).fit(model, (X, y, weight), (X, y, weight)).history[-1]
    found, names = model(X), ("loss", "p_loss", "q_loss", "q_k_loss", "q_f_loss")
    k, f = (
        CrossEntropy()(found["q"]["k"], y["q"]["k"], weight),
        BinaryCrossEntropy()(found["q"]["f"], y["q"]["f"], weight),
    )
    p = MeanSquaredError()(found["p"], y["p"], weight)
    expected = [p + 0.5 * (k + 3.0 * f), p, k + 3.0 * f, k, f]
    assert [row[name] for name in names] == pytest.approx(expected, rel=1e-9)
    assert [row[f"val_{name}"] for name in names] == pytest.approx(expected, rel=1e-9)
