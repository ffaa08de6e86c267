"""Own classes that change what they are handed, or that would never run: found when they are first put to work."""

import math
import re

import numpy as np
import pandas as pd
import pytest

import framework
from framework import (
    Accuracy,
    Activation,
    BatchNorm,
    BinaryCrossEntropy,
    Callback,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    EarlyStopping,
    Layer,
    Loss,
    MeanSquaredError,
    Metric,
    Neuron,
    Optimizer,
    RowLoss,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
    on,
    split,
)
from framework.base import CallbackError, UsageError
from framework.formulas import WholeMetric
from framework.models import Constant, Regularizer

X = np.array([[0.5, -1.0], [2.0, 0.1], [-0.3, 0.4]])
Y = np.array([1.0, -2.0, 0.5])


class ValueChangesTarget(Loss):
    def value(self, prediction, target):
        target -= prediction
        return target**2

    def slope(self, prediction, target):
        return 2 * (prediction - target)


class SlopeChangesTarget(Loss):
    def value(self, prediction, target):
        return (prediction - target) ** 2

    def slope(self, prediction, target):
        target -= prediction
        return -2 * target


@pytest.mark.parametrize("loss", [ValueChangesTarget(), SlopeChangesTarget()])
def test_a_loss_that_changes_its_target_is_refused(loss):
    neuron = Neuron(2)
    neuron.forward(X)
    with pytest.raises(DerivativeError, match="changes its argument 'target' in place"):
        loss.backward(neuron, Y)


def test_a_loss_in_the_order_of_other_libraries_is_refused_when_its_class_is_made():
    with pytest.raises(SettingsError, match=r"value must take \(prediction, target\) in this order"):

        class Swapped(Loss):
            def value(self, y_true, y_pred):
                return (y_true - y_pred) ** 2


def test_a_regularizer_that_changes_the_values_is_refused():
    class Doubles(Regularizer):
        def value(self, values):
            return float((values**2).sum())

        def slope(self, values):
            values *= 2
            return values

    neuron = Neuron.from_weights([1.0, 2.0])
    neuron.forward(X)
    MeanSquaredError().backward(neuron, Y)
    with pytest.raises(DerivativeError, match="slope changes its argument 'values' in place"):
        Doubles(strength=0.1).backward(neuron)
    assert neuron.weights.tolist() == [1.0, 2.0]


class Scale(Layer):
    units: int
    mistake: str = ""

    def shapes(self):
        return {"scale": (self.units,)}

    def initializers(self):
        return {"scales" if self.mistake == "name" else "scale": Constant(value=1.0)}

    def apply(self, x, values, record):
        record["x"] = x.copy()
        if self.mistake == "x":
            x *= values["scale"]
            return x
        return x * values["scale"]

    def apply_backward(self, gradient, values, record, gradients):
        by_scale = np.sum(gradient * record["x"], axis=0)
        if self.mistake == "adds":
            gradients["scale"][...] += by_scale
        else:
            gradients["scale"][...] = by_scale
        if self.mistake == "gradient":
            gradient *= values["scale"]
            return gradient
        return gradient * values["scale"]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("x", "Scale.apply changes its argument 'x' in place"),
        ("gradient", "Scale.apply_backward changes its argument 'gradient' in place"),
        ("adds", r"gradients\['scale'\] is wrong"),
    ],
)
def test_a_layer_that_adds_up_or_changes_its_arguments_is_refused(mistake, message):
    with pytest.raises(DerivativeError, match=message):
        Scale(units=2, mistake=mistake).forward(X.copy())


def test_a_misspelt_initializer_is_refused():
    with pytest.raises(SettingsError, match=r"names 'scales', which shapes.* does not have; did you mean 'scale'"):
        Scale(units=2, mistake="name").forward(X)


def test_a_layer_class_made_anew_is_checked_anew():
    def made(sign):
        class Shift(Layer):
            units: int

            def shapes(self):
                return {"shift": (self.units,)}

            def apply(self, x, values, record):
                return x + values["shift"]

            def apply_backward(self, gradient, values, record, gradients):
                np.sum(sign * gradient, axis=0, out=gradients["shift"])
                return gradient

        return Shift

    made(1.0)(units=2).forward(X)
    with pytest.raises(DerivativeError, match="the sign is wrong"):
        made(-1.0)(units=2).forward(X)


def test_a_metric_cannot_change_what_others_see():
    class Greedy(Metric):
        def sums(self, prediction, target, weight=None):
            prediction -= target
            return (float(np.abs(prediction).sum()),)

        def result(self, *sums):
            return sums[0]

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=(Greedy(),))
    with pytest.raises(UsageError, match=r"Greedy\.sums .* a change of an argument in place .*: make a new array"):
        trainer.fit(Neuron(2), (X, Y))


class Branching(Loss):
    def value(self, prediction, target):
        return prediction - target if prediction > target else target - prediction


class Indexing(RowLoss):
    def value(self, prediction, target):
        return -np.log(prediction[np.arange(len(target)), target])


class IndexingByIntegers(RowLoss):
    def value(self, prediction, target):
        return -np.log(prediction[np.arange(len(target)), target.astype(int)])


class OfMath(Loss):
    def value(self, prediction, target):
        return math.exp(prediction) - target


BRANCH = r"an 'if', .* on an array \(line \d+ of .*: use np\.where"
ONE_HOT = r"one-hot rows: np\.sum\(target \* prediction, axis=-1\), or target\.argmax\(axis=-1\)"


def by_hand(loss, model, target):
    model.forward(X)
    loss.backward(model, target)


@pytest.mark.parametrize(
    ("loss", "advice"),
    [
        (Branching(), rf"Branching\.value.* {BRANCH}"),
        (Loss.of(lambda p, t: max(p - t, 0.0)), rf"Loss\.of\.value.* {BRANCH}"),
        (OfMath(), r"OfMath\.value.* a function of 'math', .*: use the NumPy function, e\.g\. np\.exp for math\.exp"),
        (Indexing(), rf"Indexing\.value.* an index by numbers that are not integers .*{ONE_HOT}"),
        (IndexingByIntegers(), rf"ByIntegers\.value.* indices of the shapes .* do not broadcast .*{ONE_HOT}"),
    ],
)
def test_a_loss_that_arrays_do_not_pass_is_explained_wherever_it_is_called(loss, advice):
    by_row = isinstance(loss, RowLoss)
    model = Dense(2, 4, Softmax()) if by_row else Dense(2, 1)
    target = np.array([0, 2, 1]) if by_row else Y[:, None]
    before = model.weights.copy()
    trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=0.1))
    for call in (
        lambda: loss(model(X), target),
        lambda: loss.gradient(model(X), target),
        lambda: by_hand(loss, model, target),
        lambda: trainer.fit(model, (X, target)),
    ):
        with pytest.raises((UsageError, DerivativeError), match=advice):
            call()
    np.testing.assert_array_equal(model.weights, before)


def test_an_activation_a_metric_and_a_regularizer_that_arrays_do_not_pass_are_explained():
    class Written(Activation):
        def __call__(self, h):
            return np.maximum(h, 0.0)

        def derivative(self, h):
            return 1.0 if h > 0 else 0.0

    class Folded(Activation):
        def __call__(self, h):
            return h if h > 0 else -h

    class Hits(Metric):
        def sums(self, prediction, target, weight=None):
            return (1.0 if prediction > target else 0.0), len(target)

        def result(self, hits, count):
            return hits / count

    class Largest(WholeMetric):
        def whole_result(self, prediction, target, weight=None):
            return max(prediction - target)

    class Corner(Regularizer):
        def value(self, values):
            return values if values > 0 else 0.0

    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=[Largest()])
    for call, name in (
        (lambda: Folded()(X), "Folded.__call__"),
        (lambda: Dense(2, 1, Written()), "Written.derivative"),
        (lambda: Hits()(Y, Y), "Hits.sums"),
        (lambda: Largest()(X, X), "Largest.whole_result"),
        (lambda: trainer.evaluate(Dense(2, 2), (X, X)), "Largest.whole_result"),
        (lambda: framework.formulas.check_derivative(Corner(strength=0.1)), "Corner.value"),
    ):
        with pytest.raises(UsageError, match=rf"{re.escape(name)} must work on whole arrays, here .* {BRANCH}"):
            call()


def test_an_error_in_a_formula_keeps_its_words_and_names_the_shapes_and_the_line():
    class Product(Metric):
        def sums(self, prediction, target, weight=None):
            return (float(np.sum(prediction @ target)),)

        def result(self, total):
            return total

    with pytest.raises(
        UsageError, match=r"Product\.sums fails for prediction \(3, 2\) and target \(3,\): .*@ target"
    ) as caught:
        Product()(X, [0, 1, 1])
    assert isinstance(caught.value.__cause__, ValueError)
    assert str(caught.value.__cause__) in str(caught.value)


def test_a_metric_takes_classes_as_integers_in_a_call_as_in_a_fit():
    likely = Metric.of(lambda p, t: p[np.arange(len(t)), t].mean())
    assert likely([[0.25, 0.75], [0.5, 0.5]], [1, 0]) == 0.625


def test_hooks_that_would_never_run_are_refused():
    with pytest.raises(CallbackError, match="no 'async' and no 'yield'"):

        class Yields(Callback):
            def on_epoch_end(self, run):
                yield run

    with pytest.raises(CallbackError, match="no 'async' and no 'yield'"):

        @on("epoch_end")
        async def later(run):
            pass


def test_a_loss_as_metric_works_on_the_preactivation_too():
    model = Neuron.from_weights([100.0, 0.0], activation=Sigmoid())
    trainer = Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=(BinaryCrossEntropy(),)
    )
    figures = trainer.evaluate(model, (X, [0, 0, 1]))
    assert figures["binary_cross_entropy"] == pytest.approx((0.0 + 200.0 + 30.0 + 50.0) / 3, rel=0.3)
    assert np.isfinite(trainer.fit(model, (X, [0, 0, 1])).history["binary_cross_entropy"]).all()


def test_the_best_model_comes_back_with_its_buffers():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 1))
    trainer = Trainer(
        loss=MeanSquaredError(),
        optimizer=SGDOptimizer(learning_rate=0.2),
        epochs=12,
        batch_size=10,
        callbacks=(EarlyStopping(patience=11, restore_best=True),),
    )
    model = Sequential(Dense(3, 8), BatchNorm(units=8), Dense(8, 1))
    run = trainer.fit(model, (x, y), (x[:10], y[:10] + 1.0))
    assert trainer.evaluate(model, (x[:10], y[:10] + 1.0))["loss"] == pytest.approx(min(run.history["val_loss"]))


TRAINER = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))


def test_a_frame_of_other_columns_is_refused_by_the_model_itself():
    model, frame = Neuron(2), pd.DataFrame(X, columns=["a", "b"])
    TRAINER.fit(model, (frame, Y))
    assert model(frame).shape == (3,)
    for use in (model, model.forward):
        with pytest.raises(DataError, match="x must have the columns of fit, in that order: a, b; got b, a"):
            use(frame[["b", "a"]])


@pytest.mark.parametrize("data", [X, None])
def test_split_needs_a_tuple(data):
    with pytest.raises(
        DataError, match=r"split: argument 'data' must be \(x, y\), .* write split\(\(x, y\)\), with x and"
    ):
        split(data, 0.5)
    with pytest.raises(DataError, match=r"; write split\(\(table, 'target'\)\), with the name of the target's column"):
        split(pd.DataFrame(X), 0.25)


def test_split_needs_a_number():
    with pytest.raises(SettingsError, match=r"split: argument 'fraction' must be between 0 and 1; got '0\.5'"):
        split((X, Y), "0.5")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: split(X, Y, 0.25), "split: the arguments without a name are data, fraction; got 3; x and y go tog"),
        (lambda: split((X, Y), test_size=0.25), "split: unknown argument 'test_size'; did you mean 'fraction'?"),
        (lambda: TRAINER.evaluate(Neuron(2), X, Y), "evaluate: the arguments without a name are model, data; got 3"),
        (lambda: TRAINER.predict(Neuron(2), X, Y), "predict: the arguments without a name are model, x; got 3$"),
        (lambda: TRAINER.predict(Neuron(2), data=X), "predict: unknown argument 'data'. Arguments: model, x"),
    ],
)
def test_a_call_with_arguments_as_elsewhere_says_how_they_go_here(call, said):
    with pytest.raises(SettingsError, match=re.escape(said).replace(r"\$", "$")):
        call()


@pytest.mark.parametrize("labels", [np.linspace(0, 1, 40), np.arange(40), np.arange(40) % 3 + 0.5])
def test_stratify_refuses_what_are_no_classes(labels):
    with pytest.raises(DataError, match=f"holds {len(np.unique(labels))} different numbers in 40 rows"):
        split((np.ones((40, 1)), labels), stratify=True)


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(DataError, match="too large for a float"):
        Neuron(2)([10**400, 1])


class Halved(Dense):
    def apply(self, x, values, record):
        return 0.5 * super().apply(x, values, record)

    def apply_backward(self, gradient, values, record, gradients):
        return super().apply_backward(0.5 * gradient, values, record, gradients)


def test_a_loss_after_a_layer_that_scales_its_activation_reads_the_output():
    model = Halved(2, 1, Sigmoid())
    assert model.output_activation is None
    figures = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1)).evaluate(
        model, (X, [0, 0, 1])
    )
    assert figures["loss"] == pytest.approx(BinaryCrossEntropy()(model(X)[:, 0], [0.0, 0.0, 1.0]))


def test_a_metric_that_fails_leaves_weights_and_counters_as_they_were():
    class Fails(Metric):
        def sums(self, prediction, target, weight=None):
            raise OSError("no")

        def result(self, *sums):
            return 0.0

    model = Neuron(2)
    before = model.parameters.vector.copy()
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), metrics=(Fails(),))
    with pytest.raises(OSError, match="no") as caught:
        trainer.fit(model, (X, Y))
    assert np.array_equal(model.parameters.vector, before)
    assert caught.value.run.consistent


def test_accuracy_knows_the_signs_as_classes():
    assert Accuracy(threshold=0.0)([0.3, -0.2, 0.1], [1, -1, -1]) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="needs targets 0 and 1, or -1 and 1"):
        Accuracy()([0.9, 0.9], [2, 1])


def test_copies_of_models_not_yet_drawn_are_drawn_by_their_new_owners():
    block = Sequential(Dense(2, 2))
    model = Sequential(block.copy(), block.copy())
    assert not np.array_equal(model.parameters["0.0.weights"], model.parameters["1.0.weights"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SGD", "write SGDOptimizer"),
        ("MSE", "write MeanSquaredError"),
        ("CrossEntropyLoss", "write CrossEntropy"),
        ("BCEWithLogitsLoss", "write BinaryCrossEntropy"),
        ("Linear", "write Dense"),
        ("Conv2d", "write Conv2D"),
        ("EarlyStoping", "write EarlyStopping"),
        ("fit", "write Trainer(loss=..., optimizer=...).fit(model, (x, y))"),
        ("compile", "write Trainer(loss=..., optimizer=...).fit(model, (x, y))"),
        ("zero_grad", "leave it out: model(x) records nothing, backward overwrites"),
    ],
)
def test_a_name_of_another_library_is_answered_with_ours(name, said):
    assert not hasattr(framework, name)
    with pytest.raises(AttributeError) as got:
        getattr(framework, name)
    with pytest.raises(ImportError) as imported:
        exec(f"from framework import {name}")
    assert str(got.value) == str(imported.value) == f"framework has no '{name}': {said}"


def test_a_name_like_no_other_is_only_refused():
    with pytest.raises(ImportError, match=r"^framework has no 'qqqqq'$"):
        exec("from framework import qqqqq")


def test_a_backward_of_other_arguments_is_refused_with_the_class():
    with pytest.raises(SettingsError, match=r"Torch.backward must take \(self, gradient, h, a\); got \(self, g\)"):

        class Torch(Activation):
            def __call__(self, h):
                return np.tanh(h)

            def backward(self, g):
                return g


def test_a_setting_that_the_class_does_not_declare_is_explained():
    class Own(Callback):
        def __init__(self, path):
            self.path = path

    with pytest.raises(SettingsError, match=r"Own has no setting 'path'; write path: str = \.\.\. in the class; w"):
        Own("log.csv")


def test_weights_of_classes_by_name_are_refused_with_their_setting():
    with pytest.raises(
        SettingsError, match=r"CrossEntropy: setting 'class_weights' must not be a dict.* write a tuple"
    ):
        CrossEntropy(class_weights={0: 2.0})


def test_an_update_that_cannot_be_compiled_is_not_told_to_write_a_derivative():
    class Unwrapped(Optimizer):
        def update(self, values, gradients, rate, step):
            values -= rate * np.unwrap(gradients)

    trainer = TRAINER.replace(optimizer=Unwrapped(learning_rate=0.1), engine="compiled")
    with pytest.warns(UserWarning, match=r"Unwrapped.update cannot .* through np.unwrap \(line [^:]*: [^:]*\)$"):
        trainer.fit(Neuron(2), (X, Y))


def test_jupyter_shows_the_callers_lines_and_the_message_alone():
    class Wrong(Activation):
        def __call__(self, h):
            return np.tanh(h)

        def derivative(self, h):
            return 2.0 - np.tanh(h) ** 2

    with pytest.raises(DerivativeError) as caught:
        Neuron(2, Wrong())
    caught.value.add_note("a note")
    lines = caught.value._render_traceback_()
    assert lines[0].startswith(f'  File "{__file__}", line ')
    assert lines[1] == "    Neuron(2, Wrong())"
    message = f"framework.base.errors.DerivativeError: {caught.value}".splitlines()
    assert [line for line in lines[2:] if set(line) != {" ", "^"}] == [*message, "a note"]
