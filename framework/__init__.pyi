# The public names: type checkers read them here, and so does the package, which imports each at its first use.

__version__: str

from framework.activations import Activation as Activation
from framework.activations.basic import Identity as Identity, Sigmoid as Sigmoid, Softmax as Softmax, Tanh as Tanh
from framework.activations.formulas import (
    CELU as CELU,
    ELU as ELU,
    GELU as GELU,
    SELU as SELU,
    HardSigmoid as HardSigmoid,
    HardSwish as HardSwish,
    HardTanh as HardTanh,
    LeakyReLU as LeakyReLU,
    LogSigmoid as LogSigmoid,
    Mish as Mish,
    ReLU as ReLU,
    SiLU as SiLU,
    Sine as Sine,
    Softplus as Softplus,
    Softsign as Softsign,
    Step as Step,
    Swish as Swish,
)
from framework.callbacks import HOOKS as HOOKS, Callback as Callback, on as on
from framework.callbacks.progress import ProgressBar as ProgressBar
from framework.callbacks.reporting import CSVLog as CSVLog, JSONLog as JSONLog, LayerNorms as LayerNorms
from framework.callbacks.saving import Checkpoint as Checkpoint
from framework.callbacks.stopping import (
    EarlyStopping as EarlyStopping,
    ReduceOnPlateau as ReduceOnPlateau,
    RestoreBest as RestoreBest,
    StopOnConvergence as StopOnConvergence,
)
from framework.callbacks.trackers import MLflow as MLflow, TensorBoard as TensorBoard
from framework.checkpoint import (
    describe as describe,
    latest as latest,
    load as load,
    load_model as load_model,
    save as save,
)
from framework.data.blocks import Dataset as Dataset
from framework.data.csv import CSV as CSV
from framework.data.indexed import Indexed as Indexed
from framework.data.npy import NPY as NPY
from framework.data.parquet import Parquet as Parquet
from framework.data.sources import split as split
from framework.data.streams import Stream as Stream
from framework.emit.programs import check_derivative as check_derivative
from framework.emit.text import show as show
from framework.engines.prediction import compile_model as compile_model
from framework.errors import (
    CallbackError as CallbackError,
    CheckpointError as CheckpointError,
    DataError as DataError,
    DerivativeError as DerivativeError,
    DivergedError as DivergedError,
    DtypeError as DtypeError,
    FrameworkError as FrameworkError,
    ResumeWarning as ResumeWarning,
    SettingsError as SettingsError,
    ShapeError as ShapeError,
    UsageError as UsageError,
)
from framework.experiments.experiment import Experiment as Experiment
from framework.experiments.sweeps.sweep import Sweep as Sweep
from framework.export import (
    export_onnx as export_onnx,
    export_python as export_python,
    from_sklearn as from_sklearn,
    load_torch as load_torch,
    save_torch as save_torch,
    to_torch as to_torch,
)
from framework.gradients import (
    check_gradients as check_gradients,
    compare_steps as compare_steps,
    numerical_gradient as numerical_gradient,
)
from framework.graph.loop import loop as loop
from framework.losses import Loss as Loss, RowLoss as RowLoss
from framework.losses.formulas import (
    BinaryCrossEntropy as BinaryCrossEntropy,
    Cauchy as Cauchy,
    CrossEntropy as CrossEntropy,
    Focal as Focal,
    HalfSquaredError as HalfSquaredError,
    Hinge as Hinge,
    Huber as Huber,
    LogCosh as LogCosh,
    MeanAbsoluteError as MeanAbsoluteError,
    MeanSquaredError as MeanSquaredError,
    Poisson as Poisson,
    Quantile as Quantile,
    SquaredHinge as SquaredHinge,
)
from framework.losses.rows import CosineSimilarity as CosineSimilarity, KLDivergence as KLDivergence
from framework.losses.several import Losses as Losses
from framework.metrics import Metric as Metric, WholeMetric as WholeMetric
from framework.metrics.base import OutputMetric as OutputMetric
from framework.metrics.formulas import (
    F1 as F1,
    R2 as R2,
    ROCAUC as ROCAUC,
    Accuracy as Accuracy,
    ConfusionMatrix as ConfusionMatrix,
    Perplexity as Perplexity,
    Precision as Precision,
    Recall as Recall,
    RefinedLoss as RefinedLoss,
    RootMeanSquaredError as RootMeanSquaredError,
    Temperature as Temperature,
    TopK as TopK,
)
from framework.models import Composite as Composite, Layer as Layer, Model as Model
from framework.models.affine import Dense as Dense, Neuron as Neuron
from framework.models.branches import Ensemble as Ensemble, Heads as Heads, Input as Input, Join as Join
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
from framework.models.parameters import Parameters as Parameters
from framework.models.sequences import (
    GRU as GRU,
    LSTM as LSTM,
    Bidirectional as Bidirectional,
    MultiHeadAttention as MultiHeadAttention,
    PositionalEncoding as PositionalEncoding,
    SimpleRNN as SimpleRNN,
)
from framework.models.sequential import Residual as Residual, Sequential as Sequential
from framework.optimizers import BoundOptimizer as BoundOptimizer, Optimizer as Optimizer
from framework.optimizers.formulas import (
    AdadeltaOptimizer as AdadeltaOptimizer,
    AdagradOptimizer as AdagradOptimizer,
    AdamOptimizer as AdamOptimizer,
    AdamWOptimizer as AdamWOptimizer,
    LionOptimizer as LionOptimizer,
    NAdamOptimizer as NAdamOptimizer,
    RMSPropOptimizer as RMSPropOptimizer,
    SGDOptimizer as SGDOptimizer,
)
from framework.parallel.strategy import DataParallel as DataParallel, rank as rank
from framework.preprocessing import ColumnStep as ColumnStep
from framework.preprocessing.categories import Classes as Classes, Levels as Levels, OneHot as OneHot
from framework.preprocessing.fitted import FittedPreprocess as FittedPreprocess
from framework.preprocessing.numbers import (
    Bounds as Bounds,
    Clip as Clip,
    Dates as Dates,
    Drop as Drop,
    Impute as Impute,
    Log as Log,
    MinMax as MinMax,
    Quantiles as Quantiles,
    RobustScale as RobustScale,
    SmoothClip as SmoothClip,
    Standardize as Standardize,
)
from framework.preprocessing.recipe import Preprocess as Preprocess
from framework.random_streams import random_generator as random_generator
from framework.regularizers import L1 as L1, L2 as L2, Regularizer as Regularizer
from framework.runs.history import History as History
from framework.runs.run import Run as Run
from framework.schedules import (
    ConstantSchedule as ConstantSchedule,
    CosineRestartsSchedule as CosineRestartsSchedule,
    CosineSchedule as CosineSchedule,
    ExponentialSchedule as ExponentialSchedule,
    InverseTimeSchedule as InverseTimeSchedule,
    MultiStepSchedule as MultiStepSchedule,
    OneCycleSchedule as OneCycleSchedule,
    PolynomialSchedule as PolynomialSchedule,
    Schedule as Schedule,
    StepSchedule as StepSchedule,
    WarmupSchedule as WarmupSchedule,
)
from framework.settings.component import (
    Component as Component,
    Count as Count,
    Fraction as Fraction,
    NonNegative as NonNegative,
    Positive as Positive,
    Seed as Seed,
)
from framework.special import erf as erf, erfc as erfc
from framework.trace import (
    TracedStep as TracedStep,
    TracedUpdate as TracedUpdate,
    TraceSteps as TraceSteps,
    error_term as error_term,
    increment as increment,
    trace_step as trace_step,
)
from framework.training.rates import LearningRateSearch as LearningRateSearch
from framework.training.trainer import Trainer as Trainer
from framework.training.verification import verify_resume as verify_resume
