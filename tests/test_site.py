"""The front page of the site, and its scripts in docs/_static."""

import json
import re
from pathlib import Path

import pytest
from browser import chromium, needs_chromium

from framework import show

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
