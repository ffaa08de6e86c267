"""An object-oriented training framework on NumPy: write the formula once; the framework does the rest.

Example:
    >>> from framework import BinaryCrossEntropy, Neuron, SGDOptimizer, Sigmoid, Trainer
    >>> x, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 1]
    >>> neuron = Neuron(2, Sigmoid())
    >>> trainer = Trainer(loss=BinaryCrossEntropy(), optimizer=SGDOptimizer(learning_rate=1.0), epochs=200)
    >>> run = trainer.fit(neuron, (x, y))
    >>> [float(p) > 0.5 for p in trainer.predict(neuron, x)]
    [False, True, True, True]
"""

from framework.activations import Activation
from framework.activations.basic import Identity, Sigmoid, Softmax, Tanh
from framework.activations.piecewise import HardSigmoid, HardSwish, HardTanh, Step
from framework.activations.rectifiers import CELU, ELU, SELU, LeakyReLU, ReLU
from framework.activations.smooth import GELU, LogSigmoid, Mish, SiLU, Sine, Softplus, Softsign, Swish
from framework.callbacks import HOOKS, Callback, on
from framework.callbacks.progress import ProgressBar
from framework.callbacks.reporting import CSVLog, JSONLog, LayerNorms
from framework.callbacks.saving import Checkpoint
from framework.callbacks.stopping import EarlyStopping, ReduceOnPlateau, StopOnConvergence
from framework.callbacks.trackers import MLflow, TensorBoard
from framework.checkpoint import describe, latest, load, load_model, save
from framework.data.blocks import Dataset
from framework.data.csv import CSV
from framework.data.indexed import Indexed
from framework.data.npy import NPY
from framework.data.parquet import Parquet
from framework.data.sources import split
from framework.data.streams import Stream
from framework.emit.formula import check_derivative
from framework.emit.text import show
from framework.engines.prediction import compile_model
from framework.errors import (
    CallbackError,
    CheckpointError,
    DataError,
    DerivativeError,
    DivergedError,
    DtypeError,
    FrameworkError,
    ResumeWarning,
    SettingsError,
    ShapeError,
    UsageError,
)
from framework.experiments.experiment import Experiment
from framework.experiments.sweeps.sweep import Sweep
from framework.export import export_onnx, export_python, from_sklearn, load_torch, save_torch, to_torch
from framework.gradients import check_gradients, compare_steps, numerical_gradient
from framework.graph.loop import loop
from framework.losses import Loss, RowLoss
from framework.losses.classification import BinaryCrossEntropy, CrossEntropy, Focal, Hinge, SquaredHinge
from framework.losses.regression import (
    Cauchy,
    HalfSquaredError,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanSquaredError,
    Poisson,
    Quantile,
)
from framework.losses.several import Losses
from framework.losses.vectors import CosineSimilarity, KLDivergence
from framework.metrics import Metric, WholeMetric
from framework.metrics.classification import F1, ROCAUC, Accuracy, ConfusionMatrix, Perplexity, Precision, Recall, TopK
from framework.metrics.outputs import OutputMetric
from framework.metrics.regression import R2, RootMeanSquaredError
from framework.models import Composite, Layer, Model
from framework.models.affine import Dense, Neuron
from framework.models.attention import MultiHeadAttention, PositionalEncoding
from framework.models.branches import Heads, Input, Join
from framework.models.convolution import AveragePool, Conv1D, Conv2D, GlobalAverage, MaxPool
from framework.models.embedding import Embedding
from framework.models.initializers import Constant, Glorot, He, Initializer, LeCun, Normal, Orthogonal, Uniform, Zeros
from framework.models.normalization import BatchNorm, Dropout, LayerNorm
from framework.models.parameters import Parameters
from framework.models.quadratic import RBF, Bilinear
from framework.models.recurrent import GRU, LSTM, SimpleRNN
from framework.models.sequential import Residual, Sequential
from framework.models.shaping import Flatten, Permute, Reshape
from framework.optimizers import BoundOptimizer, Optimizer
from framework.optimizers.adam import AdamOptimizer, AdamWOptimizer, NAdamOptimizer
from framework.optimizers.adaptive import AdadeltaOptimizer, AdagradOptimizer, RMSPropOptimizer
from framework.optimizers.descent import LionOptimizer, SGDOptimizer
from framework.parallel.starting import rank
from framework.parallel.strategy import DataParallel
from framework.preprocessing import ColumnStep
from framework.preprocessing.categories import Classes, Levels, OneHot
from framework.preprocessing.dates import Dates
from framework.preprocessing.fitted import FittedPreprocess
from framework.preprocessing.numbers import Clip, Drop, Impute, Log, MinMax, Quantiles, Standardize
from framework.preprocessing.recipe import Preprocess
from framework.random_streams import random_generator
from framework.regularizers import L1, L2, Regularizer
from framework.runs.history import History
from framework.runs.run import Run
from framework.schedules import Schedule
from framework.schedules.formulas import (
    ConstantSchedule,
    CosineRestartsSchedule,
    CosineSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    PolynomialSchedule,
    StepSchedule,
    WarmupSchedule,
)
from framework.settings.component import Component, Count, Fraction, NonNegative, Positive, Seed
from framework.settings.messages import answering as _answering
from framework.special import erf, erfc
from framework.trace import TracedStep, TracedUpdate, TraceSteps, error_term, increment, trace_step
from framework.training.rates import LearningRateSearch
from framework.training.trainer import Trainer
from framework.training.verification import verify_resume

__all__ = [
    "CELU",
    "CSV",
    "ELU",
    "F1",
    "GELU",
    "GRU",
    "HOOKS",
    "L1",
    "L2",
    "LSTM",
    "NPY",
    "R2",
    "RBF",
    "ROCAUC",
    "SELU",
    "Accuracy",
    "Activation",
    "AdadeltaOptimizer",
    "AdagradOptimizer",
    "AdamOptimizer",
    "AdamWOptimizer",
    "AveragePool",
    "BatchNorm",
    "Bilinear",
    "BinaryCrossEntropy",
    "BoundOptimizer",
    "CSVLog",
    "Callback",
    "CallbackError",
    "Cauchy",
    "Checkpoint",
    "CheckpointError",
    "Classes",
    "Clip",
    "ColumnStep",
    "Component",
    "Composite",
    "ConfusionMatrix",
    "Constant",
    "ConstantSchedule",
    "Conv1D",
    "Conv2D",
    "CosineRestartsSchedule",
    "CosineSchedule",
    "CosineSimilarity",
    "Count",
    "CrossEntropy",
    "DataError",
    "DataParallel",
    "Dataset",
    "Dates",
    "Dense",
    "DerivativeError",
    "DivergedError",
    "Drop",
    "Dropout",
    "DtypeError",
    "EarlyStopping",
    "Embedding",
    "Experiment",
    "ExponentialSchedule",
    "FittedPreprocess",
    "Flatten",
    "Focal",
    "Fraction",
    "FrameworkError",
    "GlobalAverage",
    "Glorot",
    "HalfSquaredError",
    "HardSigmoid",
    "HardSwish",
    "HardTanh",
    "He",
    "Heads",
    "Hinge",
    "History",
    "Huber",
    "Identity",
    "Impute",
    "Indexed",
    "Initializer",
    "Input",
    "InverseTimeSchedule",
    "JSONLog",
    "Join",
    "KLDivergence",
    "Layer",
    "LayerNorm",
    "LayerNorms",
    "LeCun",
    "LeakyReLU",
    "LearningRateSearch",
    "Levels",
    "LionOptimizer",
    "Log",
    "LogCosh",
    "LogSigmoid",
    "Loss",
    "Losses",
    "MLflow",
    "MaxPool",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "MinMax",
    "Mish",
    "Model",
    "MultiHeadAttention",
    "MultiStepSchedule",
    "NAdamOptimizer",
    "Neuron",
    "NonNegative",
    "Normal",
    "OneCycleSchedule",
    "OneHot",
    "Optimizer",
    "Orthogonal",
    "OutputMetric",
    "Parameters",
    "Parquet",
    "Permute",
    "Perplexity",
    "Poisson",
    "PolynomialSchedule",
    "PositionalEncoding",
    "Positive",
    "Precision",
    "Preprocess",
    "ProgressBar",
    "Quantile",
    "Quantiles",
    "RMSPropOptimizer",
    "ReLU",
    "Recall",
    "ReduceOnPlateau",
    "Regularizer",
    "Reshape",
    "Residual",
    "ResumeWarning",
    "RootMeanSquaredError",
    "RowLoss",
    "Run",
    "SGDOptimizer",
    "Schedule",
    "Seed",
    "Sequential",
    "SettingsError",
    "ShapeError",
    "SiLU",
    "Sigmoid",
    "SimpleRNN",
    "Sine",
    "Softmax",
    "Softplus",
    "Softsign",
    "SquaredHinge",
    "Standardize",
    "Step",
    "StepSchedule",
    "StopOnConvergence",
    "Stream",
    "Sweep",
    "Swish",
    "Tanh",
    "TensorBoard",
    "TopK",
    "TraceSteps",
    "TracedStep",
    "TracedUpdate",
    "Trainer",
    "Uniform",
    "UsageError",
    "WarmupSchedule",
    "WholeMetric",
    "Zeros",
    "check_derivative",
    "check_gradients",
    "compare_steps",
    "compile_model",
    "describe",
    "erf",
    "erfc",
    "error_term",
    "export_onnx",
    "export_python",
    "from_sklearn",
    "increment",
    "latest",
    "load",
    "load_model",
    "load_torch",
    "loop",
    "numerical_gradient",
    "on",
    "random_generator",
    "rank",
    "save",
    "save_torch",
    "show",
    "split",
    "to_torch",
    "trace_step",
    "verify_resume",
]

globals()["__getattr__"] = _answering(__name__, __all__)  # so, a type checker still reports unknown names
