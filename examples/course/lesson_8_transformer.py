# %% [markdown]
# # 8. Attention, and a transformer block
#
# Large language models are built from one part, repeated: the transformer block. You write its heart, attention, as a
# formula of five lines, see that its gradients are right, put a block together, and train it on a task that a network
# without attention cannot do.
#
# About 20 minutes. You need matrices, the softmax, and own layers from lesson 6.

# %%
import matplotlib.pyplot as plt
import numpy as np

from framework import (
    GELU,
    Accuracy,
    AdamOptimizer,
    CrossEntropy,
    Dense,
    Layer,
    LayerNorm,
    MeanSquaredError,
    MultiHeadAttention,
    Residual,
    Sequential,
    Softmax,
    Trainer,
    check_gradients,
    show,
)
from framework.testing import check_function, check_written

# %% [markdown]
# ## The task: look it up
#
# A row is a short list of pairs, a letter with a digit, and then a letter alone:
#
#     d3  a1  f4  b1    f ?
#
# The right answer is the digit that stands with that letter, here 4. Letters are a to f, digits 0 to 4. Each step of
# the sequence becomes a vector of 11 numbers: six say which letter it is, five which digit. The question has no
# digit.

# %%
LETTERS, DIGITS, PAIRS = 6, 5, 4
rng = np.random.default_rng(0)


def make_rows(count):
    letters = rng.permuted(np.tile(np.arange(LETTERS), (count, 1)), axis=1)[:, :PAIRS]
    digits = rng.integers(DIGITS, size=(count, PAIRS))
    row, asked = np.arange(count), rng.integers(PAIRS, size=count)
    x = np.zeros((count, PAIRS + 1, LETTERS + DIGITS))
    x[:, :PAIRS, :LETTERS] = np.eye(LETTERS)[letters]
    x[:, :PAIRS, LETTERS:] = np.eye(DIGITS)[digits]
    x[:, PAIRS, :LETTERS] = np.eye(LETTERS)[letters[row, asked]]
    return x, digits[row, asked]


def words(steps):
    return [
        "abcdef"[step[:LETTERS].argmax()]
        + (str(step[LETTERS:].argmax()) if step[LETTERS:].any() else "?")
        for step in steps
    ]


train, test = make_rows(1500), make_rows(500)
for x, y in zip(test[0][:3], test[1][:3], strict=True):
    print(*words(x), "->", y)

# %% [markdown]
# ## Attention
#
# Each step asks a **query** $q$, offers a **key** $k$, and holds a **value** $v$, all three linear in the step $x$.
# Step $i$ looks at step $j$ as much as its query fits that key:
#
# $$s_{ij} = \frac{q_i \cdot k_j}{\sqrt d}, \qquad p_{ij} = \frac{e^{s_{ij}}}{\sum_m e^{s_{im}}}, \qquad
# a_i = \sum_j p_{ij} v_j$$
#
# The $p_{ij}$ of a step are positive and add up to 1, so its output is a mean of the values, weighted by what it
# looks at. Dividing by $\sqrt d$ keeps the scores at a size where the softmax still has a slope.


# %%
def softmax(scores):
    largest = scores.max(axis=-1, keepdims=True)  # it cancels; exp cannot overflow
    powers = np.exp(scores - largest)
    return powers / powers.sum(axis=-1, keepdims=True)


class SimpleAttention(Layer):
    units: int
    inputs: int | None = None

    @property
    def input_shape(self):
        return (None, self.inputs)  # any number of steps

    def shapes(self):
        return dict.fromkeys(("query", "key", "value"), (self.inputs, self.units))

    def formula(self, x, query, key, value):
        q, k, v = x @ query, x @ key, x @ value
        scores = q @ k.swapaxes(1, 2) / np.sqrt(self.units)
        return softmax(scores) @ v


# %% [markdown]
# `show` prints the formula as the framework has read it. Its gradients, one for each matrix and one for $x$, would
# fill a page by hand; here they are derived. `check_gradients` compares them with the slopes of the loss itself.

# %%
layer = SimpleAttention(units=4, inputs=LETTERS + DIGITS)
layer(test[0][:1])  # so that it knows the number of steps
some_x, some_y = test[0][:3], rng.normal(size=(3, 5, 4))
print(check_gradients(layer, MeanSquaredError(), some_x, some_y))
show(layer)

# %% [markdown]
# ## The block
#
# A transformer block is attention, which moves information *between* steps, and then a small network, which works
# *within* each step. Each is added to its input, so that a block can also leave a step as it is (`Residual`), and
# each sees normalized numbers (`LayerNorm`). A last layer takes the last step, the question, and gives a probability
# for each digit.


# %%
class LastStep(Layer):
    @property
    def input_shape(self):
        return (None, None)

    def formula(self, x):
        return x[:, -1]


WIDTH = 16


def block(attention):
    return (
        Residual(LayerNorm(WIDTH), attention),
        Residual(
            LayerNorm(WIDTH), Dense(WIDTH, 2 * WIDTH, GELU()), Dense(2 * WIDTH, WIDTH)
        ),
    )


def network(attention):
    return Sequential(
        Dense(LETTERS + DIGITS, WIDTH),
        *block(attention),
        LastStep(),
        Dense(WIDTH, DIGITS, Softmax()),
    )


model = network(SimpleAttention(units=WIDTH))
print(check_gradients(model, CrossEntropy(), test[0][:3], test[1][:3], elements=2))
print(model.summary())

# %% [markdown]
# ## Training, and what it looks at

# %%
trainer = Trainer(
    loss=CrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=0.01),
    epochs=4,
    batch_size=64,
    metrics=[Accuracy()],
)
run = trainer.fit(model, train, validation=test)
blind = trainer.fit(network(Dense(WIDTH, WIDTH)), train, validation=test)
for name, trained in (("with", run), ("without", blind)):
    print(f"{name} attention: {trained.history[-1]['val_accuracy']:.3f}")

# %% [markdown]
# Without attention the last step knows only the letter that is asked for. It cannot do better than guess: one in
# five.
#
# The weights $p_{ij}$ show how the other network does it. Every row of the picture is a step, and the darker a
# column, the more that step looks at it. The question, in the last row, looks at the pair with its letter.


# %%
def looks_at(model, x):
    norm, attention = model[1]["block"]  # the layers of the first Residual
    h = norm(model[0](x))
    q, k = (h @ attention.parameters[name] for name in ("query", "key"))
    return softmax(q @ k.T / np.sqrt(WIDTH))


figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for axis, x in zip(axes, test[0][:3], strict=True):
    axis.imshow(looks_at(run.model, x), cmap="Greys", vmin=0, vmax=1)
    axis.set_xticks(range(PAIRS + 1), words(x))
    axis.set_yticks(range(PAIRS + 1), words(x))
axes[0].set_ylabel("this step ...")
_ = axes[1].set_xlabel("... looks at these")

# %% [markdown]
# ## Exercise 1: scores
#
# Write the scores of several sequences at once. `q` and `k` have the shape (rows, steps, d), the scores (rows, steps,
# steps): `scores(q, k)[r, i, j]` says how well query `i` fits key `j` in row `r`. Try to write it without looking up;
# an `np.einsum` is welcome.


# %% tags=["exercise"]
def scores(q, k):
    return ...


# %% tags=["solution"]
def scores(q, k):
    return np.einsum("rid,rjd->rij", q, k) / np.sqrt(q.shape[-1])


# %% tags=["check"]
def true_scores(q, k):
    rows = zip(q, k, strict=True)
    scores = [[[sum(a * b) for b in keys] for a in queries] for queries, keys in rows]
    return np.array(scores) / q.shape[-1] ** 0.5


check_written("exercise 1", scores)
cases = [
    (rng.normal(size=(1, 2, 1)), rng.normal(size=(1, 2, 1))),
    (rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 4))),
]
print(f"Right: {check_function(scores, true_scores, cases)} cases.")

# %% [markdown]
# ## Exercise 2: do not look ahead
#
# A language model predicts the next word, so a step must not see those after it. Write attention in which step $i$
# sees only the steps $j \le i$. The usual way: before the softmax, set the scores of all later steps to a very
# negative number. `np.tri(n)` is an n × n matrix with 1 where $j \le i$ and 0 elsewhere, and `x.shape[1]` is the
# number of steps.
#
# The check gives your layer and the library's `MultiHeadAttention(heads=1, causal=True)` the same weights.


# %% tags=["exercise"]
class CausalAttention(SimpleAttention):
    def formula(self, x, query, key, value):
        q, k, v = x @ query, x @ key, x @ value
        return ...


# %% tags=["solution"]
class CausalAttention(SimpleAttention):
    def formula(self, x, query, key, value):
        q, k, v = x @ query, x @ key, x @ value
        scores = q @ k.swapaxes(1, 2) / np.sqrt(self.units)
        return softmax(np.where(np.tri(x.shape[1]) > 0, scores, -1e9)) @ v


# %% tags=["check"]
def true_attention(x):
    theirs = MultiHeadAttention(heads=1, causal=True, inputs=4)
    weights = np.concatenate([*layer.parameters.values()], axis=1)
    theirs.parameters["weights"][...] = weights
    # Theirs has a linear map behind the heads.
    theirs.parameters["output_weights"][...] = np.eye(4)
    return theirs(x)


check_written("exercise 2", CausalAttention.formula)
layer = CausalAttention(units=4, inputs=4)
x, y = rng.normal(size=(3, 5, 4)), rng.normal(size=(3, 5, 4))
check_function(layer, true_attention, [(x,), (x[:1, :2],)])
print("Right:", check_gradients(layer, MeanSquaredError(), x, y))

# %% [markdown]
# ## Exercise 3: normalize
#
# `LayerNorm` makes the numbers of each step comparable: it subtracts their mean and divides by the root of their
# variance plus a tiny $\varepsilon$, so that nothing is divided by 0. Write it for `x` of the shape (rows, steps,
# units).


# %% tags=["exercise"]
def normalize(x, epsilon=1e-5):
    return ...


# %% tags=["solution"]
def normalize(x, epsilon=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)


# %% tags=["check"]
check_written("exercise 3", normalize)
constant = np.ones((1, 1, 4))  # its variance is 0
cases = [(x,), (0.001 * x,), (constant,)]
print(f"Right: {check_function(normalize, LayerNorm(4), cases)} cases.")

# %% [markdown]
# ## What to keep
#
# - Attention is a mean of values, weighted by how well queries fit keys; the weights depend on the row.
# - A block is attention between steps and a network within each step, each added to its input.
# - The block here has the same parts as those of large models. They have more heads, more width, and many blocks.
#
# `examples/gallery/transformer.py` goes one step further, and writes text.
