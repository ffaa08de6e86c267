"""The names in the package: values are the nouns of their field, and functions are verbs with their object.

The limits only go down: lower them to the new counts when you rename.
"""

import ast
import re
from pathlib import Path

import framework

VAGUE = {"found", "place", "part", "each", "given"}
"""Names that do not say what a value is."""

VAGUE_BINDINGS = 8
PARTICIPLES = 37

PARTICIPLE = re.compile(r"\w*(ed|en|wn|ut|made|told|kept|found)|read|split")
NOT_PARTICIPLES = {
    "input",
    "output",
    "layout",
    "seed",
    "len",
    "between",
    "open",
    "even",
    "flatten",
    "out",
    "children",
    "shorten",
    "widen",
}
"""Nouns and verbs that only end like participles."""

TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in Path(framework.__file__).parent.rglob("*.py")}


def is_property(function):
    names = {decorator.id for decorator in function.decorator_list if isinstance(decorator, ast.Name)}
    return not names.isdisjoint({"property", "cached_property"})


def vague_bindings(tree):
    """Yield the line and the name of every value that is bound to a vague name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE:
            yield node.lineno, node.id
        elif isinstance(node, ast.arg) and node.arg in VAGUE:
            yield node.lineno, node.arg


def participles(tree):
    """Yield the line and the name of every function that begins with a participle: `searched`, `told`, `shown`.

    `read` and `split` are verbs too, so they count only without an object.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_property(node):
            name = node.name.strip("_")
            word = name.split("_")[0]
            is_verb = word in ("read", "split") and word != name
            if PARTICIPLE.fullmatch(word) and word not in NOT_PARTICIPLES and not is_verb:
                yield node.lineno, node.name


def list_names(names_of):
    return [f"{path}:{line} {name}" for path, tree in TREES.items() for line, name in names_of(tree)]


def test_few_values_have_vague_names():
    bindings = list_names(vague_bindings)
    assert len(bindings) <= VAGUE_BINDINGS, "\n".join(bindings)


def test_few_functions_are_bare_participles():
    functions = list_names(participles)
    assert len(functions) <= PARTICIPLES, "\n".join(functions)
