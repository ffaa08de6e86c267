"""Files of versions of the checkpoint format: today's loads and resumes, older ones are refused by their number."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from checkpoint_store import X, Y, stored_run, trainer
from safetensors.numpy import load_file

from framework import CheckpointError, load
from framework.base import ResumeWarning
from framework.training.checkpoint.file import VERSION

FOLDER = Path(__file__).parent / "versions"
STORED = {int(path.stem.removeprefix("version_")): path for path in FOLDER.glob("version_*.safetensors")}


def test_there_is_a_file_of_todays_version():
    assert VERSION in STORED, "run python tests/support/checkpoint_store.py"


def test_the_file_of_todays_version_loads_and_resumes_as_a_new_run_does():
    run, new = load(STORED[VERSION]), stored_run()
    np.testing.assert_allclose(run.model.parameters.vector, new.model.parameters.vector, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResumeWarning)  # other versions of NumPy and Python
        for each in (run, new):
            trainer().resume(each, (X, Y), (X, Y))
    assert (run.epoch, run.step) == (new.epoch, new.step) == (4, 12)
    np.testing.assert_allclose(run.model.parameters.vector, new.model.parameters.vector, rtol=1e-6)
    np.testing.assert_allclose(run.history["val_loss"], new.history["val_loss"], rtol=1e-6)


def test_a_resume_of_todays_version_tells_only_what_the_machine_changes():
    with pytest.warns(ResumeWarning) as caught:
        trainer().resume(load(STORED[VERSION]), (X, Y), (X, Y))
    _, *lines = str(caught[0].message).splitlines()
    assert {line.partition(":")[0] for line in lines} <= {"versions", "flush_to_zero", "arithmetic"}


@pytest.mark.parametrize("version", sorted(STORED.keys() - {VERSION}))
def test_older_files_are_refused_by_their_version(version):
    with pytest.raises(
        CheckpointError, match=f"its format is version {version}; this framework reads version {VERSION}"
    ):
        load(STORED[version])


@pytest.mark.parametrize("version", sorted(STORED))
def test_other_programs_read_the_weights_of_every_version(version):
    arrays = load_file(STORED[version])
    for name, values in stored_run().model.parameters.items():
        np.testing.assert_allclose(arrays[f"parameters.{name}"], values, rtol=1e-6)
