# %% [markdown]
# # 1. One neuron, by hand
#
# A neuron takes some numbers, weighs them, and answers with one number. In this lesson you compute an answer, see how
# wrong it is, and change the weights a little so that it becomes less wrong. That change is the whole secret of
# training; every network in this course repeats it many times.
#
# About 15 minutes. You need Python, NumPy's arrays, and the idea of a slope.

# %%
import numpy as np

from framework import (
    HalfSquaredError,
    Neuron,
    SGDOptimizer,
    Sigmoid,
    Trainer,
    compare_steps,
    trace_step,
)
from framework.testing import check_function, check_written

# %% [markdown]
# ## Forward: the answer
#
# The inputs are $x$, the weights $w$, and the bias is $b$. The neuron first adds up its weighted inputs,
#
# $$h = w \cdot x + b,$$
#
# and then squeezes $h$ into the range from 0 to 1 with the sigmoid, $f(h) = 1 / (1 + e^{-h})$. The result $\hat y =
# f(h)$ is its answer. For our only example the right answer is $y = 1$.

# %%
x = np.array([1.0, 1.0])
w = np.array([0.1, 0.2])
b = 0.0
y = 1.0


def sigmoid(h):
    return 1 / (1 + np.exp(-h))


h = w @ x + b
answer = sigmoid(h)
print(f"h = {h:.4f}, answer = {answer:.4f}, error y - answer = {y - answer:.4f}")

# %% [markdown]
# ## Backward: which way to move the weights
#
# We measure how bad the answer is by the loss $L = \frac{1}{2} (\hat y - y)^2$. A weight should move in the direction
# that makes $L$ smaller. How $L$ changes with $w_i$ is a chain of three links: $w_i$ changes $h$ by $x_i$, $h$
# changes $\hat y$ by the slope $f'(h)$, and $\hat y$ changes $L$ by $\hat y - y$:
#
# $$\frac{\partial L}{\partial w_i} = (\hat y - y) \; f'(h) \; x_i$$
#
# Going *down* means the opposite sign. The part that all weights share is called the **error term**, $\delta = (y -
# \hat y) f'(h)$, and the step is $\Delta w_i = \eta \, \delta \, x_i$. The number $\eta$, the learning rate, says how
# far to go.
#
# The sigmoid has a handy slope: $f'(h) = f(h) (1 - f(h))$.

# %%
rate = 1.0
delta = (y - answer) * answer * (1 - answer)
new_w = w + rate * delta * x
print(f"error term {delta:.4f}, new weights {new_w}")
print(f"error before {y - answer:.4f}, after {y - sigmoid(new_w @ x + b):.4f}")

# %% [markdown]
# One step made the error smaller. `trace_step` of the framework makes the same step and shows every number on the
# way. Compare them with yours, digit by digit.

# %%
neuron = Neuron.from_weights(w, bias=b, activation=Sigmoid(), train_bias=False)
print(trace_step(neuron, x, y, learning_rate=rate))

# %% [markdown]
# ## Many steps
#
# A `Trainer` repeats the step. Here it makes 100 of them, and the picture shows the loss after each one. It falls
# fast at first. Then it falls slowly, because both the error and the slope $f'(h)$ shrink.

# %%
trainer = Trainer(
    loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=rate), epochs=100
)
run = trainer.fit(neuron.copy(), ([x], [y]))
print(f"after {run.epoch} steps the neuron answers {run.model(x):.4f}")
run.plot()

# %% [markdown]
# ## Exercise 1: the error term
#
# Write the error term as a function of the inputs, the weights, the bias and the right answer. Replace the `...`; the
# cell below it checks your function on several neurons, and names the first one that it gets wrong.


# %% tags=["exercise"]
def error_term(x, w, b, y):
    return ...


# %% tags=["solution"]
def error_term(x, w, b, y):
    answer = sigmoid(w @ x + b)
    return (y - answer) * answer * (1 - answer)


# %% tags=["check"]
def true_error_term(x, w, b, y):
    neuron = Neuron.from_weights(w, bias=b, activation=Sigmoid())
    return trace_step(neuron, x, y).error_term


check_written("exercise 1", error_term)
rng = np.random.default_rng(1)
cases = [(rng.normal(size=3), rng.normal(size=3), *rng.random(2)) for _ in range(5)]
cases = [(x, w, b, y), *cases]
print(f"Right: {check_function(error_term, true_error_term, cases)} cases.")

# %% [markdown]
# ## Exercise 2: the bias learns too
#
# So far the bias stayed at 0. Its step is found like that of a weight: how does $h$ change if $b$ changes? Return the
# new weights and the new bias, in this order.


# %% tags=["exercise"]
def step(x, w, b, y, rate):
    new_w = w
    new_b = ...
    return [*new_w, new_b]


# %% tags=["solution"]
def step(x, w, b, y, rate):
    delta = error_term(x, w, b, y)
    new_w = w + rate * delta * x
    new_b = b + rate * delta  # as for the weight of an input that is always 1
    return [*new_w, new_b]


# %% tags=["check"]
def true_step(x, w, b, y, rate):
    neuron = Neuron.from_weights(w, bias=b, activation=Sigmoid())
    traced = trace_step(neuron, x, y, learning_rate=rate)
    return np.array([*traced.new_weights, traced.new_bias])


check_written("exercise 2", step)
count = check_function(step, true_step, [(*case, 0.5) for case in cases])
print(f"Right: {count} cases.")

# %% [markdown]
# ## Exercise 3: several examples
#
# The check below has four examples. Train on them one after the other, with the rate 0.5 and without a bias:
# `one_step` gets a batch of a single row, changes the global `weights`, and returns them by name. `compare_steps`
# runs it beside the framework's own training and compares the weights after every step.
#
# The rows `x` have the shape (1, 2) and the answers `y` the shape (1,), so that `x[0]` is the example.

# %% tags=["exercise"]
weights = np.array([0.1, 0.2])


def one_step(x, y):
    global weights
    weights = ...
    return {"weights": weights}


# %% tags=["solution"]
weights = np.array([0.1, 0.2])


def one_step(x, y):
    global weights
    weights = weights + 0.5 * error_term(x[0], weights, 0.0, y[0]) * x[0]
    return {"weights": weights}


# %% tags=["check"]
check_written("exercise 3", one_step)
examples = (
    np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [-1.0, 2.0]]),
    np.array([1.0, 0.0, 1.0, 1.0]),
)
weights = np.array([0.1, 0.2])  # so that this cell may be run again
descent = Trainer(
    loss=HalfSquaredError(),
    optimizer=SGDOptimizer(learning_rate=0.5),
    batch_size=1,
    epochs=5,
)
comparison = compare_steps(
    descent, one_step, model=neuron, data=examples, tolerance=1e-9
)
theirs, yours = comparison.values or (0, 0)
assert yours == theirs, (
    f"after step {comparison.first_step} of {comparison.steps} a weight must be "
    f"{theirs:.6g}; yours is {yours:.6g}"
)
print(f"Right: the same weights over {comparison.steps} steps, up to rounding.")

# %% [markdown]
# ## What to keep
#
# - A neuron is $f(w \cdot x + b)$.
# - Its error term $\delta$ is the error times the slope; each weight moves by $\eta \, \delta$ times its input.
# - Training is this step, repeated.
#
# Next: where does $f'$ come from if nobody writes it down?
