"""Models whose first layers take samples of any number of axes: what trains can be copied, saved and exported."""

import math
import pickle
import runpy

import numpy as np
import pytest
from layer_pieces import Gated, LastStep, Longer

from framework import (
    GRU,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    Join,
    Layer,
    LayerNorm,
    MaxPool,
    MeanSquaredError,
    Reshape,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Tanh,
    Trainer,
    export_python,
    load_model,
    save,
)
from framework.formulas import OutputLosses
from framework.models import Input
from framework.views import plots

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 6, 4))
TRAINER = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=2, batch_size=4)


def row(*layers):
    return Sequential(*layers, Flatten(), Dense(units=3))


# (the layers, the shape of a prediction for samples (6, 4))
MODELS = {
    "a reshape": (lambda: (LayerNorm(4), Reshape((2, 12))), (2, 12)),
    "a reshape after open inputs": (lambda: (Dense(units=3), Reshape((9, 2)), Dense(units=5)), (9, 5)),
    "a residual of one row": (lambda: (Dense(units=4), Flatten(), Residual(Dense(units=24))), (24,)),
    "a residual first": (lambda: (Residual(Dense(units=4)), Reshape((2, 12)), Flatten(), Dense(units=1)), (1,)),
    "a normalization of one row": (lambda: (Dense(units=2), Flatten(), BatchNorm(12), Dense(units=2)), (2,)),
    "models inside": (lambda: (Sequential(Tanh(), Dense(units=3)), Sequential(Flatten(), Dense(units=4))), (4,)),
    "pools": (lambda: (Dense(units=4), MaxPool(window=2), Flatten(), Dense(units=1)), (1,)),
    "steps": (lambda: (Dense(units=4), GRU(units=2, returns="all"), Dense(units=3)), (6, 3)),
    "an own composite": (lambda: (Dense(units=4), Gated(value=row(Flatten()), gate=row(Reshape((8, 3))))), (3,)),
    "an own formula": (lambda: (Dense(units=4), LastStep(), Dense(units=2)), (2,)),
    "own shapes": (lambda: (Longer(), Longer(), Dense(units=2)), (8, 2)),
}


@pytest.mark.parametrize(("layers", "output"), MODELS.values(), ids=MODELS)
def test_what_trains_can_be_copied_saved_and_exported(layers, output, tmp_path):
    run = TRAINER.fit(Sequential(*layers()), (X, RNG.normal(size=(8, *output))))
    model = run.model
    expected = model(X)
    assert expected.shape == (8, *output)
    assert model.output_shape == output
    save(run, tmp_path / "run.safetensors")
    loaded = load_model(tmp_path / "run.safetensors")
    for twin in (model.copy(), pickle.loads(pickle.dumps(model)), loaded):
        np.testing.assert_array_equal(twin(X), expected)
        assert twin.known_shape == (6, 4)
        assert twin.summary() == model.summary()
    export_python(loaded, tmp_path / "network.py")
    predict = runpy.run_path(str(tmp_path / "network.py"))["predict"]
    np.testing.assert_allclose(predict(X), expected, rtol=1e-12, atol=1e-14)


def test_the_layers_compute_what_numpy_does():
    scaled = (X - X.mean(axis=-1, keepdims=True)) / np.sqrt(X.var(axis=-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(Sequential(LayerNorm(4), Reshape((2, 12)))(X), scaled.reshape(8, 2, 12), rtol=1e-12)


def test_a_row_that_is_known_gives_the_inputs_of_the_next_layer_at_once():
    for layers in ((Tanh(),), (LayerNorm(5),), (Residual(Dense(5, 5)),), (Gated(value=Dense(5, 5), gate=Dense(5, 5)),)):
        model = Sequential(Dense(3, 5), *layers, Gated(value=Dense(units=5), gate=Dense(units=5)), Dense(units=2))
        assert model.parameters[f"{len(layers) + 2}.weights"].shape == (5, 2)
        assert model.leading_axes
        assert model(X[..., :3]).shape == (8, 6, 2)


def test_a_row_that_depends_on_the_axes_waits_for_the_data():
    wide = Sequential(Dense(4, 4), Gated(value=row(Flatten()), gate=row(Flatten())), Dense(units=2))
    assert not wide.settled
    assert TRAINER.fit(wide, (X, np.ones((8, 2)))).model.parameters["1.value.2.weights"].shape == (24, 3)
    plain = Sequential(Dense(3, 4), Layer.of(lambda x: np.einsum("ni,ni->n", x, x)[:, None]), Dense(units=2))
    assert plain.parameters["2.weights"].shape == (1, 2)  # a formula that takes no axes in front
    for shape in ((4,), (2, 4)):
        narrow = Sequential(Dense(4, 4), Flatten(), Dense(units=2))
        assert not narrow.settled
        narrow.settle(shape)
        assert narrow.parameters["2.weights"].shape == (math.prod(shape), 2)


def test_a_later_layer_says_how_many_axes_samples_have():
    assert Sequential(Dense(units=4), GRU(units=3)).input_shape == (None, None)
    assert Sequential(Dropout(0.2), BatchNorm(3)).takes((3,))
    assert not Sequential(Dropout(0.2), BatchNorm(3)).takes((5, 3))
    assert Sequential(Flatten(), BatchNorm(3)).takes((3, 1))
    mean = Layer.of(lambda x: x.mean(axis=1))  # of which nobody knows how many axes it leaves
    model = Sequential(mean, Dense(units=4), GRU(units=3))
    assert TRAINER.fit(model, (RNG.normal(size=(8, 2, 5, 3)), np.ones((8, 3)))).model.known_shape == (2, 5, 3)
    with pytest.raises(ShapeError, match=r"layer 1 gives \(any,\) but layer 2 takes \(any, any\)"):
        Sequential(Dense(units=4), Flatten(), GRU(units=3))


def test_a_sequence_of_several_inputs_has_its_axes_too():
    model = Sequential(
        Join(a=Dense(units=2), city=Embedding(3, 2)), Residual(Dense(units=4)), Flatten(), Dense(units=1)
    )
    x = {"a": X, "city": RNG.integers(3, size=(8, 6))}
    run = TRAINER.fit(model, (x, np.ones((8, 1))))
    assert run.model.known_shape == {"a": (6, 4), "city": (6,)}
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(run.model))(x), run.model(x))


def test_heads_may_work_on_other_axes_of_what_they_are_given():
    def heads(steps, row):
        return Heads(step=Dense(steps, 1), row=Sequential(Flatten(), Dense(row, 2)))

    model = Sequential(Dense(units=3), heads(None, None))
    y = {"step": np.ones((8, 6, 1)), "row": np.ones((8, 2))}
    losses = OutputLosses(step=MeanSquaredError(), row=MeanSquaredError())
    TRAINER.replace(loss=losses).fit(model, (X, y))
    for twin in (model.copy(), pickle.loads(pickle.dumps(model)), Sequential(Dense(4, 3), heads(3, 18))):
        assert {name: part.shape for name, part in twin(X).items()} == {"step": (8, 6, 1), "row": (8, 2)}


def test_a_model_that_needs_several_axes_is_shown_before_its_first_fit():
    model = Sequential(Join(a=Dense(3, 3), b=Embedding(4, 3)), Reshape((9, 2)), Dense(2, 1))
    assert model.output_shape == (9, 1)
    assert "(rows, 9, 1)" in model.summary()
    assert "(rows, 9, 1)" in model._repr_html_()


def test_the_shape_of_a_fit_is_that_of_the_summary_the_graph_and_the_exports(tmp_path):
    model = Sequential(Dense(units=8), Flatten(), Dense(units=1))
    model.settle((6, 4))
    with pytest.raises(SettingsError, match=r"leaves the shape of a sample open, \(\.\.\., 4\); .* as shape=\(28, 4\)"):
        export_python(model, tmp_path / "network.py")
    assert "(rows, ..., 8)" in model.summary()
    TRAINER.fit(model, (X, np.ones((8, 1))))
    assert "(rows, 6, 8)" in model.summary()
    assert "input\n(rows, 6, 4)" in {text.get_text() for text in plots.graph(model).texts}
    export_python(model, tmp_path / "network.py")


def test_the_shape_to_give_for_several_inputs_is_a_dict(tmp_path):
    model = Sequential(Join(numbers=Input(3), steps=GRU(units=2, inputs=2)), Dense(5, 1))
    with pytest.raises(SettingsError, match=r"as shape=\{'numbers': \(3,\), 'steps': \(28, 2\)\}"):
        export_python(model, tmp_path / "network.py")


def test_a_residual_and_heads_take_samples_with_axes_in_front():
    model = Sequential(Dense(units=4), Heads(a=Dense(units=1), b=Sequential(Flatten(), Dense(units=2))))
    model.settle((6, 4))
    assert {name: part.shape for name, part in model(X).items()} == {"a": (8, 6, 1), "b": (8, 2)}
    with pytest.raises(ShapeError, match=r"must give the shape that they take, \(4,\); they give \(3,\)"):
        Residual(Dense(4, 3))


def test_an_own_class_is_not_asked_for_sizes_that_are_not_known():
    model = Sequential(Dense(units=3), Longer(), Dense(units=2))
    assert model.infer_shape((None, 4)) == (..., 2)
    assert model.infer_shape((5, 4)) == (6, 2)

    class Wrong(Longer):
        def shape_after(self, shape):
            return (shape[5],)

    with pytest.raises(ShapeError, match=r"Wrong\.shape_after fails for samples of shape \(6, 4\): IndexError: tuple"):
        TRAINER.fit(Sequential(Wrong(), Dense(units=1)), (X, np.ones((8, 7, 1))))
