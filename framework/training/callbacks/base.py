"""Callback: seven hooks, each with one argument, the run.

Settings are fields; what a callback must remember goes into ``run.memory(self)``, what it holds open into
``run.live(self)``. A misspelt hook or a wrong signature is refused when the class is made.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from framework.base.errors import CallbackError, nearest
from framework.base.settings.component import Component, Count, PlainFunction
from framework.base.settings.messages import translate_name
from framework.training.runs.run import Run

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_batch_begin",
    "on_gradients",
    "on_batch_end",
    "on_epoch_end",
    "on_train_end",
)
"""The hooks in the order in which they come."""

CHUNK_END = "on_chunk_end"
"""After a chunk of steps, for what only the clock makes due: how many steps that is depends on the machine's speed."""


class Callback(Component):
    """The base of callbacks: override the hooks that you need.

    ``run.epoch`` and ``run.step`` count finished epochs and steps, so in the first ``on_epoch_end`` ``run.epoch`` is 1.

    Attributes:
        writes: Whether the callback saves the run, sends it to a tracker, or shows it. Those that do come last,
            whatever the list says; of several workers the first one alone calls them.
        observes: Whether the callback changes nothing in the training, so that a resume without it, or with other
            settings, gives no warning.

    Raises:
        CallbackError: A hook is misspelt or takes other arguments than ``run``; when the class is made.

    Example:
        >>> class Print(Callback):
        ...     def on_epoch_end(self, run):
        ...         print(run.epoch, run.history[-1]["loss"])
        >>> class Wrong(Callback):
        ...     def on_epoch_ends(self, run):
        ...         pass
        Traceback (most recent call last):
        framework.base.errors.CallbackError: Wrong.on_epoch_ends is not a hook; did you mean 'on_epoch_end'? Hooks: ...
    """

    writes: ClassVar[bool] = False
    observes: ClassVar[bool] = False
    keeps: ClassVar[str] = "what a callback remembers goes into run.memory(self)['name']"

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        """Check every hook, also those that a mixin brings."""
        super().__pydantic_init_subclass__(**options)
        for name in dir(cls):
            if not name.startswith("__") and name not in _CALLBACK_NAMES:
                _require_hook(cls, name)
        for hook in HOOKS:
            _require_signature(cls, hook)

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch, also of a resumed run."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch's first batch."""

    def on_batch_begin(self, run: Run) -> None:
        """Before a batch."""

    def on_gradients(self, run: Run) -> None:
        """After backward, before the optimizer's step: the gradients are in ``run.model.parameters.gradient``."""

    def on_batch_end(self, run: Run) -> None:
        """After the optimizer's step; ``run.batch_loss`` is the batch's loss, before the step."""

    def on_epoch_end(self, run: Run) -> None:
        """After validation; the epoch's row is ``run.history[-1]``."""

    def on_train_end(self, run: Run) -> None:
        """At the end, also after an error, which is ``run.error``."""

    def hooks(self) -> dict[str, Callable[[Run], Any]]:
        """Return the hooks that this callback has: those that its class overrides."""
        cls = type(self)
        return {hook: getattr(self, hook) for hook in HOOKS if getattr(cls, hook) is not getattr(Callback, hook)}

    @property
    def label(self) -> str:
        """The name under which a run keeps what this callback remembers, with its ordinal among those of that name."""
        return type(self).__name__

    def require(self, run: Run) -> None:
        """Raise for a known mistake before anything is changed and before the first hook of any callback."""

    def judged(self) -> dict[str, str]:
        """Return the columns by which this callback tells better from worse, with ``"min"`` or ``"max"``."""
        return {}

    @property
    def restores(self) -> bool:
        """Whether it puts other weights into the model when training ends; one callback of a trainer may."""
        return False

    def required_keys(self) -> tuple[str, ...]:
        """Return the columns of the history that this callback reads, so that ``fit`` can refuse a missing one."""
        return tuple(self.judged())


_CALLBACK_NAMES = frozenset(dir(Callback))


def _bare(name: str) -> str:
    """Strip what people vary: case, underscores and the prefix ``on``."""
    return name.lower().replace("_", "").removeprefix("on")


def _require_hook(cls: type[Callback], name: str) -> None:
    """Refuse a method that is named like a hook but is not one."""
    if not callable(inspect.getattr_static(cls, name, None)) or name in cls.model_fields:
        return
    hooks = {_bare(hook): hook for hook in HOOKS}
    like = difflib.get_close_matches(_bare(name), hooks, n=1, cutoff=0.85)
    if name.startswith("on_") or like:
        meant = translate_name(name, HOOKS) or (hooks[like[0]] if like else None)
        hint = f"; did you mean '{meant}'?" if meant else nearest(name, HOOKS) or "."
        raise CallbackError(f"{cls.__name__}.{name} is not a hook{hint} Hooks: {', '.join(HOOKS)}")


def _require_signature(cls: type[Callback], hook: str) -> None:
    function = inspect.getattr_static(cls, hook)
    _require_plain(getattr(function, "__func__", function), f"{cls.__name__}.{hook}")
    signature = inspect.signature(getattr(function, "__func__", function))
    by_place = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in signature.parameters.values())
    is_method = not isinstance(function, staticmethod | classmethod)
    hint = _keras_hint(signature)
    if len(signature.parameters) != 2 or not by_place or not is_method or hint:
        raise CallbackError(f"{cls.__name__}.{hook} must take (self, run); got {signature}{hint}")


def _require_plain(function: object, name: str) -> None:
    """Refuse coroutines and generators: a hook is simply called."""
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise CallbackError("must be a plain function: no 'async' and no 'yield', which would never run", name=name)


def _keras_hint(signature: inspect.Signature) -> str:
    if "logs" not in signature.parameters:
        return ""
    return "; epoch and step are run.epoch and run.step, logs are run.history[-1]"


class FunctionCallback(PlainFunction, Callback):
    """A plain function at one hook; made by ``on``."""

    made_by = "on"

    hook: str
    every: Count = 1

    @property
    def label(self) -> str:
        """The function's name, so that another function before it in the list changes nothing."""
        return f"on.{self.hook}.{getattr(self.function, '__qualname__', 'function')}"

    def hooks(self) -> dict[str, Callable[[Run], Any]]:
        return {self.hook: self._call}

    def _call(self, run: Run) -> None:
        if (run.epoch if "epoch" in self.hook else run.step) % self.every == 0:
            self.function(run)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle as a function is: by the name of the module's variable, where ``@on(...)`` has put this under it."""
        names = getattr(self.function, "__module__", __name__), getattr(self.function, "__qualname__", "")
        return (_look_up, names) if _look_up(*names) is self else super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        """Show the decorator and the function's name."""
        every = f", every={self.every}" if self.every > 1 else ""
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"on({self.hook.removeprefix('on_')!r}{every})({name})"


def _look_up(module: str, name: str) -> Any:
    """Return what a module has under a name, or None."""
    return getattr(importlib.import_module(module), name, None)


def on(hook: str = "", *, every: int = 1) -> Callable[[Callable[[Run], Any]], Callback]:
    """Turn a function of the run into a callback.

    Args:
        hook: ``"epoch_end"``, ``"batch_end"``, ...: one of the hooks, with or without ``on_``.
        every: Call it only when the count of finished epochs (for an epoch hook) or steps is a multiple of this.

    Raises:
        CallbackError: There is no such hook, or the function does not take one argument.

    Example:
        >>> @on("epoch_end", every=10)
        ... def report(run):
        ...     print(run.epoch, run.history[-1]["loss"])
        >>> report
        on('epoch_end', every=10)(report)
    """
    if not isinstance(hook, str) or not hook:
        raise CallbackError(f"on: name the hook: on('epoch_end'){f'; got {hook!r}' if hook else ''}")
    name = hook if hook.startswith("on_") else f"on_{hook}"
    if name not in HOOKS:
        raise CallbackError(f"must be one of {', '.join(h[3:] for h in HOOKS)}", name="on: argument 'hook'", got=hook)

    def wrap(function: Callable[[Run], Any]) -> Callback:
        if not callable(function):
            raise CallbackError(f"on({hook!r}) takes a function of one argument, run", got=function)
        _require_plain(function, f"on({hook!r}): {function!r}")
        signature = inspect.signature(function)
        required = [p for p in signature.parameters.values() if p.default is p.empty]
        hint = _keras_hint(signature)
        if len(required) != 1 or hint:
            raise CallbackError(f"on({hook!r}) takes a function of one argument, run; got {function!r}{hint}")
        return FunctionCallback(function=function, hook=name, every=every)

    return wrap
