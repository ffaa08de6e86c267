"""The advice on missing packages names all packages of the extra, as pyproject.toml has them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from framework.base import UsageError
from framework.base.extras import EXTRAS, load_module

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = {"test", "torch", "site", "bench", "dev", "course", "release"}
"""Extras for work on this package, which no part of it asks for."""


def test_the_extras_are_those_of_the_project():
    declared = PROJECT["optional-dependencies"]
    names = {extra: tuple(re.match(r"[\w-]+", each)[0] for each in declared[extra]) for extra in {*declared} - OURS}
    assert names == EXTRAS


@pytest.mark.parametrize(
    ("module", "advice"),
    [
        ("pyarrow.csv", "X needs pyarrow: pip install narwhals pyarrow, or in a clone pip install -e '.[data]'"),
        (
            "mlflow",
            "X needs mlflow: pip install mlflow-skinny sqlalchemy alembic, or in a clone pip install -e '.[mlflow]'",
        ),
        ("fsspec", "X needs fsspec: pip install fsspec"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(module, advice, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError) as caught:
        load_module(module, "X")
    assert str(caught.value) == advice


def test_the_benchmarks_say_how_to_install_what_they_need():
    without = "import runpy, sys; sys.modules['pyperf'] = None; runpy.run_module('benchmarks', run_name='__main__')"
    ended = subprocess.run(
        [sys.executable, "-c", without, "--help"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert ended.stderr == "python -m benchmarks needs pyperf: pip install -e '.[bench]'\n"
