"""Messages: pydantic's errors in this package's words, one line for each setting."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from dis import opmap
from typing import Any, NoReturn, ParamSpec, TypeVar

from pydantic import BaseModel, PydanticUserError, ValidationError

from framework.errors import SettingsError, nearest

P = ParamSpec("P")
R = TypeVar("R")


def class_message(name: str, error: PydanticUserError, bases: tuple[type, ...], namespace: Mapping[str, Any]) -> str:
    """Word an error of a class's making: how to write the field."""
    text = str(error).splitlines()[0]
    without_type = error.code == "model-field-missing-annotation"
    for field, value in namespace.items():
        if without_type and (f"`{field} = " in text or f"Field '{field}' " in text):
            if any(isinstance(getattr(base, field, None), property) for base in bases):
                return f"{name}.{field} must be a property: write @property, def {field}(self): return {brief(value)}"
            return f"{name}: '{field} = {brief(value)}' has no type; write {field}: {type_of(value)} = {brief(value)}"
    return f"{name}: {text}"


def type_of(value: object) -> str:
    """Return how the type of a setting with this value is written."""
    return type(value).__name__ if type(value) in (bool, int, str) else "float"


def brief(value: object) -> str:
    """Return ``repr(value)``, shortened in the middle if it is long.

    Example:
        >>> brief("short"), len(brief(list(range(1000))))
        ("'short'", 200)
    """
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a value too long to show"
    text = re.sub(r"\n\s*", " ", text)  # as of an array
    return text if len(text) <= 200 else f"{text[:150]} ... {text[-45:]}"


def printable(text: str) -> str:
    r"""Return a text with escapes for what could command a terminal: a file may hold anything.

    Example:
        >>> printable("\x1b[31mred\nblack")
        '\\x1b[31mred\nblack'
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


_OTHER_NAMES = {
    "lr": "learning_rate",
    "eta": "learning_rate",
    "step_size": "learning_rate",
    "eps": "epsilon",
    "betas": "beta1",
    "learning_rate_init": "learning_rate",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "max_iter": "epochs",
    "validation_data": "validation",
    "random_state": "seed",
    "test_size": "fraction",
    "criterion": "loss",
    "in_features": "inputs",
    "input_dim": "inputs",
    "input_shape": "inputs",
    "in_channels": "inputs",
    "input_size": "inputs",
    "out_features": "units",
    "hidden_size": "units",
    "embed_dim": "units",
    "num_features": "units",
    "out_channels": "filters",
    "kernel_size": "kernel",
    "num_heads": "heads",
    "p": "rate",
}
"""Names of settings in other libraries."""

_NO_GRADIENT_TO_CLEAR = "leave it out, backward overwrites the gradients"
_DATA = "x and y go together, as the tuple (x, y)"

_ELSEWHERE = {
    "Model": {
        "fit compile": "write Trainer(loss=..., optimizer=...).fit(model, (x, y))",
        "train eval": "leave it out, forward(x) trains and model(x) predicts",
        "save state_dict": "write save(run, path), with the run that fit returned",
        "load_state_dict load_weights": "write load_model(path, into=model)",
        "predict": "write model(x)",
        "evaluate": "write trainer.evaluate(model, (x, y))",
        "zero_grad": _NO_GRADIENT_TO_CLEAR,
    },
    "framework": {
        "fit compile train": "write Trainer(loss=..., optimizer=...).fit(model, (x, y))",
        "zero_grad no_grad": "leave it out: model(x) records nothing, backward overwrites",
        "tensor Tensor": "give NumPy arrays",
        "DataLoader TensorDataset": "give fit (x, y), and Trainer batch_size",
        "nn optim layers Module": "layers and optimizers are names of framework itself",
    },
    "Trainer": {
        "model": "write Trainer(...).fit(model, (x, y))",
        "x y data validation validation_data": "give it to fit(model, data, validation)",
        "verbose": "write callbacks=[ProgressBar()]",
    },
    "fit": {
        "x y X inputs targets": _DATA,
        "sample_weight weight": "it goes with the data, as the tuple (x, y, weight)",
        "loss optimizer batch_size shuffle metrics callbacks": "it is a setting of the Trainer",
        "verbose": "write callbacks=[ProgressBar()] in Trainer(...)",
        "validation_split": "write validation=held_out, with train, held_out = split((x, y), 0.2)",
    },
    "Dense": {"units": "write Dense(64, 32), or Dense(units=32)"},
    "Layer": {"inputs": "declare inputs: int | None = None in the class"},
    "Optimizer": {"zero_grad": _NO_GRADIENT_TO_CLEAR},
}
"""Advice for the names of other libraries, by the class, function or module that was asked for them."""


def elsewhere(owner: Any, name: str) -> str | None:
    """Return what to write instead of a name that such a class or function has in another library, or None.

    Example:
        >>> class Model: ...
        >>> elsewhere(Model, "predict")
        'write model(x)'
    """
    owners = (_ELSEWHERE.get(each.__name__, {}) for each in (owner.__mro__ if isinstance(owner, type) else [owner]))
    return next((advice for known in owners for names, advice in known.items() if name in names.split()), None)


def answering(module: str, choices: Collection[str]) -> Callable[[str], NoReturn]:
    """Return a module's ``__getattr__``, which says what to write for a name that the module does not have.

    Example:
        >>> import framework
        >>> framework.MSELoss
        Traceback (most recent call last):
        AttributeError: framework has no 'MSELoss': write MeanSquaredError
    """

    def absent(name: str) -> NoReturn:
        message, caller = _absent(module, name, choices), sys._getframe(1)
        if caller.f_code.co_code[caller.f_lasti] == opmap["IMPORT_FROM"]:  # which hides what an AttributeError says
            raise ImportError(message)
        raise AttributeError(message, name=name)

    return absent


def _absent(module: str, name: str, choices: Iterable[str]) -> str:
    found = _closest(name, choices)
    advice = elsewhere(sys.modules[module], name) or (found and f"write {found}")
    return f"{module} has no {name!r}{f': {advice}' if advice else ''}"


def _closest(name: str, choices: Iterable[str]) -> str | None:
    """Return the name that another library's name means here, or else the one most like it."""
    known = {choice.lower(): choice for choice in choices}
    known |= {key.removesuffix("optimizer").removesuffix("schedule"): choice for key, choice in known.items()}
    short = name.lower().removesuffix("loss").removesuffix("1d").removesuffix("2d")
    like = [name.lower(), _SHORT_NAMES.get(short, short), *difflib.get_close_matches(name.lower(), known, n=1)]
    return next((known[key] for key in like if key in known), None)


def meant(name: str, choices: Iterable[str]) -> str:
    """Return ``; did you mean 'learning_rate'?`` for a setting's name elsewhere, else for the one most like it.

    Example:
        >>> meant("lr", ["learning_rate", "momentum"]), meant("momentun", ["learning_rate", "momentum"])
        ("; did you mean 'learning_rate'?", "; did you mean 'momentum'?")
    """
    names = list(choices)
    other = _OTHER_NAMES.get(name)
    return f"; did you mean {other!r}?" if other in names else nearest(name, names)


def settings_message(cls: type[BaseModel], error: ValidationError, components: Iterable[type]) -> str:
    """Word a validation error: one line for each setting; ``components`` are what a hint may name."""
    expected: dict[str, list[str]] = {}
    given: dict[str, object] = {}
    kinds: dict[str, list[str]] = {}
    lines = []
    parts = error.errors(include_url=False)
    unknown = [str(part["loc"][0]) for part in parts if part["type"] == "extra_forbidden"]
    parts.sort(key=lambda part: part["type"] != "extra_forbidden")  # first what may explain why another is missing
    for part in parts:
        where = str(part["loc"][0]) if part["loc"] else ""
        context = part.get("ctx", {})
        text = str(context["error"]) if part["type"] == "value_error" else part["msg"].removeprefix("Input should ")
        if not where:
            lines.append(text.removeprefix(f"{cls.__name__}: "))
        elif part["type"] == "extra_forbidden":
            names = [name for name in inspect.signature(cls).parameters if name in cls.model_fields]
            lines.append(unknown_name(cls, "setting", where, names))
        elif part["type"] == "missing":
            if where in map(_OTHER_NAMES.get, unknown):
                continue
            lines.append(f"setting '{where}' is missing; {elsewhere(cls, where) or f'write {where}=...'}")
        else:
            kind = context.get("class_name")
            wanted = f"be of class {kind}" if kind else text
            if part["type"] == "tuple_type" and isinstance(part["input"], BaseModel):
                wanted += f": write [{type(part['input']).__name__}(...)]"
            expected.setdefault(where, []).append(wanted)
            kinds.setdefault(where, []).extend([kind] if kind else [])
            given[where] = part["input"]
    for where, wanted_list in expected.items():
        wanted = " or ".join(dict.fromkeys(wanted_list)).replace(" or be of class", " or")
        hint = _component_hint(given[where], kinds[where], components)
        lines.append(f"setting '{where}' must {wanted}; got {brief(given[where])}{hint}")
    return "\n".join(f"{cls.__name__}: {line}" for line in lines)


def require_arguments(called: Callable[..., Any], args: tuple[Any, ...], settings: Mapping[str, Any]) -> None:
    """Word the error of a call of a class or a function with arguments that do not fit; do nothing if they fit."""
    signature = inspect.signature(called.__init__ if isinstance(called, type) else called)  # type: ignore[misc]
    args = (called, *args) if isinstance(called, type) else args
    try:
        signature.bind(*args, **settings)
    except TypeError as error:
        problem = str(error)
    else:
        return
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items() if name != "self"}
    names = [*(called.model_fields if inspect.Parameter.VAR_KEYWORD in kinds.values() else kinds)]  # type: ignore[attr-defined]
    kind = "setting" if isinstance(called, type) else "argument"
    together = f"; {_DATA}" if "data" in names else ""
    if unknown := [name for name in settings if name not in names]:
        problem = unknown_name(called, kind, unknown[0], names)
    elif problem.startswith("too many"):
        placed = [name for name, each in kinds.items() if each is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        got = len(args) - ("self" in signature.parameters)
        problem = f"the arguments without a name are {', '.join(placed)}; got {got}{together}"
    else:
        needed = [name for name in kinds if signature.parameters[name].default is inspect.Parameter.empty]
        problem += f"; write {called.__name__}({', '.join(needed)}){together}"
    raise SettingsError(f"{called.__name__}: {problem}") from None


def unknown_name(owner: Any, kind: str, name: str, choices: Iterable[str]) -> str:
    """Return what to say of a name that a class or a function does not have.

    Example:
        >>> class Trainer: ...
        >>> unknown_name(Trainer, "setting", "optimiser", ["loss", "optimizer"])
        "unknown setting 'optimiser'; did you mean 'optimizer'? Settings: loss, optimizer"
    """
    names = list(choices)
    advice = elsewhere(owner, name)
    hint = f": {advice}." if advice and _OTHER_NAMES.get(name) not in names else meant(name, names) or "."
    return f"unknown {kind} {name!r}{hint} {kind.capitalize()}s: {', '.join(names) or 'none'}"


def worded(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, so that arguments that do not fit raise a readable error.

    Example:
        >>> @worded
        ... def fit(x, validation=None):
        ...     return x
        >>> fit(validation=2)
        Traceback (most recent call last):
        framework.errors.SettingsError: fit: missing a required argument: 'x'; write fit(x)
    """

    @functools.wraps(function)
    def call(*args: P.args, **settings: P.kwargs) -> R:
        try:
            return function(*args, **settings)
        except TypeError:
            require_arguments(function, args, settings)
            raise

    return call


def require_formula(caller: str, formula: object, method: str, kinds: str) -> None:
    """Raise SettingsError for an argument without this method, such as a class or a function; say what to write."""
    if isinstance(formula, type) or not hasattr(formula, method):
        hint = _component_hint(formula, ["Activation", "Loss"], ())
        raise SettingsError(f"{caller}: argument 'formula' must be {kinds}; got {brief(formula)}{hint}")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and point at the caller's line outside this package."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == __name__.partition(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


_MAKERS = {
    "Callback": "on('epoch_end')({})",
    "Activation": "Activation.of({})",
    "Model": "Layer.of({})",
    "Metric": "Metric.of({})",
    "Loss": "Loss.of({})",
    "RowLoss": "RowLoss.of({})",
    "Schedule": "Schedule.of({})",
}
"""The function that makes a component of each kind from a plain function."""

_SHORT_NAMES = {
    "bce": "binarycrossentropy",
    "bcewithlogits": "binarycrossentropy",
    "categoricalcrossentropy": "crossentropy",
    "kldiv": "kldivergence",
    "l1": "meanabsoluteerror",
    "linear": "dense",
    "mae": "meanabsoluteerror",
    "modelcheckpoint": "checkpoint",
    "mse": "meansquarederror",
    "nll": "crossentropy",
    "rmse": "rootmeansquarederror",
    "train_test_split": "split",
}


def _component_hint(given: object, kinds: list[str], components: Iterable[type]) -> str:
    """Say what to write instead of a component's class or name, among the classes of the expected kinds."""
    if isinstance(given, type):
        return f"; write {_made(given)} with its brackets"
    fitting = [found for found in components if any(base.__name__ in kinds for base in found.__mro__)]
    if isinstance(given, str) and fitting:
        known = {found.__name__: found for found in fitting}
        meant = _closest(given, known)
        return f"; write {_made(known[meant])}" if meant else ""
    if callable(given) and not isinstance(given, BaseModel):
        name = getattr(given, "__name__", "function").replace("<lambda>", "function")
        written = f"np.{name}" if type(given).__name__ == "ufunc" else name
        makers = [maker.format(written) for kind, maker in _MAKERS.items() if kind in kinds]
        return f"; write {' or '.join(makers)}" if makers else ""
    return ""


def _made(cls: type) -> str:
    """Return how a class is called: with dots where it has settings that must be given."""
    fields = getattr(cls, "model_fields", {})
    return f"{cls.__name__}({'...' if any(field.is_required() for field in fields.values()) else ''})"
