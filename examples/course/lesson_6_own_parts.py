# %% [markdown]
# # 6. Parts of your own
#
# An activation, a loss, an optimizer, a layer: each is a class with one formula. You write one of each, have the
# library check it as it checks its own, and run all of them as native code.
#
# About 20 minutes. You need lessons 2 to 4, and classes in Python.

# %%
import numpy as np

from framework import (
    Activation,
    AdamOptimizer,
    Dense,
    Huber,
    Layer,
    Loss,
    MeanSquaredError,
    Neuron,
    Optimizer,
    Sequential,
    SGDOptimizer,
    Tanh,
    Trainer,
    check_gradients,
    show,
)
from framework.formulas import Softsign
from framework.models import Uniform
from framework.testing import check_component, check_function, check_written

# %% [markdown]
# ## The problem
#
# A signal repeats itself, and one in ten of its measurements is far off. A network of `Tanh` units and the squared
# error fit it badly. The distance from the true signal, which training never sees, says how badly: 0 is perfect.

# %%
rng = np.random.default_rng(0)


def signal(x):
    return np.sin(2.5 * x[:, 0]) + 0.3 * x[:, 0]


x = rng.uniform(-3, 3, size=(400, 1))
y = signal(x) + 0.1 * rng.normal(size=400)
wrong = rng.random(400) < 0.1
y[wrong] += rng.choice([-1, 1], wrong.sum()) * rng.uniform(3, 6, wrong.sum())
grid = np.linspace(-3, 3, 200)[:, None]


def distance(run):
    return np.sqrt(np.mean((run.model(grid) - signal(grid)) ** 2))


adam = AdamOptimizer(learning_rate=0.01)
trainer = Trainer(loss=MeanSquaredError(), optimizer=adam, epochs=60)
run = trainer.fit(Sequential(Dense(1, 32, Tanh()), Neuron(32)), (x, y))
print(f"Tanh, squared error: {distance(run):.2f}")

# %% [markdown]
# ## An activation
#
# For something that repeats, use a unit that repeats. A line such as `beta: float = 1.0` makes a setting: it is
# checked, printed and saved. Only the formula is yours; the derivative is derived.


# %%
class Snake(Activation):
    beta: float = 1.0

    def __call__(self, h):
        return h + np.sin(self.beta * h) ** 2 / self.beta


run = trainer.fit(Sequential(Dense(1, 32, Snake(beta=2.0)), Neuron(32)), (x, y))
print(f"Snake, squared error: {distance(run):.2f}")
show(Snake(beta=2.0))

# %% [markdown]
# ## A loss
#
# The square makes the worst measurements count most. This loss never exceeds 1, so none of them can pull hard.
# `value` is the loss of each element; the mean over the batch and the gradient are not your work.


# %%
class Bounded(Loss):
    scale: float = 1.0

    def value(self, prediction, target):
        u = ((prediction - target) / self.scale) ** 2
        return u / (1 + u)


robust = trainer.replace(loss=Bounded())
run = robust.fit(Sequential(Dense(1, 32, Snake(beta=2.0)), Neuron(32)), (x, y))
print(f"Snake, bounded loss: {distance(run):.2f}")

# %% [markdown]
# ## A layer
#
# The number 2 for `beta` was a lucky choice. It is better to learn it, for each unit its own. A part that learns is a
# layer: it says which shapes its parameters have and where they start, and takes them as arguments of its formula.


# %%
class LearntSnake(Layer):
    inputs: int | None = None  # comes from the layer before

    def shapes(self):
        return {"beta": (self.inputs,)}

    def initializers(self):
        return {"beta": Uniform(low=0.5, high=4.0)}

    def formula(self, x, beta):
        return x + np.sin(beta * x) ** 2 / beta


learnt = Sequential(Dense(1, 32), LearntSnake(), Neuron(32))
print(check_gradients(learnt, Bounded(), x[:8], y[:8]))
run = robust.fit(learnt, (x, y))
print(f"learnt beta, bounded loss: {distance(run):.2f}")

# %% [markdown]
# ## As native code
#
# With `engine="compiled"`, the formulas of activations, losses and optimizers become one native function, also your
# own. It needs llvmlite, and some time to compile them first. Here is the network of `Snake` again. The result is the
# same but for the last digits.

# %%
for engine in ("numpy", "compiled"):
    network = Sequential(Dense(1, 32, Snake(beta=2.0)), Neuron(32))
    run = robust.replace(engine=engine).fit(network, (x, y))
    print(f"{run.engine}: distance {distance(run):.10f}")

# %% [markdown]
# ## Exercise 1: an activation
#
# Write $f(h) = h / (1 + |h|)$. It looks like tanh, and needs no power of $e$. `check_component` then runs the checks
# that all activations of the library pass: the derivative, the dtypes, the JSON, copies, and a docstring with an
# example.


# %% tags=["exercise"]
class Soft(Activation):
    """h / (1 + |h|).

    Example:
        >>> Soft()(1.0)
        0.5
    """

    def __call__(self, h):
        return ...


# %% tags=["solution"]
class Soft(Activation):
    """h / (1 + |h|).

    Example:
        >>> Soft()(1.0)
        0.5
    """

    def __call__(self, h):
        return h / (1 + np.abs(h))


# %% tags=["check"]
check_written("exercise 1", Soft.__call__)
checks = check_component(Soft())
cases = [(0.0,), (2.0,), (-3.0,), (np.array([[0.5, -0.5]]),)]
check_function(Soft(), Softsign(), cases)
print(f"Right: {len(checks)} checks, and the values of Softsign.")

# %% [markdown]
# ## Exercise 2: a loss with a setting
#
# The loss of Huber is half the square near 0, and a straight line further out, where the error $e$ is larger than
# $\delta$:
#
# $$\ell(e) = \frac{1}{2} e^2 \text{ if } |e| \le \delta, \quad
# \delta \, (|e| - \frac{1}{2} \delta) \text{ if } |e| > \delta$$
#
# Write it with `np.where`. The setting `delta` is there.


# %% tags=["exercise"]
class Robust(Loss):
    """Half the square of small errors, and a straight line for large ones.

    Example:
        >>> Robust(delta=1.0)([3.0], [0.0])
        2.5
    """

    delta: float = 1.0

    def value(self, prediction, target):
        error = prediction - target
        return ...


# %% tags=["solution"]
class Robust(Loss):
    """Half the square of small errors, and a straight line for large ones.

    Example:
        >>> Robust(delta=1.0)([3.0], [0.0])
        2.5
    """

    delta: float = 1.0

    def value(self, prediction, target):
        error = np.abs(prediction - target)
        line = self.delta * (error - self.delta / 2)
        return np.where(error <= self.delta, error**2 / 2, line)


# %% tags=["check"]
check_written("exercise 2", Robust.value)
for limit in (1.0, 0.3):
    cases = [(np.array([error]), np.zeros(1)) for error in (0.2, -0.2, 0.5, 3.0, -3.0)]
    check_function(Robust(delta=limit), Huber(delta=limit), cases)
print(f"Right: {len(check_component(Robust(delta=0.5)))} checks.")

# %% [markdown]
# ## Exercise 3: an optimizer
#
# Descent with momentum keeps a velocity, which is its memory: $v \leftarrow \mu v + g$, then $w \leftarrow w - \eta
# v$. `values` (the weights), `gradients` and `velocity` are flat arrays. Change `values` and `velocity` in place,
# with `+=`, `-=` or `*=`; `rate` is $\eta$.


# %% tags=["exercise"]
class WithVelocity(Optimizer):
    """Descent with a velocity.

    Example:
        >>> WithVelocity(learning_rate=0.1).mu
        0.9
    """

    mu: float = 0.9
    memory = ("velocity",)

    def update(self, values, gradients, rate, step, velocity): ...


# %% tags=["solution"]
class WithVelocity(Optimizer):
    """Descent with a velocity.

    Example:
        >>> WithVelocity(learning_rate=0.1).mu
        0.9
    """

    mu: float = 0.9
    memory = ("velocity",)

    def update(self, values, gradients, rate, step, velocity):
        velocity *= self.mu
        velocity += gradients
        values -= rate * velocity


# %% tags=["check"]
def trained_weights(optimizer):
    trainer = Trainer(loss=MeanSquaredError(), optimizer=optimizer, epochs=2)
    run = trainer.fit(Sequential(Dense(1, 4, Tanh()), Neuron(4)), (x, y))
    return run.model.parameters.vector


def true_weights(optimizer):
    return trained_weights(SGDOptimizer(learning_rate=0.01, momentum=optimizer.mu))


check_written("exercise 3", WithVelocity.update)
checks = check_component(WithVelocity(learning_rate=0.01))
cases = [(WithVelocity(learning_rate=0.01, mu=mu),) for mu in (0.9, 0.5)]
check_function(trained_weights, true_weights, cases)
print(f"Right: {len(checks)} checks, and the weights of SGDOptimizer(momentum=0.9).")

# %% [markdown]
# ## What to keep
#
# - One formula makes a part; its derivative, its settings and its JSON follow.
# - `check_component` and `check_gradients` say whether it is right. Use them in your own tests.
# - The same class runs in NumPy and in the native engine, and is saved with the model.
