"""Build the site: ``python docs/build.py``; then open .cache/site/html/index.html.

The pages are plain Markdown, which code hosts show as they are. This copies them to .cache/site/source, adds a menu out
of the lists of docs/contents.md and a page for each public name, runs Sphinx with warnings as errors, and checks that
no page loads anything from outside.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from runpy import run_path
from subprocess import run

import framework
from framework.base.lazy import families

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
COURSE = ROOT / "examples" / "course"
SITE = ROOT / ".cache" / "site"
SOURCE, HTML = SITE / "source", SITE / "html"

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)

OUTSIDE = {
    "examples": "gallery/index.rst",
    "examples/gallery/README.rst": "gallery/index.rst",
    "benchmarks": "benchmarks.md",
    "tests": "contributing.md",
    **{f"examples/course/{path.name}": f"examples/course/{path.stem}.md" for path in COURSE.glob("lesson_*.py")},
}
"""Folders and scripts that pages link to, which are no pages of the site, with the page to go to."""

ALSO = (
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    ".github/CODE_OF_CONDUCT.md",
    "changes/README.md",
    "LICENSE",
    "benchmarks/tables/README.md",
    "framework/data/datasets/README.md",
    "framework/data/datasets/LICENSE-*",
    "examples/*.py",
    "examples/cluster/[!R]*",
    "examples/course/*.md",
)
"""Files outside of docs/ that belong to the site."""

API: dict[str, tuple[str, tuple[str, ...]]] = {
    "Activations": ("activations", ("formulas.activations",)),
    "Losses": ("losses", ("formulas.losses",)),
    "Metrics": ("metrics", ("formulas.metrics",)),
    "Models and layers": ("models", ("models",)),
    "Optimizers, schedules, penalties": (
        "optimizers",
        ("training.optimizers", "formulas.schedules", "models.regularizers"),
    ),
    "Training": ("training", ("training", "experiments")),
    "Callbacks": ("callbacks", ("training.callbacks",)),
    "Checkpoints": ("checkpoints", ("training.checkpoint",)),
    "Data": ("data", ("data",)),
    "Preprocessing": ("preprocessing", ("preprocessing",)),
    "Formulas": ("formulas", ("backends", "graph", "base.special", "base.random_streams")),
    "Other programs": ("export", ("sklearn", "views", "export")),
    "Settings, errors, tests": ("components", ("base", "testing")),
}
"""The groups of public names: the page that explains each, and the modules where they are written."""

CONSTANTS = {"HOOKS": "training.callbacks", "BREAST_CANCER_CLASSES": "data", "BREAST_CANCER_FEATURES": "data"}
"""Where public names that are neither classes nor functions belong; the others are annotations of settings."""

SUBMODULES = ("framework.testing", "framework.sklearn", "framework.views.plots")
"""Modules whose names are public, in addition to those of the families."""


def public_names() -> dict[str, str]:
    """Return the module of every public name, such as ``{"framework.ReLU": "formulas.activations.formulas"}``."""
    homes = {name: "framework" if name in framework.__all__ else family for name, family in families().items()}
    for module in SUBMODULES:
        things = vars(import_module(module))
        names = things.get("__all__") or [name for name in things if getattr(things[name], "__module__", "") == module]
        homes = dict.fromkeys((name for name in names if name[0] != "_"), module) | homes
    names = {}
    for name, home in homes.items():
        thing = getattr(import_module(home), name)
        module = thing.__module__ if isclass(thing) or isfunction(thing) else f"framework.{CONSTANTS.get(name, 'base')}"
        names[f"{home}.{name}"] = module.removeprefix("framework.")
    return names


def group_of(module: str) -> str:
    """Return the title of the group of a module: that which names most of its path."""
    titles = {place: title for title, (_, places) in API.items() for place in places}
    return titles[max((place for place in titles if f"{module}.".startswith(f"{place}.")), key=len)]


def groups() -> dict[str, list[str]]:
    """Return the public names by the title of their group."""
    names = public_names()
    return {
        title: sorted((name for name in names if group_of(names[name]) == title), key=lambda n: n.rpartition(".")[2])
        for title in API
    }


def lists() -> dict[str, str]:
    """Return the lists of docs/contents.md by their headings."""
    text = (DOCS / "contents.md").read_text(encoding="utf-8")
    titles_and_lists = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(titles_and_lists[::2], titles_and_lists[1::2], strict=True))


def pages(text: str) -> list[str]:
    """Return the paths of the pages in a list, relative to docs/ or to the repository."""
    return [path.removeprefix("../") for path in re.findall(r"^- \[[^\]]*\]\((\S+?)\)", text, re.MULTILINE)]


def _rewritten(page: Path, text: str) -> str:
    """Return a page of the repository with its links changed to those of the site."""

    def link(match: re.Match[str]) -> str:
        start, path, anchor = match.groups()
        if "://" in path or path.startswith(("mailto:", "/")):
            return match[0]
        target = (page.parent / path).resolve()
        name = str(target.relative_to(DOCS if target.is_relative_to(DOCS) else ROOT))
        if start == f"[{path.rpartition('/')[2]}](" and path.endswith(".md"):
            start = "[]("  # the site shows the title of the page or of the section
        return f"{start}/{OUTSIDE.get(name, name)}{anchor or ''})"

    return "".join(part if part.startswith("```") else LINK.sub(link, part) for part in BLOCK.split(text))


def _toctree(entries: Sequence[str], *options: str) -> str:
    return "\n".join(["```{toctree}", *options, "", *entries, "```", ""])


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")


def stage() -> None:
    """Write .cache/site/source: the pages, those of the navigation, and those of the names."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(DOCS, SOURCE, ignore=shutil.ignore_patterns("conf.py", "build.py", "*.json", "__pycache__"))
    for path in (path for name in ALSO for path in ROOT.glob(name)):
        target = SOURCE / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for path in [*SOURCE.rglob("*.md")]:
        origin = path.relative_to(SOURCE)
        home = DOCS / origin if (DOCS / origin).exists() else ROOT / origin
        path.write_text(_rewritten(home, path.read_text(encoding="utf-8")), encoding="utf-8")
    _lessons()
    _navigation()
    _names()


def _lessons() -> None:
    """Run the lessons of the course, and write their pages and notebooks."""
    print("Running the lessons of the course. It takes half a minute.", flush=True)
    pages = run_path(str(COURSE / "build.py"))["write_pages"](SOURCE / "examples" / "course")
    with (SOURCE / "course.md").open("a", encoding="utf-8") as course:
        course.write("\n" + _toctree([f"/examples/course/{path.stem}" for path in pages], ":hidden:"))


def _navigation() -> None:
    """Make the menu: a page for each list of docs/contents.md, the last one after the API and the gallery."""
    (SOURCE / "menu").mkdir()
    menu = []
    for title, text in lists().items():
        entries = [f"/{page.removesuffix('.md')}" for page in pages(text)]
        page = f"# {title}\n\n{_rewritten(DOCS / 'contents.md', text)}\n{_toctree(entries, ':hidden:')}"
        menu.append(f"menu/{_slug(title)}")
        (SOURCE / f"{menu[-1]}.md").write_text(page, encoding="utf-8")
    with (SOURCE / "index.md").open("a", encoding="utf-8") as index:
        index.write("\n" + _toctree([*menu[:-1], "api/index", "gallery/index", menu[-1]], ":hidden:"))


def _short(name: str) -> str:
    """Return what autosummary takes for a name that is shown without the package."""
    return f"~{name}" if name.count(".") == 1 else name


def _names() -> None:
    """Write the pages of the public names: described lists of all and of each group, and a page each by autosummary."""
    folder = SOURCE / "api"
    folder.mkdir()
    run_path(str(DOCS / "curves.py"))["write_formulas"](folder / "formulas")
    index = ["API", "===", "", "Every public name, with an example that runs as a test.", ""]
    menu = ["", ".. toctree::", "   :hidden:", ""]
    for title, names in groups().items():
        if names:
            lines = ["", title, "=" * len(title), "", f"The page :doc:`/{API[title][0]}` explains them together.", ""]
            table, entries = (
                [".. autosummary::", "   :nosignatures:"],
                ["", *(f"   {_short(name)}" for name in names), ""],
            )
            text = "\n".join([*lines, *table, "   :toctree: names", *entries])
            (folder / f"{_slug(title)}.rst").write_text(text, encoding="utf-8")
            index += [*lines[:2], "-" * len(title), *lines[3:], *table, *entries]
            menu.append(f"   {_slug(title)}")
    (folder / "index.rst").write_text("\n".join([*index, *menu, ""]), encoding="utf-8")


class Resources(HTMLParser):
    """Collect what a page loads: scripts, styles, pictures, fonts, frames."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Keep the addresses of this tag, except those of links that a reader follows."""
        loaded: Mapping[str, str | None] = dict(attrs)
        if tag != "a":
            relation = loaded.get("rel") or ""
            self.found += [loaded[name] or "" for name in ("src", "srcset", "data", "poster") if name in loaded]
            if tag == "link" and relation not in ("canonical", "alternate"):
                self.found.append(loaded.get("href") or "")


def outside_resources(html: Path) -> Iterator[str]:
    """Yield each file of the site that loads something from another place, with the address."""
    address = re.compile(r"^\s*(https?:)?//")
    for path in sorted(html.rglob("*.html")):
        resources = Resources()
        resources.feed(path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(html)}: {found}" for found in resources.found if address.match(found))
    for path in sorted(html.rglob("*.css")):
        loaded = re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", path.read_text(encoding="utf-8"))
        yield from (f"{path.relative_to(html)}: {found}" for found in loaded)


def main() -> None:
    """Build the site, or exit with a message."""
    stage()
    print(f"Copied {len([*SOURCE.rglob('*.md')])} pages to {SOURCE.relative_to(ROOT)}.")
    print("Running Sphinx: the scripts of the gallery, a page for each name, the HTML, in a minute or two.", flush=True)
    shutil.rmtree(HTML, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2", "-c", DOCS, "-d", SITE / "trees"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}  # small networks, many processes
    if run([*command, SOURCE, HTML], check=False, env=environment).returncode:
        sys.exit("docs/build.py: Sphinx found what it says above; the pages in .cache/site/source are copies of docs/")
    outside = [*outside_resources(HTML)]
    if outside:
        sys.exit("docs/build.py: these pages load something from outside:\n" + "\n".join(outside))
    print(f"Nothing is loaded from outside. Open {HTML / 'index.html'}")


if __name__ == "__main__":
    main()
