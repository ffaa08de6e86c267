"""
A small transformer that writes numbers in words
================================================

The text is numbers below ten thousand in English words, such as "four hundred twelve; nine; two thousand thirty;". The
network sees 16 characters and predicts the next one. It knows no words and no grammar; what it learnt shows in the
text that it writes: we can check each number.
"""

import textwrap

import numpy as np

from framework import (
    GELU,
    AdamOptimizer,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Embedding,
    Layer,
    LayerNorm,
    MultiHeadAttention,
    Residual,
    Sequential,
    Softmax,
    Trainer,
)
from framework.models import PositionalEncoding

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
ONES = [*ONES.split(), "seventeen", "eighteen", "nineteen"]
TENS = ["-", "-", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def words(number):
    """Return a number below 10,000 in words."""
    parts = []
    for size, name in ((1000, " thousand"), (100, " hundred")):
        if number >= size:
            parts.append(ONES[number // size] + name)
            number %= size
    if number >= 20:
        parts.append(TENS[number // 10])
        number %= 10
    if number or not parts:
        parts.append(ONES[number])
    return " ".join(parts)


rng = np.random.default_rng(0)
numbers = rng.permutation(10_000)[:3000]
text = "; ".join(words(int(number)) for number in numbers)
letters = sorted(set(text))
ids = np.array([letters.index(letter) for letter in text])
print(len(text), "characters:", text[:60], "...")

# %%
# The model is an embedding of the characters with their places, a block of attention and a small network, and a
# softmax over the next character. Only the last place predicts, so a layer of one line takes it.


class Last(Layer):
    """a = the last step of x."""

    @property
    def input_shape(self):
        return (None, None)

    def formula(self, x):
        return x[:, -1]


context, units = 16, 32


def block():
    """Return attention and a network of two layers, each added to its input."""
    return (
        Residual(LayerNorm(units), MultiHeadAttention(heads=4, causal=True)),
        Residual(LayerNorm(units), Dense(units, 2 * units, GELU(approximate="tanh")), Dense(2 * units, units)),
    )


model = Sequential(
    Embedding(len(letters), units),
    PositionalEncoding(),
    *block(),
    Last(),
    LayerNorm(units),
    Dense(units, len(letters), Softmax()),
)
windows = np.lib.stride_tricks.sliding_window_view(ids, context)[:-1]
rows = rng.permutation(len(windows))[:16_000]
trainer = Trainer(
    loss=CrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.004)),
    epochs=5,
    batch_size=64,
)
run = trainer.fit(model, (windows[rows], ids[rows + context]))
run.plot()

# %%
# Each character is drawn by the probabilities of the network, and becomes a part of what it sees next.

line = [*ids[:context]]
for _ in range(1500):
    p = model(np.array(line[-context:])).astype(float)
    line.append(int(rng.choice(len(letters), p=p / p.sum())))
written = "".join(letters[each] for each in line[context:])
print(textwrap.fill(written[:400], 90))

# %%
# How many of the numbers exist, and how many of these were not in the text?

every, seen = {words(number) for number in range(10_000)}, {words(int(number)) for number in numbers}
made = written.split("; ")[1:-1]
right = [each for each in made if each in every]
print(f"{len(made)} numbers, {len(right)} of them exist, {sum(each not in seen for each in right)} of those are new")
