"""Component: settings that validate, print, compare and travel as JSON.

A formula (an activation, a loss, a metric, ...) is a class whose fields are its settings. Fields are frozen: what
changes during training lives elsewhere. pydantic does the validating; its own errors never reach the user.
"""

from __future__ import annotations

import inspect
import json
import numbers
import warnings
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import combinations, count
from operator import itemgetter
from types import FunctionType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, Union, cast, get_args, get_origin

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PydanticUserError, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from framework.base.errors import Advice, FrameworkError, SettingsError, Text, brief, nearest
from framework.base.lazy import families, import_public
from framework.base.settings.messages import (
    class_message,
    closest,
    component_hint,
    elsewhere,
    is_ours,
    make_name_error,
    require_arguments,
    setting_names,
    settings_error,
    type_of,
)

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # not imported: another version of pydantic may keep it elsewhere

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]


def _dtype_name(value: Any) -> Any:
    try:
        return np.dtype(value).name
    except TypeError:
        return value


Dtype = Annotated[Literal["float32", "float64"], BeforeValidator(_dtype_name)]


def require_dtype(name: str, value: Any) -> str:
    """Return the name of a dtype; ``name`` begins the message.

    Raises:
        SettingsError: It is neither float32 nor float64.

    Example:
        >>> require_dtype("astype: argument 'dtype'", np.float32)
        'float32'
    """
    if (dtype := _dtype_name(value)) not in ("float32", "float64"):
        raise SettingsError("must be 'float32' or 'float64'", name=name, got=value)
    return str(dtype)


T = TypeVar("T")
_BIRTHS = count()
_NAMED = object()
"""Marks a setting that is written as a dict, and kept as a tuple of pairs, which cannot change."""

Named = Annotated[tuple[tuple[str, T], ...], _NAMED]
"""Values by name, in order: ``columns: Named[float]`` takes ``columns={"age": 1.0}``."""


class ComponentType(ModelMetaclass):
    """Words pydantic's class-creation errors, and refuses fields that could be changed in place.

    Attributes:
        born: The class's place in the order of creation; unset on a rejected class.
        named: The settings that are written as a dict.
    """

    born: int
    named: frozenset[str]
    _signature: Any

    def __new__(
        cls, name: str, bases: tuple[type[Any], ...], namespace: dict[str, Any], **options: Any
    ) -> ComponentType:
        """Create the class, or raise SettingsError that says how to write the field."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Field name .* shadows an attribute", UserWarning)
                made = super().__new__(cls, name, bases, namespace, **options)
        except PydanticUserError as error:
            raise SettingsError(class_message(name, error, bases, namespace)) from None
        except UserWarning as warning:
            field = str(warning).split('"')[1]
            problem = f"has the name of something that {bases[0].__name__} already has; choose another name"
            raise SettingsError(problem, name=f"{name}: setting '{field}'") from None
        for field, info in made.__pydantic_fields__.items():  # type: ignore[attr-defined]
            if field == "type":
                raise SettingsError(
                    "has the name of the class's tag in JSON; choose another name", name=f"{name}: setting 'type'"
                )
            if info.alias or info.validation_alias or info.serialization_alias:
                raise SettingsError(
                    "has an alias; leave it out, a setting has one name", name=f"{name}: setting '{field}'"
                )
            if mutable := _mutable(info.annotation):
                raise SettingsError(
                    f"is a {mutable}, which could be changed in place; write a tuple, e.g. {field}: tuple[float, "
                    "...] = ()",
                    name=f"{name}: setting '{field}'",
                )
        if not is_ours(made.__module__):  # mypy checks those of the library, whose import is to be fast
            _require_overrides(made, namespace)
        component = cast("ComponentType", made)
        fields = made.__pydantic_fields__.items()  # type: ignore[attr-defined]
        component.named = frozenset(field for field, info in fields if _NAMED in info.metadata)
        component.born = next(_BIRTHS)
        return component

    @property
    def __signature__(cls) -> inspect.Signature:
        """The settings with plain types, for help() and editors."""
        made: inspect.Signature = cls._signature
        parameters = {
            name: parameter.replace(annotation=Text(_type_text(parameter.annotation)))
            for name, parameter in made.parameters.items()
        }
        if parameters.pop("args", None) and (name := obvious_setting(cls)):
            first = parameters.pop(name).replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
            parameters = {name: first, **parameters}
        return made.replace(parameters=[*parameters.values()], return_annotation=inspect.Signature.empty)

    @__signature__.setter
    def __signature__(cls, value: Any) -> None:
        """Take what pydantic makes of the fields."""
        type.__setattr__(cls, "_signature", value)

    def __dir__(cls) -> list[str]:
        """Leave out what pydantic brings along: it is not part of this package's interface."""
        return [name for name in super().__dir__() if name.startswith("_") or not _is_foreign(cls, name)]

    def __call__(cls, /, *args: Any, **settings: Any) -> Any:
        """Make an instance; an abstract class says which formula is missing."""
        if missing := sorted(cls.__abstractmethods__):
            written = vars(cls).keys() & {"forward", "call"}
            advice = elsewhere(cls, *written, missing[0]) or f"write {', '.join(map(repr, missing))} in the class"
            hint = component_hint(args[0], [cls.__name__], _subclasses(cls)) if args else ""
            raise SettingsError(f"{cls.__name__} is not complete", advice=hint or Advice(advice, after=": "))
        try:
            try:
                return super().__call__(*args, **settings)
            except TypeError:
                require_arguments(cls, args, settings)
                raise
        except SettingsError as error:
            if not (named := cls._by_name(args, settings)):
                raise
            for fault in error.errors:
                fault.advice = ()
            raise error.advise(f"write {named}") from None

    def _by_name(cls, args: tuple[Any, ...], settings: dict[str, Any]) -> str:
        """Return how to write a refused call with names, if there is one way that works, or nothing.

        A number fits many settings, so it is taken only for a required one. A user's class is not tried: its
        constructor may do anything.
        """
        fields: dict[str, Any] = cls.__pydantic_fields__  # type: ignore[attr-defined]
        names = [name for name in setting_names(cls) if name not in ("seed", "dtype", *settings)]
        calls = []
        known = is_ours(cls.__module__) and 0 < len(args) < 4 and fields.keys() >= settings.keys()
        for chosen in combinations(names, len(args)) if known else ():
            call = dict(zip(chosen, args, strict=True)) | settings
            if any(isinstance(call[name], numbers.Number) and not fields[name].is_required() for name in chosen):
                continue
            with suppress(Exception):
                call = {name: _from_text(fields[name].annotation, value) for name, value in call.items()}
                super().__call__(**call)
                calls.append(", ".join(f"{name}={brief(value)}" for name, value in call.items()))
        return f"{cls.__name__}({calls[0]})" if len(calls) == 1 else ""


def obvious_setting(cls: Any) -> str | None:
    """Return the setting that needs no name: the only required one, or else the only one; None if a base has another.

    Example:
        >>> from framework import EarlyStopping, Huber
        >>> obvious_setting(Huber), obvious_setting(EarlyStopping)
        ('delta', None)
    """
    fields: dict[str, Any] = cls.__pydantic_fields__
    own = {name: field for name, field in fields.items() if name not in ("seed", "dtype") and not field.kw_only}
    names = [name for name, field in own.items() if field.is_required()] or [*own]
    bases = (base for base in cls.__mro__[1:] if isinstance(base, ComponentType) and not base.__abstractmethods__)
    return names[0] if len(names) == 1 and {*map(obvious_setting, bases)} <= {None, *names} else None


class Component(BaseModel, metaclass=ComponentType):
    """The base of everything that has settings and no state.

    Settings go by name and are validated: numbers are any finite real Python or NumPy scalar (no bool, no text),
    sequences become tuples, unknown names are refused. One setting may be given without its name: the only required
    one, or the only setting of a class that requires none. ``Field(kw_only=True)`` forbids it. Components are frozen,
    compare and hash by class and settings, and their JSON is tagged with their class. Their repr evaluates back, and
    leaves out settings that have their default.

    Raises:
        SettingsError: A setting is unknown, missing or out of range; one line for each.

    Example:
        >>> class Scaled(Component):
        ...     factor: Positive = 1.0
        >>> scaled = Scaled(factor=2)
        >>> scaled, scaled == Scaled(2.0), Scaled()
        (Scaled(factor=2.0), True, Scaled())
        >>> Component.from_json(scaled.to_json()) == scaled
        True
        >>> Scaled(facter=2)
        Traceback (most recent call last):
        framework.base.errors.SettingsError: Scaled: unknown setting 'facter'; did you mean 'factor'? Settings: factor
    """

    __slots__ = ("_compared", "_inner", "_programs")  # settings and text, components inside, traced formulas

    keeps: ClassVar[str] = ""
    """Where a class of this kind keeps what changes, for the message of a refused assignment."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        arbitrary_types_allowed=True,
    )

    def __init__(self, /, *args: object, **settings: Any) -> None:
        """Validate ``settings``; see the fields of the class."""
        obvious = obvious_setting(type(self)) if args else None
        if obvious in settings:
            raise SettingsError("is given twice; write it once", name=f"{type(self).__name__}: setting '{obvious}'")
        if args[obvious is not None :]:
            kind, names = type(self).__name__, setting_names(type(self))
            advice = f"write {kind}()(...)" if callable(self) and not names else None
            advised = [(elsewhere(type(self), *(base.__name__ for base in type(arg).__mro__)), arg) for arg in args]
            advice, arg = next(filter(itemgetter(0), advised), (advice, args[-1]))
            unnamed = SettingsError(
                f"settings go by name: {kind}({', '.join(f'{name}=...' for name in names)})",
                got=Text(f"{brief(arg)} without a name"),
                advice=advice,
            )
            unknown = [make_name_error(type(self), name, names) for name in settings if name not in names]
            raise SettingsError(faults=[unnamed, *unknown]) if unknown else unnamed
        if obvious:
            settings[obvious] = args[0]
        try:
            super().__init__(**settings)
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                cause = problem.get("ctx", {}).get("error")
                if isinstance(cause, FrameworkError) and not isinstance(cause, SettingsError):
                    raise cause from None  # such as a formula's wrong shape, found when it is put to work
            raise settings_error(type(self), error, [*_subclasses(Component)]) from None

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: components are frozen. A property with a setter still works."""
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, property) and attribute.fset is not None:
            attribute.fset(self, value)
            return
        kind = type(self).__name__
        keeps = f"; {self.keeps}" if self.keeps else ""
        if name in type(self).model_fields or name in (getattr(self, "__pydantic_extra__", None) or {}):
            raise SettingsError(f"{kind} is frozen: use replace({name}={value!r}), which gives a new {kind}{keeps}")
        hint = f"{nearest(name, type(self).model_fields)}; write {name}: {type_of(value)} = ... in the class{keeps}"
        advice = elsewhere(type(self), name)
        raise SettingsError(f"{kind} has no setting '{name}'{f': {advice}' if advice else hint}")

    if not TYPE_CHECKING:  # so that a type checker still reports unknown attributes

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; for a method of another library, say what to write here."""
            if not name.startswith("_") and (advice := elsewhere(type(self), name)):
                raise AttributeError(f"{type(self).__name__} has no {name!r}: {advice}", name=name, obj=self)
            return super().__getattr__(name)

    def __dir__(self) -> list[str]:
        """Leave out what pydantic brings along: it is not part of this package's interface."""
        return [name for name in super().__dir__() if name.startswith("_") or not _is_foreign(type(self), name)]

    def __delattr__(self, name: str) -> None:
        raise SettingsError(f"{type(self).__name__} is frozen: '{name}' cannot be deleted")

    def __eq__(self, other: object) -> bool:
        """Compare class and settings. 0.0 and -0.0 differ, as 1 and 1.0 do: a formula may compute another thing."""
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self._as_compared() == cast("Self", other)._as_compared()

    def __hash__(self) -> int:
        return hash((type(self), *self._as_compared()[0].values()))

    def _as_compared(self) -> tuple[dict[str, Any], str]:
        """Return the settings, and their text; both are found once."""
        try:
            return cast("tuple[dict[str, Any], str]", Component._compared.__get__(self))  # type: ignore[attr-defined]
        except AttributeError:
            settings = self.settings()
            object.__setattr__(self, "_compared", (settings, repr(settings)))
            return self._as_compared()

    def __str__(self) -> str:
        return repr(self)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed, validated as a whole.

        ``optimizer__learning_rate=0.1`` changes a setting of the setting ``optimizer``.

        Raises:
            SettingsError: A setting is unknown or out of range.

        Example:
            >>> from framework import MeanSquaredError, SGDOptimizer, Trainer
            >>> trainer = Trainer(loss=MeanSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1))
            >>> trainer.replace(epochs=3, optimizer__momentum=0.9).optimizer.momentum
            0.9
        """
        settings, inner = self.settings(), dict[str, dict[str, Any]]()
        for name, value in changes.items():
            outer, separator, rest = name.partition("__")
            if separator and isinstance(settings.get(outer), Component):
                inner.setdefault(outer, {})[rest] = value
            else:
                settings[name] = value
        for outer, parts in inner.items():
            settings[outer] = settings[outer].replace(**parts)
        return self._build_from(settings)

    def settings(self) -> dict[str, Any]:
        """Return the settings by name, as they are.

        Example:
            >>> from framework import EarlyStopping
            >>> EarlyStopping(patience=3).settings()["patience"]
            3
        """
        values = self.__dict__
        named = {name: values[name] for name in type(self).__pydantic_fields__}
        return named | (self.__pydantic_extra__ or {})  # names that the user chooses, as those of a Join

    @classmethod
    def _build_from(cls, settings: Mapping[str, Any]) -> Self:
        """Build from settings by name; a class with positional arguments overrides it."""
        return cls(**settings)

    @classmethod
    def tag(cls) -> str:
        """Return the name of this class in JSON: ``Sigmoid`` for a library class, ``module:Name`` for others.

        Example:
            >>> from framework import Sigmoid
            >>> Sigmoid.tag()
            'Sigmoid'
        """
        return cls.__name__ if is_ours(cls.__module__) else f"{cls.__module__}:{cls.__qualname__}"

    @property
    def origin(self) -> tuple[Any, ...]:
        """The origin of the formulas: the class, and the function of a plain one."""
        return (type(self),)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the settings as JSON, tagged with the class, nested components included.

        Raises:
            SettingsError: A setting is a Python function, which JSON cannot hold.

        Example:
            >>> from framework import EarlyStopping
            >>> EarlyStopping(patience=3).to_json()[:40]
            '{"type":"EarlyStopping","monitor":"val_l'
        """
        try:
            separators = None if indent else (",", ":")
            return json.dumps(_as_json(self), indent=indent, separators=separators, ensure_ascii=False)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{type(self).__name__} cannot be written as JSON: {error}") from None
        except RecursionError:
            raise SettingsError(f"{type(self).__name__} cannot be written as JSON: it is nested too deeply") from None

    def _require_json(self) -> None:
        """Raise ValueError where JSON cannot hold a setting."""

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Build the component that ``to_json`` wrote.

        The tag is compared with the classes that the program has defined; nothing is imported.

        Raises:
            SettingsError: The text is no JSON object with a ``type``, or its class is not defined or not a ``cls``.

        Example:
            >>> from framework import Activation
            >>> Activation.from_json('{"type": "Sigmoid"}')
            Sigmoid()
        """
        data = parse_json(text, f"{cls.__name__}.from_json", SettingsError)
        if not isinstance(data, dict) or not isinstance(data.get("type"), str):
            raise SettingsError(f'{cls.__name__}.from_json: expected an object with "type"; got {text[:60]!r}')
        try:
            made = _build(data)
        except RecursionError:
            raise SettingsError(f"{cls.__name__}.from_json: the text is nested too deeply") from None
        if not isinstance(made, cls):
            raise SettingsError(f"{cls.__name__}.from_json: expected a {cls.__name__}; got {type(made).__name__}")
        return made

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        for name, value in settings.items():
            if isinstance(value, dict) and not isinstance(value.get("type"), str) and name not in cls.named:
                if name not in cls.model_fields and cls.model_config["extra"] == "forbid":
                    settings = settings | {name: brief(value)}  # which is refused by its name
                    continue
                problem = "must not be a dict, which could be changed in place; write a tuple"
                raise SettingsError(problem, name=f"setting '{name}'", expected="no table", got=value)
        return {name: _plain(_pairs(value) if name in cls.named else value) for name, value in settings.items()}

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        named = type(self).named
        return [(name, dict(value) if name in named else value) for name, value in super().__repr_args__()]

    def __repr_str__(self, join_str: str) -> str:
        shown = ((name, value) for name, value in self.__repr_args__() if not self._has_default(name or ""))
        return join_str.join(repr(value) if name is None else f"{name}={value!r}" for name, value in shown)

    def _has_default(self, name: str) -> bool:
        """Return whether a setting has its default, to the sign of a zero."""
        if (field := type(self).__pydantic_fields__.get(name)) is None:
            return False
        parameter, values = type(self)._signature.parameters.get(name), self.__dict__
        default = parameter.default if parameter else field.default  # a class may write its own __init__
        if field.default_factory is not None:
            default = field.get_default(call_default_factory=True, validated_data=values)
        value = values[name]
        default = float(default) if type(default) is int and type(value) is float else default
        return value is default or (type(value) is type(default) and repr(value) == repr(default))


def full_repr(value: Any) -> str:
    """Return the repr of a value with all settings of the components in it, defaults too.

    Example:
        >>> from framework import Huber
        >>> repr((Huber(),)), full_repr((Huber(),))
        ('(Huber(),)', '(Huber(delta=1.0),)')
    """
    if isinstance(value, Component) and type(value).__repr__ is BaseModel.__repr__:
        parts = (f"{f'{name}=' if name else ''}{full_repr(setting)}" for name, setting in value.__repr_args__())
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {full_repr(item)}' for name, item in value.items())}}}"
    if isinstance(value, tuple):
        return f"({', '.join(map(full_repr, value))}{',' * (len(value) == 1)})"
    return repr(value)


def _from_text(kind: Any, value: Any) -> Any:
    """Return the component of this kind that a text names, such as ``ReLU()`` for "relu"; other values as they are."""
    classes = _subclasses(kind) if isinstance(kind, ComponentType) else ()
    known = {cls.__name__: cls for cls in classes if is_ours(cls.__module__)}  # two classes of users may share a name
    meant = closest(value, known) if isinstance(value, str) else None
    return known[meant]() if meant else value


def _pairs(value: Any) -> Any:
    """Return a dict as pairs, but leave the JSON object of a component as it is."""
    is_pairs = isinstance(value, Mapping) and not isinstance(value.get("type"), str)
    return tuple(value.items()) if is_pairs else value


def _type_text(annotation: Any) -> str:
    """Return a type in short words, without constraints and validators.

    Example:
        >>> _type_text(tuple[Positive, ...] | None)
        'tuple[float, ...] | None'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_text(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(map(_type_text, arguments))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_type_text, arguments))}]"
    if annotation in (None, type(None), ...):
        return "..." if annotation is ... else "None"
    return annotation if isinstance(annotation, str) else str(getattr(annotation, "__name__", annotation))


def _is_foreign(cls: type, name: str) -> bool:
    """Return whether a public name comes from pydantic."""
    owner = next((base for base in cls.__mro__ if name in vars(base)), None)  # None: a setting of an instance
    return owner is BaseModel or name.startswith("model_") or name in ("born", "named")


def _require_overrides(cls: type, own: Mapping[str, Any]) -> None:
    """Check that the methods of a user's class take what the library gives to those that they override.

    Raises:
        SettingsError: One does not; or it overrides a property.
    """
    for name, method in own.items():  # a method that only a user's base class has may change its arguments
        base = next(
            (vars(base)[name] for base in cls.__mro__[1:] if name in vars(base) and is_ours(base.__module__)), None
        )
        if not isinstance(method, FunctionType) or (name.startswith("_") and name != "__call__"):
            continue
        if isinstance(base, property):
            raise SettingsError(f"{cls.__name__}.{name} must be a property: write @property in the line before it")
        if not isinstance(base, FunctionType):
            continue
        expected, got = inspect.signature(base).parameters, inspect.signature(method)
        by_name = {key: None for key, param in expected.items() if param.kind is param.KEYWORD_ONLY}
        try:
            got.bind(*(key for key in expected if key not in by_name), **by_name)
        except TypeError:
            if not any(param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD) for param in expected.values()):
                hint = f": {advice}" if (advice := elsewhere(cls, name)) else ""
                raise SettingsError(
                    f"{cls.__name__}.{name} must take ({', '.join(expected)}); got {got}{hint}"
                ) from None


def belongs_to(cls: type, method: str, *formulas: str) -> bool:
    """Return whether ``method`` was written for the formulas of ``cls``, not for those of a class it inherits from.

    Example:
        >>> class Line:
        ...     def value(self, x):
        ...         return x
        ...
        ...     def slope(self, x):
        ...         return 1
        >>> class Parabola(Line):
        ...     def value(self, x):
        ...         return x * x
        >>> belongs_to(Line, "slope", "value"), belongs_to(Parabola, "slope", "value")
        (True, False)
    """
    writer = next(base for base in cls.__mro__ if method in vars(base))
    written = partial(inspect.getattr_static, default=None)
    return all(written(writer, formula) in (None, written(cls, formula)) for formula in formulas)


def _as_json(value: Any) -> Any:
    """Return a component or a setting as JSON: pydantic's serializer would turn an interruption into its own error."""
    if isinstance(value, Component):
        value._require_json()
        parts = value.settings().items()
        named = type(value).named
        return {"type": value.tag()} | {
            name: _as_json(dict(inner) if name in named else inner) for name, inner in parts
        }
    if isinstance(value, dict):
        return {name: _as_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [*map(_as_json, value)]
    return value if value is None or type(value) in (bool, int, float, str) else to_jsonable_python(value)


def _plain(value: Any) -> Any:
    """Turn NumPy scalars and fractions into Python numbers, sequences into tuples, tagged objects into components."""
    match value:
        case np.ndarray(shape=()):
            return _plain(value[()])
        case np.generic():
            return value.item()
        case np.ndarray() | list() | tuple():
            return tuple(map(_plain, value))
        case bool() | int() | float():
            return value
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return float(value)
        case {"type": str()}:
            return _build(value)
        case dict():
            raise SettingsError(
                f'a dict must be the JSON object of a component, with "type"; got {brief(value)}; '
                "write numbers as a tuple"
            )
        case _:
            return value


def _build(data: Mapping[str, Any]) -> Component:
    cls = class_of(data["type"])
    pairs = {name: _pairs(value) if name in cls.named else value for name, value in data.items() if name != "type"}
    for name, value in pairs.items():
        if isinstance(value, dict) and "type" not in value and name not in cls.model_fields:
            pairs[name] = brief(value)  # which is refused by its name
    return cls._build_from({name: _plain(value) for name, value in pairs.items()})


def _subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    """Give the classes below a class; those of the library are imported now, if that has not been needed before."""
    for name in families():
        import_public(name)
    waiting = [cls]
    for base in waiting:
        waiting += base.__subclasses__()
    yield from waiting[1:]


def classes_by_tag() -> dict[str, type[Component]]:
    """Return the class of each tag; of a class defined twice, in a notebook cell run again, the newest.

    Example:
        >>> from framework import Sigmoid
        >>> classes_by_tag()["Sigmoid"] is Sigmoid
        True
    """
    made = (cls for cls in _subclasses(Component) if "born" in vars(cls))
    return {cls.tag(): cls for cls in sorted(made, key=lambda cls: cls.born)}


IMPORT = Advice("import the module that defines it first", command="give --import MODULE, which defines it")


def class_of(tag: str) -> type[Component]:
    """Return the class of a tag; see ``classes_by_tag``.

    Raises:
        SettingsError: The program has not defined it.

    Example:
        >>> from framework import Sigmoid
        >>> class_of("Sigmoid") is Sigmoid
        True
    """
    if tag in families() and isinstance(cls := import_public(tag), ComponentType) and cls is not Component:
        return cast("type[Component]", cls)
    known = classes_by_tag()
    if tag in known:
        return known[tag]
    bare = tag.rpartition(":")[2]
    scripts = ("__main__", "__mp_main__")  # a class of a script that was written from a module, or the reverse
    named = [name for name in known if ":" in tag and ":" in name and name.rpartition(":")[2] == bare]
    alike = [name for name in named if tag.startswith(scripts) or name.startswith(scripts)]
    if len(alike) == 1:
        return known[alike[0]]
    others = f"; there are {' and '.join(alike)}" if alike else ""
    public = [name for name in known if not name.startswith("_")]
    meant = None if ":" in tag else closest(bare, public)
    problem = f"type {tag!r} is not a class that this program has defined"
    if meant:
        raise SettingsError(problem, argument="type", advice=f"did you mean {meant!r}?")
    raise SettingsError(f"{problem}{others}", argument="type", advice=IMPORT)


def require_named(cls: type, kind: str, written: str, unnamed: tuple[object, ...], named: Mapping[str, Any]) -> None:
    """Check what a class is given whose settings have names that the user chooses, such as a Join.

    Raises:
        SettingsError: There are none, one has no name, or a name cannot be one.

    Example:
        >>> require_named(dict, "input", "dict(numbers=None)", (), {"a.b": None})
        Traceback (most recent call last):
        framework.base.errors.SettingsError: dict: the name of an input must not be 'type' or hold a dot; got 'a.b'
    """
    if unnamed or not named:
        got = f"; got {brief(unnamed[0])} without a name" if unnamed else ""
        raise SettingsError(f"give each {kind} a name: {written}{got}", where=cls.__name__)
    for name in named:
        if name in ("type", "") or "." in name:
            raise SettingsError(
                f"the name of an {kind} must not be 'type' or hold a dot; got {name!r}", where=cls.__name__
            )


def parse_json(text: str | bytes, name: str, error: type[FrameworkError]) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text.
        name: The caller, for messages.
        error: What to raise.

    Raises:
        FrameworkError: Of the class ``error``: the text is no JSON, or an object has one name twice, of which Python
            would silently take the last.

    Example:
        >>> parse_json('{"a": 1, "a": 2}', "from_json", FrameworkError)
        Traceback (most recent call last):
        framework.base.errors.FrameworkError: from_json: the text is not JSON: the name 'a' comes twice in one object
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, TypeError, RecursionError) as cause:
        raise error(f"the text is not JSON: {cause}", where=name) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} comes twice in one object")
    return made


def _mutable(annotation: Any) -> str | None:
    """Name the first list, dict, set or array in an annotation."""
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and issubclass(kind, list | dict | set | bytearray | np.ndarray):
        return kind.__name__
    if kind is Callable or get_origin(annotation) is Callable:
        return None
    return next((mutable for argument in get_args(annotation) if (mutable := _mutable(argument))), None)


class PlainFunction(Component):
    """A component whose formula is a function. It has no JSON form, because JSON holds no functions.

    Attributes:
        function: The formula.
        made_by: How users make it, for the repr and for messages.
    """

    made_by: ClassVar[str]
    function: Callable[..., Any]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Have messages name the class as users do."""
        super().__pydantic_init_subclass__(**options)
        cls.__name__ = cls.made_by

    @classmethod
    def tag(cls) -> str:
        """Return a name that no class of the library has, because the formula is the user's, and is checked as such."""
        return f"function:{cls.__name__}"

    @property
    def origin(self) -> tuple[Any, ...]:
        return type(self), self.function

    @property
    def key(self) -> str:
        """The function's name, which its figure has in a history."""
        return name_of(self.function)

    def __repr__(self) -> str:
        return f"{self.made_by}({name_of(self.function)})"

    def __eq__(self, other: object) -> bool:
        """Compare the function by identity, and the other settings by value."""
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = self.settings(), other.settings()
        return mine.pop("function") is theirs.pop("function") and mine == theirs

    def __hash__(self) -> int:
        """Hash the function by identity."""
        return hash((type(self), id(self.function)))

    def _require_json(self) -> None:
        raise ValueError(f"{self!r} is a Python function, which JSON cannot hold: write it as a class")


def name_of(function: Any) -> str:
    """Return the name of a function, for messages and columns of a history."""
    return str(getattr(function, "__name__", type(function).__name__)).strip("<>")


def list_undeclared(signature: inspect.Signature, first: int, declared: Container[str]) -> list[str]:
    """Return the names that a call must give, after the ``first`` arguments, and that are not declared.

    Example:
        >>> list_undeclared(inspect.signature(lambda x, w, b, c=1: x), 1, ["w"])
        ['b']
    """
    return [
        name
        for name, parameter in [*signature.parameters.items()][first:]
        if parameter.default is parameter.empty and name not in declared and not str(parameter).startswith("*")
    ]


def require_function(made_by: str, function: object, *arguments: str, names: Collection[str] | None = None) -> None:
    """Check that a function takes these arguments by position, and those that ``shapes`` names, if any, by name.

    Raises:
        SettingsError: It does not; says what it takes.

    Example:
        >>> require_function("Loss.of", lambda p: p, "prediction", "target")
        Traceback (most recent call last):
        framework.base.errors.SettingsError: Loss.of: the function must take (prediction, target); lambda takes (p)
    """
    wanted = ", ".join([*arguments, *(names or ())])
    if isinstance(function, type | Component) or not callable(function):
        advice = f"; leave out {made_by}" if isinstance(function, Component) else ""
        raise SettingsError(
            f"the argument must be a function of ({wanted}); got {brief(function)}{advice}", where=made_by
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have none
        return
    try:
        signature.bind(*arguments, **dict.fromkeys(names or ()))
    except TypeError:
        more = [] if names is None else list_undeclared(signature, len(arguments), names)
        advice = f"; give shapes={{'{more[0]}': ...}} for the parameter {more[0]}" if more else ""
        raise SettingsError(
            f"the function must take ({wanted}); {name_of(function)} takes {signature}{advice}", where=made_by
        ) from None
