"""The run: its counters, what callbacks keep in it, their random numbers, and whether it can go on."""

import copy
import json
import pickle
import re

import numpy as np
import pytest
from left_out import hooks_differ

from framework import (
    Callback,
    CheckpointError,
    DataError,
    MeanSquaredError,
    Neuron,
    Run,
    SettingsError,
    SGDOptimizer,
    Trainer,
    on,
    save,
)
from framework.base import CallbackError, ResumeWarning
from framework.training.runs.figures import add_sums
from framework.training.runs.memory import Memory

DATA = (np.arange(4.0)[:, None], np.arange(4.0))  # 2 batches


def recipe(*callbacks):
    return Trainer(
        loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), batch_size=2, callbacks=callbacks
    )


def train(*callbacks, epochs=2):
    return recipe(*callbacks).fit(Neuron(1), DATA, epochs=epochs)


def test_counters_count_what_is_finished():
    seen = []

    def note(run):
        seen.append((run.hook, run.epoch, run.step, run.batch, run.batches, run.target_epoch))

    hooks = ("train_begin", "epoch_begin", "batch_begin", "batch_end", "epoch_end", "train_end")
    run = train(*(on(hook)(note) for hook in hooks), epochs=1)
    assert seen == [
        ("on_train_begin", 0, 0, 0, 2, 1),
        ("on_epoch_begin", 0, 0, 0, 2, 1),
        ("on_batch_begin", 0, 0, 0, 2, 1),
        ("on_batch_end", 0, 1, 1, 2, 1),
        ("on_batch_begin", 0, 1, 1, 2, 1),
        ("on_batch_end", 0, 2, 2, 2, 1),
        ("on_epoch_end", 1, 2, 0, 2, 1),
        ("on_train_end", 1, 2, 0, 2, 1),
    ]
    assert run.hook is None


def test_hooks_see_the_batch_its_gradients_and_its_loss():
    losses = []

    @on("gradients")
    def look(run):
        x, y, weight = run.current
        error = run.model(x) - y
        assert weight is None
        assert run.batch_loss == pytest.approx(np.mean(error**2))
        assert run.model.parameters.gradients["bias"] == pytest.approx(2 * error.mean())
        losses.append(run.batch_loss)

    run = train(look, epochs=2)
    assert run.history.column("loss") == pytest.approx([np.mean(losses[:2]), np.mean(losses[2:])])
    assert run.current is None


def test_a_learning_rate_assigned_in_a_hook_counts_from_the_next_step():
    @on("epoch_end")
    def halve(run):
        run.optimizer.learning_rate /= 2

    assert train(halve, epochs=3).history.column("learning_rate") == [0.01, 0.005, 0.0025]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("stop_training", True, "a run has no 'stop_training'; write run.stop('the reason')"),
        ("learning_rate", 0.1, "a run has no 'learning_rate'; write run.optimizer.learning_rate = ..."),
        ("stop_reasons", "x", "a run has no 'stop_reasons'; did you mean 'stop_reason'?"),
        ("best", 3, "a run has no 'best'; what a callback remembers goes into run.memory(self)"),
    ],
)
def test_a_hook_that_assigns_an_unknown_name_to_the_run_is_refused(name, value, told):
    assign = on("batch_end")(lambda run: setattr(run, name, value))
    with pytest.raises(CallbackError, match=re.escape(told)) as caught:
        train(assign)
    assert caught.value.run.step == 1
    assert not hasattr(caught.value.run, name)


@pytest.mark.parametrize("reason", [(), ("",), (3,)])
def test_a_stop_needs_a_reason(reason):
    run = Run(Neuron(1), SGDOptimizer(Neuron(1), learning_rate=0.1), MeanSquaredError(), 0)
    with pytest.raises(CallbackError, match=r"run\.stop: say why: run\.stop\('the loss is small enough'\)"):
        run.stop(*reason)


def test_the_first_reason_to_stop_stays():
    run = Run(Neuron(1), SGDOptimizer(Neuron(1), learning_rate=0.1), MeanSquaredError(), 0)
    run.stop("first")
    run.stop("second")
    assert run.stop_reason == "first"


class Keeper(Callback):
    def on_train_begin(self, run):
        run.live(self)["opened"] = True

    def on_epoch_end(self, run):
        run.memory(self)["epochs"] = run.memory(self).get("epochs", 0) + 1


def test_memory_is_kept_under_class_and_ordinal_and_survives_a_resume():
    run = train(Keeper(), Keeper())
    assert run.memories == {"Keeper.0": {"epochs": 2}, "Keeper.1": {"epochs": 2}}
    with pytest.warns(ResumeWarning, match=r"callback Keeper.1: was Keeper\(\), now absent"):
        recipe(Keeper()).resume(run, DATA, epochs=3)
    assert run.memories == {"Keeper.0": {"epochs": 5}, "Keeper.1": {"epochs": 2}}


def test_a_copy_goes_on_with_its_memories_and_knows_no_callbacks():
    keeper = Keeper()
    run = train(keeper)
    for twin in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        assert twin.memories == run.memories
        assert twin.model is twin.optimizer.model is not run.model
        with pytest.raises(DataError, match="not one of this run's callbacks"):
            twin.memory(keeper)
        recipe(Keeper()).resume(twin, DATA, epochs=1)
        assert (twin.memories["Keeper.0"], run.memories["Keeper.0"]) == ({"epochs": 3}, {"epochs": 2})


def test_what_is_live_ends_with_training():
    seen = []

    class Watcher(Keeper):
        def on_train_end(self, run):
            seen.append(dict(run.live(self)))

    watcher = Watcher()
    run = train(watcher)
    assert seen == [{"opened": True}]
    assert run.live(watcher) == {}


def test_memory_of_a_stranger_is_refused():
    run = train(Keeper())
    strangers = [Keeper() for _ in range(100)]  # one might get the id of a callback that is gone
    for ask in (run.memory, run.live, run.rng):
        for stranger in strangers:
            with pytest.raises(DataError, match=r"Keeper\(\) is not one of this run's callbacks"):
                ask(stranger)


@pytest.mark.parametrize(
    "value", [None, True, 1, 0.5, "text", [1, [2.0]], (1, 2), {"a": {"b": 1}}, np.ones(2), np.float32(1.0)]
)
def test_json_values_and_arrays_may_be_remembered(value):
    @on("epoch_end")
    def remember(run):
        run.memory(remember)["value"] = value

    np.testing.assert_equal(train(remember).memory(remember)["value"], value)


@pytest.mark.parametrize("value", [print, {1: 2}, {"a": {1}}, [object()], b"bytes", 1j])
@pytest.mark.parametrize("hook", ["epoch_end", "train_end"])
def test_what_cannot_be_saved_may_not(hook, value):
    @on(hook)
    def remember(run):
        run.memory(remember)["value"] = value

    with pytest.raises(
        DataError, match=r"'value'.* must be a JSON value or a NumPy array of numbers; got .* run.live\(self\)"
    ):
        train(remember)


class Draw(Callback):
    def on_batch_begin(self, run):
        self.draw(run)

    def on_batch_end(self, run):
        self.draw(run)

    def draw(self, run):
        drawn = [*run.rng(self).random(2).tolist(), run.rng(self).random()]
        run.memory(self).setdefault("drawn", []).append(drawn)


def test_random_numbers_of_a_callback_are_its_own_at_every_hook_epoch_and_step():
    run = train(Draw(), Draw())
    drawn = [memory["drawn"] for memory in run.memories.values()]
    numbers = [number for callback in drawn for place in callback for number in place]
    assert len(numbers) == len(set(numbers)) == 2 * 8 * 3


class DrawToo(Draw):
    pass


def test_random_numbers_of_a_callback_are_a_pure_function_and_no_other_callback_changes_them():
    alone, together = train(Draw()), train(DrawToo(), Draw(), Draw())
    assert alone.memories["Draw.0"] == together.memories["Draw.0"]


def test_random_numbers_of_a_callback_change_no_training_result():
    vectors = [run.model.parameters.vector.tolist() for run in (train(), train(Draw()))]
    assert vectors[0] == vectors[1]


def test_consistent_says_whether_model_counters_and_history_agree():
    run = train()
    assert run.consistent
    run.optimizer.updating = True
    assert not run.consistent
    run.optimizer.updating = False
    run.step += 1
    assert not run.consistent
    run.step -= 1
    run.epoch += 1
    assert not run.consistent


def test_the_key_of_random_layers_is_seed_epoch_and_step():
    keys = []
    train(on("batch_begin")(lambda run: keys.append(run.key)))
    assert keys == [(0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3)]


def test_the_repr_shows_what_a_person_asks_first():
    run = train(on("epoch_end")(lambda run: run.stop("enough")))
    assert repr(run) == f"Run(epoch=1, step=2, loss={run.history[0]['loss']:g}, stop_reason='enough')"
    assert json.loads(run.history.to_json()) == run.history.rows


def test_sums_add_up_by_name():
    totals = {}
    add_sums(totals, {"loss": (1.0, 2.0)})
    add_sums(totals, {"loss": (0.5, 1.0), "accuracy": (1.0, 1.0)})
    assert totals == {"loss": (1.5, 3.0), "accuracy": (1.0, 1.0)}


@hooks_differ
def test_a_function_finds_its_memory_again_whatever_stands_before_it():
    def counts(run):
        memory = run.memory(keeper)
        memory["epochs"] = memory.get("epochs", 0) + 1

    def other(_run):
        pass

    keeper = on("epoch_end")(counts)
    trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.01), callbacks=(keeper,))
    run = trainer.fit(Neuron(1), DATA, epochs=2)
    trainer.replace(callbacks=(on("epoch_end")(other), keeper)).resume(run, DATA, epochs=3)
    assert run.memory(keeper) == {"epochs": 5}


def test_one_callback_object_twice_is_refused():
    keeper = Keeper()
    with pytest.raises(SettingsError, match="must not hold one object twice"):
        train(keeper, keeper)


def endless():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value", [np.ma.array([1.0], mask=[True]), 10**5000, endless()], ids=["masked", "long", "endless"]
)
def test_what_no_file_could_hold_is_refused_when_it_is_put_in(value):
    memory = Memory("Keeper.0")
    for put in (
        lambda: memory.__setitem__("a", value),
        lambda: memory.setdefault("a", value),
        lambda: memory.update(b=1, a=value),
        lambda: memory.__ior__({"a": value}),
        lambda: Memory("Keeper.0", {"a": value}),
    ):
        with pytest.raises(
            DataError,
            match=r"run.memory of Keeper.0: 'a'.* (must be a JSON value|is nested more than|must have no masked)",
        ):
            put()
    assert memory == {}


@pytest.mark.parametrize(
    "taken",
    [
        lambda run: run.model.weights,
        lambda run: run.model.parameters.gradient[:1],
        lambda run: run.optimizer.memory["velocity"],
        lambda run: run.current[0],
    ],
    ids=["weights", "gradient", "optimizer's memory", "batch"],
)
def test_an_array_that_training_goes_on_changing_is_not_remembered_inside_a_list(taken):
    @on("epoch_end")
    def remember(run):
        run.memory(remember)["newest"] = taken(run)  # a copy
        run.memory(remember).setdefault("trail", []).append({"array": taken(run)})

    with pytest.raises(DataError, match=r"remember.0: 'trail'\.0\.array must not share memory with .*write .copy()"):
        train(remember)


def test_save_refuses_a_memory_that_training_goes_on_changing(tmp_path):
    run = train()
    run.memories["Keeper.0"] = Memory("Keeper.0", {"trail": [run.model.weights]})
    with pytest.raises(CheckpointError, match=r"'trail'\.0 must not share memory"):
        save(run, tmp_path / "run.safetensors")


def test_the_loss_of_a_run_is_that_of_its_history_and_its_print():
    batches = []
    run = train(on("batch_end")(lambda run: batches.append((run.batch_loss, run.loss))), epochs=2)
    assert batches[0][1] is None
    assert batches[-1][1] == run.history[0]["loss"] != batches[1][0]
    assert run.loss == run.history[-1]["loss"]
    assert run.batch_loss == batches[-1][0]
    assert f"loss={run.loss:g}" in repr(run)
