"""A run that was stopped anywhere goes on as if it had not been: weights, memories and history, bit for bit."""

import threading

import numpy as np
import pytest
from left_out import hooks_differ
from training_pieces import EPOCHS, HELD_OUT, X, Y, network, recipe

from framework import Callback, EarlyStopping, MeanSquaredError, SettingsError, on, save
from framework.base import ResumeWarning, UsageError
from framework.training import StopOnConvergence

pytestmark = hooks_differ

BATCHES = 3
PLACES = [
    *(("epoch_begin", step) for step in (0, 3, 6)),
    *(("batch_begin", step) for step in range(9)),
    *(("gradients", step) for step in range(9)),
    *(("batch_end", step) for step in range(1, 10)),
    *(("epoch_end", step) for step in (3, 6, 9)),
]


def rows_of(run):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]


def bits_of(run):
    """Everything that a stop must not change."""
    memory = {name: array.tobytes() for name, array in run.optimizer.memory.items()}
    counters = (run.epoch, run.step, run.batch, run.optimizer.steps)
    return run.model.parameters.vector.tobytes(), memory, rows_of(run), run.memories, counters


class Noise(Callback):
    """Remembers a running sum of its own random numbers, drawn in several hooks of a step."""

    def on_epoch_begin(self, run):
        self.add(run)

    def on_batch_begin(self, run):
        self.add(run)

    def on_batch_end(self, run):
        self.add(run)

    def on_epoch_end(self, run):
        self.add(run)

    def add(self, run):
        memory = run.memory(self)
        memory["sum"] = memory.get("sum", 0.0) + run.rng(self).normal()
        memory["hooks"] = [*memory.get("hooks", []), run.hook]


def watched(*stops):
    memories = [EarlyStopping(patience=50), StopOnConvergence(tolerance=1e-9), Noise()]
    return recipe(callbacks=[*memories, *stops])


def stop_at(hook, step):
    @on(hook)
    def stop(run):
        if run.step == step:
            run.stop("enough")

    return stop


@pytest.fixture(scope="module")
def uninterrupted():
    return bits_of(watched().fit(network(), (X, Y), HELD_OUT))


@pytest.mark.parametrize(("hook", "step"), PLACES)
def test_a_run_stopped_anywhere_goes_on_bit_for_bit(uninterrupted, hook, step):
    run = watched(stop_at(hook, step)).fit(network(), (X, Y), HELD_OUT)
    assert run.stop_reason == "enough"
    assert bits_of(watched().resume(run, (X, Y), HELD_OUT)) == uninterrupted


def test_a_run_stopped_at_every_step_goes_on_bit_for_bit(uninterrupted):
    @on("batch_end")
    def stop(run):
        run.stop("one step at a time")

    run = watched(stop).fit(network(), (X, Y), HELD_OUT)
    for _ in range(EPOCHS * BATCHES):
        assert run.stop_reason == "one step at a time"
        run = watched(stop).resume(run, (X, Y), HELD_OUT)
    assert run.stop_reason is None
    assert bits_of(run) == uninterrupted


@pytest.mark.parametrize(("hook", "step"), PLACES)
def test_a_run_that_an_error_ended_goes_on_from_the_error(hook, step):
    @on(hook)
    def fail(run):
        if run.step == step:
            raise OSError("full")

    stopping = EarlyStopping(patience=50)
    with pytest.raises(OSError, match="full") as caught:
        recipe(callbacks=[stopping, fail]).fit(network(), (X, Y), HELD_OUT)
    plain = recipe(callbacks=[stopping])
    resumed = plain.resume(caught.value.run, (X, Y), HELD_OUT)
    assert bits_of(resumed) == bits_of(plain.fit(network(), (X, Y), HELD_OUT))


def test_ten_epochs_and_ten_more_are_twenty():
    twenty = recipe().fit(network(), (X, Y), HELD_OUT, epochs=20)
    run = recipe().fit(network(), (X, Y), HELD_OUT, epochs=10)
    assert run.epoch == 10
    assert bits_of(recipe().resume(run, (X, Y), HELD_OUT, epochs=10)) == bits_of(twenty)


def test_resume_trains_up_to_the_trainers_epochs():
    run = recipe().fit(network(), (X, Y), epochs=1)
    assert recipe().resume(run, (X, Y)).epoch == EPOCHS


def test_a_run_that_is_complete_says_how_to_train_longer_and_one_from_a_file_does_not(tmp_path):
    run = recipe().fit(network(), (X, Y))
    message = rf"resume: nothing is left to do: the run has made its {EPOCHS} epochs; write resume\(run, data, epochs="
    with pytest.warns(ResumeWarning, match=message):
        assert recipe().resume(run, (X, Y)).epoch == EPOCHS
    save(run, tmp_path / "run.safetensors")
    assert recipe().resume(tmp_path / "run.safetensors", (X, Y)).epoch == EPOCHS  # a program that is started again
    assert recipe().resume(run, (X, Y), epochs=5).epoch == EPOCHS + 5


def test_resume_refuses_what_it_cannot_go_on_with():
    run = recipe(callbacks=[stop_at("batch_end", 1)]).fit(network(), (X, Y))
    with pytest.raises(UsageError, match="has 11 rows in batches of 4, shuffled; got 8 rows in batches of 4, shuffled"):
        recipe().resume(run, (X[:8], Y[:8]))
    with pytest.raises(SettingsError, match="must be a Run"):
        recipe().resume(7, (X, Y))
    with pytest.raises(UsageError, match="must be a run of this model"):
        recipe().fit(network(), (X, Y), run=run)
    assert recipe().resume(run, (X, Y)).epoch == EPOCHS


@pytest.mark.parametrize("hook", ["train_begin", "batch_end", "epoch_end", "train_end"])
def test_a_run_in_training_is_not_resumed(uninterrupted, hook):
    @on(hook)
    def resume(run):
        with pytest.raises(UsageError, match=r"the run is in training at this moment; in a hook call run\.stop"):
            watched().resume(run, (X, Y), HELD_OUT)

    run = watched(resume).fit(network(), (X, Y), HELD_OUT)
    assert bits_of(run) == uninterrupted
    assert watched().resume(run, (X, Y), HELD_OUT, epochs=1).epoch == EPOCHS + 1


@pytest.mark.parametrize("hook", ["train_begin", "batch_end", "epoch_end", "train_end"])
@pytest.mark.parametrize("part", [lambda model: model, lambda model: model[0]], ids=["model", "layer"])
def test_a_model_in_training_is_not_fitted_by_another_run(uninterrupted, hook, part):
    refused = []

    def fit(model):
        with pytest.raises(UsageError, match=r"the model is in training at this moment.* train model\.copy"):
            recipe(loss=MeanSquaredError(), metrics=[]).fit(model, (X, np.ones((11, *model.output_shape))))
        refused.append(model)

    @on(hook)
    def fit_beside(run):
        thread = threading.Thread(target=fit, args=(part(run.model),))
        thread.start()
        thread.join()

    run = watched(fit_beside).fit(network(), (X, Y), HELD_OUT)
    assert all(model is part(run.model) for model in refused)
    assert refused
    assert bits_of(run) == uninterrupted
    assert watched().fit(run.model, (X, Y), HELD_OUT).epoch == EPOCHS


def test_a_stop_that_has_taken_effect_is_over_also_when_the_end_failed(uninterrupted):
    fail = on("train_end")(lambda _run: {}["missing"])
    with pytest.raises(KeyError) as caught:
        watched(stop_at("batch_end", 4), fail).fit(network(), (X, Y), HELD_OUT)
    assert caught.value.run.stop_reason == "enough"
    assert bits_of(watched().resume(caught.value.run, (X, Y), HELD_OUT)) == uninterrupted


def test_random_numbers_are_a_pure_function_of_the_seed():
    one, same, other = (recipe(seed=seed).fit(network(), (X, Y)) for seed in (3, 3, 4))
    assert bits_of(one) == bits_of(same) != bits_of(other)


def test_numpys_global_random_state_is_neither_read_nor_written():
    def fit_from(seed):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()[1].tobytes()  # noqa: NPY002
        run = watched().fit(network(), (X, Y), HELD_OUT)
        assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002
        return bits_of(run)

    assert fit_from(1) == fit_from(2)


def test_fit_in_threads_gives_what_it_gives_alone(uninterrupted):
    results = [None] * 4

    def fit(place):
        results[place] = bits_of(watched().fit(network(), (X, Y), HELD_OUT))

    threads = [threading.Thread(target=fit, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [uninterrupted] * 4
