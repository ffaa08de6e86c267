"""Losses of two classes: margins of scores, and probabilities that need not be sharpened. The mean over all values."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from framework.arrays import Array
from framework.component import NonNegative
from framework.errors import DataError, SettingsError
from framework.losses.base import Loss
from framework.losses.requirements import require_output_range, require_range


class Hinge(Loss):
    """l = max(0, 1 - t p) for a score p and a target t of -1 or +1; slope = -t where t p < 1, else 0.

    The mean over all values. At the kink t p = 1 the slope is 0. The sign of p is the class; give the model an output
    of both signs, such as Identity.

    Example:
        >>> Hinge()([0.5, -2.0], [1.0, -1.0])
        0.25

    Source:
        Cortes and Vapnik, Support-vector networks (1995).
    """

    def value(self, prediction: Any, target: Any) -> Any:
        """Return max(0, 1 - t p)."""
        return np.maximum(1.0 - target * prediction, 0.0)

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return -t where t p < 1, else 0."""
        return -target * (target * prediction < 1.0)

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets other than -1 and +1."""
        _require_signs(name, target)

    def require_output(self, activation: Any) -> None:
        """Refuse outputs of one sign."""
        _require_both_signs(self, activation)


class SquaredHinge(Loss):
    """l = max(0, 1 - t p)^2 for a score p and a target t of -1 or +1; slope = -2 t max(0, 1 - t p).

    The mean over all values, without a factor 1/2. No kink.

    Example:
        >>> SquaredHinge()([0.5, -2.0], [1.0, -1.0])
        0.125

    Source:
        Rosasco et al., Are loss functions all the same? (2004), section 2.
    """

    def value(self, prediction: Any, target: Any) -> Any:
        """Return max(0, 1 - t p)^2."""
        short = np.maximum(1.0 - target * prediction, 0.0)
        return short * short

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return -2 t max(0, 1 - t p)."""
        return -2.0 * target * np.maximum(1.0 - target * prediction, 0.0)

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets other than -1 and +1."""
        _require_signs(name, target)

    def require_output(self, activation: Any) -> None:
        """Refuse outputs of one sign."""
        _require_both_signs(self, activation)


class Focal(Loss):
    """l = -(a t (1 - p)^g log p + (1 - a) (1 - t) p^g log(1 - p)) for a probability p and a target t in [0, 1].

    Binary cross-entropy that gives well-classified examples less weight, for rare classes; with g = 0 and without
    ``alpha`` it is BinaryCrossEntropy. The mean over all values. Without ``alpha`` both classes count with factor 1,
    not 1/2. Targets between 0 and 1 mean the expected loss. Give the model a Sigmoid output; no activation makes dL/dh
    a plain prediction - target, so nothing is fused, and a p of exactly 0 or 1 on the wrong side is an infinite loss.

    Attributes:
        gamma: g, how strongly a well-classified example is played down.
        alpha: a, the weight of class 1, with 1 - a for class 0; None for equal weights of 1.

    Example:
        >>> round(Focal()([0.9, 0.2], [1.0, 0.0]), 6)
        0.00499

    Source:
        Lin et al., Focal loss for dense object detection (2017), equations 4 and 5.
    """

    gamma: NonNegative = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None

    def value(self, prediction: Any, target: Any) -> Any:
        """Return -(a t (1 - p)^g log p + (1 - a) (1 - t) p^g log(1 - p)), with 0 log 0 = 0."""
        log_yes, log_no = _logarithms(prediction, target)
        yes = (1.0 - prediction) ** self.gamma * log_yes
        no = prediction**self.gamma * log_no
        return -(self._weight_of_1() * target * yes + self._weight_of_0() * (1.0 - target) * no)

    def slope(self, prediction: Any, target: Any) -> Any:
        """Return the derivative of a t (1 - p)^g log p by p, with a minus, and its mirror image for class 0."""
        log_yes, log_no = _logarithms(prediction, target)
        yes = self._rise(prediction, 1.0 - prediction, log_yes, target > 0.0)
        no = self._rise(1.0 - prediction, prediction, log_no, target < 1.0)
        return self._weight_of_0() * (1.0 - target) * no - self._weight_of_1() * target * yes

    def require_target(self, target: Array, name: str) -> None:
        """Refuse targets outside [0, 1]."""
        require_range(name, target, 0.0, 1.0, "Binary labels are 0 and 1")

    def require_output(self, activation: Any) -> None:
        """Refuse outputs that are no probabilities."""
        require_output_range(self, activation, 0.0, 1.0, "Use Sigmoid")

    def _rise(self, p: Any, q: Any, log_p: Any, counts: Any) -> Any:
        """Return the derivative of q^g log p by p, with q = 1 - p: q^g (1 / p - g log p / q); at q = 0, log p is 0."""
        own, other = np.where(counts, p, 1.0), np.where(q == 0.0, 1.0, q)
        return q**self.gamma * (1.0 / own - self.gamma * log_p / other)

    def _weight_of_1(self) -> float:
        return 1.0 if self.alpha is None else self.alpha

    def _weight_of_0(self) -> float:
        return 1.0 if self.alpha is None else 1.0 - self.alpha


def _logarithms(prediction: Any, target: Any) -> tuple[Any, Any]:
    """Return log p and log(1 - p), and 0 for the one that counts 0 times."""
    return (
        np.log(np.where(target == 0.0, 1.0, prediction)),
        np.log1p(-np.where(target == 1.0, 0.0, prediction)),
    )


def _require_signs(name: str, target: Array) -> None:
    """Refuse targets other than -1 and +1.

    Raises:
        DataError: A target is neither.
    """
    bad = np.abs(target) != 1.0
    if np.any(bad):
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at row {first[0]}" if first else ""
        raise DataError(f"{name} must be -1 or +1; got {target[first]}{where}. For labels y of 0 and 1 give 2 * y - 1")


def _require_both_signs(loss: Loss, activation: Any) -> None:
    """Refuse an output activation that is never below 0, or never above; an unknown range passes.

    Raises:
        SettingsError: Its outputs have one sign.
    """
    output_range = getattr(activation, "output_range", None)
    if output_range is not None and not output_range[0] < 0 < output_range[1]:
        raise SettingsError(
            f"{type(loss).__name__} needs outputs of both signs; {activation!r} gives "
            f"[{output_range[0]:g}, {output_range[1]:g}]. Use Identity or Tanh; BinaryCrossEntropy is for probabilities"
        )
