"""The house rules that a machine can check."""

import ast
import importlib
import inspect
import re
import runpy
import sys
import tomllib
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import pytest
from rooms import FILES, PACKAGE, ROOMS, arrows, imported, room_of

import framework
from framework import Activation, BinaryCrossEntropy, Component, Dense, Neuron, Sequential, SGDOptimizer, Trainer
from framework.base.lazy import families, import_all, import_public, stub_of

ROOT = PACKAGE.parent
PUBLIC = [name for name, value in import_all().items() if inspect.isclass(value) or inspect.isfunction(value)]

site = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "build.py")))
ORDER = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8"), re.MULTILINE)
"""The files and folders in their order: a module imports only from those before it; a folder is one place."""


@pytest.mark.parametrize("stub", sorted(PACKAGE.rglob("__init__.pyi")), ids=lambda stub: stub.parent.name)
def test_all_has_every_imported_name_under_which_type_checkers_see_it(stub):
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    aliases = [alias for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    exported = [alias.name for alias in aliases if alias.asname == alias.name]
    package = importlib.import_module(".".join(stub.parent.relative_to(ROOT).parts))
    assert package.__all__ == sorted(exported) == sorted(alias.name for alias in aliases)
    for name in exported:
        getattr(package, name)


def test_the_top_has_at_most_ninety_names_which_their_families_export_too():
    assert len(framework.__all__) <= 90
    assert set(framework.__all__) <= set(families())


def test_dir_lists_the_public_names_and_the_rooms():
    assert {*framework.__all__, "models", "training", "sklearn"} <= {*dir(framework)}
    assert {"Swish", "activations"} <= {*dir(framework.formulas)}


def test_a_name_belongs_to_one_family():
    stubs = [stub_of(f"framework.{stub.parent.name}") for stub in PACKAGE.glob("*/__init__.pyi")]
    assert sum(map(len, stubs)) == len(families())


def test_every_complete_component_is_exported():
    found = [Component]
    for cls in found:
        found += [sub for sub in cls.__subclasses__() if sub.__module__.startswith("framework.") and sub not in found]
    found = [cls for cls in found if hasattr(sys.modules[cls.__module__], cls.__name__)]  # not those of docstrings
    complete = {cls.__name__ for cls in found if cls.__name__[0] != "_" and not inspect.isabstract(cls)}
    internal = {"ActivationLayer", "FunctionCallback", "PlainFunction"}
    assert complete - internal <= set(families()), "export it in the stub of its family, __init__.pyi"


def test_public_names_have_an_example():
    for name in PUBLIC:
        value = import_public(name)
        if inspect.isclass(value) and issubclass(value, framework.FrameworkError | Warning):
            assert value.__doc__, name  # errors and warnings say when they happen
        else:
            assert re.search(r"Example:.*>>>", value.__doc__ or "", re.DOTALL), f"{name} has no example"


def undocumented(path):
    """The public methods and properties of a file's public classes that have no docstring, own or inherited."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    for name, cls in vars(module).items():
        if name[0] == "_" or not inspect.isclass(cls) or cls.__module__ != module.__name__:
            continue
        for member, value in vars(cls).items():
            method = getattr(value, "__func__", value)
            public = member[0] != "_" and (inspect.isfunction(method) or isinstance(method, property | cached_property))
            if public and not any(getattr(vars(base).get(member), "__doc__", None) for base in cls.__mro__):
                yield f"{module.__name__}.{name}.{member}"


def test_methods_have_a_docstring_or_inherit_one():
    assert not [name for path in FILES if path.stem != "__main__" for name in undocumented(path)]


def test_imports_follow_the_data_flow():
    wrong = []
    for path in FILES:
        own = room_of(path)
        assert own in ORDER, f"say in docs/contributing.md where {own} stands in the flow"
        later = {other for other in imported(path) if ORDER.index(other) > ORDER.index(own)}
        wrong += [f"{path.relative_to(PACKAGE)} imports from {other}, which comes after it" for other in sorted(later)]
    assert wrong == []


def test_the_package_has_a_dozen_rooms_and_few_arrows_between_them():
    assert len(ROOMS) <= 20
    assert len(arrows()) <= 90


class Bent(Activation):
    def __call__(self, h):
        return h / (1 + np.abs(h))

    def derivative(self, h):
        return 1 / (1 + np.abs(h)) ** 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: Neuron(2, Bent()),
        lambda: Dense(2, 1, Bent()),
        lambda: Sequential(Dense(2, 4, Bent()), Neuron(4, Bent())),
    ],
    ids=["neuron", "dense", "network"],
)
def test_an_own_activation_works_everywhere(make):
    model = make()
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.where(x[:, 0] > 0, 0.5, -0.5)
    trainer = Trainer(loss=framework.MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.5), epochs=30)
    losses = trainer.fit(model, (x, y)).history.column("loss")
    assert losses[-1] < 0.5 * losses[0]
    twin = Component.from_json(model.to_json())
    assert repr(twin) == repr(model)
    assert Activation.from_json(Bent().to_json()) == Bent()


def test_the_loss_works_on_logits_by_itself():
    neuron = Neuron.from_weights([1000.0], activation=framework.Sigmoid())
    trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=0.1))
    assert trainer.evaluate(neuron, ([[1.0]], [0])) == {"loss": 1000.0}


def _files_with(pattern):
    return {str(path.relative_to(PACKAGE)) for path in FILES if re.search(pattern, path.read_text(encoding="utf-8"))}


def test_there_is_one_tracer():
    assert _files_with(r"def __array_(ufunc|function)__|NDArrayOperatorsMixin\)") == {"graph/symbol.py"}


def test_there_is_one_record_of_an_operation():
    assert _files_with(r"__slots__ = .*\"op\"") == {"graph/node.py"}
    assert _files_with(r"^class \w*(Node|Tape|Cell)\b(?m:.*)") <= {"graph/node.py"}


def test_there_is_one_writer_of_each_kind_of_source():
    assert _files_with(r"\b(exec|eval)\(") == {
        "backends/jax.py",
        "backends/numpy.py",
        "testing.py",  # evaluates a repr
    }
    assert _files_with(r"f?\"    def |\"def \{") <= {
        "backends/jax.py",
        "backends/numpy.py",
        "training/engines/native/update.py",
        "training/engines/native/writer.py",
        "export/source.py",  # a file for people, by export_python
        "export/table_source.py",  # another part of it
    }


STILTED = re.compile(
    r"\b(go|goes|went|going) on\b|\bbegin anew\b|\banew\b|\bwhoever\b|all the same\b(?!\?)|\bas it comes\b|in words\b"
    r"|\bhas none of its own\b|(?<![Tt]here )\bis none\b(?! of)|(?<![Tt]here )\b(is|are) no (?!longer|more)[a-z]+"
    r"|\b[Oo]ne (?!over)[a-z]+ an? (row|class|element)\b|\b(at most|up to) so many\b"
    r"|\b(read|reads|does|includes) beside\b|\bhands? (back|on an?)\b"
    r"|\b(is|are) told\b|\btells? (what|of|from)\b|\"\"\"What |Refuse what|(?:^|[.] )What (is|a|no|has|cannot) ",
    re.MULTILINE,
)
"""Phrases that have to be read twice."""

UNPUBLISHED = re.compile(r"pip install [^\n]*(?<![/\w-])framework\b|framework\[")
"""Advice to install this package from an index, where another package has its name."""

PAGES = sorted((ROOT / "docs").rglob("*.md"))
PROSE = sorted([*FILES, *PAGES, *ROOT.glob("*.md")])


def lines_with(pattern, paths):
    """The lines of files that match a pattern, each after its file and number."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def test_prose_is_plain_english():
    assert lines_with(STILTED, PROSE) == []


def test_nobody_is_told_to_install_this_package_from_an_index():
    files = [*PROSE, *ROOT.glob("examples/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
    assert lines_with(UNPUBLISHED, files) == [], "write pip install -e '.[extra]', in a clone"


WRITTEN = (".py", ".pyi", ".md", ".pyc", ".typed", ".rst", ".css", ".js", ".toml")
"""The suffixes of files that hold no data from elsewhere."""


def test_every_data_file_has_its_origin_beside_it():
    folders = ("benchmarks", "docs", "examples", "framework", "tests")
    files = [path for name in folders for path in ROOT.glob(f"{name}/**/*") if path.is_file()]
    data = [path for path in files if path.suffix not in WRITTEN and path.name != "errors.txt"]
    assert {"digits.csv.gz", "lstm.npz", "version_1.safetensors", "plots_descent.png"} <= {path.name for path in data}
    for path in data:
        pages = "".join(page.read_text(encoding="utf-8") for page in path.parent.glob("*.md"))
        assert path.name in pages or f"*{path.suffix}" in pages, f"say beside {path} where it comes from"


def prose(page):
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *PAGES]:
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            path, _, anchor = link.partition("#")
            if not path.startswith("http"):
                target = page.parent / path if path else page
                assert target.exists(), f"{page}: {link}"
                assert not anchor or anchor in anchors(target), f"{page}: {link}"


def test_test_files_that_a_page_names_are_there():
    for page in PAGES:
        for name in re.findall(r"`([\w/*]+[.]py)`", page.read_text(encoding="utf-8")):
            if name.rpartition("/")[2].startswith("test_"):
                assert (ROOT / "tests" / name.removeprefix("tests/")).exists(), f"{page}: {name}"


def test_the_guide_to_training_lists_every_setting_of_a_trainer():
    table = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("| setting |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(framework.Trainer.model_fields)


def test_the_menu_of_the_site_lists_every_page():
    listed = [page for text in site.lists().values() for page in site.pages(text)]
    assert len(listed) == len(set(listed))
    assert {page for page in listed if (ROOT / "docs" / page).exists()} == {
        str(page.relative_to(ROOT / "docs")) for page in PAGES if page.name != "index.md"
    }


def test_the_site_has_a_page_for_every_public_name():
    shown = [name for names in site.groups().values() for name in names]
    assert len(shown) == len(set(shown))
    assert {name.rpartition(".")[2] for name in shown} >= set(families())
    assert {"framework.testing.check_component", "framework.sklearn.NeuralClassifier"} <= set(shown)
    assert set(site.public_names()) == set(shown), "say in docs/build.py to which group its folder belongs"


def test_the_check_of_the_site_finds_what_a_page_loads_from_outside(tmp_path):
    page = (
        '<a href="https://a.org">a</a><img src="b.png"><script src="//c.org/d.js"></script><link href="http://e.org">'
    )
    (tmp_path / "page.html").write_text(page)
    (tmp_path / "style.css").write_text("@import 'https://f.org'; p { background: url(data:image/png) }")
    found = [line.partition(": ")[2] for line in site.outside_resources(tmp_path)]
    assert found == ["//c.org/d.js", "http://e.org", "https://f.org"]


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == version
    assert re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version
    assert framework.__version__ == version
