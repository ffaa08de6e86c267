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

from framework.activations import Activation, Identity, ReLU, RowActivation, Sigmoid, Softmax, Tanh
from framework.callbacks import HOOKS, Callback, CSVLog, EarlyStopping, ProgressBar, StopOnConvergence, on
from framework.component import Component
from framework.data import Dataset, split
from framework.derivatives import check_derivative, numerical_gradient
from framework.errors import (
    CallbackError,
    DataError,
    DerivativeError,
    DivergedError,
    DtypeError,
    FrameworkError,
    SettingsError,
    ShapeError,
    UsageError,
)
from framework.formulas import show
from framework.gradients import check_gradients, compare_steps
from framework.history import History
from framework.initializers import Constant, Glorot, He, Initializer, Uniform, Zeros
from framework.losses import BinaryCrossEntropy, CrossEntropy, HalfSquaredError, Loss, MeanSquaredError, RowLoss
from framework.metrics import Accuracy, Metric, RootMeanSquaredError
from framework.models import Dense, Layer, Model, Neuron, Sequential
from framework.optimizers import Optimizer, SGDOptimizer
from framework.parameters import Parameters
from framework.random_streams import random_generator
from framework.run import Run
from framework.schedules import ExponentialSchedule, Schedule
from framework.trace import TracedStep, TraceSteps, error_term, increment, trace_step
from framework.trainer import Trainer

__all__ = [
    "HOOKS",
    "Accuracy",
    "Activation",
    "BinaryCrossEntropy",
    "CSVLog",
    "Callback",
    "CallbackError",
    "Component",
    "Constant",
    "CrossEntropy",
    "DataError",
    "Dataset",
    "Dense",
    "DerivativeError",
    "DivergedError",
    "DtypeError",
    "EarlyStopping",
    "ExponentialSchedule",
    "FrameworkError",
    "Glorot",
    "HalfSquaredError",
    "He",
    "History",
    "Identity",
    "Initializer",
    "Layer",
    "Loss",
    "MeanSquaredError",
    "Metric",
    "Model",
    "Neuron",
    "Optimizer",
    "Parameters",
    "ProgressBar",
    "ReLU",
    "RootMeanSquaredError",
    "RowActivation",
    "RowLoss",
    "Run",
    "SGDOptimizer",
    "Schedule",
    "Sequential",
    "SettingsError",
    "ShapeError",
    "Sigmoid",
    "Softmax",
    "StopOnConvergence",
    "Tanh",
    "TraceSteps",
    "TracedStep",
    "Trainer",
    "Uniform",
    "UsageError",
    "Zeros",
    "check_derivative",
    "check_gradients",
    "compare_steps",
    "error_term",
    "increment",
    "numerical_gradient",
    "on",
    "random_generator",
    "show",
    "split",
    "trace_step",
]
