# The public names of this package: see framework/base/lazy.py.

from framework.training.callbacks import HOOKS as HOOKS, Callback as Callback, on as on
from framework.training.callbacks.progress import ProgressBar as ProgressBar
from framework.training.callbacks.reporting import CSVLog as CSVLog, JSONLog as JSONLog, RecordNorms as RecordNorms
from framework.training.callbacks.saving import Checkpoint as Checkpoint
from framework.training.callbacks.stopping import (
    EarlyStopping as EarlyStopping,
    ReduceOnPlateau as ReduceOnPlateau,
    RestoreBest as RestoreBest,
    StopOnConvergence as StopOnConvergence,
)
from framework.training.callbacks.trackers import MLflow as MLflow, TensorBoard as TensorBoard
from framework.training.checkpoint import (
    describe as describe,
    latest as latest,
    load as load,
    load_model as load_model,
    save as save,
)
from framework.training.engines.prediction import compile_model as compile_model
from framework.training.gradients import (
    check_gradients as check_gradients,
    compare_steps as compare_steps,
    numerical_gradient as numerical_gradient,
)
from framework.training.optimizers import BoundOptimizer as BoundOptimizer, Optimizer as Optimizer
from framework.training.optimizers.formulas import (
    AdadeltaOptimizer as AdadeltaOptimizer,
    AdagradOptimizer as AdagradOptimizer,
    AdamOptimizer as AdamOptimizer,
    AdamWOptimizer as AdamWOptimizer,
    LionOptimizer as LionOptimizer,
    NAdamOptimizer as NAdamOptimizer,
    RMSPropOptimizer as RMSPropOptimizer,
    SGDOptimizer as SGDOptimizer,
)
from framework.training.parallel.strategy import DataParallel as DataParallel, rank as rank
from framework.training.rates import LearningRateSearch as LearningRateSearch
from framework.training.runs.history import History as History
from framework.training.runs.run import Run as Run
from framework.training.trace import (
    TracedStep as TracedStep,
    TracedUpdate as TracedUpdate,
    TraceSteps as TraceSteps,
    error_term as error_term,
    increment as increment,
    trace_step as trace_step,
)
from framework.training.trainer import Trainer as Trainer
from framework.training.verification import verify_resume as verify_resume
