"""A JSON schema of experiment files, with which editors complete names and mark mistakes."""

from __future__ import annotations

import inspect
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import PydanticUserError, TypeAdapter

from framework.experiments.files.building import chosen, component_classes, concrete
from framework.settings.component import Component


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
        annotations = [*(field.annotation for field in cls.model_fields.values()), chosen(cls)]
        for found in dict.fromkeys(kind for each in annotations for kind in component_classes(each)):
            classes: list[type[Component]] = [*concrete(found)]
            if classes != [found]:
                definitions[f"any {found.tag()}"] = _choice(classes)
            waiting += [sub for sub in classes if sub not in waiting]
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
        "additionalProperties": _schema(chosen(cls)) if chosen(cls) else False,
    }


def _setting(cls: type[Component], name: str) -> dict[str, Any]:
    field = cls.model_fields[name]
    if name in cls.named:  # pairs of a name and a value, written as a table
        (pair, _) = get_args(field.annotation)
        return {"type": "object", "additionalProperties": _schema(get_args(pair)[1])}
    schema = _schema(Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation)
    return schema | {"default": field.default} if type(field.default) in (bool, int, float, str) else schema


def _choice(classes: list[type[Component]]) -> dict[str, Any]:
    """Return the schema of a setting that takes one of these: a table with its type, or the name of a class."""
    classes = sorted(classes, key=lambda cls: cls.tag())
    named = [cls.tag() for cls in classes if not any(field.is_required() for field in cls.model_fields.values())]
    tables = [{"$ref": f"#/$defs/{cls.tag()}", "required": ["type"]} for cls in classes]
    return {"anyOf": [{"enum": named}, *tables]}


def _schema(annotation: Any) -> dict[str, Any]:
    """Return the schema of a type. None has no place in it: a file leaves the setting out instead."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    classes = component_classes(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Component):
        alone = [*concrete(annotation)] == [annotation]
        return {"$ref": f"#/$defs/{'' if alone else 'any '}{annotation.tag()}"}
    if origin in (Union, UnionType):
        schemas = [_schema(part) for part in arguments if part is not NoneType]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if origin is Annotated and classes:
        return _schema(arguments[0])
    if origin is tuple and classes:
        items = [_schema(part) for part in arguments if part is not ...]
        return {"type": "array", "items": items[0]} if ... in arguments else {"type": "array", "prefixItems": items}
    try:
        found: dict[str, Any] = TypeAdapter(annotation).json_schema()
    except PydanticUserError:  # a type without a schema
        return {}
    return found
