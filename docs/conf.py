"""How Sphinx builds the site. ``python docs/build.py`` prepares the pages and runs it."""

import re
from inspect import cleandoc
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml

import framework
from framework.base.lazy import families

SOURCE = Path(__file__).resolve().parents[1] / ".cache" / "site" / "source"  # where build.py puts the pages

project = "framework"
author = "the framework authors"
copyright = author  # noqa: A001 - Sphinx asks for this name
root_doc = "index"
nitpicky = True  # a name that looks like a link leads somewhere
nitpick_ignore = [
    ("py:exc", "NotFittedError"),  # scikit-learn's
    ("py:class", "framework.preprocessing.statistics.Moments"),  # what steps gather: they have no page
    ("py:class", "framework.preprocessing.statistics.Sketch"),
]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]

# Pages: Markdown as code hosts show it. Headings have the anchors of GitHub, and $...$ is a formula.
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"

smartquotes = False  # f'(h) is a derivative, not a quotation

# Names: one page each, from the docstring.
autosummary_generate = True
autosummary_imported_members = True
autosummary_context = {"formulas": {path.stem for path in (SOURCE / "api" / "formulas").glob("*.txt")}}
autodoc_typehints = "none"  # docstrings say what may be given; the annotations are for mypy
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
python_maximum_signature_line_length = 120
napoleon_use_rtype = False
templates_path = ["_templates"]
add_module_names = False

# The gallery: scripts that are run, with their pictures.
sphinx_gallery_conf = {
    "examples_dirs": ["../../../examples/gallery"],  # from .cache/site/source
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,  # that page loads its tables' style from a CDN
    "min_reported_time": 60,
    "remove_config_comments": True,
    "abort_on_example_error": True,
    "capture_repr": (),
    "reset_modules": (),
}

html_theme = "pydata_sphinx_theme"
html_title = "framework"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
html_sidebars = {"index": []}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 9,
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "back_to_top_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def formula(self: Any, node: Any) -> None:
    """Write a formula as MathML, which browsers show without a script."""
    block = node.tagname == "math_block"
    text = tex2mathml(node.astext(), as_block=block)
    self.body.append(f'<div class="math">{text}</div>' if block else text)
    raise SkipNode


DISPLAY = re.compile(r"(?<=\n\n)(?: {4}.*(?:\n|\Z))+")
"""Indented lines, such as formulas, before the sections of a docstring."""

SPECIAL = re.compile(
    r"(^\.\. code-block:: text\n\n(?: {4}[^\n]*(?:\n|\Z))+|^ *>>> .*?(?:\n\s*$|\Z)|``.+?``)"
    r"|(?<!\\)([*|`]|(?<=\w)_(?!\w))",
    re.MULTILINE | re.DOTALL,
)
"""An example or code, or a character that means something to reStructuredText."""


ENTRY = re.compile(r"^    (\w+(?:, \w+)*): .*(?:\n {8}.*)*", re.MULTILINE)
"""An argument in a docstring, with the lines that continue it."""


def inherited(thing: type[framework.Component]) -> list[str]:
    """Return the lines about settings of a component that only the classes that it derives from describe."""
    described, lines = set[str](), list[str]()
    for kind in thing.__mro__:
        for entry in ENTRY.finditer(cleandoc(vars(kind).get("__doc__") or "")):
            names = {*entry[1].split(", ")}
            if kind is not thing and names <= thing.model_fields.keys() - described:
                lines += entry[0].split("\n")
            described |= names
    return lines


def plain(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Escape the characters of docstrings that mean something to reStructuredText, except in code."""
    if what == "class" and issubclass(thing, framework.Component) and "Attributes:" in lines:
        lines[lines.index("Attributes:")] = "Args:"  # the settings of a component are the arguments of its class
    if what == "class" and issubclass(thing, framework.Component) and (settings := inherited(thing)):
        if "Args:" not in lines:
            end = next((n for n, line in enumerate(lines) if line in ("Raises:", "Example:")), len(lines))
            lines[end:end] = ["Args:", ""]
        end = lines.index("", lines.index("Args:"))
        lines[end:end] = settings
    text, *sections = re.split(r"(?=^\w+:$)", "\n".join(lines), maxsplit=1, flags=re.MULTILINE)
    lines[:] = "".join([DISPLAY.sub(r".. code-block:: text\n\n\g<0>", text), *sections]).split("\n")
    lines[:] = SPECIAL.sub(lambda match: match[1] or f"\\{match[2]}", "\n".join(lines)).split("\n")
    if what in ("attribute", "data", "property"):
        lines[:0] = ["..", ""]  # napoleon takes a colon in the first line for the end of a type


def bases(app: Any, name: str, thing: type, options: Any, classes: list[Any]) -> None:
    """Show the public classes that a class derives from, and those of other packages as text."""
    public = [base for base in thing.__mro__[1:] if base.__name__ in families()]
    direct = [base for base in public if not any(base in other.__mro__[1:] for other in public)]
    others = [base for base in classes if not base.__module__.startswith(("framework", "abc", "builtins", "pydantic"))]
    homes = {name: "framework" if name in framework.__all__ else family for name, family in families().items()}
    classes[:] = [f":py:class:`~{homes[base.__name__]}.{base.__name__}`" for base in direct]
    classes += [f"``{base.__name__}``" for base in others] or ([] if direct else [object])


def setup(app: Any) -> None:
    """Add the functions above to Sphinx."""
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    app.connect("autodoc-process-bases", bases)
