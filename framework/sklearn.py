"""NeuralClassifier and NeuralRegressor: networks as scikit-learn estimators.

They work in pipelines, grid searches and cross-validation like any estimator of scikit-learn, and ``Trainer`` trains
them. Its conventions hold: the constructor stores the parameters, ``fit`` begins with new weights, and what it learns
has a name that ends in ``_``. No other part of this package imports scikit-learn.
"""

from __future__ import annotations

import math
import numbers
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import KW_ONLY, dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from pydantic import Field

from framework.base.arrays import Array, first_place
from framework.base.errors import Advice, DataError, DtypeError, SettingsError, ShapeError, UsageError, brief
from framework.base.frames import is_frame
from framework.base.settings.component import Component, Count
from framework.base.settings.messages import require_arguments
from framework.data.sources import split
from framework.formulas.activations import Activation
from framework.formulas.activations.basic import Identity, Sigmoid, Softmax
from framework.formulas.activations.formulas import ReLU
from framework.formulas.losses import Loss
from framework.formulas.losses.base import require_weights
from framework.formulas.losses.formulas import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from framework.formulas.losses.rows import MultiQuantile
from framework.formulas.losses.several import OutputLosses
from framework.formulas.metrics import Metric
from framework.formulas.metrics.formulas import RefinedLoss, Temperature
from framework.formulas.schedules import CosineSchedule, Schedule
from framework.models import Model
from framework.models.affine import Dense, Neuron
from framework.models.embedding import PeriodicEmbedding
from framework.models.regularizers import Regularizer
from framework.models.sequential import Sequential as Network
from framework.training.callbacks import Callback
from framework.training.callbacks.stopping import EarlyStopping, RestoreBest
from framework.training.loop import train
from framework.training.optimizers import Optimizer
from framework.training.optimizers.formulas import AdamOptimizer
from framework.training.proposing import size_of
from framework.training.runs.run import Run
from framework.training.trainer import Trainer

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_class_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    advice = "pip install 'scikit-learn>=1.6'"
    raise ImportError(f"framework.sklearn needs scikit-learn 1.6 or newer: {advice} ({error})") from None

_RATE = 0.003

_DEFAULTS: dict[str, Component] = {
    "activation": ReLU(),
    "optimizer": AdamOptimizer(learning_rate=CosineSchedule(initial=_RATE)),
}
"""The components that None stands for."""

_ENOUGH = 100
"""From how many rows on ``early_stopping="auto"`` holds some out: a part of fewer says little."""

_UPDATES = 200
"""How many updates the proposed epochs have at least."""

_CALIBRATED = 500
"""How many held-out rows a temperature needs: fewer make probabilities too sure."""

_SETTLED = ("hidden", "activation", "layers", "output", "loss", "engine", "class_weight")
"""Parameters that have their effect in the first call of ``partial_fit``."""

_DTYPES = [np.float64, np.float32]
"""The dtypes in which X is taken as it is; others become the first."""

_Data: TypeAlias = "tuple[Array, Array, Array | None]"
"""Rows, codes of their targets, weights."""

_C = TypeVar("_C", bound=Component)


class _Settings(Component):
    """The parameters that Trainer does not check."""

    hidden: tuple[Count, ...]
    activation: Activation
    layers: tuple[Model | Activation, ...] | None
    output: Activation | None
    epochs: Count | None
    batch_size: Count | Literal["auto"] | None
    early_stopping: bool | Literal["auto"]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)]
    n_iter_no_change: Count | None

    def stops(self, rows: int) -> bool:
        """Return whether training on so many rows stops early."""
        return rows >= _ENOUGH if self.early_stopping == "auto" else self.early_stopping

    def model(self, targets: _Targets, X: Array, weight: Array | None, seed: int, *, embed: bool) -> Network:
        """Return the network, with numbers that are drawn from the seed when it meets data.

        Its dtype is that of the given layers, else that of X. With ``embed`` the hidden layers get waves of each
        column that holds more than two different numbers, with periods in its standard deviations.
        """
        dtype, head = X.dtype.name, targets.head()
        if self.layers is not None:
            layers = [layer.in_dtype(layer.dtype) if isinstance(layer, Model) else layer for layer in self.layers]
            dtype = min((layer.dtype for layer in layers if isinstance(layer, Model)), default=dtype)
            return Network(*layers, head, seed=seed, dtype=dtype)
        hidden = [Dense(units=units, activation=self.activation) for units in self.hidden]
        numbers = [embed and bool(hidden) and _varies(column) for column in X.T]
        if not any(numbers):
            return Network(*hidden, head, seed=seed, dtype=dtype)
        network = Network(PeriodicEmbedding(numbers=numbers), *hidden, head, seed=seed, dtype=dtype)
        embedding = next(iter(network.parts.values())).parameters
        mean, scale = _moments(X[:, numbers], weight)
        least = 16 * np.finfo(dtype).tiny  # by which no frequency overflows
        embedding["frequency"][...] /= np.maximum(scale, least)[:, None]
        embedding["phase"][...] -= embedding["frequency"] * mean[:, None]
        return network


@dataclass(frozen=True)
class _Targets:
    """How targets and the outputs of the network correspond.

    Attributes:
        loss: The loss.
        output: The activation of the last layer.
        units: Its units; None for a neuron, which gives one number per row.
    """

    loss: Loss
    output: Activation
    units: int | None

    def head(self) -> Model:
        """Return the last layer."""
        return Neuron(activation=self.output) if self.units is None else Dense(units=self.units, activation=self.output)

    def codes(self, y: Array, name: str) -> Array:
        """Return checked targets in the form that ``encode`` takes."""
        columns, expected = (1 if y.ndim == 1 else y.shape[1]), self.units or 1
        if columns != expected:
            raise ShapeError(f"must have {expected} column{'s' * (expected > 1)}, as in fit; got {columns}", name=name)
        return y

    def encode(self, codes: Array) -> Array:
        """Return what the network is to give."""
        return codes

    def encode_rows(self, X: Array, codes: Array, weight: Array | None) -> tuple[Array, ...]:
        """Return rows as the trainer takes them."""
        return (X, self.encode(codes)) if weight is None else (X, self.encode(codes), weight)

    def decode(self, outputs: Array) -> Array:
        """Return predictions in the form of y."""
        return outputs

    @contextmanager
    def training(self, model: Network, *, fitted: bool) -> Iterator[None]:
        """Let the network give within this block what ``encode`` returns; ``fitted`` networks gave y before."""
        yield

    def finish(self, run: Run) -> None:
        """Forget what a later resume of the run, which gets y, cannot use."""


@dataclass(frozen=True)
class _Numbers(_Targets):
    """Numbers of any size, which the network learns as deviations from their mean.

    Attributes:
        mean: The mean of y, or of each column.
        scale: The standard deviation, or 1 where y is constant.
    """

    mean: Array
    scale: Array

    def encode(self, codes: Array) -> Array:
        """Return standardised numbers."""
        return (codes - self.mean) / self.scale

    @contextmanager
    def training(self, model: Network, *, fitted: bool) -> Iterator[None]:
        """Train on standardised numbers, then make the inverse a part of the last layer's weights."""
        if not fitted:
            yield
            _transform_output(model, self.scale, self.mean)
            return
        vector = model.parameters.vector
        before = vector.copy()
        _transform_output(model, 1 / self.scale, -self.mean / self.scale)
        begun = vector.copy()
        try:
            yield
        finally:
            unchanged = np.array_equal(vector, begun)
            _transform_output(model, self.scale, self.mean)
            if unchanged:  # whose last bits the two products round
                vector[...] = before

    def finish(self, run: Run) -> None:
        for name in [name for name in run.memories if name.startswith(("EarlyStopping.", "RestoreBest."))]:
            del run.memories[name]  # the best loss and weights, of standardised numbers


def _transform_output(model: Network, scale: Array, shift: Array) -> None:
    """Change the last layer, which has no activation, so that it gives outputs times ``scale`` plus ``shift``."""
    head = [*model.parts.values()][-1].parameters
    head["weights"][...] *= scale
    head["bias"][...] = head["bias"] * scale + shift


@dataclass(frozen=True)
class _Classes(_Targets):
    """One class per row, or several labels.

    Attributes:
        classes: The classes in order, or the numbers of the labels.
        multilabel: Whether a row has several labels, each 0 or 1.
        weights: The weight of each class, for a loss that has none; None where all count alike.
    """

    classes: Array
    multilabel: bool
    weights: Array | None

    @property
    def threshold(self) -> float:
        """The output above which a label is given."""
        return 0.5 if _gives_probabilities(self.output) else 0.0

    def codes(self, y: Array, name: str) -> Array:
        """Return the place of each row's class, or the labels as they are."""
        if self.multilabel:
            y = super().codes(y, name)
            if (other := ~np.isin(y, (0, 1))).any():
                row, column = first_place(other)
                raise DataError(f"must be 0 or 1 for each label; got {y[row, column]} at row {row}", name=name, row=row)
            return y
        classes, places = _unique(y, name)
        known, received = self.classes.tolist(), classes.tolist()
        known_set = {*known}
        if unknown := [value for value in received if value not in known_set]:
            row = int(np.argmax(places == received.index(unknown[0])))
            problem = f"must hold the classes {brief(known)}; got {brief(unknown[0])} at row {row}"
            raise DataError(problem, name=name, row=row)
        return np.searchsorted(self.classes, classes)[places]

    def encode(self, codes: Array) -> Array:
        """Return places as they are for a loss over rows, else a number for each output: 0 and 1, or -1 and 1."""
        if self.loss.by_row and not self.multilabel:
            return codes
        if self.units is not None and not self.multilabel:
            codes = np.equal.outer(codes, np.arange(self.units))
        return np.where(codes, 1.0, 0.0 if self.threshold else -1.0)

    def encode_rows(self, X: Array, codes: Array, weight: Array | None) -> tuple[Array, ...]:
        """Return rows as the trainer takes them, with the weights of their classes."""
        if self.weights is not None:
            weight = self.weights[codes] * (1.0 if weight is None else weight)
        return super().encode_rows(X, codes, weight)

    def decode(self, outputs: Array) -> Array:
        """Return the class of the largest output of each row, or the labels above the threshold."""
        if self.multilabel:
            return (outputs > self.threshold).astype(np.int64)
        one = self.units is None
        places: Array = (outputs > self.threshold).astype(np.intp) if one else outputs.argmax(axis=1)
        return self.classes[places]

    def probabilities(self, outputs: Array) -> Array:
        """Return a probability for each class, which sum to 1, or for each label."""
        if self.units is None:
            return np.column_stack([1 - outputs, outputs])
        if self.multilabel or self.output.coupled:
            return outputs
        total = outputs.sum(axis=1, keepdims=True)  # each class against the rest
        return np.where(total > 0, outputs, 1) / np.where(total > 0, total, self.units)


def _gives_probabilities(output: Activation | None) -> bool:
    """Return whether outputs lie in [0, 1]; None stands for Sigmoid or Softmax."""
    low, high = (0.0, 1.0) if output is None else getattr(output, "output_range", None) or (-np.inf, np.inf)
    return bool(low >= 0 and high <= 1)


def _varies(column: Array) -> bool:
    """Return whether a column holds more than two different numbers."""
    others = column[column != column[0]]
    return bool((others != others[:1]).any())


def _moments(numbers: Array, weight: Array | None) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of each column, which is 1 for one that does not vary."""
    numbers = numbers.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(numbers, axis=0, weights=weight)
        scale = np.sqrt(np.average((numbers - mean) ** 2, axis=0, weights=weight))
        varies = np.isfinite(scale) & (scale > 10 * np.finfo(float).eps * abs(mean))
    return np.where(np.isfinite(mean), mean, 0.0), np.where(varies, scale, 1.0)


def _serves(loss: Loss, output: Activation) -> bool:
    """Return whether a loss takes such outputs."""
    try:
        loss.require_output(output)
    except SettingsError:
        return False
    return True


def _is_probable(estimator: Any) -> bool:
    """Return whether an estimator, fitted or not, gives probabilities."""
    return _gives_probabilities(getattr(estimator, "_targets", estimator).output)


def _unique(y: Array, name: str) -> tuple[Array, Array]:
    """Return the different classes in order, and the place of each row's."""
    try:
        classes, places = np.unique(y, return_inverse=True)
    except TypeError:
        kinds = ", ".join(sorted({type(value).__name__ for value in y.tolist()}))
        raise DataError(f"must hold classes of one type, and none that is missing; got {kinds}", name=name) from None
    return classes, places


def _settings_inside(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Give the settings of a component, and those of the components in it, by names such as optimizer__momentum."""
    if isinstance(value, Component):
        for setting, inner in value.settings().items():
            yield f"{name}__{setting}", inner
            yield from _settings_inside(f"{name}__{setting}", inner)


@dataclass(eq=False, repr=False)
class _Neural(BaseEstimator):
    hidden: int | Sequence[int] = (128, 128)
    activation: Activation | None = None
    _: KW_ONLY
    layers: Sequence[Model | Activation] | None = None
    output: Activation | None = None
    loss: Loss | None = None
    optimizer: Optimizer | None = None
    epochs: int | None = None
    batch_size: int | str | None = "auto"
    shuffle: bool = True
    metrics: Sequence[Metric | Loss] = ()
    regularizers: Sequence[Regularizer] = ()
    callbacks: Sequence[Callback] = ()
    early_stopping: bool | str = "auto"
    validation_fraction: float = 0.2
    n_iter_no_change: int | None = None
    engine: str = "auto"
    random_state: Any = None

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Refuse unknown parameters, and name ours for those of scikit-learn."""
        require_arguments(cls, args, params)
        made: Self = super().__new__(cls)
        return made

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with ``deep`` also the settings of components, such as ``optimizer__momentum``."""
        params: dict[str, Any] = super().get_params(deep)
        if deep:
            for name, value in [*params.items()]:
                params.update(_settings_inside(name, _DEFAULTS.get(name) if value is None else value))
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, and settings of components, such as ``optimizer__learning_rate=0.1``.

        Raises:
            ValueError: There is no such parameter or setting, or a setting is out of range; nothing is changed then.
        """
        own = {name: value for name, value in params.items() if "__" not in name}
        inner: dict[str, dict[str, Any]] = {}
        for key, value in params.items():
            name, separator, setting = key.partition("__")
            if separator:
                inner.setdefault(name, {})[setting] = value
        for name, settings in inner.items():
            component = own.get(name, getattr(self, name, None))
            component = _DEFAULTS.get(name) if component is None else component
            if name not in self._get_param_names():
                own[name] = settings  # refused below, by its name
            elif isinstance(component, Component):
                own[name] = component.replace(**settings)
            else:
                advice = (
                    f"set '{name}' to a component first"
                    if component is None
                    else f"it has no settings: {brief(component)}"
                )
                raise SettingsError(
                    f"{type(self).__name__}: parameter '{name}__{min(settings)}' is a setting of '{name}'; {advice}"
                )
        require_arguments(type(self), (), own)
        super().set_params(**own)
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Self:
        """Train a new network.

        Args:
            X: (rows, features), numbers: an array, a list or a frame.
            y: (rows,) or (rows, outputs).
            sample_weight: (rows,), 0 or more. A row of weight 0 is left out.
            X_val: Validation data, which is evaluated after each epoch, in place of rows that are held out.
            y_val: Its targets.

        Raises:
            ValueError: The data or a parameter does not fit.
            DivergedError: The loss is not finite: lower the learning rate, or standardise X.
        """
        return self._train(X, y, sample_weight, X_val, y_val)

    def _train(
        self, X: Any, y: Any, weight: Any, X_val: Any, y_val: Any, *, classes: Any = None, partial: bool = False
    ) -> Self:
        """Check everything, then train a new network, or for one epoch the one that there is (``partial``).

        An error leaves what an earlier fit learned, and the names of its columns, which ``validate_data`` sets at once.
        """
        if partial:
            self._require_endless()
        before = self.__dict__.copy()
        try:
            return self._train_checked(X, y, weight, X_val, y_val, classes, partial=partial)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _require_endless(self) -> None:
        """Refuse parameters of ``partial_fit`` that need to know when training ends."""
        if self.early_stopping is True:
            raise SettingsError("partial_fit trains for one epoch: give early_stopping='auto' or False, not True")
        rate = getattr(self.optimizer, "learning_rate", None)
        if isinstance(rate, Schedule) and rate.open:
            raise SettingsError(
                "partial_fit cannot know how many calls follow: give the schedule a 'length', in updates", got=rate
            )

    def _train_checked(
        self, X: Any, y: Any, weight: Any, X_val: Any, y_val: Any, classes: Any, *, partial: bool
    ) -> Self:
        more = partial and hasattr(self, "run_")
        settings, trainer = self._recipes(self.run_.seed if more else self._seed())
        if more:
            self._require_settled()
        X, y = self._rows(X, y, reset=not more)
        if weight is not None:
            weight = require_weights(np.asarray(weight), len(X), "sample_weight", np.float64)
            kept = weight > 0
            if not kept.any():
                raise DataError(f"sample_weight must have a positive number; all {len(kept)} weights are zero")
            X, y, weight = X[kept], y[kept], weight[kept]
        targets = self._targets if more else self._learn_targets(y, weight, classes)
        data: _Data = (X, targets.codes(y, "y"), weight)
        held_out: _Data | None = None
        if X_val is not None or y_val is not None:
            held_out = self._held_out(targets, X_val, y_val)
        proposed = size_of(len(X), classes=isinstance(targets, _Classes))
        if not partial and settings.stops(len(X)):
            if held_out is None:
                data, held_out = _hold_out_rows(targets, data, settings.validation_fraction, trainer.seed)
            trainer = self._keep_best(trainer, targets, len(held_out[0]))
        size = proposed.batch_size if settings.batch_size == "auto" else settings.batch_size or len(X)
        one_batch = size >= len(data[0])  # in any order it is the same batch
        trainer = trainer.replace(
            loss=targets.loss,
            batch_size=size,
            shuffle=self.shuffle and not one_batch,
            epochs=settings.epochs or max(proposed.epochs, math.ceil(_UPDATES / math.ceil(len(data[0]) / size))),
        )
        if partial and self.optimizer is None:
            trainer = trainer.replace(optimizer=trainer.optimizer.replace(learning_rate=_RATE))
        rows = targets.encode_rows(*data), held_out and targets.encode_rows(*held_out)
        run = self._continue_run(trainer) if more else None
        try:
            model = self.model_ if more else settings.model(targets, X, weight, trainer.seed, embed=not partial)
            with targets.training(model, fitted=more):
                run = _fit(trainer, model, *rows, epochs=1 if partial else None, run=run)
            targets.finish(run)
        except ShapeError as error:
            if self.layers is not None:
                error.add_note(
                    "the last layer is added to 'layers', which must end in rows of numbers, as after Flatten()"
                )
            raise
        model.columns = getattr(self, "feature_names_in_", None)
        self.model_: Network = model
        self.run_: Run = run
        self.trainer_: Trainer = trainer
        self._targets: Any = targets
        self._settled = {name: getattr(self, name) for name in _SETTLED if hasattr(self, name)}
        self.loss_curve_ = [row["loss"] for row in run.history.rows]
        self.n_iter_ = run.epoch
        return self

    def _keep_best(self, trainer: Trainer, targets: _Targets, rows: int) -> Trainer:
        """Return a trainer whose network ends with the weights of its best epoch, unless a callback sees to it."""
        callbacks = self.callbacks
        if any(isinstance(callback, EarlyStopping | RestoreBest) for callback in callbacks):
            return trainer
        metrics, best = self._choose_best(targets, rows)
        if self.n_iter_no_change is not None:
            callbacks = (*callbacks, EarlyStopping(monitor=best.monitor, patience=self.n_iter_no_change))
        metrics = tuple(metric for metric in metrics if metric not in trainer.metrics)
        return trainer.replace(callbacks=(*callbacks, best), metrics=(*trainer.metrics, *metrics))

    def _choose_best(self, targets: _Targets, rows: int) -> tuple[tuple[Metric, ...], RestoreBest]:
        """Return the metrics that judge an epoch by so many rows, and the callback that keeps the best one."""
        return (), RestoreBest()

    def _recipes(self, seed: int) -> tuple[_Settings, Trainer]:
        """Return the parameters as checked components."""
        parameters = {
            n: _DEFAULTS.get(n) if value is None else value for n, value in self.get_params(deep=False).items()
        }
        if isinstance(self.hidden, numbers.Integral):
            parameters["hidden"] = (self.hidden,)
        parameters |= {"seed": seed, "loss": MeanSquaredError() if self.loss is None else self.loss}
        settings = self._component(_Settings, parameters)
        return settings, self._component(Trainer, parameters | {"batch_size": 1, "epochs": settings.epochs or 1})

    def _component(self, kind: type[_C], parameters: dict[str, Any]) -> _C:
        """Return a component of some parameters; an error names this class."""
        try:
            return kind(**{name: parameters[name] for name in kind.model_fields if name in parameters})
        except SettingsError as error:
            for fault in error.errors:
                fault.where = tuple(type(self).__name__ if where == kind.__name__ else where for where in fault.where)
            raise

    def _seed(self) -> int:
        generator = check_random_state(self.random_state)
        fixed = isinstance(self.random_state, numbers.Integral)
        return int(self.random_state) if fixed else int(generator.randint(2**31 - 1))

    def _rows(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        """Return checked rows, (rows, features), and their targets, (rows,) or (rows, outputs)."""
        numeric = isinstance(self, RegressorMixin)
        X, y = _validate(self, X, y, reset=reset, multi_output=True, y_numeric=numeric)
        y = y.toarray() if hasattr(y, "toarray") else y
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _held_out(self, targets: _Targets, X: Any, y: Any) -> _Data:
        if X is None or y is None:
            raise DataError(f"X_val and y_val go together; got only {'y_val' if X is None else 'X_val'}")
        try:
            X, y = self._rows(X, y, reset=False)
        except ValueError as error:
            error.add_note("in the validation data, X_val and y_val")
            raise
        return X, targets.codes(y, "y_val"), None

    def _require_settled(self) -> None:
        """Refuse to continue a network that other parameters describe."""
        for name, before in self._settled.items():
            now = getattr(self, name)
            if now is not before and repr(now) != repr(before):
                raise UsageError(
                    f"partial_fit: parameter '{name}' was {brief(before)} when the network was made, now it is "
                    f"{brief(now)}; call fit for a new network"
                )

    def _continue_run(self, trainer: Trainer) -> Run:
        """Return the run, whose optimizer keeps its memory and takes the settings that were changed since."""
        before, now = self.trainer_.optimizer, trainer.optimizer
        if type(now) is not type(before):
            raise UsageError(
                f"partial_fit: the optimizer was {type(before).__name__}, now it is {type(now).__name__}; call fit for "
                "a new network"
            )
        for name, value in now.settings().items():
            if value != getattr(before, name):
                setattr(self.run_.optimizer, name, value)
        self.run_.recipe = {}  # other rows, and no warning of it
        return self.run_

    def _require_served(self, loss: Loss, output: Activation) -> None:
        """Refuse an output that cannot serve the loss."""
        if isinstance(loss, OutputLosses | MultiQuantile):
            raise SettingsError("must be a loss of one output", name=f"{type(self).__name__}: setting 'loss'", got=loss)
        try:
            loss.require_output(output)
        except SettingsError as error:
            raise SettingsError(f"setting 'output': {error}", where=type(self).__name__) from None

    @abstractmethod
    def _learn_targets(self, y: Array, weight: Array | None, classes: Any) -> _Targets:
        """Return how these targets and the outputs correspond."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_")

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        X = _validate(self, X, reset=False)
        outputs: Array = self.trainer_.predict(self.model_, X)
        return outputs

    def predict(self, X: Any) -> Array:
        """Return a prediction for each row, (rows,) or (rows, outputs), in the form of y.

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: X has other columns than in ``fit``, or holds something else than finite numbers.
        """
        outputs = self._outputs(X)  # before the targets, which an estimator that is not fitted does not have
        predictions: Array = self._targets.decode(outputs)
        return predictions


def _validate(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Return what scikit-learn's ``validate_data`` returns; an error says where a frame holds no finite number."""
    _require_numbers(X)
    try:
        return validate_data(estimator, X, *y, dtype=_DTYPES, **options)
    except (ValueError, TypeError) as error:
        if is_frame(X) and (location := _place_of_no_number(X)):
            error.add_note(f"the first value that is not a finite number is in {location}")
        raise


def _place_of_no_number(frame: Any) -> str | None:
    for label in getattr(frame, "column_names", frame.columns):
        for row, value in enumerate(np.asarray(frame[label]).tolist()):
            with suppress(TypeError, ValueError):
                if math.isfinite(float(value)):
                    continue
            return f"column {str(label)!r}, row {row}: {brief(value)}"
    return None


def _require_numbers(X: Any) -> None:
    """Refuse masked values, dates and durations, which scikit-learn would cast to numbers."""
    if isinstance(X, np.ma.MaskedArray):
        raise DtypeError("X must have no masked values; got a masked array", advice="fill or drop them first")
    types = {"": X.dtype} if hasattr(X, "dtype") else {}
    if is_frame(X):
        arrow = hasattr(X, "column_names")
        columns = (X.column_names, X.schema.types) if arrow else (X.columns, X.dtypes)
        types = dict(zip(*columns, strict=True))
    for name, kind in types.items():
        if str(kind).lower().startswith(("date", "duration", "period", "time")):
            where = f" in column {name!r}" if name else ""
            raise DtypeError(f"X must hold numbers; got {kind}{where}; make numbers of it, such as days since a date")


def _hold_out_rows(targets: _Targets, data: _Data, fraction: float, seed: int) -> tuple[_Data, _Data]:
    """Return the rows to train on and those held out; classes keep their shares where each has rows enough."""
    rows, count = tuple(array for array in data if array is not None), len(data[0])
    stratify = isinstance(targets, _Classes) and not targets.multilabel and 2 * len(targets.classes) <= count
    if not 0 < round(count * fraction) < count:
        raise SettingsError(
            f"early_stopping=True holds out validation_fraction={fraction} of {count} rows, which leaves a part empty",
            advice="give more rows, X_val and y_val, or early_stopping=False",
        )
    train, test = split(rows, fraction, seed=seed, stratify=stratify)
    return (*train, None)[:3], (*test, None)[:3]


def _fit(trainer: Trainer, model: Model, data: Any, held_out: Any, **settings: Any) -> Run:
    """Train; an error says what to do here."""
    try:
        return train(trainer, model, data, held_out, **settings)
    except SettingsError as error:
        if error.expected == "validation":
            advice = Advice("set early_stopping=True, or call fit(X, y, X_val=..., y_val=...)")
            error.advice = advice, *error.advice[1:]
        raise


@dataclass(eq=False, repr=False)
class NeuralClassifier(ClassifierMixin, _Neural):
    """A network that classifies: two classes, many, or several labels per row; classes may be text.

    Two classes end in a sigmoid neuron, more in a softmax, several labels in a sigmoid for each.

    Args:
        hidden: Units of each hidden layer. Before them, ``fit`` puts a PeriodicEmbedding of the columns that hold more
            than two different numbers.
        activation: That of the hidden layers; None is ReLU.
        layers: Layers in place of all these, such as ``[Dense(units=32, activation=Tanh()), Dropout(rate=0.2)]``;
            the last layer is added to them. They are settings: each ``fit`` draws new numbers.
        output: The activation of the last layer; None takes that of the loss. An output of both signs, such as
            Identity, makes scores: for a loss such as Hinge.
        loss: None is BinaryCrossEntropy or CrossEntropy.
        optimizer: None is AdamOptimizer with a learning rate that falls from 0.003 to 0 by a cosine; in ``partial_fit``
            it stays at 0.003.
        epochs: Passes over the data; None takes 60 of 10,000 rows or fewer, 40 for numbers, fewer of more rows, and so
            many of few rows that there are 200 updates.
        batch_size: Rows of a step; "auto" takes 64 of 2,500 rows or fewer, and more of more; None is all.
        shuffle: Whether each epoch has a new order of the rows.
        metrics: Figures for ``run_.history``.
        regularizers: Penalties on the weights.
        callbacks: Called at the hooks. An EarlyStopping or RestoreBest among them takes the place of those that are
            added.
        class_weight: A weight for each class, {class: weight}; or "balanced", by which each class counts alike.
        early_stopping: Whether to hold rows out, evaluate the loss on them after each epoch, and keep the weights of
            the best epoch; "auto" does so from 100 rows on. With 500 held-out rows or more, the default loss is
            judged by RefinedLoss, and the probabilities are calibrated by Temperature.
        validation_fraction: The part of the rows that early stopping holds out, unless ``fit`` gets X_val and y_val.
        n_iter_no_change: How many epochs without a smaller loss stop training; None trains all epochs.
        engine: "auto" compiles where llvmlite is installed; "numpy" gives the same digits with and without it.
        random_state: The seed of the first weights and of the order of rows; None draws it from NumPy's global
            generator, as in scikit-learn.

    Attributes:
        classes_: The classes in order.
        model_: The network.
        run_: The run: its history, why it stopped; ``save(estimator.run_, path)`` writes a checkpoint.
        trainer_: The trainer.
        loss_curve_: The loss of each epoch.
        n_iter_: Finished epochs.

    Example:
        >>> from framework.data import load_digits
        >>> X, y = load_digits()
        >>> classifier = NeuralClassifier(hidden=(32,), epochs=40, random_state=0).fit(X[:1400] / 16, y[:1400])
        >>> classifier.score(X[1400:] / 16, y[1400:]) > 0.85
        True
    """

    class_weight: dict[Any, float] | str | None = None

    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Train for one epoch of these rows; the first call makes the network.

        Args:
            X: (rows, features), numbers.
            y: (rows,) classes, or (rows, labels).
            classes: All classes that will come; needed in the first call.
            sample_weight: (rows,), 0 or more.
            X_val: Validation data.
            y_val: Its targets.

        Raises:
            ValueError: The data does not fit; or the first call has no classes.
            UsageError: A parameter that describes the network was changed.
        """
        if self._balances:
            raise SettingsError("partial_fit sees some of the rows: give class_weight={class: weight}, not 'balanced'")
        if classes is not None and hasattr(self, "run_") and not np.array_equal(np.unique(classes), self.classes_):
            raise DataError(
                f"classes must be those of the first call, {brief(self.classes_.tolist())}; got {brief(list(classes))}"
            )
        classes = () if classes is None else classes
        return self._train(X, y, sample_weight, X_val, y_val, classes=classes, partial=True)

    @property
    def classes_(self) -> Array:
        """The classes in order."""
        check_is_fitted(self)
        classes: Array = self._targets.classes
        return classes

    @property
    def _balances(self) -> bool:
        """Whether each class counts alike."""
        return isinstance(self.class_weight, str) and self.class_weight == "balanced"

    def _learn_targets(self, y: Array, weight: Array | None, classes: Any) -> _Targets:
        names = _unique(y, "y")[0] if y.ndim == 1 else None  # before scikit-learn's check, which says less
        kind = type_of_target(y)
        if kind not in ("binary", "multiclass", "multilabel-indicator", "multiclass-multioutput"):
            check_classification_targets(y)  # which says what else it is
        if kind == "multiclass-multioutput":
            raise ShapeError(
                f"y must have one class per row, or 0 and 1 for each label; got {y.shape} of more than two classes",
                advice="use sklearn.multioutput.MultiOutputClassifier, which trains a network for each column",
            )
        multilabel = kind == "multilabel-indicator"
        if names is None or multilabel:
            names = np.arange(y.shape[1])
        elif classes is not None:
            names = np.unique(classes)
            if not names.size:
                raise DataError("partial_fit needs all classes in its first call, e.g. classes=np.unique(y)")
        if len(names) < 2 and not multilabel:
            raise DataError(f"{type(self).__name__} needs 2 classes or more; got 1 class, {brief(names[0].item())}")
        several = len(names) > 2 and not multilabel
        loss, output = self.loss, self.output
        if loss is None:
            coupled = several if output is None else output.coupled
            loss = CrossEntropy() if coupled and not multilabel else BinaryCrossEntropy()
        if output is None and not multilabel and loss.suited is not None:
            output = loss.suited()
        if output is None:
            output = Softmax() if several or (loss.by_row and not multilabel) else Sigmoid()
        self._require_output(loss, output, multilabel=multilabel)
        one = len(names) == 2 and not (multilabel or loss.by_row or output.coupled)
        targets = _Classes(loss, output, None if one else len(names), names, multilabel, None)
        return targets if self.class_weight is None else self._weigh_classes(targets, y, weight)

    def _choose_best(self, targets: _Targets, rows: int) -> tuple[tuple[Metric, ...], RestoreBest]:
        """Judge the default loss of many rows by what calibration leaves of it, and calibrate; any other as it is."""
        one_class = targets.units is None or targets.output.coupled
        if self.loss is not None or self.class_weight is not None or not one_class or rows < _CALIBRATED:
            return super()._choose_best(targets, rows)
        return (RefinedLoss(), Temperature()), RestoreBest(monitor="val_refined_loss", calibrate=True)

    def _require_output(self, loss: Loss, output: Activation, *, multilabel: bool) -> None:
        """Refuse an output that gives neither probabilities nor scores, or cannot serve the loss."""
        low, high = output.output_range or (np.nan, np.nan)
        if not (low >= 0 and high <= 1) and not low < 0 < high:
            raise SettingsError(
                f"{type(self).__name__}: setting 'output' must give probabilities, as Sigmoid does, or scores of both "
                f"signs, as Identity does; got {output!r}, whose output_range is {output.output_range}; in a class of "
                "your own write output_range = (0.0, 1.0), or (-1.0, 1.0)"
            )
        if multilabel and not _serves(loss, output):
            advice = "BinaryCrossEntropy does" if self.output is None else "leave 'output' out"
            raise SettingsError(
                f"for several labels per row, setting 'loss' must take outputs of {output!r}; got {loss!r}; {advice}",
                where=type(self).__name__,
            )
        self._require_served(loss, output)

    def _weigh_classes(self, targets: _Classes, y: Array, weight: Array | None) -> _Classes:
        """Return targets whose classes have weights: settings of the loss where it has them, else weights of rows.

        The mean over a batch divides by the weights of its rows, but not by those that are settings of the loss. So
        only the latter are exact where a batch has few rows.
        """
        loss, names = targets.loss, targets.classes
        if targets.multilabel:
            raise SettingsError("class_weight is for one class per row; for several labels give sample_weight")
        if self._balances:
            totals = np.bincount(targets.codes(y, "y"), weight, len(names))  # a row of weight 2 counts as two rows
            weights = totals.sum() / np.where(totals > 0, totals * np.count_nonzero(totals), 1.0)
        else:
            weights = compute_class_weight(self.class_weight, classes=names, y=y)
        if min(weights) < 0:
            raise SettingsError("class_weight must not be negative", got=self.class_weight)
        if min(weights) == 0:
            return replace(targets, weights=weights)
        if type(loss) is CrossEntropy and loss.class_weights is None:
            return replace(targets, loss=loss.replace(class_weights=weights))
        if type(loss) is BinaryCrossEntropy and targets.units is None:
            return replace(targets, loss=loss.replace(positive_weight=loss.positive_weight * weights[1] / weights[0]))
        return replace(targets, weights=weights)

    @available_if(_is_probable)
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, (rows, classes), or of each label, (rows, labels).

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: X does not fit.
        """
        outputs = self._outputs(X)  # before the targets, as in ``predict``
        probabilities: Array = self._targets.probabilities(outputs)
        return probabilities

    @available_if(lambda self: not _is_probable(self))
    def decision_function(self, X: Any) -> Array:
        """Return the outputs as scores, (rows,) for two classes, positive for the second; else (rows, classes).

        Raises:
            NotFittedError: ``fit`` has not been called.
            ValueError: X does not fit.
        """
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        loss = self.loss if isinstance(self.loss, Loss) else BinaryCrossEntropy()
        tags.classifier_tags.multi_label = _serves(loss, self.output or Sigmoid())
        return tags


@dataclass(eq=False, repr=False)
class NeuralRegressor(RegressorMixin, _Neural):
    """A network that predicts numbers, one a row or several.

    Standardise X: a network learns numbers of a usual size. With the default output, Identity, ``fit`` standardises y
    itself, each column by its mean and standard deviation. So the loss and the metrics of ``run_.history`` are those of
    standardised numbers. After training the last layer's weights contain the inverse: ``predict``, ``score`` and
    ``model_``, also exported, give the unit of y. Callbacks see the network before that, so the files of a
    ``Checkpoint`` give standardised numbers; for one in the unit of y ``save`` a fitted ``run_``.

    Args:
        hidden: Units of each hidden layer, after a PeriodicEmbedding; see NeuralClassifier.
        activation: That of the hidden layers; None is ReLU.
        layers: Layers that replace all these; see NeuralClassifier.
        output: The activation of the last layer; None is Identity. A loss such as Poisson needs another, Softplus, with
            which y stays as it is.
        loss: None is MeanSquaredError. With the output Identity it compares standardised numbers.
        optimizer: None is AdamOptimizer with a falling learning rate; see NeuralClassifier, also for the next two.
        epochs: Passes over the data.
        batch_size: Rows of a step.
        shuffle: Whether each epoch has a new order of the rows.
        metrics: Figures for ``run_.history``.
        regularizers: Penalties on the weights.
        callbacks: Called at the hooks. An EarlyStopping or RestoreBest among them takes the place of those that are
            added.
        early_stopping: Whether to hold rows out, evaluate the loss on them after each epoch, and keep the weights of
            the best epoch; "auto" does so from 100 rows on.
        validation_fraction: The part of the rows that early stopping holds out, unless ``fit`` gets X_val and y_val.
        n_iter_no_change: How many epochs without a smaller loss stop training; None trains all epochs.
        engine: "auto" compiles where llvmlite is installed; "numpy" gives the same digits with and without it.
        random_state: The seed of the first weights and of the order of rows; see NeuralClassifier.

    Attributes:
        model_: The network.
        run_: The run: its history, why it stopped.
        trainer_: The trainer.
        loss_curve_: The loss of each epoch.
        n_iter_: Finished epochs.

    Example:
        >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
        >>> regressor = NeuralRegressor(random_state=0).fit(X, X[:, 0] ** 2)
        >>> regressor.score(X, X[:, 0] ** 2) > 0.95
        True
    """

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Self:
        """Train for one epoch of these rows; the first call makes the network, and standardises y by its own rows.

        Args:
            X: (rows, features), numbers.
            y: (rows,) or (rows, outputs).
            sample_weight: (rows,), 0 or more.
            X_val: Validation data.
            y_val: Its targets.

        Raises:
            ValueError: The data does not fit.
            UsageError: A parameter that describes the network was changed.
        """
        return self._train(X, y, sample_weight, X_val, y_val, partial=True)

    def _learn_targets(self, y: Array, weight: Array | None, classes: Any) -> _Targets:
        loss, output = self.loss or MeanSquaredError(), self.output or Identity()
        self._require_served(loss, output)
        units = None if y.ndim == 1 else y.shape[1]
        if type(output) is not Identity:
            return _Targets(loss, output, units)
        return _Numbers(loss, output, units, *_moments(y, weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
