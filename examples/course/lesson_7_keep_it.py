# %% [markdown]
# # 7. Keep it, resume it, hand it on
#
# A training takes hours, a machine fails, and the model has to run where this library is not installed. You save a
# run, continue it as if it had never stopped, and export the model as a Python file and as ONNX.
#
# About 15 minutes. You need lesson 4.

# %%
import runpy
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from framework import (
    AdamOptimizer,
    Callback,
    Checkpoint,
    CrossEntropy,
    Dense,
    ReLU,
    Run,
    Sequential,
    Softmax,
    Trainer,
    export_onnx,
    export_python,
    latest,
    load,
    load_model,
    save,
)
from framework.data import load_digits
from framework.testing import check_function, check_written

# %% [markdown]
# ## Save
#
# A run is more than its weights. The optimizer has a memory, the order of the rows comes from a random stream, and
# the history has a row for each epoch. One file holds all of it, as numbers and settings without code.

# %%
x, y = load_digits()
data = x / 16, y
adam = AdamOptimizer(learning_rate=0.003)
trainer = Trainer(loss=CrossEntropy(), optimizer=adam, epochs=6)


def network():
    return Sequential(Dense(64, 16, ReLU()), Dense(16, 10, Softmax()))


half = trainer.fit(network(), data, epochs=3)
save(half, "half.safetensors")
print(Path("half.safetensors").stat().st_size, "bytes")

# %% [markdown]
# ## Resume, bit for bit
#
# The run is continued from the file. Beside it, another run is made in one go. All weights are equal, to the last
# bit, as if nothing had happened.

# %%
resumed = trainer.resume("half.safetensors", data)
straight = trainer.fit(network(), data)
ours, theirs = (run.model.parameters.vector for run in (resumed, straight))
print(resumed.epoch, np.array_equal(ours, theirs))
straight.plot()

# %% [markdown]
# In real work, a callback saves after each epoch. After a crash, `latest` finds the newest file.

# %%
watched = trainer.replace(callbacks=[Checkpoint("checkpoints")])
run = watched.fit(network(), data, epochs=2)
print(latest("checkpoints"))

# %% [markdown]
# ## Hand it on
#
# `load_model` reads the model alone. `export_python` writes it as one file that needs nothing but NumPy, and in which
# the formula can be read:

# %%
model = load_model("half.safetensors")
export_python(model, "digits.py")
source = Path("digits.py").read_text()
print(source[source.index("def predict") : source.index("def row_extremes")])

# %% [markdown]
# Its `predict` makes the same calls of NumPy in the same order, so it gives the same bits.

# %%
predict = runpy.run_path("digits.py")["predict"]
print("the same bits:", np.array_equal(predict(data[0]), model(data[0])))

# %% [markdown]
# ONNX is a format that programs in C++, Java or JavaScript read. Here ONNX Runtime computes with the file.

# %%
export_onnx(model, "digits.onnx", classes=range(10), dtype="float32")
session = onnxruntime.InferenceSession("digits.onnx")
probabilities, label = session.run(None, {"x": data[0][:5].astype(np.float32)})
print(label, "largest difference:", np.abs(probabilities - model(data[0][:5])).max())

# %% [markdown]
# ## Exercise 1: continue, more slowly
#
# The run in `half.safetensors` has made 3 epochs with the rate 0.003. Continue it to 8 epochs in all, with half of
# that rate. `load` reads a run from a file; the rate belongs to its optimizer, `run.optimizer.learning_rate`.
# `trainer.resume` also takes a run, and its `epochs` says how many more to make.

# %% tags=["exercise"]
continued = ...

# %% tags=["solution"]
continued = load("half.safetensors")
continued.optimizer.learning_rate = 0.0015
continued = trainer.resume(continued, data, epochs=5)

# %% tags=["check"]
check_written("exercise 1", continued)
assert isinstance(continued, Run), (
    f"continued must be a run, as resume returns it; it is {continued}"
)
assert continued.epoch == 8, (
    f"the run must end after 8 epochs; it has made {continued.epoch}"
)
rates = continued.history.column("learning_rate")
assert rates == [0.003] * 3 + [0.0015] * 5, (
    f"the rates of the 8 epochs must be 0.003 and then 0.0015; they are {rates}"
)
losses = continued.history.column("loss")
assert losses[:3] == half.history.column("loss"), (
    "the first 3 epochs are not those of the file; did it start again?"
)
print("Right:", continued.epoch, "epochs")

# %% [markdown]
# ## Exercise 2: a program that may be killed
#
# Nobody knows when the machine fails, so a long training is started by a program that may be started again and again.
# Write it: `start_or_resume` trains `network()` on `data` if `folder` has no checkpoint yet, and resumes from the
# newest one if it has. It returns the run. `latest(folder)` is None where there is no checkpoint.
#
# The check cuts the power at some steps, and compares the weights with those of a training without cuts.


# %% tags=["exercise"]
def start_or_resume(trainer, folder):
    newest = latest(folder)
    return ...


# %% tags=["solution"]
def start_or_resume(trainer, folder):
    newest = latest(folder)
    if newest is None:
        return trainer.fit(network(), data)
    return trainer.resume(newest, data)


# %% tags=["check"]
class PowerCut(Callback):
    observes = True  # it does not change the training
    at: int

    def on_batch_end(self, run):
        if run.step == self.at:
            raise OSError("power cut")


def weights_after_cuts(*cuts):
    with TemporaryDirectory() as folder:
        for at in (*cuts, -1):
            saving = trainer.replace(
                callbacks=[PowerCut(at=at), Checkpoint(folder, every=20)]
            )
            with suppress(OSError):
                run = start_or_resume(saving, folder)
    assert isinstance(run, Run), (
        f"start_or_resume must return the run; it returns {run}"
    )
    return run.model.parameters.vector


def true_weights(*cuts):
    return straight.model.parameters.vector


check_written("exercise 2", start_or_resume)
cases = [(), (30,), (30, 200, 201)]
count = check_function(weights_after_cuts, true_weights, cases, tolerance=0)
print(f"Right: {count} cases.")

# %% [markdown]
# ## Exercise 3: without the library
#
# Someone has only the arrays of `model.parameters`: `0.weights`, `0.bias`, `1.weights` and `1.bias`. Write the
# network with NumPy alone: a layer with ReLU, and one with softmax. Each row of `x` is an image, and `x @ weights`
# multiplies all of them at once.


# %% tags=["exercise"]
def predict_by_hand(x, arrays):
    a = ...
    return ...


# %% tags=["solution"]
def predict_by_hand(x, arrays):
    a = np.maximum(x @ arrays["0.weights"] + arrays["0.bias"], 0)
    h = a @ arrays["1.weights"] + arrays["1.bias"]
    powers = np.exp(h - h.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# %% tags=["check"]
def true_prediction(x, arrays):
    return model(x)


check_written("exercise 3", predict_by_hand)
arrays = {name: array.copy() for name, array in model.parameters.items()}
cases = [(data[0][:n], arrays) for n in (1, 50)]
print(f"Right: {check_function(predict_by_hand, true_prediction, cases)} cases.")

# %% [markdown]
# ## What to keep
#
# - A run in a file can be continued as if it had never stopped. Save while you train, not at the end.
# - A program that starts or resumes may be killed at any moment.
# - A trained network is a formula and some arrays. Export it, and it runs without this library.
