"""scikit-learn: SGDClassifier for one neuron and batch 1, else one pass of MLPClassifier."""

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from benchmarks.contenders import SkipError, Task
from benchmarks.workloads import Workload

INCLUDES = "order, one gather of all rows, partial_fit with its checks"


def neuron(work: Workload) -> Task:
    """One pass of SGDClassifier, or of an MLPClassifier without hidden layers for batches."""
    if work.batch > 1:
        return network(work)
    x, y = work.data()
    models = []

    def begin() -> None:
        settings = {"loss": "log_loss", "penalty": None, "learning_rate": "constant", "eta0": work.rate}
        model = SGDClassifier(**settings, shuffle=False)
        weights, bias = work.weights()
        model.partial_fit(x[:1], y[:1], classes=[0.0, 1.0])  # makes the arrays
        model.coef_[...], model.intercept_[...] = weights.T, bias
        models[:] = [model]

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            models[0].partial_fit(x[order], y[order])

    return Task(begin, run, lambda: [models[0].coef_.T, models[0].intercept_], INCLUDES)


def network(work: Workload) -> Task:
    """One pass of MLPClassifier. Two classes are given as two columns, because of one it makes a single unit."""
    if work.activation == "own":
        raise SkipError("has no activations of a user's own")
    x, y = work.data()
    outputs = work.sizes[-1]
    target = np.eye(outputs, dtype=np.int64)[y] if outputs == 2 else y
    first = np.arange(outputs) if outputs > 2 else target[:2]
    models = []

    def begin() -> None:
        model = MLPClassifier(
            work.sizes[1:-1],
            activation={"relu": "relu", "sigmoid": "logistic"}[work.activation],
            solver="sgd",
            alpha=0.0,
            batch_size=work.batch,
            learning_rate_init=work.rate,
            momentum=0.0,
            nesterovs_momentum=False,
            shuffle=False,
        )
        classes = np.unique(y) if outputs == 1 else np.arange(outputs)
        model.batch_size = len(first)
        model.partial_fit(x[: len(first)], first, classes=classes)  # makes the arrays
        model.batch_size = work.batch
        if outputs == 2:
            model.out_activation_ = "softmax"
        arrays = work.weights()
        for made, array in zip([*model.coefs_, *model.intercepts_], arrays[::2] + arrays[1::2], strict=True):
            made[...] = array
        models[:] = [model]

    def run(*epochs: int) -> None:
        for order in work.orders(*epochs):
            models[0].partial_fit(x[order], target[order])

    def weights() -> list[np.ndarray]:
        model = models[0]
        return [array for pair in zip(model.coefs_, model.intercepts_, strict=True) for array in pair]

    return Task(begin, run, weights, f"{INCLUDES}, loss")


def inference(work: Workload) -> Task:
    """``predict_proba`` of an MLPClassifier."""
    (x, _), arrays = work.data(), work.weights()
    model = MLPClassifier(work.sizes[1:-1], activation="logistic")
    target = np.eye(work.sizes[-1], dtype=np.int64)
    model.partial_fit(np.zeros((2, work.sizes[0]), work.dtype), target, classes=np.arange(work.sizes[-1]))
    model.out_activation_ = "softmax"
    for made, array in zip([*model.coefs_, *model.intercepts_], arrays[::2] + arrays[1::2], strict=True):
        made[...] = array

    def run() -> None:
        for _ in range(round(work.steps)):
            model.predict_proba(x)

    return Task(lambda: None, run, None, "checks of input", lambda: float(np.square(model.predict_proba(x)).sum()))
