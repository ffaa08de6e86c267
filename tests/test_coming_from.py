"""The code of the other libraries in docs/coming_from.md, where the tests have the library; ours runs with the page."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from framework.data import load_digits

PAGE = (Path(__file__).parents[1] / "docs" / "coming_from.md").read_text(encoding="utf-8")


@pytest.mark.share(1 / 3)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of five epochs
@pytest.mark.parametrize(("library", "module"), [("PyTorch", "torch"), ("scikit-learn", "sklearn")])
def test_the_code_of_another_library_runs(library, module, tmp_path, monkeypatch):
    if find_spec(module) is None:
        pytest.skip(f"{library} is not installed")
    monkeypatch.chdir(tmp_path)
    section = PAGE.partition(f"## From {library}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(blocks) == section.count("<tr><td>") > 4
    x, y = load_digits()
    session = {"x": x[:300] / 16, "y": y[:300]}
    for block in blocks:
        exec(compile(block, f"{library}: {block.splitlines()[0]}", "exec"), session)
