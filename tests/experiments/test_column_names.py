"""Any name of a column works: in a table of any kind, and in every command."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from experiment_pieces import command

from framework import Preprocess, Standardize
from framework.preprocessing import Drop

NAMES = [
    *(
        "<OPEN>",
        "<VOL>",
        "<number>",
        "<a b>",
        "a[b]",
        'q"uote',
        "it's",
        "a.b",
        "...",
        "new\nline",
        " lead",
        "trail ",
        "**",
    ),
    *(
        "ünïcode",
        "__proto__",
        "type",
        "columns",
        "target",
        "epochs",
        "a*",
        "#",
        "a=b",
        "a,b",
        "back\\slash",
        "{x}",
        "%s",
    ),
    *("-x", "--set", "0", "1.5", "true", "None", "nan", "path", "x" * 300),
]


def table(target):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=40) for name in NAMES if name != target})
    frame["<text>"] = rng.choice(["u", "v"], 40)
    frame[target] = np.where(frame["a.b"] > 0, "yes", "no")
    return frame


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("target", ["<CLOSE>", "<number>", "*", "a\nb", "type"])
def test_every_command_takes_columns_of_any_name(ending, target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = f"t.{ending}"
    frame = table(target)
    (frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path))
    command("new", path, f"--target={target}")
    command("train", "t.toml", "--out", "run", "--set", "trainer.epochs=1")
    command("evaluate", "run", "--data", path)
    command("predict", "run", path, "--keep=<OPEN>", "--keep=a[b]", "--out", "p.parquet")
    assert pq.read_table("p.parquet").column_names[:3] == ["<OPEN>", "a[b]", target]
    command("export", "run", "model.py")
    command("sweep", "t.toml", "--out", "all", "--set", "trainer.epochs=1", "--set", "model.seed=1,2")
    assert Path("all/runs/1/metrics.json").exists()


def test_a_recipe_for_columns_that_are_named_like_rules_treats_each_by_its_name():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"<number>": np.ones(40), "a*": np.ones(40), **{f"ab{n}": rng.normal(size=40) for n in range(9)}}
    )
    recipe = Preprocess.of(frame)
    assert dict(recipe.columns)["<number>"] == dict(recipe.columns)["a*"] == (Drop(),)
    assert recipe.fit(frame).names == tuple(f"ab{n}" for n in range(9))


def test_a_rule_for_a_name_in_brackets_is_for_that_column_alone():
    frame = pd.DataFrame({"<OPEN>": [1.0, 3.0], "b": [1.0, 3.0]})
    recipe = Preprocess(columns={"<OPEN>": [Standardize()], "<number>": []})
    assert recipe.fit(frame).transform(frame).T.tolist() == [[-1, 1], [1, 3]]
