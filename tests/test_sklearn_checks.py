"""scikit-learn's own checks, which decide whether a class behaves like one of its estimators."""

from unittest import SkipTest

import pytest
from sklearn.utils.estimator_checks import (
    check_class_weight_classifiers,
    check_classifiers_classes,
    parametrize_with_checks,
)

from framework.sklearn import NeuralClassifier, NeuralRegressor

CHECKS = [*parametrize_with_checks([NeuralClassifier(), NeuralRegressor()]).mark.args[1]]
NAMES = [f"{place}-{type(estimator).__name__}-{check.func.__name__}" for place, (estimator, check) in enumerate(CHECKS)]


@pytest.mark.share(1 / 5)
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=NAMES)  # pytest refuses the form that 1.6 gives by itself
def test_the_defaults_pass_every_check_of_scikit_learn(estimator, check):
    try:
        check(estimator)
    except SkipTest as reason:  # which pytest 9.0 takes for a failure
        pytest.skip(str(reason))


@pytest.mark.share(1 / 3)
def test_small_batches_pass_the_checks_of_classes_and_their_weights():
    # python benchmarks/estimator_checks.py runs them all
    estimator = NeuralClassifier(batch_size=8, epochs=60)
    check_class_weight_classifiers("NeuralClassifier", estimator)
    check_classifiers_classes("NeuralClassifier", estimator)
