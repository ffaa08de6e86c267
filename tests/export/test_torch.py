"""Weights to and from PyTorch: by stored values, and by PyTorch itself where it is installed."""

import importlib.util
import re

import numpy as np
import pytest
import safetensors.numpy
from oracles import SAVED_BY_PYTORCH, stored

from framework import (
    GRU,
    LSTM,
    BatchNorm,
    CheckpointError,
    Conv2D,
    DataError,
    Dense,
    Embedding,
    Flatten,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    Neuron,
    ReLU,
    Residual,
    Sequential,
    SettingsError,
    SimpleRNN,
)
from framework.export import load_torch, save_torch, to_torch
from framework.models import RBF, Bidirectional, Bilinear, Conv1D, ConvTranspose1D, ConvTranspose2D, GroupNorm, RMSNorm

needs_pytorch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")

PLAIN = "stride=1 padding=1 dilation=1 rows=5"
LAYERS = {
    f"conv1d/{PLAIN}": lambda dtype: Conv1D(filters=3, kernel=3, padding=1, inputs=2, dtype=dtype),
    f"conv2d/{PLAIN}": lambda dtype: Conv2D(filters=3, kernel=(3, 2), padding=1, inputs=2, dtype=dtype),
    "rnn/states rows=5": lambda dtype: SimpleRNN(units=4, inputs=3, returns="all", dtype=dtype),
    "gru/states rows=5": lambda dtype: GRU(units=4, inputs=3, returns="all", dtype=dtype),
    "lstm/states rows=5": lambda dtype: LSTM(units=4, inputs=3, returns="all", dtype=dtype),
    "multi_head_attention/plain rows=5": lambda dtype: MultiHeadAttention(heads=2, inputs=6, dtype=dtype),
    "bilinear/rows=5": lambda dtype: Bilinear(units=2, first=3, inputs=7, dtype=dtype),
    "layer_norm/rows=5": lambda dtype: LayerNorm(4, epsilon=1e-3, dtype=dtype),
    "embedding/rows=5": lambda dtype: Embedding(5, 2, dtype=dtype),
    "modules/rms_norm": lambda dtype: RMSNorm(6, dtype=dtype),
    "modules/group_norm": lambda dtype: GroupNorm(2, units=6, dtype=dtype),
    "modules/grouped_conv": lambda dtype: Conv2D(
        filters=4, kernel=3, stride=2, padding=1, groups=2, inputs=6, dtype=dtype
    ),
    "modules/transposed": lambda dtype: ConvTranspose1D(
        filters=4, kernel=3, stride=2, padding=1, dilation=2, inputs=6, dtype=dtype
    ),
    "modules/grouped_transposed": lambda dtype: ConvTranspose2D(
        filters=4, kernel=(3, 2), stride=(2, 3), groups=2, inputs=6, dtype=dtype
    ),
}
"""Layers by the file of PyTorch's values and the case in it."""

TOLERANCES = {"float64": 1e-12, "float32": 1e-6}


def images():
    return Sequential(
        Conv2D(filters=4, kernel=3, inputs=1),
        ReLU(),
        MaxPool(window=2),
        Flatten((4, 3, 3)),
        BatchNorm(36),
        Dense(36, 3),
    )


def words():
    return Sequential(
        Embedding(7, 6),
        Residual(LayerNorm(6), MultiHeadAttention(heads=2, inputs=6)),
        GRU(units=4, inputs=6),
        Dense(4, 3),
    )


def steps():
    return Sequential(LSTM(units=4, inputs=3, returns="all"), LSTM(units=4, inputs=4), Dense(4, 2))


def directions():
    first, second = (Bidirectional(GRU(units=4, inputs=inputs, returns="all")) for inputs in (3, 8))
    return Sequential(first, second, Dense(8, 2))


WORDS = {"0": "embed", "1.block.0": "norm", "1.block.1": "attention", "2": "rnn", "3": "head"}
RECURRENT = {"0": "rnn", "1": "rnn", "2": "head"}
NETWORKS = {
    "images": (images, None),
    "words": (words, WORDS),
    "steps": (steps, RECURRENT),
    "directions": (directions, RECURRENT),
}


def stored_case(name):
    file, case = name.split("/")
    return stored(file)[case]


def parameters(values, start="parameters."):
    return {name.removeprefix(start): array for name, array in values.items() if name.startswith(start)}


def require_close(ours, theirs, dtype):
    """Require outputs that differ by the tolerance of the largest one, at most."""
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype] * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_with_pytorchs_numbers_gives_pytorchs_outputs(name, dtype):
    values, layer = stored_case(name), LAYERS[name](dtype)
    load_torch(parameters(values), into=layer)
    x = np.concatenate([values["x1"], values["x2"]], axis=1) if "x1" in values else values.get("ids", values.get("x"))
    require_close(layer(x.astype(dtype)), values["output"], dtype)


@pytest.mark.parametrize("name", LAYERS)
def test_to_torch_gives_the_names_the_shapes_and_all_numbers(name):
    theirs = parameters(stored_case(name))
    layer, again = LAYERS[name]("float64"), LAYERS[name]("float64")
    load_torch(theirs, into=layer)
    found = to_torch(layer)
    assert {key: array.shape for key, array in found.items()} == {key: array.shape for key, array in theirs.items()}
    assert all(array.flags.c_contiguous and array.base is None for array in found.values())
    if "bias_hh_l0" not in theirs:  # of which PyTorch has two where one is enough
        assert all(np.array_equal(found[key], theirs[key]) for key in theirs)
    load_torch(found, into=again)
    assert np.array_equal(again.parameters.vector, layer.parameters.vector)


@pytest.mark.parametrize("case", stored("networks"))
def test_a_network_takes_a_state_dict_from_a_file(case, tmp_path):
    name, dtype = case.split()
    make, layers = NETWORKS[name]
    values = stored("networks")[case]
    theirs = parameters(values, "state.")
    safetensors.numpy.save_file(theirs, tmp_path / "theirs.safetensors")
    model = make().in_dtype(dtype)
    load_torch(tmp_path / "theirs.safetensors", into=model, layers=layers)
    require_close(model(values["x"].astype(dtype)), values["output"], dtype)
    save_torch(model, tmp_path / "ours.safetensors", layers=layers)
    ours = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    described = [
        {key: (array.dtype.name, array.shape) for key, array in state.items() if key != "4.num_batches_tracked"}
        for state in (ours, theirs)
    ]
    assert described[0] == described[1]
    if name == "images":
        assert ours["4.num_batches_tracked"].dtype == theirs["4.num_batches_tracked"].dtype == np.int64
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs if key != "4.num_batches_tracked")


def test_the_names_and_shapes_of_layers_whose_axes_are_in_another_order():
    def shapes(model, **settings):
        return {name: array.shape for name, array in to_torch(model, **settings).items()}

    assert shapes(ConvTranspose2D(filters=4, kernel=(3, 2), groups=2, inputs=6)) == {
        "weight": (6, 2, 3, 2),
        "bias": (4,),
    }
    assert shapes(Conv1D(filters=4, kernel=3, groups=2, inputs=6)) == {"weight": (4, 3, 3), "bias": (4,)}
    assert shapes(RMSNorm(6)) == {"weight": (6,)}
    first, second = Bidirectional(GRU(4, inputs=3, returns="all")), Bidirectional(GRU(4))
    found = shapes(Sequential(first, second), layers={"0": "rnn", "1": "rnn"})
    weights = {name: shape for name, shape in found.items() if "weight_ih" in name}
    assert weights == {
        **dict.fromkeys(("rnn.weight_ih_l0", "rnn.weight_ih_l0_reverse"), (12, 3)),
        **dict.fromkeys(("rnn.weight_ih_l1", "rnn.weight_ih_l1_reverse"), (12, 8)),
    }
    assert len(found) == 16


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        ([Bidirectional(LSTM(2, inputs=3), SimpleRNN(3, inputs=3))], {}),
        ([Bidirectional(LSTM(2, inputs=3), LSTM(3, inputs=3))], {}),
        ([GRU(2, inputs=3, returns="all"), LSTM(2)], {"0": "rnn", "1": "rnn"}),
        ([LSTM(2, inputs=3, returns="all"), Bidirectional(LSTM(2))], {"0": "rnn", "1": "rnn"}),
        ([LSTM(4, inputs=3, returns="all"), Dense(units=2), LSTM(4)], {"0": "rnn", "2": "rnn"}),
    ],
    ids=["two kinds", "two sizes", "two kinds in turn", "one direction and both", "other inputs"],
)
def test_recurrent_layers_that_no_module_has_are_refused(layers, names):
    with pytest.raises(SettingsError, match=r"have one name, so they must be one module of PyTorch, .*, as layers=\{"):
        to_torch(Sequential(*(layer.copy() for layer in layers)), layers=names)


def test_directions_with_names_of_their_own_are_two_modules():
    model = Sequential(Bidirectional(LSTM(2, inputs=3), SimpleRNN(3, inputs=3)))
    state = to_torch(model, layers={"0.forwards": "a", "0.backwards": "b"})
    assert {name: array.shape for name, array in state.items() if "weight_ih" in name} == {
        "a.weight_ih_l0": (8, 3),
        "b.weight_ih_l0": (3, 3),
    }


def test_a_neuron_is_a_linear_map_of_one_unit():
    neuron = Neuron.from_weights([1.0, 2.0], bias=3.0)
    found = to_torch(neuron)
    assert {name: array.tolist() for name, array in found.items()} == {"weight": [[1.0, 2.0]], "bias": [3.0]}
    again = Neuron(2)
    load_torch(found, into=again)
    assert again([1.0, 1.0]) == 6.0


def test_an_entry_of_layers_holds_for_all_layers_inside():
    model = Sequential(Residual(Dense(2, 2), Dense(2, 2)), Dense(2, 1))
    assert {*to_torch(model, layers={"0.block": "encoder", "0.block.1": "last", "1": "head"})} == {
        *("encoder.0.weight", "encoder.0.bias"),
        *("last.weight", "last.bias"),
        *("head.weight", "head.bias"),
    }
    assert {*to_torch(model[1], layers={"": "head"})} == {"head.weight", "head.bias"}


def test_bfloat16_is_read(tmp_path):
    header = b'{"weight":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},"bias":{"dtype":"F32","shape":[1],'
    header += b'"data_offsets":[4,8]}}'
    numbers = np.array([1.5, -3.0], "<f4").view("<u4") >> 16
    data = len(header).to_bytes(8, "little") + header + numbers.astype("<u2").tobytes() + np.float32(2).tobytes()
    (tmp_path / "half.safetensors").write_bytes(data)
    layer = Dense(2, 1)
    load_torch(tmp_path / "half.safetensors", into=layer)
    assert layer.parameters.vector.tolist() == [1.5, -3.0, 2.0]


@needs_pytorch
def test_tensors_of_bfloat16_are_read():
    import torch

    layer = Dense(2, 1)
    load_torch({"weight": torch.tensor([[1.5, -3.0]], dtype=torch.bfloat16), "bias": torch.tensor([2.0])}, into=layer)
    assert layer.parameters.vector.tolist() == [1.5, -3.0, 2.0]


FULL = {"0.weight": np.ones((3, 2)), "0.bias": np.ones(3), "2.weight": np.ones((1, 3)), "2.bias": np.ones(1)}
WRONG = {
    "missing": ({"0.bias": None}, "missing: 0.bias (3,); a layer made with bias=False has none: add zeros"),
    "extra": ({"2.mask": np.ones((1, 3))}, "extra: 2.mask (1, 3)"),
    "not turned": ({"0.weight": np.ones((2, 3))}, "0.weight: (3, 2) in the model, (2, 3) in PyTorch's"),
    "other name": (
        {"2.weight": None, "head.weight": np.ones((1, 3))},
        (
            "missing: 2.weight (1, 3)\nextra: head.weight (1, 3)\n"
            "where PyTorch has another name for a layer, say so: layers={'0': 'encoder'}"
        ),
    ),
}


@needs_pytorch
def test_a_module_of_pytorch_is_answered_with_its_state_dict():
    import torch

    message = (
        "argument 'source' must be a path or a dict of tensors by name; got Linear(in_features=2, out_features=1, "
    )
    with pytest.raises(SettingsError, match=f"{re.escape(message)}.*; write module.state_dict"):
        load_torch(torch.nn.Linear(2, 1), into=Dense(2, 1))
    with pytest.raises(SettingsError, match=r"by name; got 3$"):
        load_torch(3, into=Dense(2, 1))
    with pytest.raises(CheckpointError, match=r"extra: mask \(3,\)"):
        load_torch({**torch.nn.Linear(2, 1).state_dict(), "mask": torch.ones(3)}, into=Dense(2, 1))


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_a_state_dict_that_does_not_fit_changes_nothing(change, message):
    model = Sequential(Dense(2, 3), ReLU(), Dense(3, 1))
    before = model.parameters.vector.copy()
    state = {name: array for name, array in (FULL | change).items() if array is not None}
    with pytest.raises(CheckpointError) as caught:
        load_torch(state, into=model)
    assert str(caught.value) == f"load_torch: names or shapes differ; nothing was changed\n{message}"
    assert np.array_equal(model.parameters.vector, before)


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan, 1.0]), np.array([1.0, 1e300, 1.0])], ids=["nan", "too large"])
def test_numbers_that_are_not_finite_change_nothing(bad):
    model = Sequential(Dense(2, 3, dtype="float32"), ReLU(), Dense(3, 1, dtype="float32"))
    before = model.parameters.vector.copy()
    with pytest.raises(DataError, match=re.escape("load_torch: 0.bias must be finite")):
        load_torch(FULL | {"0.bias": bad}, into=model)
    assert np.array_equal(model.parameters.vector, before)


def test_a_layer_that_pytorch_lacks_is_refused():
    with pytest.raises(SettingsError, match="to_torch: layer '1': PyTorch has no RBF"):
        to_torch(Sequential(Dense(2, 3), RBF(units=2, inputs=3)))
    wide = MultiHeadAttention(heads=2, units=4, inputs=6)
    with pytest.raises(SettingsError, match="has as many units as inputs; here units=4 and inputs=6"):
        to_torch(wide)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"3": "head"}, "argument 'layers' must name layers of the model; got '3'"),
        ({"0": 1}, "argument 'layers' must hold names; got 1 for '0'"),
        ({"0": "2"}, "argument 'layers' gives two arrays the name '2.weight'"),
    ],
)
def test_names_that_do_not_fit_are_refused(layers, message):
    with pytest.raises(SettingsError, match=message):
        to_torch(Sequential(Dense(2, 3), ReLU(), Dense(3, 1)), layers=layers)


def test_files_that_are_no_safetensors_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"is not a safetensors file .*safetensors\.torch\.save_file"):
        load_torch(SAVED_BY_PYTORCH, into=Neuron(1))
    with pytest.raises(CheckpointError, match="cannot be read: No such file or directory"):
        load_torch(tmp_path / "none.safetensors", into=Neuron(1))
    with pytest.raises(SettingsError, match="'source' must be a path or a dict of tensors by name; got Neuron"):
        load_torch(Neuron(1), into=Neuron(1))
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_torch(Neuron(1), tmp_path / "none" / "weights.safetensors")


@needs_pytorch
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", NETWORKS)
def test_pytorch_loads_our_file_and_gives_our_outputs(name, dtype, tmp_path):
    import torch
    from pytorch import layers as theirs
    from safetensors.torch import load_file

    make, layers = NETWORKS[name]
    model = make().in_dtype(dtype)
    rng = np.random.default_rng(0)
    model.parameters.vector = rng.normal(scale=0.25, size=model.parameters.vector.size).astype(dtype)
    if name == "images":
        model.buffers["4.running_mean"][:] = rng.normal(size=36)
        model.buffers["4.running_variance"][:] = rng.uniform(0.5, 2.0, size=36)
    save_torch(model, tmp_path / "ours.safetensors", layers=layers)
    modules = {"images": theirs.images, "words": theirs.Words, "steps": theirs.Steps, "directions": theirs.Directions}
    module = modules[name]().to(getattr(torch, dtype)).eval()
    module.load_state_dict(load_file(tmp_path / "ours.safetensors"))  # strict: every name, every shape
    shapes = {"images": (5, 1, 8, 8), "steps": (5, 6, 3), "directions": (5, 6, 3)}
    x = rng.integers(0, 7, (5, 6)) if name == "words" else rng.normal(size=shapes[name]).astype(dtype)
    with torch.no_grad():
        require_close(model(x), module(torch.from_numpy(x)).numpy(), dtype)
    twin = make().in_dtype(dtype)
    load_torch(module.state_dict(), into=twin, layers=layers)  # tensors as they are
    assert np.array_equal(twin.parameters.vector, model.parameters.vector)
