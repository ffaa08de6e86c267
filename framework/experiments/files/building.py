"""Building components from the settings of a file, so that every error says where in the file its cause is.

A JSON schema says the same to editors, which complete names and mark mistakes with it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter

from framework.base.errors import Advice, FrameworkError, SettingsError, brief, nearest
from framework.base.settings.component import IMPORT, Component, PlainFunction, class_of, classes_by_tag
from framework.base.settings.messages import printable
from framework.experiments.files.text import KeyPath, to_toml

_FAILED = object()


def build(settings: Mapping[str, Any], kind: type[Component], where: Callable[[KeyPath], str]) -> Any:
    """Build the component of some settings.

    A table without ``type`` is of its setting's class, where only one is possible. Where a component is expected,
    the name of a class stands for the class with its defaults: ``loss = "CrossEntropy"``.

    Args:
        settings: The settings, as JSON or TOML have them.
        kind: The class of the whole.
        where: Returns the place of a path for messages, such as ``income.toml, line 3``.

    Raises:
        SettingsError: A setting is unknown, missing or wrong; one line for each, with its place.

    Example:
        >>> from framework import Dense, Sequential
        >>> build({"layers": [{"type": "Dense", "units": 3, "activation": "ReLU"}]}, Sequential, str)
        Sequential(Dense(activation=ReLU(), units=3))
        >>> build({"layers": [{"type": "Dense", "unit": 3}]}, Sequential, lambda path: "net.toml")
        Traceback (most recent call last):
        framework.base.errors.SettingsError: net.toml: Dense: unknown setting 'unit'; did you mean 'units'? ...
    """
    builder = _Builder(where)
    made = builder.component(settings, (kind,), ())
    if builder.errors:
        first, *others = {str(error): error for error in builder.errors}.values()
        raise SettingsError(faults=[first, *others]) if others else first
    return made


class _Builder:
    """Builds from the leaves up, and collects the errors."""

    def __init__(self, where: Callable[[KeyPath], str]) -> None:
        self.where = where
        self.errors: list[SettingsError] = []

    def error(self, path: KeyPath, fault: FrameworkError | str) -> Any:
        made = SettingsError(fault) if isinstance(fault, str) else SettingsError.of(fault)
        made.problem = printable(made.problem)
        self.errors.append(made.within(self.where(path)))
        return _FAILED

    def values(self, value: Any, kinds: tuple[type[Component], ...], path: KeyPath) -> Any:
        """Build every component in values by name."""
        if not isinstance(value, Mapping):
            return self.value(value, kinds, path)
        items = {key: self.value(item, kinds, (*path, key)) for key, item in value.items()}
        return _FAILED if any(item is _FAILED for item in items.values()) else items

    def value(self, value: Any, kinds: tuple[type[Component], ...], path: KeyPath) -> Any:
        """Build every component in a value; ``kinds`` are the classes that the setting takes."""
        if isinstance(value, Mapping):
            return self.component(value, kinds, path) if kinds or "type" in value else self.values(value, kinds, path)
        if isinstance(value, list):
            made = [self.value(item, kinds, (*path, index)) for index, item in enumerate(value)]
            return _FAILED if any(item is _FAILED for item in made) else made
        if kinds and isinstance(value, str) and re.fullmatch(r"([\w.]+:)?[^\W\d]\w*", value):
            return self.component({"type": value}, kinds, path)
        return value

    def setting(self, cls: type[Component], name: str, value: Any, path: KeyPath) -> Any:
        """Build every component in a setting of a class."""
        field = cls.model_fields.get(name)
        annotation = type_of_chosen(cls) if field is None else field.annotation
        kinds = component_classes(annotation)
        if kinds and isinstance(value, str) and _takes_numbers(annotation):
            names = [sub.tag() for kind in kinds for sub in concrete(kind)]
            if value not in names:
                what = " or ".join(f"the name of a {kind.__name__}" for kind in kinds)
                said = f"{cls.__name__}: setting '{name}' must be a number or {what}; got {brief(value)}"
                hint = nearest(value, names)
                if value.lower() in ("none", "null") and cls.model_fields[name].default is None:
                    hint = f"; for none, delete the line of {_name((*path, name))} in the file"
                return self.error((*path, name), said + hint)
        return (self.values if name in cls.named else self.value)(value, kinds, (*path, name))

    def component(self, table: Mapping[str, Any], kinds: tuple[type[Component], ...], path: KeyPath) -> Any:
        """Build the component of a table, after those in it."""
        cls = self.class_for(table, kinds, path)
        if cls is _FAILED:
            return _FAILED
        settings = {name: self.setting(cls, name, value, path) for name, value in table.items() if name != "type"}
        if any(value is _FAILED for value in settings.values()):
            return _FAILED
        try:
            return cls._build_from(settings)
        except FrameworkError as error:
            for fault in error.errors:
                self.refuse(cls, settings, table, path, fault)
            return _FAILED

    def class_for(self, table: Mapping[str, Any], kinds: tuple[type[Component], ...], path: KeyPath) -> Any:
        """Return the class that a table names, or the only one that is possible."""
        tag = table.get("type")
        if tag is None:
            if table and all(map(str.isdecimal, table)):  # made by a change of an item of an array
                said = f"{_name(path)} is not in the file, so it has no item {min(table)}; give the whole array"
                return self.error(path, said)
            if len(kinds) == 1 and not kinds[0].__abstractmethods__:
                return kinds[0]
            return self.error(path, f'{_name(path)} needs type = "..."{_choices(kinds)}')
        key_path = (*path, "type")
        if not isinstance(tag, str):
            return self.error(key_path, f"the type of {_name(path)} must be the name of a class; got {brief(tag)}")
        try:
            return class_of(tag)
        except SettingsError as error:
            module, colon, _ = tag.partition(":")
            known = f"give --import {module}, the module that defines it"
            if IMPORT in error.advice:
                error.advice = (Advice((known if colon else "write your own as module:Class") + _choices(kinds)),)
            return self.error(key_path, error)

    def refuse(self, cls: type[Component], settings: Any, table: Any, path: KeyPath, fault: FrameworkError) -> None:
        """Keep a fault of the error that a class raised for its settings, which come from a table."""
        name = fault.argument
        if name is None:
            self.error(path, fault)
        elif fault.expected == "array":
            self.error(*_array_advised(cls, name, table[name], (*path, name)))
        else:
            if fault.expected == "no table":
                fault.problem = "must not be a table"
            if fault.expected == "name" and len(fault.advice) == 1 and (inner := _within(settings, name)):
                fault.advice = Advice(f"did you mean '{'.'.join(map(str, (*path, inner)))}'?"), *fault.advice
            self.error((*path, name), fault)


def _choices(kinds: tuple[type[Component], ...]) -> str:
    """Return the names of the first classes of some kinds, for a message."""
    names = sorted(sub.tag() for kind in kinds for sub in concrete(kind))
    return f"; one of {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}" if names else ""


def _within(settings: Mapping[str, Any], name: str) -> str | None:
    """Return the path of a setting of this name in the components within some settings; None if there is none."""
    for key, value in settings.items():
        if isinstance(value, Component):
            inner = name if name in type(value).model_fields else _within(value.settings(), name)
            if inner is not None:
                return f"{key}.{inner}"
    return None


def _array_advised(cls: type[Component], name: str, value: Any, path: KeyPath) -> tuple[KeyPath, str]:
    """Return the place and the message for a value that must be an array, or for one of a table of arrays."""
    said = f"{cls.__name__}: setting '{name}' must be an array"
    if name in cls.named and isinstance(value, Mapping):
        wrong = next((key for key, item in value.items() if not isinstance(item, list)), None)
        if wrong is not None:
            return (*path, wrong), f"{said} for each name; got {brief(value[wrong])}"
    advice = f": write {to_toml({name: [value]}).strip()}" if isinstance(value, str) else f"; got {brief(value)}"
    return path, said + advice


def _takes_numbers(annotation: Any) -> bool:
    return annotation in (int, float) or any(map(_takes_numbers, get_args(annotation)))


def _name(path: KeyPath) -> str:
    return f"setting '{'.'.join(map(str, path))}'" if path else "the file"


def type_of_chosen(cls: type[Component]) -> Any:
    """Return the type of the settings whose names the user chooses, as those of a Join; None if there are none.

    Example:
        >>> from framework import Join, Sequential
        >>> type_of_chosen(Join), type_of_chosen(Sequential)
        (framework.models.base.Model | framework.formulas.activations.base.Activation, None)
    """
    return get_args(get_type_hints(cls)["__pydantic_extra__"])[1] if cls.model_config["extra"] == "allow" else None


def component_classes(annotation: Any) -> tuple[type[Component], ...]:
    """Return the component classes in an annotation, also those inside of unions and tuples.

    Example:
        >>> from framework import Loss, Metric
        >>> component_classes(tuple[Metric | Loss, ...])
        (<class 'framework.formulas.metrics.base.Metric'>, <class 'framework.formulas.losses.base.Loss'>)
    """
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return (annotation,)
    return tuple(dict.fromkeys(kind for argument in get_args(annotation) for kind in component_classes(argument)))


def concrete(kind: type[Component]) -> Iterator[type[Component]]:
    """Give the complete classes of a kind, as they are defined at this moment.

    Example:
        >>> from framework.models import Regularizer
        >>> {"L1", "L2"} <= {cls.__name__ for cls in concrete(Regularizer)}
        True
    """
    known, waiting = classes_by_tag(), [kind]
    for cls in waiting:
        waiting += [sub for sub in cls.__subclasses__() if sub not in waiting]
        plain = issubclass(cls, PlainFunction)  # which no file can hold
        partial = plain or cls.__abstractmethods__ or cls.__name__.startswith("_")
        if not partial and known.get(cls.tag()) is cls:  # the tag of a class defined again leads to the newest
            yield cls


def schema_of(kind: type[Component]) -> dict[str, Any]:
    """Return the JSON schema of a component's settings, with every class that a setting may be of.

    Classes of your own are in it if they are defined at this moment.

    Example:
        >>> from framework import Trainer
        >>> schema = schema_of(Trainer)
        >>> schema["$defs"]["EarlyStopping"]["properties"]["mode"]["enum"]
        ['min', 'max']
        >>> schema["$defs"]["Trainer"]["properties"]["optimizer"]
        {'$ref': '#/$defs/any Optimizer'}

    Source:
        https://json-schema.org/draft/2020-12
    """
    definitions: dict[str, Any] = {}
    waiting: list[type[Component]] = [kind]
    for cls in waiting:
        definitions[cls.tag()] = _table(cls)
        annotations = [*(field.annotation for field in cls.model_fields.values()), type_of_chosen(cls)]
        for base in dict.fromkeys(kind for annotation in annotations for kind in component_classes(annotation)):
            classes: list[type[Component]] = [*concrete(base)]
            waiting += [sub for sub in classes if sub not in waiting]
            if classes != [base]:  # a table with its type, or the name of a class that needs no settings
                classes.sort(key=lambda sub: sub.tag())
                named = [sub.tag() for sub in classes if not any(f.is_required() for f in sub.model_fields.values())]
                tables = [{"$ref": f"#/$defs/{sub.tag()}", "required": ["type"]} for sub in classes]
                definitions[f"any {base.tag()}"] = {"anyOf": [{"enum": named}, *tables]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/$defs/{kind.tag()}",
        "$defs": dict(sorted(definitions.items())),
    }


def _table(cls: type[Component]) -> dict[str, Any]:
    """Return the schema of a class's settings. Whether ``type`` must be given depends on where the table stands."""
    fields = cls.model_fields
    return {
        "type": "object",
        "description": (inspect.getdoc(cls) or "").partition("\n")[0],
        "properties": {"type": {"const": cls.tag()}, **{name: _setting(cls, name) for name in fields}},
        "required": [name for name, field in fields.items() if field.is_required()],
        "additionalProperties": _schema(type_of_chosen(cls)) if type_of_chosen(cls) else False,
    }


def _setting(cls: type[Component], name: str) -> dict[str, Any]:
    field = cls.model_fields[name]
    if name in cls.named:  # pairs of a name and a value, written as a table
        (pair, _) = get_args(field.annotation)
        return {"type": "object", "additionalProperties": _schema(get_args(pair)[1])}
    schema = _schema(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    return schema | {"default": field.default} if type(field.default) in (bool, int, float, str) else schema


def _schema(annotation: Any) -> dict[str, Any]:
    """Return the schema of a type. None has no place in it: a file leaves the setting out instead."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    classes = component_classes(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Component):
        alone = [*concrete(annotation)] == [annotation]
        return {"$ref": f"#/$defs/{'' if alone else 'any '}{annotation.tag()}"}
    if origin in (Union, UnionType):
        schemas = [_schema(argument) for argument in arguments if argument is not NoneType]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if origin is Annotated and classes:
        return _schema(arguments[0])
    if origin is tuple and classes:
        items = [_schema(argument) for argument in arguments if argument is not ...]
        return {"type": "array", "items": items[0]} if ... in arguments else {"type": "array", "prefixItems": items}
    try:
        schema: dict[str, Any] = TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # a type without a schema
        return {}
    return schema
