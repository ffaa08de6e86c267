# The public names of this package: see framework/base/lazy.py.

from framework.models.affine import Dense as Dense, Neuron as Neuron
from framework.models.base import Model as Model
from framework.models.branches import Ensemble as Ensemble, Heads as Heads, Input as Input, Join as Join
from framework.models.composite import Composite as Composite
from framework.models.convolution import (
    AveragePool as AveragePool,
    Conv1D as Conv1D,
    Conv2D as Conv2D,
    ConvTranspose1D as ConvTranspose1D,
    ConvTranspose2D as ConvTranspose2D,
    GlobalAverage as GlobalAverage,
    MaxPool as MaxPool,
)
from framework.models.embedding import Embedding as Embedding, PeriodicEmbedding as PeriodicEmbedding
from framework.models.formulas import (
    RBF as RBF,
    BatchNorm as BatchNorm,
    Bilinear as Bilinear,
    Dropout as Dropout,
    Flatten as Flatten,
    GroupNorm as GroupNorm,
    LayerNorm as LayerNorm,
    Permute as Permute,
    Reshape as Reshape,
    RMSNorm as RMSNorm,
)
from framework.models.initializers import (
    Constant as Constant,
    Glorot as Glorot,
    He as He,
    Initializer as Initializer,
    LeCun as LeCun,
    Normal as Normal,
    Orthogonal as Orthogonal,
    Uniform as Uniform,
    Zeros as Zeros,
)
from framework.models.layer import Layer as Layer
from framework.models.parameters import Parameters as Parameters
from framework.models.regularizers import L1 as L1, L2 as L2, Regularizer as Regularizer
from framework.models.sequences import (
    GRU as GRU,
    LSTM as LSTM,
    Bidirectional as Bidirectional,
    MultiHeadAttention as MultiHeadAttention,
    PositionalEncoding as PositionalEncoding,
    SimpleRNN as SimpleRNN,
)
from framework.models.sequential import Residual as Residual, Sequential as Sequential
