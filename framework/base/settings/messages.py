"""Messages: pydantic's errors in this package's words, one line for each setting."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import tomllib
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dis import opmap
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, PydanticUserError, ValidationError

from framework.base.errors import Advice, SettingsError, brief, misspelt, nearest

P = ParamSpec("P")
R = TypeVar("R")


def class_message(name: str, error: PydanticUserError, bases: tuple[type, ...], namespace: Mapping[str, Any]) -> str:
    """Word an error of a class's making: how to write the field."""
    text = str(error).splitlines()[0]
    without_type = error.code == "model-field-missing-annotation"
    for field, value in namespace.items():
        if without_type and (f"`{field} = " in text or f"Field '{field}' " in text):
            if base := next((getattr(base, field) for base in bases if hasattr(base, field)), None):
                kind, write = ("property", "@property, def") if isinstance(base, property) else ("method", "def")
                return f"{name}.{field} must be a {kind}: write {write} {field}(self): return {brief(value)}"
            return f"{name}: '{field} = {brief(value)}' {_suggest_annotation(field, value, bases)}"
    return f"{name}: {text}"


def _suggest_annotation(field: str, value: object, bases: tuple[type, ...]) -> str:
    """Say what to write instead of a value without a type: another name for an attribute of the class, or a setting."""
    if advice := next(filter(None, (elsewhere(base, field) for base in bases)), None):
        return f"is not a setting: {advice}"
    attributes = [(base, name) for base in bases for name in sorted(getattr(base, "__class_vars__", ()))]
    flags = [name for base, name in attributes if isinstance(value, bool) and isinstance(getattr(base, name), bool)]
    setting = f"write {field}: {type_of(value)} = {brief(value)}"
    if hint := nearest(field, flags):
        return f"has no type{hint} For a new setting, {setting}"
    return f"has no type; {setting}"


def is_ours(module: str | None) -> bool:
    """Return whether a module is a part of this package.

    Example:
        >>> is_ours("framework.formulas.losses"), is_ours("frameworks"), is_ours(None)
        (True, False, False)
    """
    return module is not None and module.partition(".")[0] == __name__.partition(".")[0]


def type_of(value: object) -> str:
    """Return how the type of a setting with this value is written."""
    return type(value).__name__ if type(value) in (bool, int, str) else "float"


def printable(text: str) -> str:
    r"""Return a text with escapes for what could command a terminal: a file may hold anything.

    Example:
        >>> printable("\x1b[31mred\nblack")
        '\\x1b[31mred\nblack'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def list_names(names: Sequence[str]) -> str:
    """Return names of columns with commas between them, at most 20.

    Example:
        >>> list_names(["age", "income"])
        'age, income'
    """
    shown = ", ".join(names[:20])
    return printable(shown if len(names) <= 20 else f"{shown}, ... ({len(names)} in all)")


DATA = "x and y go together, as the tuple (x, y)"


@functools.cache
def other_libraries() -> dict[str, dict[str, str]]:
    """Return what to write for names from elsewhere: for settings, and by the module, class or function asked for it.

    Example:
        >>> other_libraries()["framework"]["concat"]
        'Join'
    """
    tables = tomllib.loads(Path(__file__).with_name("other_libraries.toml").read_text(encoding="utf-8"))
    return {
        owner: {_bare(name): meaning for names, meaning in table.items() for name in names.split()}
        for owner, table in tables.items()
    }


@functools.lru_cache(maxsize=256)
def elsewhere(owner: Any, *names: str) -> str | None:
    """Return what to write instead of the first of names that another library has for such a class or function.

    Example:
        >>> class Model: ...
        >>> elsewhere(Model, "eval")
        'leave it out, forward(x) trains and model(x) predicts'
    """
    owners = owner.__mro__ if isinstance(owner, type) else [owner]
    known = other_libraries()
    tables = [known[cls.__name__] for cls in owners if cls.__name__ in known]
    return next((table[bare] for bare in map(_bare, names) for table in tables if bare in table), None)


def _bare(name: str) -> str:
    """Return a name without what libraries write differently, but with the underscores of ``__call__``."""
    return name if name.startswith("__") else name.lower().replace("_", "")


def answering(module: str, choices: Mapping[str, str]) -> Callable[..., NoReturn]:
    """Return a module's ``__getattr__``, which says what to write for a name that the module does not have.

    Args:
        module: Its name.
        choices: The names that may be meant, each with the module that has it.

    Example:
        >>> import framework
        >>> framework.MSELoss
        Traceback (most recent call last):
        AttributeError: framework has no 'MSELoss': write MeanSquaredError
    """

    def absent(name: str, depth: int = 1) -> NoReturn:
        tables, caller = other_libraries(), sys._getframe(depth)
        advice = {**tables["framework"], **tables.get(module, {})}.get(_bare(name))
        if not _is_sentence(advice or "") and (meant := closest(name, choices)):
            advice = f"write {meant}" if choices[meant] == module else f"write from {choices[meant]} import {meant}"
        elif advice is None and name[:1].isupper():
            advice = "there is none"
        elif advice:
            named = [word for word in dict.fromkeys(re.findall(r"\w+", advice)) if choices.get(word, module) != module]
            advice += "".join(f"; from {choices[word]} import {word}" for word in named)
        message = f"{module} has no {name!r}{f': {advice}' if advice else ''}"
        if caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]:  # which hides what an AttributeError says
            raise ImportError(message)
        raise AttributeError(message, name=name)

    return absent


def closest(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that another library's name means here, or else the one that it misspells."""
    known = {_bare(choice): choice for choice in choices}
    known |= {re.sub("(?<=.)(optimizer|schedule)$", "", key): choice for key, choice in known.items()}
    bare = _bare(name)
    if bare not in known and (meaning := other_libraries()["framework"].get(bare)):
        names = [] if _is_sentence(meaning) else meaning.split()
        return next((word for word in names if word in known.values()), None)
    if same := known.get(bare) or known.get(bare.removesuffix("loss")):
        return same
    alike = misspelt(bare, known)
    return alike and known[alike]


def _is_sentence(meaning: str) -> bool:
    """Return whether a meaning is advice, and not names of ours."""
    return meaning[:1].islower() and " " in meaning


def translate_name(name: str, choices: Collection[str]) -> str | None:
    """Return the choice that another library calls by this name, or None."""
    meanings = other_libraries()["settings"].get(_bare(name), "").split()
    return next((meaning for meaning in meanings if meaning in choices), None)


_WORDS = {
    "integer": "an integer",
    "number": "a number",
    "string": "a string",
    "boolean": "True or False",
    "tuple": "a list or a tuple",
}
"""Kinds of values, by what pydantic calls them after "a valid"."""


def settings_error(cls: type[BaseModel], error: ValidationError, components: Iterable[type]) -> SettingsError:
    """Return a validation error with a fault for each setting; ``components`` are what a hint may name."""
    expected: dict[str, list[str]] = {}
    inputs: dict[str, object] = {}
    faults, arrays = list[SettingsError](), set[str]()
    parts = error.errors(include_url=False)
    unknown = [str(fault["loc"][0]) for fault in parts if fault["type"] == "extra_forbidden"]
    parts.sort(key=lambda fault: fault["type"] != "extra_forbidden")  # first what may explain why another is missing
    for fault in parts:
        where = str(fault["loc"][0]) if fault["loc"] else ""
        context = fault.get("ctx", {})
        cause = context.get("error")
        text = str(cause) if fault["type"] == "value_error" else fault["msg"].removeprefix("Input should ")
        text = re.sub(r"\ba valid (integer|number|string|boolean|tuple)\b", lambda kind: _WORDS[kind[1]], text)
        if not where:
            made = cause if isinstance(cause, SettingsError) else SettingsError(text)
            faults += [made] if made.where[:1] == (cls.__name__,) else [made.within(cls.__name__)]
        elif fault["type"] == "extra_forbidden":
            faults.append(make_name_error(cls, where, setting_names(cls)))
        elif fault["type"] == "missing":
            if where in [translate_name(name, cls.model_fields) for name in unknown]:
                continue
            advice = elsewhere(cls, where) or f"write {where}=..."
            faults.append(SettingsError("is missing", name=f"{cls.__name__}: setting '{where}'", advice=advice))
        else:
            kind = context.get("class_name")
            wanted = f"be of class {kind}" if kind else text
            if fault["type"] == "tuple_type":
                arrays.add(where)
            if fault["type"] == "tuple_type" and isinstance(fault["input"], BaseModel):
                wanted += f": write [{type(fault['input']).__name__}(...)]"
            expected.setdefault(where, []).append(wanted)
            inputs[where] = fault["input"]
    for where, wanted_list in expected.items():
        either = " or" if wanted_list[0].startswith("be of class") else " or a"
        wanted = " or ".join(dict.fromkeys(wanted_list)).replace(" or be of class", either).replace(" or be ", " or ")
        kinds = [text.removeprefix("be of class ") for text in wanted_list if text.startswith("be of class ")]
        fault_of = SettingsError(f"must {wanted}", name=f"{cls.__name__}: setting '{where}'", got=inputs[where])
        fault_of.expected = "array" if where in arrays else ""
        known = elsewhere(cls, where) if kinds else None
        faults.append(fault_of.advise(known or component_hint(inputs[where], kinds, components)))
    return faults[0] if len(faults) == 1 else SettingsError(faults=faults)


_LOOSE = (Any, bool, int, float, tuple)
"""Annotations that say little of an argument's class: numbers and sequences come in many."""


@functools.lru_cache
def _signature(called: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, tuple[Any, ...]]]:
    """Return the signature of a class or a function, and the classes that a function's arguments must be of."""
    if isinstance(called, type):
        return inspect.signature(called.__init__), {}  # type: ignore[misc]
    kinds = {}
    for name, hint in get_type_hints(called).items():
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        classes = tuple(get_origin(option) or option for option in parts)
        if name != "return" and all(isinstance(kind, type) and kind not in _LOOSE for kind in classes):
            kinds[name] = classes
    return inspect.signature(called), kinds


def require_arguments(called: Callable[..., Any], args: tuple[Any, ...], settings: Mapping[str, Any]) -> None:
    """Word the error of a call of a class or a function with arguments that do not fit; do nothing if they fit."""
    signature, classes = _signature(called)
    args = (called, *args) if isinstance(called, type) else args
    hint = name = ""
    fault = SettingsError(where=called.__name__)
    try:
        arguments = signature.bind(*args, **settings).arguments
        wrong = [name for name in arguments if name in classes and not isinstance(arguments[name], classes[name])]
        if not wrong:
            return
        name, value, kinds = wrong[0], arguments[wrong[0]], [kind.__name__ for kind in classes[wrong[0]]]
        wanted = " or ".join({"Callable": "a function", "NoneType": "None"}.get(kind, f"a {kind}") for kind in kinds)
        fault = SettingsError(f"must be {wanted}", name=f"{called.__name__}: argument '{name}'", got=value)
        for attribute in (name, f"{name}_"):  # as of a run, and of an estimator
            if isinstance(getattr(value, attribute, ...), classes[name]):
                hint = f"write {type(value).__name__.lower()}.{attribute}"
        hint = hint or component_hint(value, kinds, ())
    except TypeError as error:
        fault.problem = str(error)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    named = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = setting_names(called) if named else [parameter.name for parameter in parameters]
    if unknown := [name for name in settings if name not in names]:
        raise make_name_error(called, unknown[0], names) from None
    if fault.problem.startswith("too many"):
        placed = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
        got = len(args) - ("self" in signature.parameters)
        fault.problem, fault.got = f"the arguments without a name are {', '.join(placed)}", got
        hint = DATA if "data" in placed else f"settings go by name: {', '.join(names)}" if named else ""
    elif not hint:
        needed = [
            parameter.name
            for parameter in parameters
            if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD
        ]
        if advice := elsewhere(called, name or "".join(re.findall(r"'(\w+)'$", fault.problem))):
            hint = advice
        elif needed and (not name or name in needed):
            hint = f"write {called.__name__}({', '.join(needed)}){f'; {DATA}' if 'data' in needed else ''}"
    raise fault.advise(hint) from None


def setting_names(cls: Any) -> list[str]:
    """Return the names of a class's settings; those that every layer has come last.

    Example:
        >>> from framework import Dropout
        >>> setting_names(Dropout)
        ['rate', 'seed', 'dtype']
    """
    first = [name for name in inspect.signature(cls).parameters if name in cls.model_fields]
    return sorted(first + [name for name in cls.model_fields if name not in first], key=("seed", "dtype").__contains__)


def make_name_error(owner: Any, name: str, choices: Iterable[str]) -> SettingsError:
    """Return the error for a name that a class or a function does not have.

    Example:
        >>> class Trainer: ...
        >>> print(make_name_error(Trainer, "optimiser", ["loss", "optimizer"]))
        Trainer: unknown setting 'optimiser'; did you mean 'optimizer'? Settings: loss, optimizer
    """
    names, kind = list(choices), "setting" if isinstance(owner, type) else "argument"
    advice, meant = elsewhere(owner, name), translate_name(name, names) or misspelt(name, names)
    error = SettingsError(f"unknown {kind} {name!r}", argument=name, expected="name", where=owner.__name__)
    error.advise(Advice(advice, after=": ") if advice else f"did you mean {meant!r}?" if meant else None)
    return error.advise(f"{kind.capitalize()}s: {', '.join(names) or 'none'}")


def word_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, so that arguments that do not fit raise a readable error.

    Example:
        >>> @word_errors
        ... def measure(x, unit=None):
        ...     return x
        >>> measure(unit=2)
        Traceback (most recent call last):
        framework.base.errors.SettingsError: measure: missing a required argument: 'x'; write measure(x)
    """

    @functools.wraps(function)
    def call(*args: P.args, **settings: P.kwargs) -> R:
        signature, classes = _signature(function)
        for name, value in (*zip(signature.parameters, args, strict=False), *settings.items()):
            if name in classes and not isinstance(value, classes[name]):
                require_arguments(function, args, settings)
        try:
            return function(*args, **settings)
        except TypeError:  # perhaps of the call itself; to bind the arguments before each call takes 9 microseconds
            require_arguments(function, args, settings)
            raise

    return call


def require_formula(caller: str, formula: object, method: str, kinds: str) -> None:
    """Raise SettingsError for an argument without this method, such as a class or a function; say what to write."""
    if isinstance(formula, type) or not hasattr(formula, method):
        hint = component_hint(formula, ["Activation", "Loss"], ())
        raise SettingsError(f"must be {kinds}", name=f"{caller}: argument 'formula'", got=formula, advice=hint)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and point at the caller's line outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and is_ours(frame.f_globals.get("__name__")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


_MAKERS = {kind: f"{kind}.of({{}})" for kind in ("Activation", "Metric", "Loss", "RowLoss", "Schedule")}
_MAKERS |= {"Callback": "on('epoch_end')({})", "Model": "Layer.of({})"}
"""The function that makes a component of each kind from a plain function."""


def component_hint(value: object, kinds: list[str], components: Iterable[type]) -> str:
    """Say what to write instead of a component's class or name, among the classes of the expected kinds."""
    if isinstance(value, type) and {base.__name__ for base in value.__mro__}.intersection(kinds):
        return f"write {_write_call(value)} with its brackets"
    known = {cls.__name__: cls for cls in components if any(base.__name__ in kinds for base in cls.__mro__)}
    if isinstance(value, str) and known:
        if meant := closest(value, known):
            return f"write {_write_call(known[meant])}"
        advice = other_libraries()["framework"].get(_bare(value), "")
        if advice.removeprefix("write ").partition("(")[0] in known:
            return advice
        return f"no {kinds[0]} has that name: define it first, derived from {kinds[0]}" if value.isidentifier() else ""
    if callable(value) and not isinstance(value, BaseModel):
        name = getattr(value, "__name__", "function").replace("<lambda>", "function")
        written = f"np.{name}" if type(value).__name__ == "ufunc" else name
        makers = [maker.format(written) for kind, maker in _MAKERS.items() if kind in kinds]
        return f"write {' or '.join(makers)}" if makers else ""
    return ""


def _write_call(cls: type) -> str:
    """Return how a class is called: with dots where it has settings that must be given."""
    fields = getattr(cls, "model_fields", {})
    return f"{cls.__name__}({'...' if any(field.is_required() for field in fields.values()) else ''})"
