"""The lessons of examples/course: they run, their gaps are found, right answers pass, wrong answers do not."""

import linecache
import runpy
import sys
from base64 import b64encode
from itertools import pairwise
from pathlib import Path
from symtable import symtable
from types import ModuleType, SimpleNamespace

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from wrong_answers import WRONG

COURSE = Path(__file__).parents[1] / "examples" / "course"
build = SimpleNamespace(**runpy.run_path(str(COURSE / "build.py")))
LESSONS = [pytest.param(path, id=path.stem) for path in build.LESSONS]


def parts(path):
    """Return the cells of a lesson, with NumPy in place of a kernel, which takes seconds; .ci/run compiles it."""
    return build.cells(path.read_text(encoding="utf-8").replace('("numpy", "compiled")', '("numpy", "numpy")'))


def run(source, module):
    """Run a cell, with its source at hand as in a notebook."""
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), vars(module))


def fails(check, module, match):
    with pytest.raises(Exception, match=match):
        run(check.source, module)


@pytest.fixture
def no_window():
    """Draw into memory, and forget the figures."""
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.mark.share(1 / 10)
@pytest.mark.usefixtures("no_window")
@pytest.mark.parametrize("path", LESSONS)
def test_a_lesson_runs_and_judges_answers(path, tmp_path, monkeypatch, capsys):
    """Every cell runs in order, as in a notebook. In each exercise the gap and the wrong answers come first."""
    monkeypatch.chdir(tmp_path)
    module = ModuleType(path.stem)
    monkeypatch.setitem(sys.modules, path.stem, module)
    wrong = list(WRONG[path.stem])
    lesson = [part for part in parts(path) if not part.text]
    tags = [part.tag for part in lesson]
    assert tags.count("exercise") == tags.count("solution") == tags.count("check") == len(wrong) in (2, 3)
    for number, part in enumerate(lesson):
        if part.tag == "exercise":
            solution, check = lesson[number + 1 : number + 3]
            assert (solution.tag, check.tag) == ("solution", "check")
            run(part.source, module)
            exercise = tags[:number].count("exercise") + 1
            fails(check, module, rf"^exercise {exercise} is still open: replace the \.\.\. by your answer$")
            for change, match in wrong.pop(0):
                old, new = change
                assert solution.source.count(old) == 1, old
                run(solution.source.replace(old, new), module)
                fails(check, module, match)
        run(part.source, module)
    assert "Right" in capsys.readouterr().out


def made(source):
    """Return the names that a cell makes outside of its functions and classes."""
    names = symtable(source, "cell", "exec").get_symbols()
    return {name.get_name() for name in names if name.is_assigned() or name.is_imported()}


def used(table):
    """Return the names that a cell takes from other cells or from itself, also inside of functions and classes."""
    inside = table.get_type() != "module"
    names = {name.get_name() for name in table.get_symbols() if name.is_global() or not inside}
    return names.union(*map(used, table.get_children()))


@pytest.mark.parametrize("path", LESSONS)
def test_no_part_of_a_lesson_needs_an_answer(path):
    """A student may leave a gap open and read on."""
    lesson = [part for part in parts(path) if not part.text]
    plain = set().union(*(made(part.source) for part in lesson if not part.tag))
    answers = set().union(*(made(part.source) for part in lesson if part.tag)) - plain
    assert answers
    assert not set().union(*(used(symtable(part.source, "cell", "exec")) for part in lesson if not part.tag)) & answers


def test_the_builder_strips_solutions_for_students_alone(tmp_path):
    written = build.build(tmp_path)
    assert len(written) == 2 * len(build.LESSONS)
    for student, teacher in zip(written[::2], written[1::2], strict=True):
        ours, theirs = (nbformat.read(path, 4) for path in (student, teacher))
        for each in (ours, theirs):
            nbformat.validate(each)
        sources = [cell.source for cell in theirs.cells if cell.metadata.get("tags") != ["solution"]]
        assert [cell.source for cell in ours.cells] == sources
        assert len(sources) < len(theirs.cells)
        tags = [cell.metadata.tags[0] for cell in ours.cells if cell.metadata.get("tags")]
        assert tags == ["exercise", "check"] * (len(tags) // 2)
    again = build.build(tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_a_page_folds_the_solution_with_what_the_check_prints(tmp_path):
    lesson = """
# %% [markdown]
# # Title
# %%
draw()
# %% [markdown]
# ## Exercise
# %% tags=["exercise"]
answer = ...
# %% tags=["solution"]
answer = 42
# %% tags=["check"]
check(answer)
"""
    made = build.notebook("lesson", build.cells(lesson))
    drawn = {"text/plain": "<Axes>"}, {"image/png": b64encode(b"a picture").decode()}
    made.cells[1].outputs = [nbformat.v4.new_output("display_data", data) for data in drawn]
    made.cells[5].outputs = [nbformat.v4.new_output("stream", text="Right: it is 42")]
    shown, folded = build.page(made, tmp_path / "lesson.md").split("<details>")
    assert "answer = ..." in shown
    assert "check(answer)" in shown
    assert "42" not in shown
    assert "<Axes>" not in shown
    assert folded.index("answer = 42") < folded.index("Right: it is 42") < folded.index("</details>")
    assert [path.read_bytes() for path in tmp_path.glob("*.png") if f"({path.name})" in shown] == [b"a picture"]
    assert "student/lesson.ipynb" in shown


def test_text_alternates_with_code_in_reasonable_pieces():
    for path in build.LESSONS:
        lesson = parts(path)
        assert lesson[0].text, path
        assert lesson[-1].text, path
        assert all(a.text or b.text or a.tag or b.tag for a, b in pairwise(lesson)), path
        assert max(len(part.source.splitlines()) for part in lesson) < 50, path
        wide = [line for part in lesson if not part.text for line in part.source.splitlines() if len(line) > 88]
        assert not wide, "a cell of a notebook and of a page has 88 columns"


@pytest.mark.parametrize("script", ["# %% [code]", '# %% tags=["hint"]', "x = 1\n# %%"])
def test_a_malformed_lesson_is_refused_with_its_line(script):
    with pytest.raises(ValueError, match="line 1"):
        build.cells(script)
