"""Pieces that do not resume, for the tests of verify_resume; in a module, so that a fresh process finds them."""

import os

from framework import Callback, Layer

COUNT = [0]
HOME = os.environ.setdefault("FRAMEWORK_TEST_HOME", str(os.getpid()))


class Forgetful(Callback):
    """Counts in a global, and remembers the count."""

    def on_batch_end(self, run):
        if run.step == 1:
            COUNT[0] = 0
        COUNT[0] += 1
        run.memory(self)["count"] = COUNT[0]


class Counter(Layer):
    """Scales by a number that grows in a place which nobody saves."""

    check = "off"

    def shapes(self):
        return {}

    def apply(self, x, values, record):
        if record.training:
            record["passes"] = record.get("passes", 0) + 1
        record["factor"] = 1 + 0.1 * record.get("passes", 0)
        return x * record["factor"]

    def apply_backward(self, gradient, values, record, gradients):
        return gradient * record["factor"]


class HereOnly(Callback):
    """Fails in every process but the first."""

    def on_train_begin(self, run):
        if str(os.getpid()) != HOME:
            raise RuntimeError("only here")
