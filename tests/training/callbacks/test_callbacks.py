"""What a callback may look like, and plain functions as callbacks."""

import inspect

import numpy as np
import pytest

from framework import Callback, MeanSquaredError, Neuron, SettingsError, SGDOptimizer, Trainer, on
from framework.base import CallbackError
from framework.training import HOOKS

X, Y = np.arange(5.0)[:, None], np.arange(5.0)


def recipe(*callbacks, **settings):
    default = {"loss": MeanSquaredError(), "optimizer": SGDOptimizer(learning_rate=0.01), "batch_size": 2}
    return Trainer(**default | settings, callbacks=callbacks)


class Report(Callback):
    def on_epoch_end(self, run):
        run.memory(self)["loss"] = run.history[-1]["loss"]


def test_a_users_callback_is_four_lines():
    assert len(inspect.getsource(Report).splitlines()) <= 4
    run = recipe(Report(), epochs=2).fit(Neuron(1), (X, Y))
    assert run.memories == {"Report.0": {"loss": run.history[1]["loss"]}}
    assert recipe(Report()) == Trainer.from_json(recipe(Report()).to_json())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("on_epoch_ends", "on_epoch_end"),
        ("epoch_end", "on_epoch_end"),
        ("onEpochEnd", "on_epoch_end"),
        ("on_train_start", "on_train_begin"),
        ("on_gradient", "on_gradients"),
        ("batch_begin", "on_batch_begin"),
        ("on_train_batch_begin", "on_batch_begin"),  # Keras's
        ("on_train_batch_end", "on_batch_end"),
        ("on_train_epoch_end", "on_epoch_end"),  # Lightning's
        ("on_before_optimizer_step", "on_gradients"),
        ("on_exception", "on_train_end"),
        ("on_validation_end", "on_epoch_end"),
        ("on_step_end", "on_batch_end"),  # that of transformers
        ("on_anything", None),
    ],
)
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_misspelt_hook_is_refused_when_the_class_is_made(name, meant, mixed_in):
    body = {name: lambda _self, _run: None}
    bases, body = ((type("Mixin", (), body), Callback), {}) if mixed_in else ((Callback,), body)
    hint = f"; did you mean '{meant}'?" if meant else ""
    with pytest.raises(CallbackError, match=f"Wrong.{name} is not a hook{hint}".replace("?", ".")) as caught:
        type("Wrong", bases, body)
    assert str(caught.value).endswith(f"Hooks: {', '.join(HOOKS)}")


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("saves", "is not a setting: write writes = True, and the callback is called last"),
        ("write", "has no type; did you mean 'writes'? For a new setting, write write: bool = True"),
        ("observe", "has no type; did you mean 'observes'? For a new setting, write observe: bool = True"),
        ("fast", "has no type; write fast: bool = True"),
    ],
)
def test_an_attribute_of_another_name_is_answered_with_the_one_that_there_is(written, advice):
    with pytest.raises(SettingsError) as caught:
        type("Own", (Callback,), {written: True})
    assert str(caught.value) == f"Own: '{written} = True' {advice}"


def test_a_keras_callback_that_stops_its_model_hears_how_to_stop_the_run():
    class Own(Callback):
        def on_epoch_end(self, run):
            self.model.stop_training = True

    with pytest.raises(AttributeError, match=r"Own has no 'model': write run\.model"):
        recipe(Own()).fit(Neuron(1), (X, Y))
    stop = on("epoch_end")(lambda run: setattr(run.model, "stop_training", True))
    with pytest.raises(SettingsError, match=r"Neuron has no setting 'stop_training': write run\.stop\('the reason'\)"):
        recipe(stop).fit(Neuron(1), (X, Y))


def test_helpers_settings_and_properties_may_have_any_other_name():
    class Fine(Callback):
        epoch_ends: int = 3

        def write_row(self, row, file):
            pass

        @property
        def batch_ended(self):
            return True

    assert Fine().epoch_ends == 3


KERAS = "; epoch and step are run.epoch and run.step, logs are run.history[-1]"
SIGNATURES = {
    "self": "",
    "self, run, step": "",
    "self, run, step=1": "",
    "self, *, run": "",
    "self, *runs": "",
    "self, epoch, logs": KERAS,
    "self, epoch, logs=None": KERAS,
    "self, logs=None": KERAS,  # as in its on_train_begin
}


@pytest.mark.parametrize("arguments", SIGNATURES)
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_hook_with_another_signature_is_refused_when_the_class_is_made(arguments, mixed_in):
    body = {"on_epoch_end": eval(f"lambda {arguments}: None")}
    bases, body = ((type("Mixin", (), body), Callback), {}) if mixed_in else ((Callback,), body)
    with pytest.raises(CallbackError) as caught:
        type("Wrong", bases, body)
    assert str(caught.value) == f"Wrong.on_epoch_end must take (self, run); got ({arguments}){SIGNATURES[arguments]}"


def test_a_hook_is_a_method_of_the_callback():
    for kind in (staticmethod, classmethod):
        with pytest.raises(CallbackError, match=r"Wrong.on_epoch_end must take \(self, run\); got"):
            type("Wrong", (Callback,), {"on_epoch_end": kind(lambda _self, _run: None)})


@pytest.mark.parametrize("hook", ["epoch_begin", "on_epoch_end", "batch_end", "gradients"])
def test_a_function_is_called_at_its_hook(hook):
    seen = []
    recipe(on(hook)(lambda run: seen.append(run.hook)), epochs=2).fit(Neuron(1), (X, Y))
    assert seen == [f"on_{hook.removeprefix('on_')}"] * (2 if "epoch" in hook else 6)


def test_every_counts_finished_epochs_or_steps():
    seen = []
    epochs = on("epoch_end", every=2)(lambda run: seen.append(run.epoch))
    steps = on("batch_end", every=4)(lambda run: seen.append(run.step))
    recipe(epochs, steps, epochs=5).fit(Neuron(1), (X, Y))
    assert seen == [4, 2, 8, 12, 4]


def test_functions_that_cannot_be_a_hook_are_refused():
    with pytest.raises(CallbackError, match=r"must be one of train_begin, .*; got 'epoch_ends'"):
        on("epoch_ends")
    for wrong in (None, lambda: None, lambda run, step: run + step, lambda epoch, logs=None: epoch or logs):
        with pytest.raises(CallbackError, match="takes a function of one argument, run"):
            on("epoch_end")(wrong)
    with pytest.raises(SettingsError, match="'every' must be"):
        on("epoch_end", every=0)(print)


def test_a_trainer_with_a_function_has_no_json():
    with pytest.raises(SettingsError, match="cannot be written as JSON"):
        recipe(on("epoch_end")(print)).to_json()


@pytest.mark.parametrize("given", [(), ("",), (3,)])
def test_a_hook_has_to_be_named(given):
    with pytest.raises(CallbackError, match=r"on: name the hook: on\('epoch_end'\)"):
        on(*given)
