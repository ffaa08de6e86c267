"""The front page of the site, and its scripts in docs/_static."""

import json
import re
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
from browser import chromium, needs_chromium
from matplotlib.figure import Figure

from framework import AdamOptimizer, CrossEntropy, Dense, Optimizer, show
from framework.backends.text import Shown

DOCS = Path(__file__).parents[1] / "docs"
STATIC = DOCS / "_static"


def document(path, body, address=""):
    """The HTML of a page after its scripts have run."""
    path.write_text(f"<!DOCTYPE html><title></title><body>{body}</body>", encoding="utf-8")
    return chromium(path.as_uri() + address).stdout


@needs_chromium
@pytest.mark.share(1 / 3)
@pytest.mark.parametrize(
    ("query", "order"),
    [
        ("Freeze+layers", "how_do_i models api/freeze checkpoints CHANGELOG"),
        ("changelog", "CHANGELOG models how_do_i api/freeze checkpoints"),
    ],
)
def test_a_search_finds_titles_first_and_text_of_the_changelog_last(query, order, tmp_path):
    results = [  # page, title, score
        ["CHANGELOG", "Changelog", 15],
        ["checkpoints", "Checkpoints", 5],
        ["models", "Models", 15],
        ["api/freeze", "framework.freeze.layers_of", 6],
        ["how_do_i", "How do I ... > 20. Freeze layers", 11],
    ]
    sort = """const score = ([page, title, score]) => Scorer.score([page, title, "", null, score, "", "text"]);
        document.title = results.sort((a, b) => score(b) - score(a)).map(([page]) => page).join(" ");"""
    scorer = f'<script src="{(STATIC / "scorer.js").as_uri()}"></script>'
    body = f"{scorer}<script>const results = {json.dumps(results)}; {sort}</script>"
    html = document(tmp_path / "search.html", body, f"?q={query}")
    assert re.search("<title>(.*)</title>", html)[1] == order


@needs_chromium
@pytest.mark.share(1 / 3)
def test_each_of_two_programs_side_by_side_has_a_label(tmp_path):
    table = "<tr><th>Keras</th><th>framework</th></tr>" + "<tr><td>a</td><td>b</td></tr>" * 2
    body = f'<table class="sides">{table}</table><script src="{(STATIC / "site.js").as_uri()}"></script>'
    html = document(tmp_path / "page.html", body)
    assert re.findall('<td data-label="(.*?)">(.*?)</td>', html) == [("Keras", "a"), ("framework", "b")] * 2


def test_the_front_page_shows_what_is_derived_from_its_formula():
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    session = {"__name__": "__main__"}
    exec(re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1], session)
    assert show(session["Snake"]()).latex in page


CURVES = SimpleNamespace(**run_path(str(DOCS / "curves.py")))
EXAMPLES = {type(example).__name__: example for example in CURVES.examples()}


def test_every_formula_on_the_page_of_a_name_becomes_mathml():
    latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml")
    for name, example in EXAMPLES.items():
        latex = CURVES.latex_of(example)
        assert bool(latex) == (not name.endswith("Schedule")), name
        if latex:
            assert "<math" in latex2mathml.tex2mathml(rf"\begin{{aligned}}{latex}\end{{aligned}}", as_block=True)


@pytest.mark.parametrize("name", ["Sigmoid", "Poisson", "Hinge", "BinaryCrossEntropy", "CosineSchedule"])
def test_the_page_of_a_name_has_its_curve(name):
    figure = Figure()
    assert CURVES.draw(EXAMPLES[name], figure)
    assert all(np.isfinite(line.get_ydata()).all() for line in figure.axes[0].lines)
    assert not CURVES.draw(CrossEntropy(), figure)


@pytest.mark.parametrize("name", [name for name, example in EXAMPLES.items() if isinstance(example, Optimizer)])
def test_the_assignments_of_an_optimizer_make_its_update(name):
    optimizer, rng = EXAMPLES[name], np.random.default_rng(0)
    arrays = {key: rng.uniform(0.1, 1.0, 3) for key in ("values", "gradients", *optimizer.memory)}
    expected = {key: array.copy() for key, array in arrays.items()}
    optimizer.update(expected["values"], arrays["gradients"], 0.1, 3, *(expected[key] for key in optimizer.memory))
    scope = {**arrays, "rate": 0.1, "step": 3, "sqrt": np.sqrt, "sign": np.sign}
    for line in Shown(CURVES.assignments(optimizer)).text.splitlines():
        label, _, rest = line.partition(" = ")
        expression, _, legend = rest.partition("  where ")
        for meaning in filter(None, legend.split(", ")):
            exec(meaning, scope)
        scope[label] = eval(expression, scope)
    for key, array in expected.items():
        np.testing.assert_allclose(scope[key], array, rtol=1e-12, err_msg=key)


def test_a_page_describes_the_settings_that_a_layer_inherits():
    pytest.importorskip("docutils")
    inherited = run_path(str(DOCS / "conf.py"))["inherited"]
    assert [line.split(":")[0].strip() for line in inherited(Dense) if line[4] != " "] == ["seed", "dtype"]
    assert any(line.startswith("    clip_norm: Scale") for line in inherited(AdamOptimizer))
    assert not any(line.startswith("    epsilon:") for line in inherited(AdamOptimizer)), "which it describes itself"
