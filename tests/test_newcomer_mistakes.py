"""What people write who know another library: each mistake is answered with what to write here."""

import copy
import pickle

import numpy as np
import pytest

from framework import (
    CheckpointError,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    Dropout,
    FrameworkError,
    Layer,
    Loss,
    MeanSquaredError,
    Neuron,
    Optimizer,
    ReLU,
    RowLoss,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Softmax,
    Trainer,
    UsageError,
    check_derivative,
    on,
    save,
    show,
)
from framework.settings.messages import elsewhere

X = np.random.default_rng(0).normal(size=(6, 2))
Y = np.array([0, 1, 2, 0, 1, 2])
TRAINER = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))


def network():
    return Sequential(Dense(2, 4, ReLU()), Dense(4, 3, Softmax()))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fit", r"write Trainer\(loss=..., optimizer=...\).fit\(model, \(x, y\)\)"),
        ("predict", r"write model\(x\)"),
        ("eval", r"leave it out, forward\(x\) trains and model\(x\) predicts"),
        ("state_dict", r"write save\(run, path\)"),
        ("load_state_dict", r"write load_model\(path, into=model\)"),
    ],
)
def test_a_method_of_another_library_is_answered_with_the_call_here(name, advice):
    with pytest.raises(AttributeError, match=f"Sequential has no '{name}': {advice}"):
        getattr(network(), name)


def test_an_optimizer_says_that_gradients_need_no_clearing():
    with pytest.raises(AttributeError, match="SGDOptimizer has no 'zero_grad': leave it out"):
        SGDOptimizer(network(), learning_rate=0.1).zero_grad()


def test_an_unknown_attribute_keeps_pythons_message_and_models_still_copy():
    model = network()
    with pytest.raises(AttributeError, match="object has no attribute 'wieghts'"):
        model.wieghts  # noqa: B018
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(twin(X), model(X))


def test_no_advice_names_an_attribute_that_the_class_has():
    model, optimizer = network(), SGDOptimizer(network(), learning_rate=0.1)
    for thing in (model, model[0], Dropout(0.5), optimizer, Neuron(2)):
        assert not [name for name in dir(thing) if elsewhere(type(thing), name) and name != "inputs"]


def test_a_layer_that_reads_inputs_is_told_to_declare_it():
    class Forgotten(Layer):
        units: int

        def shapes(self):
            return {"weights": (self.inputs, self.units)}

        def formula(self, x, weights):
            return x @ weights

    with pytest.raises(AttributeError, match=r"Forgotten has no 'inputs': declare inputs: int \| None = None"):
        Forgotten(units=3)(X)


@pytest.mark.parametrize(
    ("layer", "setting", "here"),
    [(Dropout, "p", "rate"), (Dense, "hidden_size", "units"), (Dense, "in_channels", "inputs")],
)
def test_the_name_of_a_setting_elsewhere_is_answered_with_ours(layer, setting, here):
    with pytest.raises(SettingsError, match=f"did you mean '{here}'"):
        layer(**{setting: 3})


def test_an_optimizer_asks_for_the_model_instead_of_its_parameters():
    with pytest.raises(SettingsError, match=r"must be a model; got Parameters\(.*\); give the model"):
        SGDOptimizer(network().parameters, learning_rate=0.1)


def test_a_misspelt_parameter_is_a_key_error_with_the_nearest_name():
    parameters = network().parameters
    with pytest.raises(KeyError, match=r"there is no parameter '0.weight'; did you mean '0.weights'"):
        parameters["0.weight"]
    assert "0.weight" not in parameters
    assert parameters.get("0.weight") is None


def test_a_new_array_for_a_parameter_is_refused():
    parameters = network().parameters
    with pytest.raises(UsageError, match=r"parameters\['0.bias'\]\[...\] = value"):
        parameters["0.bias"] = np.zeros(4)


@pytest.mark.parametrize("call", [TRAINER.evaluate, TRAINER.fit])
def test_x_and_y_without_brackets_are_answered_with_brackets(call):
    with pytest.raises((SettingsError, DataError), match=r"\(x, y\)"):
        call(network(), X, Y)


def test_a_model_inside_a_formula_is_answered_with_composite():
    class Squared(Layer):
        inner: Dense

        def formula(self, x):
            return self.inner(x) ** 2

    message = r"Squared.formula: .* a call of a Dense \(line .*self.inner\(x\).*\): make a Composite"
    with pytest.raises(DerivativeError, match=message):
        Squared(inner=Dense(2, 3))(X)


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (ReLU, r"write ReLU\(\) with its brackets"),
        (np.tanh, r"write Activation.of\(np.tanh\)"),
        (network(), "Sequential"),
    ],
)
@pytest.mark.parametrize("function", [show, check_derivative])
def test_what_cannot_be_shown_or_checked_is_refused(function, given, advice):
    with pytest.raises(SettingsError, match=f"argument 'formula' must be an activation, a loss or .*; got .*{advice}"):
        function(given)


@pytest.mark.parametrize("base", [Loss, RowLoss])
def test_a_loss_that_takes_its_own_mean_is_told_not_to(base):
    class Mean(base):
        def value(self, prediction, target):
            return np.mean((prediction - target) ** 2)

    with pytest.raises(FrameworkError, match=r"Mean.value.*the mean is taken for you"):
        TRAINER.replace(loss=Mean()).fit(network(), (X, np.eye(3)[Y]))


def test_an_array_among_the_initializers_is_refused():
    class Ones(Layer):
        def shapes(self):
            return {"scale": (2,)}

        def initializers(self):
            return {"scale": np.ones(2)}

        def formula(self, x, scale):
            return x * scale

    with pytest.raises(SettingsError, match=r"Ones.initializers must return an Initializer for each name, {'scale': "):
        Ones()(X)


def test_an_update_with_other_arguments_is_refused_when_the_class_is_made():
    with pytest.raises(SettingsError, match=r"update must take \(self, .*, step, velocity\); got \(self, "):

        class Forgets(Optimizer):
            memory = ("velocity",)

            def update(self, values, gradients, rate, step):
                values -= rate * gradients


def test_the_history_of_a_batch_hook_names_the_loss_of_the_batch():
    reads_too_early = on("batch_end")(lambda run: run.history[-1]["loss"])
    with pytest.raises(IndexError, match="no row before the first epoch ends"):
        TRAINER.replace(callbacks=[reads_too_early]).fit(network(), (X, Y))


def test_a_function_among_the_callbacks_has_no_json_in_our_words():
    with pytest.raises(SettingsError, match="is a Python function, which JSON cannot hold: write it as a class"):
        TRAINER.replace(callbacks=[on("epoch_end")(print)]).to_json()


def test_saving_with_the_arguments_exchanged_shows_their_order(tmp_path):
    with pytest.raises(CheckpointError, match=r"got str; write save\(run, path\)"):
        save(str(tmp_path / "run.safetensors"), TRAINER.fit(network(), (X, Y)))


class Freely(Loss):
    def value(self, output, wanted):
        return (output - wanted) ** 4


def test_the_arguments_of_a_loss_may_have_any_names_in_both_engines():
    pytest.importorskip("numba")
    trainer = Trainer(loss=Freely(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=3)
    data = X, X @ [[1.0], [2.0]]
    runs = [trainer.replace(engine=engine).fit(Sequential(Dense(2, 1)), data) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    assert np.allclose(runs[0].model.parameters.vector, runs[1].model.parameters.vector, rtol=1e-9)
    assert MeanSquaredError()(runs[1].model(X), data[1]) > 0.0
