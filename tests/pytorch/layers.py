"""Layers: their output and the gradients of everything that has one.

Inputs and parameters are multiples of 1/64, so that the files compress.
"""

from itertools import product

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

ROWS = (1, 5)


def numbers(rng, *shape):
    """Return random multiples of 1/64."""
    return np.round(64 * rng.normal(size=shape)) / 64


def set_parameters(module, rng):
    """Give the module random parameters."""
    with torch.no_grad():
        for value in module.parameters():
            value.copy_(torch.from_numpy(numbers(rng, *value.shape)))


def reference(module, rng, call=None, **inputs):
    """Return the inputs, the parameters, the output, and the gradients of sum(upstream * output).

    ``call(*tensors)`` returns the output, or a pair of it and further arrays to store.
    """
    if module is not None:
        module.zero_grad()
    tensors = {name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in inputs.items()}
    output = (call or module)(*tensors.values())
    output, more = output if isinstance(output, tuple) else (output, {})
    upstream = numbers(rng, *output.shape)
    output.backward(torch.from_numpy(upstream))
    parameters = {} if module is None else dict(module.named_parameters())
    gradients = {name: tensor.grad for name, tensor in {**tensors, **parameters}.items() if tensor.requires_grad}
    return {
        **inputs,
        **{f"parameters.{name}": value.detach().numpy().copy() for name, value in parameters.items()},
        "output": output.detach().numpy(),
        "upstream": upstream,
        **{f"gradients.{name}": value.numpy().copy() for name, value in gradients.items()},
        **{name: value.detach().numpy().copy() for name, value in more.items()},
    }


def convolution(kind, channels, kernel, shape):
    cases, rng = {}, np.random.default_rng(0)
    for stride, padding, dilation, rows in product((1, 2), (0, 1, 2), (1, 2), ROWS):
        if rows == 1 and padding != 1:
            continue  # a batch of one with every stride and dilation is enough
        module = kind(*channels, kernel, stride=stride, padding=padding, dilation=dilation)
        set_parameters(module, rng)
        case = f"stride={stride} padding={padding} dilation={dilation} rows={rows}"
        cases[case] = reference(module, rng, x=numbers(rng, rows, channels[0], *shape))
    return cases


def conv1d():
    return convolution(nn.Conv1d, (2, 3), 3, (8,))


def conv2d():
    return convolution(nn.Conv2d, (2, 3), (3, 2), (6, 5))


WINDOWS = [(2, 2, 0), (3, 2, 0), (2, 1, 0), (3, 1, 1), (3, 2, 1)]  # kernel, stride, padding; all but the first overlap


def pooling(pool):
    cases, rng = {}, np.random.default_rng(1)
    for (kernel, stride, padding), rows in product(WINDOWS, ROWS):
        x = rng.permutation(rows * 2 * 6 * 5).reshape(rows, 2, 6, 5) / 64 - 2  # no two values are equal
        case = f"kernel={kernel} stride={stride} padding={padding} rows={rows}"
        cases[case] = reference(None, rng, lambda x, w=(kernel, stride, padding): pool(x, *w), x=x)
    return cases


def max_pool2d():
    cases, rng = pooling(functional.max_pool2d), np.random.default_rng(2)
    for rows in ROWS:  # the first of equal values gets the gradient
        x = rng.integers(0, 3, (rows, 2, 6, 5)).astype(float)
        cases[f"ties rows={rows}"] = reference(None, rng, lambda x: functional.max_pool2d(x, 2, 2), x=x)
    return cases


def avg_pool2d():
    return pooling(functional.avg_pool2d)


def global_avg_pool2d():
    rng = np.random.default_rng(3)
    return {
        f"rows={rows}": reference(
            None, rng, lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), x=numbers(rng, rows, 3, 4, 5)
        )
        for rows in ROWS
    }


def recurrent(kind):
    """Return the cases of a recurrent layer of 3 inputs and 4 units over 6 steps."""
    cases, rng = {}, np.random.default_rng(4)
    module = kind(3, 4, batch_first=True)
    lengths = torch.tensor([6, 2, 4, 1, 5])

    def run(x, *, lengths=None, last):
        states, end = module(
            x if lengths is None else pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        )
        if lengths is not None:
            states, _ = pad_packed_sequence(states, batch_first=True)
        end, *cell = end if isinstance(end, tuple) else (end,)
        more = {"cell": cell[0][0]} if cell else {}
        if lengths is not None:
            more["lengths"] = lengths
        return (end[0] if last else states), more

    for rows, last in product(ROWS, (False, True)):
        set_parameters(module, rng)
        case = f"{'last' if last else 'states'} rows={rows}"
        cases[case] = reference(module, rng, lambda x, last=last: run(x, last=last), x=numbers(rng, rows, 6, 3))
    for last in (False, True):
        set_parameters(module, rng)
        case = f"{'last' if last else 'states'} lengths"
        cases[case] = reference(
            module, rng, lambda x, last=last: run(x, lengths=lengths, last=last), x=numbers(rng, 5, 6, 3)
        )
    return cases


def rnn():
    return recurrent(nn.RNN)


def gru():
    return recurrent(nn.GRU)


def lstm():
    return recurrent(nn.LSTM)


def multi_head_attention():
    """Return self-attention of 6 features in 2 heads over 5 steps."""
    cases, rng = {}, np.random.default_rng(5)
    module = nn.MultiheadAttention(6, 2, batch_first=True)
    causal = torch.ones(5, 5, dtype=torch.bool).triu(1)
    for kind, rows in product(("plain", "causal", "padding"), ROWS):
        set_parameters(module, rng)
        padding = torch.arange(5) >= torch.tensor([3, 5, 1, 4, 2])[:rows, None]
        masks = {"causal": {"attn_mask": causal}, "padding": {"key_padding_mask": padding}}.get(kind, {})
        stored_mask = {"mask": next(iter(masks.values()))} if masks else {}

        def run(x, masks=masks, stored_mask=stored_mask):
            output, attention = module(x, x, x, **masks, average_attn_weights=False)
            return output, {"attention": attention, **stored_mask}

        cases[f"{kind} rows={rows}"] = reference(module, rng, run, x=numbers(rng, rows, 5, 6))
    return cases


def bilinear():
    cases, rng = {}, np.random.default_rng(6)
    module = nn.Bilinear(3, 4, 2)
    for rows in ROWS:
        set_parameters(module, rng)
        cases[f"rows={rows}"] = reference(module, rng, x1=numbers(rng, rows, 3), x2=numbers(rng, rows, 4))
    return cases


def layer_norm():
    cases, rng = {}, np.random.default_rng(7)
    module = nn.LayerNorm(4, eps=1e-3)
    for rows in ROWS:
        set_parameters(module, rng)
        cases[f"rows={rows}"] = reference(module, rng, x=1 + 2 * numbers(rng, rows, 4))
    return cases


def batch_norm():
    """Return training on batches of several sizes in turn, then a prediction of 1 row and of 5."""
    cases, rng = {}, np.random.default_rng(8)
    module = nn.BatchNorm1d(4, momentum=0.3, eps=1e-3)
    set_parameters(module, rng)
    for i, rows in enumerate((7, 5, 7, 2)):
        cases[f"batch {i}"] = reference(module, rng, x=3 + 2 * numbers(rng, rows, 4))
        cases[f"batch {i}"] |= {name: getattr(module, name).numpy().copy() for name in ("running_mean", "running_var")}
    module.eval()
    x = 3 + 2 * numbers(rng, 5, 4)
    cases["evaluation"] = {"x": x, "output": module(torch.from_numpy(x)).detach().numpy()}
    return cases


def embedding():
    cases, rng = {}, np.random.default_rng(9)
    module = nn.Embedding(5, 2)
    for rows in ROWS:
        set_parameters(module, rng)
        cases[f"rows={rows}"] = reference(module, rng, ids=rng.integers(0, 5, (rows, 3)))
    return cases


def modules():
    """Return one batch of each of these modules, whose samples have this shape."""
    cases, rng = {}, np.random.default_rng(11)
    given = {
        "rms_norm": (nn.RMSNorm(6, eps=1e-5), (5, 6)),
        "group_norm": (nn.GroupNorm(2, 6), (6, 3, 2)),
        "grouped_conv": (nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2), (6, 5, 4)),
        "transposed": (nn.ConvTranspose1d(6, 4, 3, stride=2, padding=1, dilation=2), (6, 5)),
        "grouped_transposed": (nn.ConvTranspose2d(6, 4, (3, 2), stride=(2, 3), groups=2), (6, 3, 4)),
    }
    for name, (module, shape) in given.items():
        set_parameters(module, rng)
        cases[name] = reference(module, rng, x=numbers(rng, 5, *shape))
    return cases


class Words(nn.Module):
    """An embedding, attention beside a shortcut, a GRU and a linear map, under names that PyTorch users choose."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.norm = nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.rnn = nn.GRU(6, 4, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, ids):
        x = self.embed(ids)
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return self.head(self.rnn(x)[1][0])


class Steps(nn.Module):
    """Two recurrent layers in one module, and a linear map."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[1][0][-1])


class Directions(nn.Module):
    """Two recurrent layers of both directions in one module, and a linear map of each step."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def images():
    """Return a network for images of one channel, 8 by 8."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 3)
    )


def networks():
    """Return whole networks after some batches, in evaluation, with their state_dict as ``state.NAME``."""
    cases, rng = {}, np.random.default_rng(10)
    given = {"images": numbers(rng, 5, 1, 8, 8), "words": rng.integers(0, 7, (5, 6)), "steps": numbers(rng, 5, 6, 3)}
    given["directions"] = given["steps"]
    for name, make in (("images", images), ("words", Words), ("steps", Steps), ("directions", Directions)):
        module = make().to(torch.float64)
        with torch.no_grad():
            for value in module.parameters():  # about as large as PyTorch's own initial numbers
                value.copy_(torch.from_numpy(numbers(rng, *value.shape) / 4))
        if name == "images":
            module(torch.from_numpy(3 * numbers(rng, 7, 1, 8, 8)))  # moves the running mean and variance
        module.eval()
        for dtype in ("float64", "float32"):
            module = module.to(getattr(torch, dtype))
            x = torch.from_numpy(given[name])
            output = module(x if name == "words" else x.to(getattr(torch, dtype)))
            state = {f"state.{key}": value.numpy().copy() for key, value in module.state_dict().items()}
            cases[f"{name} {dtype}"] = {"x": given[name], "output": output.detach().numpy(), **state}
    return cases
