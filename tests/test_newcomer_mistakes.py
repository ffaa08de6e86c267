"""What people write who know another library: each mistake is answered with what to write here."""

import copy
import importlib
import pickle

import numpy as np
import pytest

from framework import (
    GELU,
    Activation,
    CheckpointError,
    Conv2D,
    CrossEntropy,
    DataError,
    Dense,
    DerivativeError,
    Dropout,
    Embedding,
    Flatten,
    FrameworkError,
    Layer,
    Loss,
    MaxPool,
    MeanSquaredError,
    Metric,
    Model,
    Neuron,
    Optimizer,
    ReLU,
    RowLoss,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Trainer,
    check_gradients,
    compare_steps,
    data,
    latest,
    load_model,
    on,
    save,
    show,
    split,
    trace_step,
    verify_resume,
)
from framework.base import DtypeError, UsageError
from framework.base.settings.messages import elsewhere
from framework.formulas import check_derivative
from framework.models import Glorot, Initializer
from framework.training import DataParallel, numerical_gradient

X = np.random.default_rng(0).normal(size=(6, 2))
Y = np.array([0, 1, 2, 0, 1, 2])
TRAINER = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))


def network():
    return Sequential(Dense(2, 4, ReLU()), Dense(4, 3, Softmax()))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("fit", r"write Trainer\(loss=..., optimizer=...\).fit\(model, \(x, y\)\)"),
        ("predict_proba", r"write model.predict\(x\)"),
        ("eval", r"leave it out, forward\(x\) trains and model\(x\) predicts"),
        ("state_dict", r"write save\(run, path\)"),
        ("load_state_dict", r"write load_model\(path, into=model\)"),
        ("add", r"write Sequential\(first, second, ...\)"),
        ("get_weights", "read and write model.parameters, arrays by name"),
    ],
)
def test_a_method_of_another_library_is_answered_with_the_call_here(name, advice):
    with pytest.raises(AttributeError, match=f"Sequential has no '{name}': {advice}"):
        getattr(network(), name)


@pytest.mark.parametrize(
    ("owner", "name", "advice"),
    [
        (Dense(2, 3), "weight", "Dense has no 'weight': write layer.weights"),
        (Embedding(2, 3), "weight", r"Embedding has no 'weight': write layer.parameters\['weights'\]"),
        (network(), "count_params", "Sequential has no 'count_params': write model.parameters.vector.size"),
        (
            data,
            "load_iris",
            "framework.data has no 'load_iris': import it from sklearn.datasets: fit takes",
        ),
        (data, "mnist", r"framework.data has no 'mnist': write load_digits\(\), images of 8 x 8 pixels"),
        (data, "Titanic", "framework.data has no 'Titanic': there is none$"),
        (data, "load_digit", "framework.data has no 'load_digit': write load_digits$"),
        (TRAINER.fit(network(), (X, Y)), "predict", r"Run has no 'predict': write run.model.predict\(x\)"),
        (TRAINER.fit(network(), (X, Y)), "save", r"Run has no 'save': write save\(run, path\)"),
        (TRAINER.fit(network(), (X, Y)), "evaluate", r"Run has no 'evaluate': write trainer.evaluate\(run.model, \(x"),
        (TRAINER.fit(network(), (X, Y)), "nothing", "'Run' object has no attribute 'nothing'$"),
    ],
)
def test_an_attribute_of_another_library_is_answered_with_the_name_here(owner, name, advice):
    with pytest.raises(AttributeError, match=f"^{advice}"):
        getattr(owner, name)


def test_a_formula_under_the_name_of_another_library_is_renamed():
    class Halved(Activation):
        def forward(self, h):
            return h / 2

    class Doubled(Layer):
        def call(self, x):
            return 2 * x

    with pytest.raises(SettingsError, match=r"^Halved is not complete: rename its formula to __call__$"):
        Halved()
    with pytest.raises(SettingsError, match=r"^Doubled is not complete: write formula\(self, x, ...\)"):
        Doubled()


def test_a_trainer_answers_the_methods_of_other_libraries():
    with pytest.raises(AttributeError, match="Trainer has no 'history': fit returns a run"):
        TRAINER.history  # noqa: B018
    with pytest.raises(KeyError, match=r"there is no parameter 0. Parameters: "):
        network().parameters[0]


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
        assert not [
            name
            for name in dir(thing)
            if elsewhere(type(thing), name)
            and not name.startswith("_")
            and name not in ("forward", "inputs", "units", "input_shape")
        ]


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


class Sparse:
    def toarray(self):
        return X

    def __repr__(self):
        return "a sparse matrix"


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: TRAINER.fit((X, Y)), "fit: missing a required argument: 'data'; write fit(model, data); x and y go"),
        (lambda: TRAINER.fit(X, Y), "; write fit(model, data); x and y go together, as the tuple (x, y)"),
        (lambda: TRAINER.predict(X), "predict: missing a required argument: 'x'; write predict(model, x)"),
        (lambda: TRAINER.predict(X, network()), "; write predict(model, x)"),
        (
            lambda: TRAINER.fit(network(), (X, Y), sample_weight=Y),
            "fit: unknown argument 'sample_weight': it goes with the data, as the tuple (x, y, weight). Arguments:",
        ),
        (
            lambda: TRAINER.fit(network(), x=X, y=Y),
            "fit: unknown argument 'x': x and y go together, as the tuple (x, y).",
        ),
        (lambda: TRAINER.fit(network(), (X, Y), batch_size=3), "'batch_size': it is a setting of the Trainer."),
        (
            lambda: Trainer(model=network(), loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1)),
            "Trainer: unknown setting 'model': write Trainer(...).fit(model, (x, y)). Settings: loss,",
        ),
        (lambda: network().parameters(), "parameters is not a method: leave out its brackets"),
        (lambda: on("epoch_end", every=0)(print), "on: setting 'every' must be greater than or equal to 1; got 0"),
        (lambda: compare_steps(3, dict), "compare_steps: argument 'loop' must be a Trainer or a function; got 3; "),
        (lambda: compare_steps(dict, 3), "compare_steps: argument 'reference' must be a function; got 3"),
        (lambda: load_model("none", into=network(), names=[3]), "argument 'names' must be a pattern such as '0.*'"),
        (lambda: check_gradients(TRAINER, CrossEntropy(), X, Y), "argument 'model' must be a Model; got Trainer("),
        (lambda: check_gradients(network(), X, Y, CrossEntropy()), "argument 'loss' must be a Loss; got array([["),
        (lambda: numerical_gradient(3, X), "numerical_gradient: argument 'function' must be a function; got 3; write"),
        (lambda: verify_resume(network()), "verify_resume: missing a required argument: 'model'; write verify_resume("),
        (lambda: TRAINER.evaluate(TRAINER.fit(network(), (X, Y)), (X, Y)), "got Run(epoch=1, step=1, "),
        (lambda: TRAINER.evaluate(TRAINER.fit(network(), (X, Y)), (X, Y)), "; write run.model"),
        (lambda: setattr(SGDOptimizer(network(), learning_rate=0.1), "lr", 0.2), "'lr'; did you mean 'learning_rate'?"),
        (Model, "Model is not complete: derive it from Layer or Composite"),
        (lambda: check_gradients(network(), CrossEntropy(), X, Y, elements=0), "'elements' must be 1 or more; got 0"),
        (
            lambda: trace_step(Neuron(2), X, Y, lr=0.1),
            "trace_step: unknown argument 'lr'; did you mean 'learning_rate'",
        ),
        (
            lambda: TRAINER.predict(network(), {"a": X[:, 0], "b": X[:, 1]}),
            "or make one array of columns of numbers by np.column_stack([*x.values()])",
        ),
        (lambda: network()(Sparse()), "first a sparse matrix at x; write x.toarray()"),
        (lambda: latest(3), "latest: argument 'folder' must be a str or a PathLike; got 3; write latest(folder)"),
        (
            lambda: TRAINER.fit(network(), (X, Y), 10),
            "or validation=(x, y); for the number of epochs, write epochs=10",
        ),
        (
            lambda: TRAINER.fit(network(), (X, list("abcabc"))),
            "'a' at y[0]; np.unique(text, return_inverse=True)[1] are",
        ),
        (lambda: TRAINER.fit(network(), split((X, Y))), "x[1] has length 4, x[0] has the shape (4, 2)"),
        (
            lambda: TRAINER.replace(loss=MeanSquaredError()).fit(network(), (X, Y)),
            "must have the shape of the output, (6, 3); got (6,); for class labels use CrossEntropy",
        ),
        (
            lambda: TRAINER.fit(Sequential(Dense(2, 1, Sigmoid())), (X, Y)),
            "For one output use BinaryCrossEntropy and S",
        ),
        (lambda: split((X, Y), stratify=Y), "argument 'stratify' must be True, for the classes y, or False; got array"),
        (lambda: split((X, Y), train_size=0.8), "unknown argument 'train_size': write fraction=1 - train_size."),
        (Dropout, "Dropout: setting 'rate' is missing; write rate=..."),
        (lambda: Sigmoid(X), "without a name; write Sigmoid()(...)"),
        (lambda: MaxPool(pool_size=2), "unknown setting 'pool_size'; did you mean 'window'? Settings: window, stride,"),
        (
            lambda: DataParallel(workers=4),
            "unknown setting 'workers': framework launch -n 4 SCRIPT starts four workers. Settings: shards,",
        ),
        (lambda: Embedding(input_dim=3, output_dim=2), "unknown setting 'input_dim'; did you mean 'vocabulary'?"),
        (
            lambda: MaxPool(2, 2),
            "settings go by name: MaxPool(window=..., stride=..., padding=..., seed=..., dtype=...); got 2",
        ),
        (lambda: TRAINER.replace(loss="sparse_categorical_crossentropy"), "; write CrossEntropy()"),
        (lambda: Softmax(axis=1), "unknown setting 'axis': leave it out: rows lie along the last axis."),
        (lambda: network().parameters.freeze(0), "there is no parameter 0. Parameters: 0.weights, 0.bias"),
        (
            lambda: Layer.of(lambda x, w: x @ w, shapes=[(2, 3)]),
            "argument 'shapes' must be a tuple of sizes for each",
        ),
        (lambda: Dense(2, 3, "linear"), "got 'linear'; write Identity()"),
        (lambda: setattr(network()[0], "trainable", False), "write model.parameters.freeze(names), e.g. freeze('0.*')"),
        (lambda: Optimizer.from_json('{"type": "Adam"}'), "did you mean 'AdamOptimizer'?"),
        (
            lambda: TRAINER.replace(optimizer=SGDOptimizer(network(), learning_rate=0.1)),
            "Trainer: setting 'optimizer' must not be bound to a model: write SGDOptimizer(learning_rate=...) without",
        ),
        (
            lambda: TRAINER.fit(Sequential(Conv2D(filters=2, kernel=3), Flatten(), Dense(units=3)), (X, Y)),
            "; put Reshape((channels, height, width)) before Conv2D",
        ),
        (
            lambda: Conv2D(filters=2, kernel=3, inputs=8)(np.zeros((1, 8, 8, 1))),
            "; if they come last, put Permute((3, 1, 2)) before Conv2D; otherwise take a smaller",
        ),
        (
            lambda: Conv2D(filters=2, kernel=3, inputs=1)(np.zeros((1, 1, 2, 2))),
            "channels are the first axis of a sample; take a smaller kernel",
        ),
        (
            lambda: CrossEntropy()(np.ones((2, 3, 4)), [0, 1]),
            "; put Flatten() before the last layer, or write ret",
        ),
        (lambda: CrossEntropy()(np.ones(2), [0, 1]), "; give the last layer a unit for each class"),
        (lambda: network().predict(X, batch_size=4), "predict: unknown argument 'batch_size': leave it out: the rows"),
        (lambda: TRAINER.predict(network(), X, batch_size=4), "'batch_size': leave it out: the rows are predicted in"),
        (
            lambda: TRAINER.resume(latest("nofolder"), (X, Y)),
            "got None; write the run that fit returned, or a path; la",
        ),
        (
            lambda: save(network(), "model.safetensors"),
            "must be a Run; got Sequential; write save(run, path), with the run that fit returned; after a loop by",
        ),
        (lambda: CrossEntropy()(Y, network()(X)), "; if the arguments are swapped, write loss(prediction, target)"),
        (lambda: Embedding(2**60, 3), "Embedding: float64 holds at most 9007199254740992 different ids"),
    ],
)
def test_a_call_of_another_form_says_how_it_goes_here(call, answer):
    with pytest.raises(FrameworkError) as caught:
        call()
    assert answer in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: network().eval(), AttributeError),
        (lambda: importlib.import_module("framework").MSELoss, AttributeError),
        (lambda: exec("from framework import MSELoss", {}), ImportError),
        (lambda: network().parameters["weights"], KeyError),
        (lambda: TRAINER.fit(network(), (X, Y)).history[9], IndexError),
    ],
    ids=["attribute", "name", "import", "key", "index"],
)
def test_what_is_absent_raises_the_plain_error_of_python(call, error):
    with pytest.raises(error) as caught:
        call()
    assert not isinstance(caught.value, FrameworkError)


def test_each_wrong_setting_has_its_own_advice():
    with pytest.raises(SettingsError) as caught:
        Trainer(loss="mse", optimizer="adam", metrics=["accuracy"])
    written = ["MeanSquaredError()", "AdamOptimizer()", "Accuracy()"]
    assert [line.partition("; write ")[2] for line in str(caught.value).splitlines()] == written


def test_a_row_that_the_history_does_not_have_is_an_index_error_with_the_number_of_rows():
    history = TRAINER.fit(network(), (X, Y)).history
    for index in (1, -2):
        with pytest.raises(IndexError, match=f"history has 1 rows, .*; got index {index}"):
            history[index]


def test_activations_take_lists_as_numpy_functions_do():
    for activation in (Sigmoid(), GELU(), Softmax()):
        assert np.array_equal(activation([0.0, 1.0]), activation(np.array([0.0, 1.0])))
    assert np.array_equal(GELU().derivative([0.0, 1.0]), GELU().derivative(np.array([0.0, 1.0])))
    with pytest.raises(DtypeError, match="h must hold real numbers; got text, first 'a'"):
        Sigmoid()(["a"])


OVERRIDES = {
    "Activation.__call__ must take (self, h); got (_self, h, _t)": (Activation, "__call__", lambda _self, h, _t: h),
    "Activation.derivative must take (self, h); got (_self)": (Activation, "derivative", lambda _self: 1.0),
    "Loss.slope must take (self, prediction, target); got (_self, p)": (Loss, "slope", lambda _self, p: p),
    "Loss.__call__ must take (self, prediction, target, weight); got (_self, p, t): write value(": (
        Loss,
        "__call__",
        lambda _self, p, t: p - t,
    ),
    "Metric.better must be 'greater', 'smaller' or None; got 'larger'": (Metric, "better", "larger"),
    "Metric.sums must take (self, prediction, target, weight); got (_self, p, t)": (
        Metric,
        "sums",
        lambda _self, p, t: (p, t),
    ),
    "Layer.forward must take (self, x, key, copy); got (_self, x): write formula(self, x, ...)": (
        Layer,
        "forward",
        lambda _self, x: x,
    ),
    "Layer.shapes must be a method: write def shapes(self): return {'w': (2,)}": (Layer, "shapes", {"w": (2,)}),
    "Layer.input_shape must be a property": (Layer, "input_shape", lambda _: (4,)),
    "Layer.input_shape must be a property: write @property, def input_shape(self): return (4,)": (
        Layer,
        "input_shape",
        (4,),
    ),
}


@pytest.mark.parametrize("answer", OVERRIDES)
def test_a_method_that_takes_other_arguments_is_refused_when_its_class_is_made(answer):
    base, name, method = OVERRIDES[answer]
    with pytest.raises(SettingsError) as caught:
        type(base)(base.__name__, (base,), {name: method, "__module__": __name__})
    assert str(caught.value).startswith(answer)


DECLARED = {
    "initial_buffers": (lambda _: None, "initial_buffers must return an array for each name, .*; got None"),
    "initializers": (lambda _: None, "initializers must return an Initializer for each name, .*; got None"),
    "shapes": (lambda _: None, "shapes must return a tuple of sizes for each name"),
    "draws": (lambda *_: None, "draws must return a tuple of sizes for each name"),
    "input_shape": (property(lambda _: 4), r"input_shape must be a tuple of sizes, as \(4,\) or \(None,\); got 4"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_what_a_layer_declares_in_another_form_is_refused(name):
    method, answer = DECLARED[name]
    made = type(Layer)("Own", (Layer,), {name: method, "formula": lambda _, x: x, "__module__": __name__})
    with pytest.raises(SettingsError, match=f"Own.{answer}"):
        TRAINER.fit(Sequential(made(), Dense(units=3, activation=Softmax())), (X, Y))


class Gated(Layer):
    units: int
    inputs: int | None = None

    def shapes(self):
        return {"weights": (self.inputs, self.units), "gate": (self.inputs, self.units), "bias": (self.units,)}

    def formula(self, x, weights, gate, bias):
        return (x @ weights + bias) * (x @ gate)


class Empty(Loss):
    def value(self, prediction, target):
        (prediction - target) ** 2


class Open(Loss):
    def value(self, prediction, target):
        return ...


class Nothing(Initializer):
    def __call__(self, shape, rng):
        rng.normal(size=shape)


class Unwritten(Initializer):
    def __call__(self, shape, rng):
        return ...


def initialized_by(initializer):
    shapes = {"weights": (2, 3)}
    return Layer.of(lambda x, weights: x @ weights, shapes=shapes, initializers={"weights": initializer})(X)


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: Empty()(X, X), "Empty.value must give one value per element, (6, 2); got None: write return"),
        (lambda: Open()(X, X), "Open.value must give one value per element, (6, 2); got Ellipsis: write return and"),
        (lambda: initialized_by(Nothing()), "Nothing.__call__ returned None: write return"),
        (lambda: initialized_by(Unwritten()), "Unwritten.__call__ returned Ellipsis: write return and the formula"),
        (lambda: initialized_by(Glorot), "got <class 'framework.models.initializers.Glorot'>; write Glorot() with"),
        (
            lambda: Dense(2, 3, Activation.of(lambda h: torch_like(h) + 1)),
            "the formula cannot be traced: write it with NumPy functions; argument must be Tensor, not Symbol",
        ),
    ],
)
def test_a_formula_that_gives_nothing_or_is_not_numpys_is_refused(call, answer):
    with pytest.raises(FrameworkError) as caught:
        call()
    assert answer in str(caught.value)


def torch_like(h):
    if type(h).__name__ != "Tensor":
        raise TypeError(f"argument must be Tensor, not {type(h).__name__}")


def test_matrices_of_an_own_layer_start_as_glorot_draws_them_and_vectors_at_zero():
    layer = Gated(units=3, inputs=2)
    limit = np.sqrt(6 / 5)
    for name in ("weights", "gate"):
        assert 0.0 < np.abs(layer.parameters[name]).min() < np.abs(layer.parameters[name]).max() <= limit
    assert np.array_equal(layer.parameters["weights"], Dense(2, 3).weights)
    assert not layer.parameters["bias"].any()


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

    with pytest.raises(
        SettingsError, match=r"Ones.initializers must return an Initializer for each name, {.*got {'scale': "
    ):
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
    pytest.importorskip("llvmlite")
    trainer = Trainer(loss=Freely(), optimizer=SGDOptimizer(learning_rate=0.01), epochs=3)
    data = X, X @ [[1.0], [2.0]]
    runs = [trainer.replace(engine=engine).fit(Sequential(Dense(2, 1)), data) for engine in ("numpy", "compiled")]
    assert [run.engine for run in runs] == ["numpy", "compiled"]
    assert np.allclose(runs[0].model.parameters.vector, runs[1].model.parameters.vector, rtol=1e-9)
    assert MeanSquaredError()(runs[1].model(X), data[1]) > 0.0
