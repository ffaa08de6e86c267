# %% [markdown]
# # 2. A formula and its derivative
#
# In lesson 1 you knew the slope of the sigmoid. For a formula of your own, somebody has to find it. Here you find
# slopes in three ways: by trying, by rules, and by letting the framework apply the rules. Then you prove that they
# agree.
#
# About 15 minutes. You need lesson 1 and the chain rule.

# %%
import numpy as np

from framework import (
    Activation,
    Dense,
    DerivativeError,
    HalfSquaredError,
    Neuron,
    Sequential,
    Sigmoid,
    Tanh,
    check_gradients,
    show,
)
from framework.formulas import Swish
from framework.testing import check_function, check_written

# %% [markdown]
# ## By trying
#
# The slope of $f$ at $h$ says how fast $f$ grows there. So go a little to the right, and see how much it has grown:

# %%
h, little = 0.5, 1e-4
print("by trying  ", (np.tanh(h + little) - np.tanh(h)) / little)
print("by the rule", 1 - np.tanh(h) ** 2)

# %% [markdown]
# The first four digits agree. A smaller step does not always help: at `1e-12` the difference of two nearly equal
# numbers has few digits left. Trying is good for a check, and too slow and too coarse to train with.
#
# ## By rules
#
# Every formula is made of few operations, and each has a rule: $(u + v)' = u' + v'$, $(u v)' = u' v + u v'$, $(e^u)'
# = e^u u'$. Write an activation for the framework, and it applies the rules, operation by operation. `show` prints
# the formula and what came out.


# %%
class Wavelet(Activation):
    width: float = 1.0

    def __call__(self, h):
        return h * np.exp(-((h / self.width) ** 2))


show(Wavelet(width=2.0))

# %% [markdown]
# The picture shows both. Wherever the solid line is flat, the dashed one is 0.

# %%
Wavelet(width=2.0).plot()

# %% [markdown]
# ## The proof
#
# You may write the derivative too. The framework does not believe it: it compares what you wrote with the formula
# before it uses either. Here the product rule was forgotten.


# %%
class WrongWavelet(Wavelet):
    def derivative(self, h):
        return np.exp(-((h / self.width) ** 2))


try:
    WrongWavelet(width=2.0).check_derivative()
except DerivativeError as error:
    print(error)

# %% [markdown]
# A network is a long chain of such formulas. `check_gradients` tries every weight: it moves the weight a little to
# both sides, looks at the loss, and compares the slope that it sees with the derived one.

# %%
rng = np.random.default_rng(0)
x, y = rng.normal(size=(5, 2)), rng.normal(size=5)
network = Sequential(Dense(2, 3, Wavelet(width=2.0)), Neuron(3))
print(check_gradients(network, HalfSquaredError(), x, y))

# %% [markdown]
# ## Exercise 1: a better way of trying
#
# A step to the right alone is a little off on every curve. Go the same step to both sides of `h`, and divide by the
# whole distance. Your slopes have to agree with the derived ones to seven digits.


# %% tags=["exercise"]
def slope(f, h):
    little = 1e-5
    return ...


# %% tags=["solution"]
def slope(f, h):
    little = 1e-5
    return (f(h + little) - f(h - little)) / (2 * little)


# %% tags=["check"]
def true_slope(f, h):
    return f.derivative(h)


check_written("exercise 1", slope)
cases = [(f, h) for f in (Tanh(), Sigmoid(), Swish()) for h in (-2.0, 0.3, 1.0)]
print(f"Right: {check_function(slope, true_slope, cases, tolerance=1e-7)} cases.")

# %% [markdown]
# ## Exercise 2: a derivative by rules
#
# This is the bell curve, $f(h) = e^{-(h/s)^2}$, with its width $s$ as a setting. Write its derivative by hand. The
# check is that of the framework: it compares the derivative with the formula.


# %% tags=["exercise"]
class Bell(Activation):
    s: float = 1.0

    def __call__(self, h):
        return np.exp(-((h / self.s) ** 2))

    def derivative(self, h):
        return ...


# %% tags=["solution"]
class Bell(Activation):
    s: float = 1.0

    def __call__(self, h):
        return np.exp(-((h / self.s) ** 2))

    def derivative(self, h):
        return -2 * h / self.s**2 * np.exp(-((h / self.s) ** 2))


# %% tags=["check"]
check_written("exercise 2", Bell.derivative)
for s in (1.0, 2.5):
    Bell(s=s).check_derivative()
print("Right:", show(Bell(s=2.5)))

# %% [markdown]
# ## Exercise 3: a chain of two neurons
#
# The answer of a chain is $a = \tanh(w_2 \tanh(w_1 x))$. How does $a$ change with $w_1$? Go back from the end:
# through the outer tanh, through $w_2$, through the inner tanh, to $w_1$. What an inner part receives is multiplied
# by its own slope.


# %% tags=["exercise"]
def change_with_first_weight(w1, w2, x):
    inner = np.tanh(w1 * x)
    outer = np.tanh(w2 * inner)
    return ...


# %% tags=["solution"]
def change_with_first_weight(w1, w2, x):
    inner = np.tanh(w1 * x)
    outer = np.tanh(w2 * inner)
    return (1 - outer**2) * w2 * (1 - inner**2) * x


# %% tags=["check"]
def true_change(w1, w2, x):
    chain = Sequential(Dense(1, 1, Tanh()), Neuron(1, Tanh()))
    chain.parameters.vector = [w1, 0.0, w2, 0.0]  # weight and bias of each
    chain.forward(np.array([x]))
    chain.backward(1.0)
    return chain.parameters.gradients["0.weights"][0, 0]


check_written("exercise 3", change_with_first_weight)
cases = [tuple(rng.normal(size=3)) for _ in range(5)]
print(f"Right: {check_function(change_with_first_weight, true_change, cases)} cases.")

# %% [markdown]
# ## What to keep
#
# - A slope can be tried; the middle of both sides is best.
# - Rules for single operations and the chain rule give the derivative of any formula. This is all that
#   "backpropagation" is.
# - Never believe a derivative that was not compared with its formula.
