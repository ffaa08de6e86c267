from itertools import pairwise

import numpy as np
import pytest

from framework import (
    Activation,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    Identity,
    Join,
    MeanSquaredError,
    Model,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    Sigmoid,
    Softmax,
)
from framework.base import UsageError
from framework.formulas import Mish
from framework.models import Composite, Input
from framework.views import plots


def texts(axis):
    return [text.get_text() for text in axis.texts if text.get_text()]


def test_layers_are_boxes_with_the_shapes_and_numbers_of_the_summary(axis):
    model = Sequential(Conv2D(filters=3, kernel=3, inputs=1), ReLU(), Flatten(), Dense(12, 10, Softmax()))
    model.plot(axis=axis)
    assert texts(axis) == [
        "input\n(rows, 1, any, any)",
        "0 Conv2D\n(rows, 3, any, any), 30 parameters",
        "1 ReLU\n(rows, 3, any, any)",
        "2 Flatten\n(rows, any)",
        "3 Dense(Softmax)\n(rows, 10), 130 parameters",
    ]
    tops = [patch.get_y() for patch in axis.patches if hasattr(patch, "get_boxstyle")]
    assert tops == sorted(tops, reverse=True)


def test_models_side_by_side_and_inputs_around_layers_are_drawn(axis):
    model = Sequential(
        Join(numbers=Input(2), city=Embedding(5, 3)),
        Dense(5, 4, ReLU()),
        Residual(Dense(4, 4)),
        Heads(price=Dense(4, 1), late=Sequential(Dense(4, 2), Dense(2, 1))),
    )
    model.plot(axis=axis)
    found = dict(text.split("\n") for text in texts(axis))
    assert found["input city"] == "(rows,)"
    assert found["0 Join: concatenate(numbers, city)"] == "(rows, 5)"
    assert found["2 Residual: x + block(x)"] == "(rows, 4)"
    assert found["3.late.1 Dense(Identity)"] == "(rows, 1), 3 parameters"
    boxes = {text.get_text().split("\n")[0]: text.get_position() for text in axis.texts if text.get_text()}
    assert boxes["3.price Dense(Identity)"][1] == boxes["3.late.0 Dense(Identity)"][1]
    assert boxes["3.price Dense(Identity)"][0] < boxes["3.late.0 Dense(Identity)"][0]


def arrows(axis):
    """Where each arrow leads, as the texts of two boxes."""
    boxes = {}
    for patch, text in zip([p for p in axis.patches if hasattr(p, "get_boxstyle")], texts(axis), strict=True):
        boxes[round(patch.get_x() + patch.get_width() / 2, 6), round(patch.get_y(), 6)] = text
    tops = {(x, round(y + patch.get_height(), 6)): text for (x, y), text in boxes.items()}
    ends = [np.round(drawn.get_xydata()[[0, -1]], 6).tolist() for drawn in axis.lines]
    return {(boxes[tuple(start)], tops[tuple(end)]) for start, end in ends}


def named(found):
    return {tuple(text.split("\n")[0] for text in pair) for pair in found}


class Gated(Composite):
    value: Model
    gate: Model

    def children(self):
        return {"value": self.value, "gate": self.gate}

    def apply(self, x, values, record):
        value, gate = [self.forward_child(name, x, record) for name in ("value", "gate")]
        return value * gate


class Again(Gated):
    def apply(self, x, values, record):
        first = self.forward_child("value", x, record)
        second = self.forward_child("value", np.tanh(first), record)
        return self.forward_child("gate", np.concatenate([x[:, :1], second], axis=-1), record)


class Written(Gated):
    check = "off"

    def apply_backward(self, gradient, values, record, gradients):
        return gradient


class Untraced(Gated):
    def apply(self, x, values, record):
        return super().apply(x, values, record) * float(np.sum(x))


def test_the_children_of_an_own_composite_are_connected_as_its_apply_connects_them(axis):
    Sequential(Dense(2, 3), Gated(value=Dense(3, 4), gate=Dense(3, 4, Sigmoid())), Flatten()).plot(axis=axis)
    assert named(arrows(axis)) == {
        ("input", "0 Dense(Identity)"),
        ("0 Dense(Identity)", "1.value Dense(Identity)"),
        ("0 Dense(Identity)", "1.gate Dense(Sigmoid)"),
        ("1.value Dense(Identity)", "1 Gated: value(x) * gate(x)"),
        ("1.gate Dense(Sigmoid)", "1 Gated: value(x) * gate(x)"),
        ("1 Gated: value(x) * gate(x)", "2 Flatten"),
    }


class Doubled(Sequential):
    def apply(self, x, values, record):
        return super().apply(x, values, record) * 2.0


def test_a_child_without_a_name_has_that_of_its_class_in_a_formula(axis):
    Doubled(Dense(2, 3), Dense(3, 1)).plot(axis=axis)
    assert texts(axis)[-1] == "Doubled: Dense * 2\n(rows, 1)"


def test_a_child_that_is_called_twice_has_two_boxes(axis):
    Again(value=Dense(2, 2), gate=Dense(3, 1)).plot(axis=axis)
    names = [text.split("\n")[0] for text in texts(axis)]
    assert names == ["input", "value Dense(Identity)", "value Dense(Identity)", "gate Dense(Identity)"]
    assert named(arrows(axis)) == {*pairwise(names), ("input", "gate Dense(Identity)")}


@pytest.mark.parametrize("cls", [Written, Untraced])
def test_a_composite_whose_passes_python_runs_is_one_box(axis, cls):
    Sequential(Dense(2, 3), cls(value=Dense(3, 4), gate=Dense(3, 4))).plot(axis=axis)
    assert texts(axis)[-1] == f"1 {cls.__name__}\n(rows, 4), 32 parameters"
    assert len(texts(axis)) == 3


def test_models_that_hand_on_what_they_are_given_are_boxes_of_their_own(axis):
    Sequential(Flatten(), Heads(a=None, b=Residual(Dropout(0.5)), c=Dense(2, 1))).plot(axis=axis)
    assert named(arrows(axis)) == {
        ("input", "0 Flatten"),
        ("0 Flatten", "1.a Input"),
        ("0 Flatten", "1.b.block.0 Dropout"),
        ("0 Flatten", "1.b Residual: x + block(x)"),
        ("0 Flatten", "1.c Dense(Identity)"),
        ("1.b.block.0 Dropout", "1.b Residual: x + block(x)"),
    }


def test_the_operations_of_a_formula_are_drawn_below_all_that_they_read(axis):
    class Bump(Activation):
        def __call__(self, h):
            return h * np.exp(-(h**2))

    plots.graph(Bump(), axis=axis)
    assert arrows(axis) == {
        ("h", "u = h ** 2"),
        ("u = h ** 2", "v = -u"),
        ("v = -u", "w = exp(v)"),
        ("h", "f = h * w"),
        ("w = exp(v)", "f = h * w"),
    }


def test_a_loss_is_drawn_from_its_two_arguments(axis):
    plots.graph(MeanSquaredError(), axis=axis)
    assert arrows(axis) == {
        ("prediction", "u = prediction - target"),
        ("target", "u = prediction - target"),
        ("u = prediction - target", "f = u ** 2"),
    }


def test_an_arrow_over_several_rows_passes_beside_their_boxes(axis):
    plots.graph(Mish(), axis=axis)
    boxes = [patch for patch in axis.patches if hasattr(patch, "get_boxstyle")]
    for drawn in axis.lines:
        for x, y in drawn.get_xydata()[1:-1]:
            assert not any(
                box.get_x() < x < box.get_x() + box.get_width() and box.get_y() < y < box.get_y() + box.get_height()
                for box in boxes
            )


@pytest.mark.parametrize("formula", [Identity(), Activation.of(lambda _: 2.0)], ids=["input", "number"])
def test_a_formula_without_operations_is_one_box(axis, formula):
    plots.graph(formula, axis=axis)
    assert texts(axis) == (["h"] if formula == Identity() else ["f = 2"])


def test_a_layer_alone_is_a_box_below_its_input(axis):
    Dense(2, 3).plot(axis=axis)
    assert texts(axis) == ["input\n(rows, 2)", "Dense(Identity)\n(rows, 3), 9 parameters"]


def test_what_is_no_model_is_refused():
    for given in (ReLU, Dense):
        with pytest.raises(SettingsError, match=r"plots.graph: argument 'model' must be a model; got <class"):
            plots.graph(given)
    with pytest.raises(SettingsError, match=r"plots.graph: argument 'model' must be a model; got 3"):
        plots.graph(3)


def test_a_model_whose_inputs_are_open_says_so():
    with pytest.raises(UsageError, match="inputs"):
        Dense(units=3).plot()
