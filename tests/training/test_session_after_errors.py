"""Hooks that an error cut off are made up for when the run goes on, each once, and in their order."""

import pytest
from saved_pieces import X, Y, recipe

from framework import Callback, Neuron, UsageError, load, on, save
from framework.training.verification import differences


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


@pytest.mark.parametrize("hook", ["batch_end", "epoch_end", "epoch_begin"])
def test_callbacks_behind_one_that_fails_get_their_hook_when_the_run_goes_on(hook, path):
    class Count(Callback):
        def count(self, run):
            run.memory(self)["count"] = run.memory(self).get("count", 0) + 1

        def on_epoch_begin(self, run):
            self.count(run)

        def on_batch_end(self, run):
            self.count(run)

        def on_epoch_end(self, run):
            self.count(run)

    @on(hook)
    def fail(run):
        if run.step >= 2 and not failed:
            failed.append(run.step)
            raise OSError("once")

    failed = [0]
    straight = recipe(Count(), fail, Count(), epochs=3).fit(Neuron(2), (X, Y))
    failed.clear()
    with pytest.raises(OSError, match="once") as caught:
        recipe(Count(), fail, Count(), epochs=3).fit(Neuron(2), (X, Y))
    save(caught.value.run, path)
    for run in (load(path), caught.value.run):
        assert list(differences(straight, recipe(Count(), fail, Count(), epochs=3).resume(run, (X, Y)))) == []


class Once(Callback):
    """Fails in its first hook after an epoch, and counts the others."""

    name: str

    def on_epoch_end(self, run):
        memory = run.memory(self)
        memory["calls"] = memory.get("calls", 0) + 1
        if memory["calls"] == 1:
            raise OSError(self.name)


def count(run):
    memory = run.memory(counting)
    memory["epochs"] = [*memory.get("epochs", []), run.epoch]


counting = on("epoch_end")(count)


def test_an_error_while_missed_hooks_are_made_up_for_loses_none_of_the_rest(path):
    trainer = recipe(Once(name="first"), Once(name="second"), counting, epochs=3)
    with pytest.raises(OSError, match="first") as first:
        trainer.fit(Neuron(2), (X, Y))
    with pytest.raises(OSError, match="second") as caught:
        trainer.resume(first.value.run, (X, Y))
    save(caught.value.run, path)
    for run in (load(path), caught.value.run):
        again = trainer.resume(run, (X, Y))
        assert [memory["calls"] for memory in again.memories.values() if "calls" in memory] == [3, 3]
        assert again.memories[again.name_of(counting)]["epochs"] == [1, 2, 3]


def test_a_run_is_not_saved_while_others_still_wait_for_a_hook_that_is_made_up_for(path):
    saves_too_early = on("epoch_end")(lambda run: save(run, path))
    trainer = recipe(Once(name="first"), saves_too_early, counting, epochs=3)
    with pytest.raises(OSError, match="first") as caught:
        trainer.fit(Neuron(2), (X, Y))
    with pytest.raises(UsageError, match=r"on_epoch_end of on\('epoch_end'\)\(count\) is still to come"):
        trainer.resume(caught.value.run, (X, Y))
    assert not path.exists()
