"""Join and Heads: several inputs and several outputs by name."""

import copy
import pickle
from types import MappingProxyType

import numpy as np
import pytest
from oracles import in_float64, jax, jnp, quickly

from framework import (
    LSTM,
    Activation,
    BinaryCrossEntropy,
    Component,
    CrossEntropy,
    DataError,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    Heads,
    Join,
    MeanSquaredError,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SGDOptimizer,
    ShapeError,
    Sigmoid,
    Softmax,
    Tanh,
    Trainer,
    check_gradients,
    load_model,
    save,
)
from framework.base import UsageError
from framework.base.trees import take
from framework.formulas import OutputLosses
from framework.models import Conv1D, Input

ROWS = 30


def data(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "numbers": rng.normal(size=(rows, 4)),
        "city": rng.integers(0, 5, rows),
        "words": rng.integers(0, 7, (rows, 2)),
        "age": rng.normal(size=rows),
    }
    y = {"price": rng.normal(size=rows), "late": rng.integers(0, 2, rows), "kind": rng.integers(0, 3, rows)}
    return x, y


def joined(dtype="float64"):
    return Join(
        numbers=None,
        city=Embedding(5, 3, dtype=dtype),
        words=Sequential(Embedding(7, 2, dtype=dtype), Flatten(dtype=dtype)),
        age=Dense(units=2, activation=Tanh(), dtype=dtype),
    )


def network(dtype="float64"):
    heads = Heads(
        price=Dense(units=1, dtype=dtype),
        late=Sequential(Dense(units=3, activation=ReLU(), dtype=dtype), Neuron(3, Sigmoid(), dtype=dtype)),
        kind=Dense(units=3, activation=Softmax(), dtype=dtype),
    )
    return Sequential(joined(dtype), Dense(units=8, activation=ReLU(), dtype=dtype), heads)


LOSSES = OutputLosses(
    price=MeanSquaredError(), late=BinaryCrossEntropy(), kind=CrossEntropy(), weights={"price": 0.3, "kind": 2.0}
)


def built(x, y, dtype="float64"):
    """Return a network whose sizes come from the data, with weights that are all different from 0."""
    model = network(dtype)
    Trainer(loss=LOSSES, optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (x, y))
    return model


def jax_outputs(p, x):
    words = p["0.words.0.weights"][x["words"]].reshape(len(x["words"]), -1)
    age = jnp.tanh(x["age"][:, None] @ p["0.age.weights"] + p["0.age.bias"])
    a = jnp.concatenate([x["numbers"], p["0.city.weights"][x["city"]], words, age], axis=1)
    a = jax.nn.relu(a @ p["1.weights"] + p["1.bias"])
    hidden = jax.nn.relu(a @ p["2.late.0.weights"] + p["2.late.0.bias"])
    return {
        "price": a @ p["2.price.weights"] + p["2.price.bias"],
        "late": hidden @ p["2.late.1.weights"] + p["2.late.1.bias"],
        "kind": a @ p["2.kind.weights"] + p["2.kind.bias"],
    }


def jax_loss(p, x, y, weight):
    h = jax_outputs(p, x)
    price = (h["price"][:, 0] - y["price"]) ** 2
    late = jax.nn.softplus(h["late"]) - y["late"] * h["late"]
    kind = -jax.nn.log_softmax(h["kind"])[jnp.arange(len(y["kind"])), y["kind"]]
    return ((0.3 * price + late + 2.0 * kind) * weight).sum() / weight.sum()


@quickly
def value_and_gradients(*arguments):
    return jax.value_and_grad(jax_loss)(*arguments)


def test_loss_and_gradients_are_those_of_jax():
    x, y = data()
    model, weight = built(x, y), np.linspace(0.1, 2.0, ROWS)
    model.forward(x)
    loss = LOSSES.backward(model, y, weight)
    expected, gradients = in_float64(value_and_gradients, dict(model.parameters), x, y, weight)
    assert loss == pytest.approx(float(expected), rel=1e-12)
    for name, gradient in model.parameters.gradients.items():
        np.testing.assert_allclose(gradient, gradients[name], rtol=1e-9, atol=1e-14, err_msg=name)
    assert LOSSES.output_sums(model.output_activation, *model.output(cast(x)), cast(y), weight)[0] == pytest.approx(
        loss * weight.sum()
    )


def cast(tree):
    """Return rows as they are after the checks of fit."""
    return {name: np.reshape(leaf, (ROWS, 1)) if name == "price" else leaf * 1.0 for name, leaf in tree.items()} | {
        name: leaf for name, leaf in tree.items() if name == "kind"
    }


def test_weights_after_five_steps_are_those_of_jax():
    x, y = data()
    model = built(x, y)
    parameters = dict(model.parameters.items())
    for _ in range(5):
        _, gradients = in_float64(value_and_gradients, parameters, x, y, np.ones(ROWS))
        parameters = {name: value - 0.05 * gradients[name] for name, value in parameters.items()}
    trainer = Trainer(loss=LOSSES, optimizer=SGDOptimizer(learning_rate=0.05), batch_size=ROWS, epochs=5)
    trainer.fit(model, (x, y))
    for name, value in model.parameters.items():
        np.testing.assert_allclose(value, parameters[name], rtol=1e-9, atol=1e-13, err_msg=name)


def test_gradients_of_parameters_and_inputs_are_right():
    x, y = data(6)
    report = check_gradients(built(x, y), LOSSES, x, y)
    assert {row.parameter for row in report.rows} >= {"x['numbers']", "x['age']", "0.words.0.weights", "2.kind.bias"}


def test_float32_stays_float32():
    x, y = data()
    model = built(x, y, "float32")
    assert {output.dtype.name for output in model(x).values()} == {"float32"}
    wide = built(x, y)
    for name, output in model(x).items():
        np.testing.assert_allclose(output, wide(x)[name], rtol=1e-3, atol=1e-4)


def test_one_sample_gives_one_prediction_of_each_output():
    x, y = data()
    model = built(x, y)
    whole = model(x)
    sample = {"numbers": x["numbers"][:1], "city": x["city"][:1], "words": x["words"][:1], "age": x["age"][:1]}
    for name, output in model(sample).items():
        assert output.shape == whole[name][:1].shape
        np.testing.assert_allclose(output, whole[name][:1], rtol=1e-12)
    small = Sequential(Join(numbers=Input(4), city=Embedding(5, 3)), Heads(a=Dense(units=2), b=Neuron(7)))
    one = {"numbers": x["numbers"][0], "city": x["city"][0]}
    assert {name: output.shape for name, output in small(one).items()} == {"a": (2,), "b": ()}
    small.forward(one)
    back = small.backward({"a": np.ones(2), "b": 1.0})
    assert back["numbers"].shape == (4,)
    assert back["city"].shape == ()


def test_the_sizes_of_a_join_come_from_the_data_and_stay():
    x, y = data()
    model = built(x, y)
    again = Component.from_json(model.to_json())
    assert again.to_json() == model.to_json()
    assert model[0]["numbers"] == model[0].numbers
    assert repr(model[0]["numbers"]) == "Input(inputs=4)"
    with pytest.raises(ShapeError, match=r"x\['numbers'\] must have the shape \(rows, 4\)"):
        again({**x, "numbers": x["numbers"][:, :3]})


def test_equal_rows_from_a_join_alone():
    join = Join(a=Input(1), b=Embedding.from_json(Embedding(3, 2).to_json()), c=Dense.from_weights([[2.0]]))
    found = join({"a": [1.0, 2.0], "b": [0, 2], "c": [[3.0], [4.0]]})
    table = join.parameters["b.weights"]
    np.testing.assert_array_equal(found, [[1.0, *table[0], 6.0], [2.0, *table[2], 8.0]])


def test_sequences_are_joined_at_each_step():
    rng = np.random.default_rng(0)
    x = {"word": rng.integers(0, 9, (5, 6)), "tag": rng.integers(0, 3, (5, 6)), "signal": rng.normal(size=(5, 6, 2))}
    model = Sequential(Join(word=Embedding(9, 4), tag=Embedding(3, 2), signal=None), LSTM(units=3), Dense(units=1))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    trainer.fit(model, (x, np.ones(5)))
    assert model[1].inputs == 8
    assert check_gradients(model, MeanSquaredError(), x, np.ones(5)).passed


def test_joins_nest():
    x = {"left": {"a": np.ones((3, 2)), "b": np.ones((3, 1))}, "right": np.zeros(3)}
    model = Sequential(Join(left=Sequential(Join(a=Input(2), b=Input(1)), Dense(units=4)), right=Embedding(2, 3)))
    assert model(x).shape == (3, 7)
    assert list(model.parameters) == ["0.left.1.weights", "0.left.1.bias", "0.right.weights"]
    assert check_gradients(model, MeanSquaredError(), x, np.ones((3, 7))).passed
    with pytest.raises(ShapeError, match=r"got 2 in x\['left'\]\['a'\] and 3"):
        model({"left": {"a": np.ones((2, 2)), "b": np.ones((3, 1))}, "right": np.zeros(3)})


def test_a_join_stands_inside_a_head_and_a_residual_inside_a_join():
    x = {"a": np.ones((3, 2)), "b": np.zeros(3)}
    model = Heads(
        one=Sequential(Join(a=Residual(Dense(2, 2, Tanh())), b=Embedding(2, 3)), Dense(units=1)),
        two=Sequential(Join(a=Input(2), b=Embedding(2, 1)), Dense(units=2)),
    )
    y = {"one": np.ones(3), "two": np.ones((3, 2))}
    assert check_gradients(model, OutputLosses(one=MeanSquaredError(), two=MeanSquaredError()), x, y).passed


def test_heads_that_know_their_inputs_tell_the_others():
    heads = Heads(a=Dense(units=2), b=Dense(3, 1))
    assert heads.parameters["a.weights"].shape == (3, 2)
    with pytest.raises(ShapeError, match=r"output 'b': Dense takes samples of shape \(4,\); got \(3,\)"):
        Heads(a=Dense(3, 2), b=Dense(4, 1))


def test_copies_predict_the_same(tmp_path):
    x, y = data()
    model = network()
    run = Trainer(loss=LOSSES, optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (x, y))
    save(run, tmp_path / "run")
    for twin in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        load_model(tmp_path / "run"),
        model.replace(),
    ):
        for name, output in twin(x).items():
            np.testing.assert_array_equal(output, model(x)[name])


def test_branches_are_named_in_parameters_patterns_and_the_summary():
    x, y = data()
    model = built(x, y)
    model.parameters.freeze("0.city.*", "2.late.*")
    assert model.parameters.frozen == (
        "0.city.weights",
        *(f"2.late.{n}" for n in ("0.weights", "0.bias", "1.weights", "1.bias")),
    )
    rows = [line.split("  ")[0] for line in model.summary().splitlines()]
    assert rows[1:6] == [
        "0 Join",
        "0.numbers Input()",
        "0.city Embedding()",
        "0.words.0 Embedding()",
        "0.words.1 Flatten()",
    ]


def test_a_frozen_head_stays_and_the_others_learn():
    x, y = data()
    model = built(x, y)
    model.parameters.freeze("2.kind.*")
    before = {name: value.copy() for name, value in model.parameters.items()}
    Trainer(loss=LOSSES, optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (x, y))
    kept = [name for name, value in model.parameters.items() if np.array_equal(value, before[name])]
    assert kept == ["2.kind.weights", "2.kind.bias"]


def test_random_layers_in_branches_draw_numbers_of_their_own():
    model = Heads(a=Dropout(rate=0.5), b=Dropout(rate=0.5))
    a, b = model.forward(np.ones((1, 64)), key=(0, 0, 0)).values()
    assert not np.array_equal(a, b)
    again = model.forward(np.ones((1, 64)), key=(0, 0, 0))
    np.testing.assert_array_equal(again["a"], a)


def test_outputs_belong_to_the_caller():
    x = np.ones((2, 3))
    model = Heads(same=Input(3), double=Dense.from_weights(2.0 * np.eye(3)))
    for outputs in (model(x), model.forward(x)):
        outputs["same"][:] = 7.0
        assert x.max() == 1.0
    assert model(x)["double"].tolist() == [[2.0] * 3] * 2


class Shifted(Activation):
    def __call__(self, h):
        return np.tanh(h) + 1.0


def test_an_activation_may_stand_for_an_input_or_an_output():
    model = Heads(a=Shifted(), b=Input(2))
    assert model([[0.0, 1.0]])["a"].shape == (1, 2)
    join = Join(a=Shifted(), b=ReLU())
    assert join({"a": [[0.0]], "b": [[-1.0]]}).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Join, r"Join: give each input a name: Join\(numbers=None, city=Embedding\(5, 3\)\)"),
        (lambda: Heads(Dense(2, 1)), "give each output a name: .*; got Dense.* without a name"),
        (lambda: Join(**{"a.b": None}), "must not be 'type' or hold a dot; got 'a.b'"),
        (lambda: Heads(type=Dense(2, 1)), "must not be 'type' or hold a dot; got 'type'"),
        (lambda: Join(a=3), "setting 'a' must be of class Model or Activation; got 3"),
        (lambda: Join(a=Dense), r"got <class .*; write Dense\(...\) with its brackets"),
        (lambda: Join(a=Dense(2, 1), b=Dense(2, 1, dtype="float32")), "layers must have one dtype"),
    ],
)
def test_what_cannot_be_joined_is_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


def test_a_layer_belongs_to_one_branch():
    layer = Dense(2, 1)
    with pytest.raises(UsageError, match=r"layer b already belongs to a model; give layer\.copy"):
        Join(a=layer, b=layer)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"numbers": None, "nmbers": np.ones((3, 2))}, ShapeError, r"got a dict of .*; did you mean x\['numbers'\]\?"),
        ({"city": None}, ShapeError, r"must be a batch of shape \{'numbers': \(rows, 2\), 'city': \(rows,\)\}"),
        ({"more": np.ones(3)}, ShapeError, r"got a dict of x\['numbers'\], x\['city'\], x\['more'\]"),
        ({"city": np.ones(2)}, ShapeError, r"got 3 in x\['numbers'\] and 2 in x\['city'\]"),
        ({"city": np.full(3, 5)}, DataError, r"x\['city'\] must hold whole ids in 0..4; got 5.0 at x\['city'\]\[0\]"),
        ({"city": np.ones((3, 2))}, ShapeError, r"got \(2,\) of 'numbers', \(2, 3\) of 'city'; .*Flatten"),
        ({"numbers": np.full((3, 2), np.nan)}, DataError, r"x\['numbers'\] must be finite"),
    ],
)
def test_inputs_that_do_not_fit_are_named(change, error, message):
    x = {"numbers": np.ones((3, 2)), "city": np.zeros(3)} | change
    x = {name: leaf for name, leaf in x.items() if leaf is not None}
    model = Sequential(Join(numbers=Input(2), city=Embedding(5, 3)), Dense(units=1))
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
    before = model.parameters.vector.copy()
    with pytest.raises(error, match=message):
        trainer.fit(model, (x, np.ones(3)))
    np.testing.assert_array_equal(model.parameters.vector, before)


def test_the_outputs_of_all_inputs_must_have_the_same_axes():
    with pytest.raises(ShapeError, match=r"got \(2,\) of 'a', \(3, 4\) of 'b'"):
        Join(a=Input(2), b=Conv1D(filters=3, kernel=2, inputs=1)).shape_after({"a": (2,), "b": (1, 5)})
    with pytest.raises(ShapeError, match=r"\(\) of 'b'"):
        Join(a=Input(2), b=Neuron(2)).shape_after({"a": (2,), "b": (2,)})


def test_layers_of_one_output_are_refused_after_heads():
    for layer in (Dense(units=1), ReLU(), Flatten()):
        with pytest.raises(ShapeError, match=r"layer 1 gives \{'a': \(2,\)\} but layer 2 takes .*; a Join makes one"):
            Sequential(Dense(3, 4), Heads(a=Dense(units=2)), layer)


def test_a_batch_is_checked_again_where_it_is_not_like_the_last_one():
    model = Sequential(Join(a=Input(2), b=Input(3)), Dense(units=1))
    x = {"a": np.ones((4, 2)), "b": np.arange(12.0).reshape(4, 3)}
    expected = model(x)
    turned = {"b": np.asfortranarray(x["b"]), "a": x["a"].astype(int)}
    for other in (x, turned, dict(reversed(x.items())), {name: leaf.tolist() for name, leaf in x.items()}):
        np.testing.assert_array_equal(model.forward(other), expected)
        np.testing.assert_array_equal(model.forward(take(x, slice(3))), expected[:3])
    for change in ({"b": x["b"][:3]}, {"b": x["b"][:, :2]}, {"c": x["b"]}, {"b": x["b"][0]}, {"b": {"c": x["b"]}}):
        with pytest.raises(ShapeError):
            model.forward(x | change)
        with pytest.raises(ShapeError):
            model.forward({"a": x["a"]})
    single = Dense(2, 1)
    assert single(np.ones((2, 2))).shape == (2, 1)
    assert single(np.ones(2)).shape == (1,)
    with pytest.raises(ShapeError):
        single(np.ones((2, 3)))


def test_any_mapping_of_arrays_is_taken(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((4, 2)), b=np.ones(4))
    model = Sequential(Join(a=None, b=None), Neuron())
    with np.load(tmp_path / "x.npz") as archive:
        Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1)).fit(model, (archive, np.ones(4)))
        np.testing.assert_array_equal(model.predict(archive), model(dict(archive)))
    with pytest.raises(DataError, match=r"x\['b'\] must be finite"):
        model.predict(MappingProxyType({"a": np.ones((4, 2)), "b": [1.0, 2.0, np.nan, 3.0]}))
