"""Compute reference values with PyTorch and store them in tests/pytorch/values.

Run it from the root of the repository, where PyTorch is installed, after a change of a reference::

    python -m tests.pytorch.make            # every file
    python -m tests.pytorch.make gru lstm   # these

``values/NAME.npz`` holds the arrays of the reference NAME as ``CASE/KEY``, and PyTorch's version as ``torch``.
``oracles.stored(NAME)`` returns ``{CASE: {KEY: array}}`` without PyTorch. Where PyTorch is installed,
``test_oracles.py`` computes every reference again and compares. ``values/saved.pt`` is a file of ``torch.save``.

All numbers are float64 unless a key names another dtype. Names and layouts are PyTorch's own: the weight of a linear
map is (units, inputs), and the gates of an LSTM follow one another as i, f, g, o, those of a GRU as r, z, n.

**Layers**. Keys of every case:

- ``x``: the input, batch first; ``ids`` for the embedding, ``x1`` and ``x2`` for the bilinear layer;
- ``parameters.P``: each parameter P, by PyTorch's name;
- ``output``: the layer's output;
- ``upstream``: the gradient of the loss by the output: the loss is ``sum(upstream * output)``;
- ``gradients.x`` (``gradients.x1``, ``gradients.x2``) and ``gradients.P``: the gradients of that loss.

============================  ==============================================================  ========================
name                          case                                                            further keys
============================  ==============================================================  ========================
conv1d, conv2d                ``stride=S padding=P dilation=D rows=R``
max_pool2d, avg_pool2d        ``kernel=K stride=S padding=P rows=R``; max: ``ties rows=R``
global_avg_pool2d             ``rows=R``
rnn, gru, lstm                ``states rows=R`` (rows, steps, units), ``last rows=R`` (rows,  ``lengths``; lstm:
                              units); with lengths: ``states lengths``, ``last lengths``      ``cell``, the last cells
multi_head_attention          ``plain rows=R``, ``causal rows=R``, ``padding rows=R``         ``mask``, True where a key
                                                                                              is ignored; ``attention``
                                                                                              (rows, heads, query, key)
bilinear, layer_norm          ``rows=R``
embedding                     ``rows=R``
batch_norm                    ``batch N`` of several batches in turn; ``evaluation``          ``running_mean``,
                                                                                              ``running_var`` after it
============================  ==============================================================  ========================

``modules`` has one batch of further modules, by their names.

**Networks**: ``networks``, by ``images``, ``words``, ``steps`` or ``directions`` and the dtype: ``x``, ``output``, and
the state_dict, its names behind ``state.``.

R is 1 or 5; of the convolutions, those with padding 1 alone have a batch of 1. Their kernels are 3 and (3, 2). For
average pooling with padding, the zeros of the padding count. Of equal values, the first gets the gradient of max
pooling. ``states`` after the end of a row are 0, and ``last`` is the state at its end. Attention has 2 heads.
``batch_norm`` has eps 1e-3 and momentum 0.3, ``layer_norm`` eps 1e-3. ``mask`` of ``causal`` is (query, key), of
``padding`` (rows, key).

**Functions**: ``activations`` (``h``, ``value``, ``derivative``) and ``losses`` (``prediction``, ``target``, ``value``,
``slope``), both by the repr of the component and the dtype of its arguments; ``gelu`` on a finer grid;
``cross_entropy`` with label smoothing and class weights.

**Training**: ``optimizers`` and ``sgd`` (parameters after steps), ``clipping``, ``schedules`` and ``plateau`` (rates),
``initializers``; ``refusals``: PyTorch's words for tensors that do not become arrays.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from . import activations, layers, losses, training

VALUES = Path(__file__).parent / "values"
Cases = dict[str, dict[str, np.ndarray]]
REFERENCES: dict[str, Callable[[], Cases]] = {
    function.__name__: function
    for function in (
        activations.activations,
        activations.gelu,
        layers.avg_pool2d,
        layers.batch_norm,
        layers.bilinear,
        layers.conv1d,
        layers.conv2d,
        layers.embedding,
        layers.global_avg_pool2d,
        layers.gru,
        layers.layer_norm,
        layers.lstm,
        layers.max_pool2d,
        layers.modules,
        layers.multi_head_attention,
        layers.networks,
        layers.rnn,
        losses.cross_entropy,
        losses.losses,
        training.clipping,
        training.initializers,
        training.optimizers,
        training.plateau,
        training.refusals,
        training.schedules,
        training.sgd,
    )
}


def compute(name: str) -> Cases:
    """Compute a reference in one thread and in float64, and put PyTorch's own settings back."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)  # the arrays are small
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in it
    try:
        return REFERENCES[name]()
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def make(name: str) -> None:
    arrays = {f"{case}/{key}": array for case, values in compute(name).items() for key, array in values.items()}
    np.savez_compressed(VALUES / f"{name}.npz", torch=np.array(str(torch.__version__)), **arrays)


if __name__ == "__main__":
    for name in sys.argv[1:] or REFERENCES:
        make(name)
    torch.save({"weights": torch.zeros(3)}, VALUES / "saved.pt")
