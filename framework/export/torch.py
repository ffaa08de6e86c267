"""Weights of PyTorch: the numbers of a model as a ``state_dict``, and back. PyTorch itself is not needed.

PyTorch's weights are (units, inputs, ...) where ours are (inputs, ..., units). The order of the gates of recurrent
layers is the same. A ``state_dict`` holds numbers alone: activations, ``epsilon`` of a normalization and the number of
heads are settings on both sides, and have to agree.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from framework.base.arrays import Array, Arrays, real_array, require_finite
from framework.base.errors import CheckpointError, SettingsError, brief, nearest
from framework.base.files import format_path, reason, write_whole
from framework.base.settings.messages import word_errors
from framework.models import Composite, Model
from framework.models.affine import Dense, Neuron
from framework.models.convolution import Conv1D, Conv2D, ConvTranspose1D, ConvTranspose2D
from framework.models.embedding import Embedding
from framework.models.formulas import BatchNorm, Bilinear, GroupNorm, LayerNorm, RMSNorm
from framework.models.sequences import GRU, LSTM, Bidirectional, MultiHeadAttention, SimpleRNN
from framework.training.checkpoint.file import array_of


class _Rule(NamedTuple):
    """How some arrays of a layer become some of PyTorch's, and back; names without ``ours`` may be missing there."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    give: Callable[..., tuple[Any, ...]] = lambda *arrays: arrays
    take: Callable[..., tuple[Any, ...]] = lambda *arrays: arrays


def _transpose_rule(ours: str, theirs: str, axis: int = 0) -> _Rule:
    """Return the rule for weights: the axis of the units is the last one here, and this one in PyTorch."""
    return _Rule(
        (ours,), (theirs,), lambda array: (np.moveaxis(array, -1, axis),), lambda array: (np.moveaxis(array, axis, -1),)
    )


def _same(ours: str, theirs: str) -> _Rule:
    return _Rule((ours,), (theirs,))


def _two_biases(bias: Array, reset: Array | None = None) -> tuple[Array, Array]:
    """Return both biases of PyTorch: that of the inputs, and that of the state, which only GRU's third gate needs."""
    state = np.zeros_like(bias)
    if reset is not None:
        state[-len(reset) :] = reset
    return bias, state


def _reset_bias(inputs: Array, state: Array) -> tuple[Array, Array]:
    """Return GRU's biases: r multiplies that of the state in the third gate, so it stays by itself."""
    units = len(state) // 3
    return inputs + np.concatenate([state[: 2 * units], np.zeros_like(state[2 * units :])]), state[2 * units :].copy()


_WEIGHTED = (_transpose_rule("weights", "weight"), _same("bias", "bias"))
_TRANSPOSED = (_transpose_rule("weights", "weight", 1), _same("bias", "bias"))
_NORMALIZED = (_same("scale", "weight"), _same("shift", "bias"))
_RECURRENT = (_transpose_rule("weights", "weight_ih_l0"), _transpose_rule("recurrent", "weight_hh_l0"))
_BIASES = ("bias_ih_l0", "bias_hh_l0")
_ONE_BIAS = _Rule(("bias",), _BIASES, _two_biases, lambda inputs, state: (inputs + state,))

_LAYERS: dict[type[Model], tuple[_Rule, ...]] = {
    Dense: _WEIGHTED,
    Conv1D: _WEIGHTED,
    Conv2D: _WEIGHTED,
    ConvTranspose1D: _TRANSPOSED,
    ConvTranspose2D: _TRANSPOSED,
    Bilinear: _WEIGHTED,
    Neuron: (
        _Rule(("weights",), ("weight",), lambda array: (array[None],), lambda array: (array[0],)),
        _Rule(("bias",), ("bias",), lambda array: (array[None],), lambda array: (array[0],)),
    ),
    Embedding: (_same("weights", "weight"),),
    LayerNorm: _NORMALIZED,
    GroupNorm: _NORMALIZED,
    RMSNorm: _NORMALIZED[:1],
    BatchNorm: (
        *_NORMALIZED,
        _same("running_mean", "running_mean"),
        _same("running_variance", "running_var"),
        _Rule((), ("num_batches_tracked",), lambda: (np.array(0),), lambda _: ()),  # momentum is a setting here
    ),
    SimpleRNN: (*_RECURRENT, _ONE_BIAS),
    LSTM: (*_RECURRENT, _ONE_BIAS),
    GRU: (*_RECURRENT, _Rule(("bias", "reset_bias"), _BIASES, _two_biases, _reset_bias)),
    MultiHeadAttention: (
        _transpose_rule("weights", "in_proj_weight"),
        _same("bias", "in_proj_bias"),
        _transpose_rule("output_weights", "out_proj.weight"),
        _same("output_bias", "out_proj.bias"),
    ),
}
"""The rules of each layer that PyTorch has too."""


@word_errors
def to_torch(model: Model, *, layers: Mapping[str, str] | None = None) -> dict[str, Array]:
    """Return a model's parameters and buffers as the ``state_dict`` of a PyTorch module: its names and its layouts.

    A layer has the name that ``model.parameters`` begins with: ``0``, ``block.1``. In
    ``Sequential(Dense(4, 8, ReLU()), Dense(8, 3))`` that is 1 for the second layer, in PyTorch's
    ``Sequential(Linear(4, 8), ReLU(), Linear(8, 3))`` it is 2: write ``layers={"1": "2"}``. Recurrent layers with one
    name are those of one module: ``layers={"0": "rnn", "1": "rnn"}`` is ``LSTM(..., num_layers=2)``. Both layers of a
    Bidirectional have its name, as in ``LSTM(..., bidirectional=True)``; ``layers={"0.backwards": "back"}`` makes them
    two modules. Settings and the model's ``preprocess`` have no place in a ``state_dict``.

    The axis of the units is the last one here: ``weights`` are ``weight.T`` of a Linear, ``np.moveaxis(weight, 0, -1)``
    of a convolution and ``np.moveaxis(weight, 1, -1)`` of a transposed one. ``scale`` and ``shift`` of a normalization
    are ``weight`` and ``bias``. ``bias`` of a recurrent layer, which needs ``batch_first=True``, is ``bias_ih_l0 +
    bias_hh_l0``; in a GRU the last third of ``bias_hh_l0`` is ``reset_bias``.

    Args:
        model: The model.
        layers: PyTorch's name for each layer, or model of layers, whose name is another one there.

    Returns:
        Arrays of the model's dtype by PyTorch's names; ``num_batches_tracked`` of BatchNorm is the integer 0. Use
        ``module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})``.

    Raises:
        SettingsError: PyTorch has no such layer, ``layers`` names none of the model's, or gives one name to layers that
            no module of PyTorch has.
        UsageError: A number of inputs is not known, so that there are no parameters.

    Example:
        >>> from framework import Dense, ReLU, Sequential
        >>> model = Sequential(Dense(4, 8), ReLU(), Dense(8, 3))
        >>> {name: array.shape for name, array in to_torch(model, layers={"2": "head"}).items()}
        {'0.weight': (8, 4), '0.bias': (8,), 'head.weight': (3, 8), 'head.bias': (3,)}

    Source:
        https://pytorch.org/docs/stable/nn.html, the variables of each module.
    """
    state: dict[str, Array] = {}
    for layer, rule, theirs in _rules(model, layers, "to_torch"):
        arrays = _arrays(layer)
        for name, array in zip(theirs, rule.give(*(arrays[ours] for ours in rule.ours)), strict=True):
            if name in state:
                raise SettingsError(f"gives two arrays the name {name!r}", name="to_torch: argument 'layers'")
            state[name] = np.array(array, order="C")
    return state


@word_errors
def save_torch(model: Model, path: str | os.PathLike[str], *, layers: Mapping[str, str] | None = None) -> None:
    """Write ``to_torch(model)`` to a safetensors file, which ``safetensors.torch.load_file`` reads.

    Args:
        model: The model.
        path: The file; ``.safetensors`` is the usual ending.
        layers: As in ``to_torch``.

    Raises:
        SettingsError: As in ``to_torch``.
        CheckpointError: The file cannot be written.

    Example:
        >>> from framework import Dense
        >>> save_torch(Dense.from_weights([[1.0, 2.0]]), "weights.safetensors")
        >>> layer = Dense(1, 2)
        >>> load_torch("weights.safetensors", into=layer)
        >>> layer.weights
        array([[1., 2.]])
    """
    tensors = save(to_torch(model, layers=layers), {"format": "pt"})  # as PyTorch's own files say
    write_whole(path, tensors, CheckpointError)


@word_errors
def load_torch(source: Any, into: Model, *, layers: Mapping[str, str] | None = None) -> None:
    """Copy the numbers of a PyTorch module into a model of the same layers.

    They are cast to the model's dtype. Names and shapes are compared; activations, strides and other settings cannot
    be, because a ``state_dict`` has none, so compare an output of both. A part of a module goes into a part of a model:
    give the entries of ``state_dict`` that begin with ``encoder.``, ``into=model[0]`` and ``layers={"": "encoder"}``.

    Args:
        source: A safetensors file, or ``module.state_dict()``: tensors or arrays by name. Files of ``torch.save`` can
            run code when they are loaded, so they are not read here.
        into: The model.
        layers: PyTorch's name for each layer whose name is another one there, as in ``to_torch``.

    Raises:
        CheckpointError: The file cannot be read; or a name is missing or too many, or a shape differs: lists all. The
            model is as it was.
        DataError: A number is not finite in the model's dtype; the model is as it was.
        SettingsError: As in ``to_torch``.

    Example:
        >>> from framework import GRU
        >>> layer = GRU(2, inputs=1)
        >>> load_torch({"weight_ih_l0": np.ones((6, 1)), "weight_hh_l0": np.zeros((6, 3))}, into=layer)
        Traceback (most recent call last):
        framework.base.errors.CheckpointError: load_torch: names or shapes differ; nothing was changed
        missing: bias_ih_l0 (6,), bias_hh_l0 (6,); a layer made with bias=False has none: add zeros
        weight_hh_l0: (6, 2) in the model, (6, 3) in PyTorch's
    """
    if not isinstance(source, str | os.PathLike | Mapping):
        hint = "; write module.state_dict()" if hasattr(source, "state_dict") else ""
        raise SettingsError(
            f"load_torch: argument 'source' must be a path or a dict of tensors by name; got {brief(source)}{hint}"
        )
    rules = [*_rules(into, layers, "load_torch")]
    state = _read_tensors(source)
    optional = {name for _, rule, theirs in rules if not rule.ours for name in theirs}
    path = next((path for path, layer in into.walk_models() if layer is rules[0][0]), "") if rules else ""
    _require_fit(to_torch(into, layers=layers), state, optional, path)
    values: list[tuple[Array, Array]] = []
    for layer, rule, theirs in rules:
        if rule.ours:
            arrays = [real_array(state[name], f"load_torch: {name}", into.dtype) for name in theirs]
            for name, array in zip(theirs, arrays, strict=True):
                require_finite(array, f"load_torch: {name}")
            values += zip((_arrays(layer)[name] for name in rule.ours), rule.take(*arrays), strict=True)
    for target, value in values:
        target[...] = value


def _arrays(layer: Model) -> dict[str, Array]:
    """Return the parameters and the buffers of a layer."""
    return {**layer.parameters.views, **layer.buffers}


def _rules(model: Model, layers: Mapping[str, str] | None, name: str) -> Iterator[tuple[Model, _Rule, tuple[str, ...]]]:
    """Give each layer's rules, with PyTorch's names of its arrays."""
    places = dict(model.walk_models())
    renamed = _names_in_torch(places, layers or {}, name)
    endings = _recurrent_endings(places, renamed, name)
    for path, layer in places.items():
        rules = _LAYERS.get(type(layer))
        if isinstance(layer, Composite) or (rules is None and not _arrays(layer)):
            continue
        if rules is None:
            raise SettingsError(
                f"{name}: layer {path!r}: PyTorch has no {type(layer).__name__}, so its numbers have no layout there"
            )
        if isinstance(layer, MultiHeadAttention) and layer.units not in (None, layer.inputs):
            raise SettingsError(
                f"{name}: layer {path!r}: PyTorch's MultiheadAttention has as many units as inputs; here "
                f"units={layer.units} and inputs={layer.inputs}"
            )
        start = renamed[path] and f"{renamed[path]}."
        for rule in rules:
            yield (
                layer,
                rule,
                tuple(f"{start}{re.sub('_l0$', endings.get(path, ''), theirs)}" for theirs in rule.theirs),
            )


def _recurrent_endings(models: Mapping[str, Model], renamed: Mapping[str, str], name: str) -> dict[str, str]:
    """Return what the names of a recurrent layer's arrays end with, by path: ``_l0``, ``_l0_reverse``, ``_l1``.

    Layers with one name are the levels of one module. Both directions of a Bidirectional are one level.

    Raises:
        SettingsError: PyTorch has no module of such layers.
    """
    modules: dict[str, list[dict[str, Any]]] = {}
    for path, layer in models.items():
        if isinstance(layer, SimpleRNN | GRU | LSTM):
            levels = modules.setdefault(renamed[path], [])
            bidirectional = isinstance(models[path.rpartition(".")[0]], Bidirectional)
            if bidirectional and levels and [*levels[-1]] == [f"{path.removesuffix('backwards')}forwards"]:
                levels[-1][path] = layer
            else:
                levels.append({path: layer})
    endings: dict[str, str] = {}
    for levels in modules.values():
        _require_one_module(levels, name)
        for number, level in enumerate(levels):
            endings |= dict(zip(level, (f"_l{number}", f"_l{number}_reverse"), strict=False))
    return endings


def _require_one_module(levels: Sequence[Mapping[str, Any]], name: str) -> None:
    """Check that a module of PyTorch can have these levels, each with its recurrent layers by path."""
    kinds = {(type(layer), layer.units, len(level)) for level in levels for layer in level.values()}
    sizes = [(layer.inputs, layer.units * len(level)) for level in levels[1:] for layer in level.values()]
    if len(kinds) > 1 or any(inputs not in (None, outputs) for inputs, outputs in sizes):
        paths = [path for level in levels for path in level]
        raise SettingsError(
            f"{name}: layers {', '.join(map(repr, paths))} have one name, so they must be one module of PyTorch, with "
            "one kind, one number of units, one or both directions throughout, and each on the outputs of the one "
            f"before; give some another name, as layers={{{paths[-1]!r}: 'other'}}"
        )


def _names_in_torch(places: Mapping[str, Model], layers: Mapping[str, str], name: str) -> dict[str, str]:
    """Return PyTorch's name of each place; an entry of ``layers`` also holds for what is inside.

    Raises:
        SettingsError: ``layers`` names a layer that the model does not have.
    """
    for path, theirs in layers.items():
        if path not in places:
            raise SettingsError(
                f"{name}: argument 'layers' must name layers of the model; got {path!r}{nearest(str(path), places)}"
                f". Layers: {', '.join(filter(None, places)) or repr('')}"
            )
        if not isinstance(theirs, str):
            raise SettingsError(f"must hold names; got {brief(theirs)} for {path!r}", name=f"{name}: argument 'layers'")
    names: dict[str, str] = {"": layers.get("", "")}
    for path in places:  # what is outside comes first
        if path:
            outer, _, last = path.rpartition(".")
            own = [] if isinstance(places[outer], Bidirectional) else [last]
            names[path] = layers.get(path, ".".join(filter(None, [names[outer], *own])))
    return names


def _read_tensors(source: Any) -> dict[str, Any]:
    """Return the tensors of a file or of a state_dict, those of bfloat16 as float32."""
    if isinstance(source, Mapping):  # NumPy has no bfloat16
        wide = {name for name, tensor in source.items() if str(getattr(tensor, "dtype", "")) == "torch.bfloat16"}
        return {name: tensor.float() if name in wide else tensor for name, tensor in source.items()}
    try:
        tensors = deserialize(Path(source).read_bytes())  # type: ignore[no-untyped-call]
        return {name: _read_tensor(name, tensor) for name, tensor in tensors}
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError(
            f"load_torch: {format_path(source)} is not a safetensors file ({error}); in PyTorch, write "
            "safetensors.torch.save_file(module.state_dict(), path)"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"load_torch: {format_path(source)} cannot be read: {reason(error)}") from error


def _read_tensor(name: str, tensor: dict[str, Any]) -> Array:
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        bits = np.frombuffer(tensor["data"], "<u2").astype("<u4") << 16
        return bits.view("<f4").reshape(tensor["shape"])
    return array_of(name, tensor)


def _require_fit(wanted: Arrays, state: Mapping[str, Any], optional: set[str], path: str) -> None:
    """Refuse a state_dict of other names or shapes; lists all of them, and advises with the place of a layer."""
    missing = [f"{name} {wanted[name].shape}" for name in wanted if name not in state and name not in optional]
    extra = [f"{name} {tuple(np.shape(state[name]))}" for name in state if name not in wanted]
    differing = [
        f"{name}: {wanted[name].shape} in the model, {tuple(np.shape(state[name]))} in PyTorch's"
        for name in wanted
        if name in state and tuple(np.shape(state[name])) != wanted[name].shape
    ]
    if not (missing or extra or differing):
        return
    lines = ["load_torch: names or shapes differ; nothing was changed"]
    if missing:
        no_bias = "" if extra or "bias" not in missing[0] else "; a layer made with bias=False has none: add zeros"
        lines.append(f"missing: {', '.join(missing)}{no_bias}")
    if extra:
        lines.append(f"extra: {', '.join(extra)}")
    if missing and extra:
        lines.append(f"where PyTorch has another name for a layer, say so: layers={{{path!r}: 'encoder'}}")
    raise CheckpointError("\n".join([*lines, *differing]))
