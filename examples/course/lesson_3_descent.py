# %% [markdown]
# # 3. Losses and gradient descent
#
# A loss says how bad a model is, in one number. Gradient descent goes downhill on it. You see what different losses
# punish, watch a neuron go down its own loss surface, and find out what the learning rate does.
#
# About 15 minutes. You need lessons 1 and 2.

# %%
import matplotlib.pyplot as plt
import numpy as np

from framework import (
    BinaryCrossEntropy,
    MeanAbsoluteError,
    MeanSquaredError,
    Neuron,
    SGDOptimizer,
    Sigmoid,
    Trainer,
    compare_steps,
    on,
)
from framework.data import load_breast_cancer
from framework.testing import check_function, check_written
from framework.views import plots

# %% [markdown]
# ## What a loss punishes
#
# The right answer is 1, and the model says $p$. Three losses see that differently. The absolute error grows evenly.
# The squared error punishes a large error more than two small ones. The cross-entropy $-\log(p)$ has no limit: to be
# sure and wrong is as bad as it gets.

# %%
p = np.linspace(0.01, 1, 100)
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
losses = MeanAbsoluteError(), MeanSquaredError(), BinaryCrossEntropy()
for loss, line in zip(losses, (":", "--", "-"), strict=True):
    axis.plot(p, [loss([each], [1.0]) for each in p], line, label=type(loss).__name__)
axis.set(xlabel="prediction p", ylabel="loss, if 1 is right")
_ = axis.legend()

# %% [markdown]
# ## A descent that can be seen
#
# The data are 569 samples of cells, with two of their measurements. Was the sample benign, 1, or malignant, 0? A
# neuron of two weights has a loss for each pair of weights: a landscape. Training starts on a hill. Each step goes in
# the direction in which the loss falls fastest, and its length is the learning rate times the steepness.

# %%
x, y = load_breast_cancer()
x = x[:, [7, 20]]  # mean concave points and worst radius
data = (x - x.mean(axis=0)) / x.std(axis=0), y
loss = BinaryCrossEntropy()
path = []


@on("batch_end")  # an epoch is one batch of all rows, so this is after every step
def remember(run):
    path.append(run.model.parameters.vector.copy())


def descend(rate, steps=10):
    neuron = Neuron.from_weights([-2.5, 3.0], activation=Sigmoid(), train_bias=False)
    path[:] = [neuron.parameters.vector.copy()]
    trainer = Trainer(
        loss=loss,
        optimizer=SGDOptimizer(learning_rate=rate),
        epochs=steps,
        batch_size=len(y),
        callbacks=[remember],
    )
    run = trainer.fit(neuron, data)
    return run, np.array(path)


figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), layout="constrained")
for axis, rate in zip(axes, (0.1, 3.0, 30.0), strict=True):
    run, steps = descend(rate)
    span = (-15, 1), (-14, 4)
    plots.loss_surface(run.model, loss, data, steps, span=span, axis=axis)
    axis.set_xlabel(f"rate {rate}: loss {loss(run.model(data[0]), y):.3f}")

# %% [markdown]
# The three pictures show the same landscape. With the small rate, 10 steps are hardly seen. The middle one goes down
# the slope and turns into the valley. The large one leaps over the valley, far up the other side, and has to walk
# back.
#
# ## A search for the rate
#
# `find_learning_rate` trains a copy while the rate grows from step to step. Where the loss falls fastest, the rate is
# good; where it rises, the rate is too large.

# %%
trainer = Trainer(loss=loss, optimizer=SGDOptimizer(learning_rate=1.0), batch_size=64)
search = trainer.find_learning_rate(Neuron(2, Sigmoid()), data, highest=1000.0)
search.plot()

# %% [markdown]
# ## Exercise 1: the cross-entropy
#
# For a right answer $y$ of 0 or 1 and a prediction $p$, the loss is $-\log(p)$ if $y = 1$, and $-\log(1 - p)$ if $y =
# 0$. Write it for arrays, as the mean over all rows, in one line without `if`.


# %% tags=["exercise"]
def cross_entropy(p, y):
    return ...


# %% tags=["solution"]
def cross_entropy(p, y):
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


# %% tags=["check"]
check_written("exercise 1", cross_entropy)
rng = np.random.default_rng(0)
cases = [
    (rng.uniform(0.05, 0.95, n), rng.integers(0, 2, n).astype(float)) for n in (1, 4, 7)
]
print(f"Right: {check_function(cross_entropy, BinaryCrossEntropy(), cases)} cases.")

# %% [markdown]
# ## Exercise 2: descent on many rows
#
# A straight line, $\hat y = w \cdot x$, is a neuron without an activation. Its loss is the mean of $(\hat y - y)^2$
# over the rows. Write one step of descent with the rate 0.1. `x` has the shape (rows, 2), `y` and $\hat y$ have the
# shape (rows,).

# %% tags=["exercise"]
weights = np.zeros(2)


def line_step(x, y):
    global weights
    gradient = ...
    weights = weights - 0.1 * gradient
    return {"weights": weights}


# %% tags=["solution"]
weights = np.zeros(2)


def line_step(x, y):
    global weights
    gradient = 2 * (x @ weights - y) @ x / len(y)
    weights = weights - 0.1 * gradient
    return {"weights": weights}


# %% tags=["check"]
check_written("exercise 2", line_step)
weights = np.zeros(2)  # so that this cell may be run again
rows = rng.normal(size=(20, 2)), rng.normal(size=20)
straight = Trainer(
    loss=MeanSquaredError(),
    optimizer=SGDOptimizer(learning_rate=0.1),
    batch_size=10,
    epochs=5,
)
line = Neuron.from_weights([0, 0], train_bias=False)
comparison = compare_steps(straight, line_step, model=line, data=rows, tolerance=1e-9)
theirs, yours = comparison.values or (0, 0)
assert yours == theirs, (
    f"after step {comparison.first_step} of {comparison.steps} a weight must be "
    f"{theirs:.6g}; yours is {yours:.6g}"
)
print(f"Right: the same weights over {comparison.steps} steps, up to rounding.")

# %% [markdown]
# ## Exercise 3: your rate
#
# Give the descent above a rate with which 10 steps bring the loss below 0.18. Try values; the pictures help.

# %% tags=["exercise"]
my_rate = ...

# %% tags=["solution"]
my_rate = 6.0

# %% tags=["check"]
check_written("exercise 3", my_rate)
run, steps = descend(my_rate)
reached = loss(run.model(data[0]), y)
assert reached < 0.18, (
    f"with the rate {my_rate} the loss is {reached:.4f} after 10 steps, "
    "which is not below 0.18"
)
print(f"Right: {reached:.4f}")

# %% [markdown]
# ## What to keep
#
# - Choose a loss by what it punishes. For yes and no it is the cross-entropy.
# - The gradient says which way; the learning rate says how far. Too small is slow, too large never arrives.
# - Look at the curve of the loss before you change anything else.
