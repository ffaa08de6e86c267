"""
Handwritten digits: a convolution, and what it confuses
=======================================================

1,797 images of 8 x 8 pixels, a smaller relative of MNIST that comes with the package. A convolutional network of 2,650
numbers reads three quarters of them, and is asked about the rest.
"""

import matplotlib.pyplot as plt

from framework import (
    Accuracy,
    AdamOptimizer,
    ConfusionMatrix,
    Conv2D,
    CosineSchedule,
    CrossEntropy,
    Dense,
    Flatten,
    MaxPool,
    ReLU,
    Reshape,
    Sequential,
    Softmax,
    Trainer,
    split,
)
from framework.data import load_digits
from framework.views import plots

x, y = load_digits()
train, test = split((x / 16, y), 0.25, seed=0, stratify=True)

model = Sequential(
    Reshape((1, 8, 8)),
    Conv2D(filters=16, kernel=3),
    ReLU(),
    MaxPool(2),
    Flatten(),
    Dense(units=16, activation=ReLU()),
    Dense(units=10, activation=Softmax()),
)
trainer = Trainer(
    loss=CrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.01)),
    epochs=15,
    metrics=[Accuracy()],
)
run = trainer.fit(model, train, validation=test)
print(model.summary())
print({key: round(value, 4) for key, value in run.history[-1].items()})

# %%
# The learning curves, and the rate that falls along half a cosine:

run.plot("loss", right="learning_rate")

# %%
# Rows are the true digits, columns what the network reads:

prediction = model(test[0])
plots.confusion_matrix(ConfusionMatrix(num_classes=10)(prediction, test[1]))

# %%
# All mistakes, with the true digit and the one that was read:

read = prediction.argmax(axis=1)
wrong = (read != test[1]).nonzero()[0]
figure, axes = plt.subplots(1, max(len(wrong), 2), figsize=(1.2 * max(len(wrong), 2), 1.6), layout="constrained")
for axis in axes:
    axis.axis("off")
for axis, row in zip(axes, wrong, strict=False):
    axis.imshow(test[0][row].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"{test[1][row]}: {read[row]}", fontsize=9)

# %%
# The sixteen filters of the convolution: edges in several directions.

plots.weights(model)
