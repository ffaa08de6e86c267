"""Files as settings: the line of every key, changes on the command line, and TOML that reads as it was."""

import itertools
import json
import tomllib

import pytest
from hypothesis import given, settings, strategies as st

from framework import SettingsError
from framework.experiments.files.text import apply_changes, parse_change, read_settings, to_toml

TOML = '''# epochs = 1
title = "a # = [b]"  # a comment
"quoted.key" = 1
a.b."c d" = [
  1, # one
  [2, "x]"],
  {p = 1, q.r = 'z'},
]
when = 1979-05-27 07:32:00
[trainer.x]
y = """
[not.a.table]
k = 1 \\"""
"""""
z = \'\'\'it's # no comment\'\'\'
[[callbacks]]
n = 1
[callbacks.sub]
m = 2

[[callbacks]]
[["callbacks".deep]]
v = {}
'''


def test_every_key_of_toml_has_its_line():
    tree, lines = read_settings(TOML, "e.toml")
    assert tree == tomllib.loads(TOML)
    expected = {
        "title": 2,
        "quoted.key": 3,
        ("a", "b", "c d"): 4,
        ("a", "b", "c d", 1, 1): 6,
        ("a", "b", "c d", 2, "q", "r"): 7,
        "when": 9,
        ("trainer", "x"): 10,
        ("trainer", "x", "y"): 11,
        ("trainer", "x", "z"): 15,
        ("callbacks", 0, "n"): 17,
        ("callbacks", 0, "sub", "m"): 19,
        ("callbacks", 1): 21,
        ("callbacks", 1, "deep", 0, "v"): 23,
    }
    for path, line in expected.items():
        assert lines[path if isinstance(path, tuple) else (path,)] == line, path


def paths(tree, path=()):
    """Every path of a tree that leads to something."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from paths(value, (*path, key))


TEXTS = st.text(st.sampled_from("aé ." + "\"'#=[]{},\\\n\t\x7f\x01\U0001f600"), max_size=4)
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
TABLES = st.dictionaries(TEXTS, TREES, max_size=4)


@settings(max_examples=60)
@given(TABLES)
def test_settings_read_from_their_toml_are_the_same_and_every_one_has_a_line(tree):
    text = to_toml(tree)
    found, lines = read_settings(text, "e.toml")
    assert found == tree
    assert {path for path in paths(found) if path} == lines.keys()
    written = text.split("\n")
    assert all("a" in written[line - 1] for path, line in lines.items() if path[-1] == "a")


@settings(max_examples=30)
@given(TABLES, st.sampled_from([None, 1]))
def test_every_setting_of_json_has_a_line(tree, indent):
    text = json.dumps(tree, indent=indent, ensure_ascii=False)
    found, lines = read_settings(text, "e.json")
    assert found == tree
    assert {path for path in paths(tree) if path} == lines.keys()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a = 1\nb = income\n", "e.toml", "e.toml, line 2: the text is not TOML: Invalid value; text goes in quotes"),
        ("a = 1\n\na = 2\n", "e.toml", "e.toml, line 3: the text is not TOML: Cannot overwrite a value"),
        ("a = [1,\n2\n", "e.toml", "e.toml, line 2: the text is not TOML: Unclosed array"),
        ('{"a": 1,\n"b": tru}', "e.json", "e.json, line 2: the text is not JSON: Expecting value"),
        ('{"a": 1, "a": 2}', "e.json", "e.json: the text is not JSON: the name 'a' comes twice in one object"),
        ("[1]", "e.json", "e.json: expected an object of settings; got list"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_its_line(text, name, message):
    with pytest.raises(SettingsError) as caught:
        read_settings(text, name)
    assert str(caught.value).startswith(message)


def test_windows_line_ends_and_a_byte_order_mark_change_nothing():
    assert read_settings("\ufeff" + TOML.replace("\n", "\r\n"), "e.toml") == read_settings(TOML, "e.toml")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("trainer.epochs=20", ("trainer", "epochs"), 20),
        ("trainer.optimizer.learning_rate = 1e-3", ("trainer", "optimizer", "learning_rate"), 0.001),
        ("data.target=income", ("data", "target"), "income"),
        ("data.path=data/a b.csv", ("data", "path"), "data/a b.csv"),
        ('a."b.c".0.d="x=y"', ("a", "b.c", 0, "d"), "x=y"),
        ('callbacks=[{type="EarlyStopping"}]', ("callbacks",), [{"type": "EarlyStopping"}]),
        ("shuffle=True", ("shuffle",), "True"),  # text, which a boolean setting refuses
        ("a=1\nb=2", ("a",), "1\nb=2"),
    ],
)
def test_a_change_is_a_path_and_a_value(text, path, value):
    if "\n" in text:
        with pytest.raises(SettingsError, match="one value"):
            parse_change(text)
    else:
        assert parse_change(text) == (path, value)


@pytest.mark.parametrize("text", ["epochs", "=1", "a b=1", "a.=1", 'a="b', "a=", "a=[1", ""])
def test_a_change_that_is_not_a_path_and_a_value_is_refused(text):
    with pytest.raises(SettingsError, match=r"^--set "):
        parse_change(text)


def test_changes_mean_the_same_in_any_order():
    tree = {"a": {"b": 1, "c": [{"d": 2}]}}
    given = ["a.b=5", "a.c.0.d=6", "a.e.f=7", "a.e.g=8"]
    made = [
        apply_changes(tree, {text: parse_change(text) for text in order}) for order in itertools.permutations(given)
    ]
    assert all(one == {"a": {"b": 5, "c": [{"d": 6}], "e": {"f": 7, "g": 8}}} for one in made)
    assert tree == {"a": {"b": 1, "c": [{"d": 2}]}}


@pytest.mark.parametrize("texts", [("a=1", "a=2"), ("a.b=1", "a={c=1}"), ("a={c=1}", "a.b=1")])
def test_changes_whose_order_would_matter_are_refused(texts):
    with pytest.raises(SettingsError, match="change the same setting; give one of them"):
        apply_changes({}, {text: parse_change(text) for text in texts})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.b.c=1", "--set a.b.c=1: 'a.b' is 1, which has no settings"),
        ("a.c.1.d=1", "--set a.c.1.d=1: expected a place in the array 'a.c', 0 to 0; got 1"),
        ("a.c.d=1", "--set a.c.d=1: expected a place in the array 'a.c', 0 to 0; got 'd'"),
        ("a.e.0=1", "--set a.e.0=1: 'a.e' is empty, so it has no item 0; give the whole array"),
    ],
)
def test_a_change_that_leads_nowhere_is_refused(text, message):
    with pytest.raises(SettingsError) as caught:
        apply_changes({"a": {"b": 1, "c": [{"d": 2}], "e": []}}, {text: parse_change(text)})
    assert str(caught.value) == message


def test_toml_leaves_out_none_and_refuses_it_in_an_array():
    assert tomllib.loads(to_toml({"a": {"b": None, "c": {"d": None}}})) == {"a": {"c": {}}}
    with pytest.raises(SettingsError, match=r"setting 'a\.b' cannot be written as TOML; got None"):
        to_toml({"a": {"b": [1, None]}})
