# The public names of this package: see framework/base/lazy.py.

from framework.backends.programs import check_derivative as check_derivative
from framework.backends.text import show as show
from framework.base.special import erf as erf, erfc as erfc
from framework.formulas.activations import Activation as Activation
from framework.formulas.activations.basic import (
    Identity as Identity,
    Sigmoid as Sigmoid,
    Softmax as Softmax,
    Tanh as Tanh,
)
from framework.formulas.activations.formulas import (
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
    Sort as Sort,
    Step as Step,
    Swish as Swish,
)
from framework.formulas.losses import Loss as Loss, RowLoss as RowLoss
from framework.formulas.losses.formulas import (
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
from framework.formulas.losses.rows import (
    CosineSimilarity as CosineSimilarity,
    KLDivergence as KLDivergence,
    MultiQuantile as MultiQuantile,
)
from framework.formulas.losses.several import OutputLosses as OutputLosses
from framework.formulas.metrics import Metric as Metric, WholeMetric as WholeMetric
from framework.formulas.metrics.base import OutputMetric as OutputMetric
from framework.formulas.metrics.formulas import (
    F1 as F1,
    R2 as R2,
    ROCAUC as ROCAUC,
    Accuracy as Accuracy,
    ConfusionMatrix as ConfusionMatrix,
    Coverage as Coverage,
    MiddleError as MiddleError,
    Perplexity as Perplexity,
    Precision as Precision,
    Recall as Recall,
    RefinedLoss as RefinedLoss,
    RootMeanSquaredError as RootMeanSquaredError,
    Temperature as Temperature,
    TopK as TopK,
)
from framework.formulas.schedules import (
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
from framework.graph.loop import loop as loop
