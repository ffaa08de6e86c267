"""Groups: rows that belong together, such as those of a patient, are never on both sides of a hold-out."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from experiment_pieces import command
from forked import in_child
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, StratifiedGroupKFold

from framework import DataError, Experiment, Parquet, SettingsError, ShapeError, latest, split
from framework.data.sources import hold_out
from framework.experiments.folder import RunFolder, Watch
from framework.experiments.members import MemberRows
from framework.experiments.sweeps.sweep import Sweep

RNG = np.random.default_rng(0)
SIZES = RNG.integers(3, 9, 40)
PATIENTS = RNG.permutation(np.repeat(np.arange(40), SIZES))
SICK = (RNG.random(40) < 0.4)[PATIENTS]
CHANGES = ["trainer.epochs=4", 'trainer.callbacks=[{type = "Checkpoint", folder = "checkpoints", every = "epoch"}]']


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with a table, in which the marks of a patient tell who it is, and two experiments."""
    path = tmp_path_factory.mktemp("groups")
    marks = RNG.normal(0, 2, (40, 4))[PATIENTS] + RNG.normal(0, 0.05, (len(PATIENTS), 4))
    table = pd.DataFrame(marks, columns=[*"abcd"]).assign(patient=[f"p{code}" for code in PATIENTS], sick=SICK)
    with contextlib.chdir(path):
        table.replace({"sick": {True: "yes", False: "no"}}).to_csv("rows.csv", index=False)
        command("new", "rows.csv", "--target", "sick", "--out", "drawn.toml")
        command("new", "rows.csv", "--target", "sick", "--groups", "patient", "--out", "rows.toml")
    return path


@pytest.fixture(autouse=True)
def here(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


def read(*changes):
    return Experiment.read("rows.toml", changes)


def patients(rows, table=None):
    """Return the patients of some rows, by the first mark of each."""
    table = pd.read_csv("rows.csv") if table is None else table
    frame = rows[0] if isinstance(rows, tuple) else rows.read(0, len(rows))[0]
    return {*table.loc[table["a"].isin(frame.column("a").to_pylist()), "patient"]}


@pytest.mark.parametrize("classes", [None, SICK])
def test_folds_are_as_alike_as_those_of_scikit_learn(classes):
    rows = np.arange(len(PATIENTS))
    splitter, y = (GroupKFold(5), SICK) if classes is None else (StratifiedGroupKFold(5), SICK)
    oracle = [held for _, held in splitter.split(rows, y, PATIENTS)]
    folds = [hold_out((rows, rows), 0.2, 3, "v", k, classes, PATIENTS)[1].given[0] for k in range(5)]
    assert np.array_equal(np.sort(np.concatenate(folds)), rows)
    assert sum(len({*PATIENTS[fold]}) for fold in folds) == 40

    def spread(parts):
        return np.ptp([len(part) for part in parts])

    assert spread(folds) <= spread(oracle) + 1
    if classes is not None:
        shares = [[SICK[part].mean() for part in parts] for parts in (folds, oracle)]
        assert np.ptp(shares[0]) <= np.ptp(shares[1]) + 0.02


def test_a_hold_out_of_groups_has_the_size_that_is_asked_for_as_in_scikit_learn():
    x = np.arange(len(PATIENTS))
    oracle = GroupShuffleSplit(100, test_size=0.25, random_state=0).split(x, None, PATIENTS)
    sizes, shares = np.std([(len(held) / len(x), SICK[held].mean()) for _, held in oracle], axis=0)
    drawn, stratified = set(), []
    for seed in range(100):
        train, held = split((x, SICK.astype(int)), 0.25, seed=seed, groups=PATIENTS)
        assert not {*PATIENTS[train[0]]} & {*PATIENTS[held[0]]}
        assert np.array_equal(np.sort([*train[0], *held[0]]), x)
        assert abs(len(held[0]) / len(x) - 0.25) < sizes
        drawn |= {*PATIENTS[held[0]]}
        stratified.append(split((x, SICK.astype(int)), 0.25, seed=seed, groups=PATIENTS, stratify=True)[1][1].mean())
    assert len(drawn) == 40
    assert np.std(stratified) < 0.5 * shares


def test_a_group_of_most_rows_leaves_a_group_for_each_part():
    sizes = [96, 1, 1, 1, 1]
    groups = np.repeat(range(5), sizes)
    folds = [hold_out((groups, groups), 0.2, 0, "v", fold, None, groups)[1].given[0] for fold in range(5)]
    assert sorted(map(len, folds)) == sorted(sizes)
    for seed in range(20):
        train, held = split((groups, groups), 0.01, seed=seed, groups=groups)
        assert len(train[0])
        assert len(held[0])


def test_split_takes_groups_of_any_kind_and_rows_of_files():
    x = np.arange(len(PATIENTS))
    names = [f"p{code:02}" for code in PATIENTS]
    expected = split((x, x), 0.3, groups=PATIENTS)
    for groups in (names, pd.Series(names), pa.chunked_array([names]), -0.5 * PATIENTS):
        assert split((x, x), 0.3, groups=groups)[1][0].tolist() == expected[1][0].tolist()
    pa.parquet.write_table(pa.table({"x": x, "y": x}), "rows.parquet")
    train, held = split(Parquet("rows.parquet", target="y"), 0.3, groups=PATIENTS)
    held, train = (part.read(0, len(part))[1].to_numpy() for part in (held, train))
    assert np.array_equal(held, np.sort(expected[1][0]))
    assert np.array_equal(train, np.sort(expected[0][0]))


@pytest.mark.parametrize(
    ("groups", "error", "said"),
    [
        (np.zeros(6), SettingsError, "needs at least 2 groups, because the rows of a group stay together; got 1"),
        ([1, 2, 3], ShapeError, "argument 'groups' must have the 6 rows of the data; got 3"),
        (["a", None, "b", "a", "b", "b"], DataError, "'groups' must have a group in each row; got none in row 1"),
        ([1, np.nan, 2, 2, 2, 2], DataError, "'groups' must be finite"),
        (np.ones((6, 2)), ShapeError, r"groups needs one group per row, \(rows,\); got \(6, 2\)"),
    ],
)
def test_split_refuses_wrong_groups(groups, error, said):
    with pytest.raises(error, match=said):
        split((np.ones((6, 1)), np.ones(6)), 0.5, groups=groups)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("changes", [(), ("holdout=random",), ("validation=0.25", "fold=2")])
def test_no_patient_is_on_both_sides_in_memory_or_in_blocks(changes, in_memory, monkeypatch):
    expected = [*map(patients, read(*changes).parts())]
    monkeypatch.setattr("framework.experiments.tables.IN_MEMORY", 5_000_000 if in_memory else 0)
    train, held = map(patients, read(*changes).parts())
    assert [train, held] == expected
    assert train.isdisjoint(held)
    assert len(train | held) == 40


def test_rows_without_a_target_leave_the_groups_of_the_others_together():
    table = pd.read_csv("rows.csv")
    table.loc[::7, "sick"] = None
    table.to_csv("some.csv", index=False)
    with pytest.warns(UserWarning, match="the target 'sick' is missing in"):
        train, held = (patients(part, table) for part in read("data.path=some.csv").parts())
    assert train.isdisjoint(held)


def test_the_groups_are_an_input_only_if_they_are_listed():
    assert read().parts()[0][0].column_names == [*"abcd", "sick"]
    listed = read('data.columns=["a", "patient"]')
    assert listed.parts()[0][0].column_names == ["a", "patient", "sick"]
    train, held = map(patients, listed.parts())
    assert train.isdisjoint(held)


def test_each_member_holds_out_patients_of_its_own():
    rows = MemberRows(read("members=3"))
    parts = [[patients(part) for part in rows.of(number)] for number in range(3)]
    assert all(train.isdisjoint(held) for train, held in parts)
    assert parts[0][1] != parts[1][1] != parts[2][1]
    command("train", "rows.toml", "--out", "three", "--set", "members=3", "--set", "trainer.epochs=2")
    apart, held = rows.out_of_fold()
    assert held.shape == (3, len(apart[0]))
    assert command("evaluate", "three").startswith("on the held-out rows, each judged by the members")


def test_the_folds_of_a_sweep_share_out_the_patients():
    command("sweep", "rows.toml", "--folds", "4", "--set", "trainer.epochs=1", "--out", "folds")
    held = [patients(Sweep("folds").folder_of({"run": f"0-{fold}"}).experiment.parts()[1]) for fold in range(4)]
    assert sum(map(len, held)) == 40
    assert len(set.union(*held)) == 40


def test_figures_on_held_out_patients_do_not_have_the_leak():
    loss = {}
    for name in ("drawn", "rows"):
        command("sweep", f"{name}.toml", "--folds", "4", "--set", "trainer.epochs=60", "--out", f"leak {name}")
        loss[name] = Sweep(f"leak {name}").ranked()[0]["val_loss"]
    assert loss["drawn"] < 0.25  # the marks tell the patient, who is in the training rows
    assert loss["rows"] > 0.4


def test_a_killed_run_resumes_with_the_same_patients():
    whole, killed = RunFolder.create("whole", read(*CHANGES)), RunFolder.create("killed", read(*CHANGES))
    expected = whole.train()

    def kill(run):
        if run.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def train():
        killed.train(callbacks=[Watch(function=kill, hook="on_epoch_end")])

    assert in_child(train) == -signal.SIGKILL
    run = killed.train()
    assert run.model.parameters.vector.tobytes() == expected.model.parameters.vector.tobytes()
    assert killed.metrics == whole.metrics
    assert latest(killed.checkpoints) is not None
    assert command("evaluate", "killed", "--data", "rows.csv") == command("evaluate", "whole", "--data", "rows.csv")
    command("predict", "killed", "rows.csv", "--keep", "patient", "--overwrite")


def test_new_writes_the_groups_and_no_steps_for_them():
    text = Path("rows.toml").read_text()
    assert 'groups = "patient"      # the rows of each of its 40 values stay together' in text
    assert 'holdout = "stratified"  # whole groups' in text
    assert text.count("patient") == 1
    printed = command("new", "rows.csv", "--target", "a", "--groups", "patient", "--out", "-")
    assert 'holdout = "random"      # whole groups' in printed
    listed = ("--set", 'data.columns=["a", "patient"]')
    printed = command("new", "rows.csv", "--target", "sick", "--groups", "patient", "--out", "-", *listed)
    assert 'columns = ["a"]' in printed


def test_new_names_a_column_that_looks_like_groups():
    text = Path("drawn.toml").read_text()
    assert f"# patient: 40 values in {len(PATIENTS)} rows. If rows that share one are alike: framework new" in text
    assert "--groups patient --overwrite" in text
    table = pd.read_csv("rows.csv")
    table.assign(patient=range(len(table))).to_csv("alone.csv", index=False)
    table.rename(columns={"patient": "town"}).to_csv("towns.csv", index=False)
    for name in ("alone.csv", "towns.csv"):
        assert "--groups" not in command("new", name, "--target", "sick", "--out", "-")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "groups=patent",
            "the table must have the column of setting 'groups'; there is no 'patent'; did you mean 'patient'?",
        ),
        ("groups=sick", "groups: column 'sick' must be neither the target nor the weight; choose another column"),
        ("holdout=last", "where there are groups; got 'last', which may cut a group in two"),
        ('validation={type="CSV", path="rows.csv", target="sick"}', "setting 'groups' says which rows of the data"),
        ("data.path=one.csv", "needs at least 2 groups, because the rows of a group stay together; got 1"),
        (
            "data.path=missing.csv",
            f"'patient' is missing in 1 of {len(PATIENTS)} rows that have a target, first in",
        ),
    ],
)
def test_train_refuses_wrong_groups_and_leaves_no_folder(change, said):
    table = pd.read_csv("rows.csv")
    table.assign(patient="p").to_csv("one.csv", index=False)
    table.assign(patient=table["patient"].where(table.index != 3)).to_csv("missing.csv", index=False)
    assert said in command("train", "rows.toml", "--out", "refused", "--set", change, status=1)
    assert not Path("refused").exists()


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(SettingsError, match=r"validation = 0\.02 needs at least 50 groups, .* got 40"):
        read("validation=0.02", "fold=0").parts()


def test_groups_of_a_csv_file_may_be_dates():
    days = pd.date_range("2024-01-01", periods=30).repeat(4).strftime("%Y-%m-%d")
    pd.DataFrame({"day": days, "x": RNG.normal(size=120), "y": RNG.normal(size=120)}).to_csv("days.csv", index=False)
    command("new", "days.csv", "--target", "y", "--groups", "day")
    for rows, _ in Experiment.read("days.toml").replace(members=1).parts():
        assert len(rows) in (96, 24)


def test_the_last_rows_are_not_held_out_by_groups():
    rows = np.arange(6)
    with pytest.raises(SettingsError, match="groups are drawn by a seed: the last rows may cut one in two"):
        hold_out((rows, rows), 0.5, None, "validation", groups=rows // 2)
