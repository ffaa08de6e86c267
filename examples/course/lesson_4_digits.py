# %% [markdown]
# # 4. A network that reads digits
#
# Many neurons side by side are a layer, and layers in a row are a network. You train one on 1,797 handwritten digits,
# see when it begins to learn by heart, stop it in time, and look at its mistakes.
#
# About 20 minutes. You need lessons 1 to 3.

# %%
import matplotlib.pyplot as plt
import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    ConfusionMatrix,
    CrossEntropy,
    Dense,
    EarlyStopping,
    ReLU,
    Sequential,
    Softmax,
    Trainer,
    split,
)
from framework.data import load_digits
from framework.testing import check_function, check_written
from framework.views import plots

# %% [markdown]
# ## Three parts of the data
#
# A network is trained on one part. On a second part, the **validation** data, we watch it and choose. The third, the
# **test** data, is used once, at the end: whatever was chosen by a part of the data looks better on it than it is.

# %%
x, y = load_digits()
train, rest = split((x / 16, y), 0.4, seed=0, stratify=True)
validation, test = split(rest, 0.5, seed=1, stratify=True)
print(len(train[1]), len(validation[1]), len(test[1]))

figure, axes = plt.subplots(1, 8, figsize=(8, 1.4), layout="constrained")
for axis, image, digit in zip(axes, *train, strict=False):
    axis.imshow(image.reshape(8, 8), cmap="gray_r")
    axis.set_title(str(digit))
    axis.axis("off")

# %% [markdown]
# ## The network
#
# The first layer has 32 neurons that look at all 64 pixels, and the activation ReLU, $\max(0, h)$. The second has a
# neuron for each digit. Its softmax makes probabilities of the ten numbers: positive, with the sum 1.

# %%
model = Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))
print(model.summary())

# %% [markdown]
# ## Batches and epochs
#
# A step does not need all the data. It takes a **batch** of 32 rows, and the mean of their gradients. When every row
# had its turn, an **epoch** is over. Small batches make many steps an epoch, so more is learnt from the same rows:

# %%
trainer = Trainer(
    loss=CrossEntropy(),
    optimizer=AdamOptimizer(learning_rate=0.01),
    epochs=3,
    metrics=[Accuracy()],
)
for batch_size in (8, 32, 256, 1078):
    batches = trainer.replace(batch_size=batch_size)
    run = batches.fit(model.copy(), train, validation=validation)
    reached = run.history[-1]["val_accuracy"]
    print(f"batches of {batch_size:4}: {run.step:3} steps, accuracy {reached:.3f}")

# %% [markdown]
# ## By heart
#
# Here the same network sees only 200 rows, for 40 epochs. The loss on these rows falls to almost nothing. On the
# validation data it falls at first, then rises a little: the network learns the 200 rows by heart. The star marks the
# best epoch.

# %%
few = train[0][:200], train[1][:200]
heart = trainer.replace(epochs=40, optimizer=AdamOptimizer(learning_rate=0.03))
model_by_heart = model.copy()
by_heart = heart.fit(model_by_heart.copy(), few, validation=validation)
by_heart.plot()

# %% [markdown]
# ## Stop in time
#
# `EarlyStopping` ends the training when the validation loss has not improved for some epochs, and brings the best
# weights back. Now with all the rows:

# %%
stopping = EarlyStopping(monitor="val_loss", patience=5, restore_best=True)
careful = trainer.replace(epochs=60, callbacks=[stopping])
run = careful.fit(model, train, validation=validation)
print(run.stop_reason)
print(trainer.evaluate(model, test))

# %% [markdown]
# ## The mistakes
#
# The rows of the table are the true digits, the columns what the network read. Which digits does it confuse?

# %%
plots.confusion_matrix(ConfusionMatrix(num_classes=10)(model.predict(test[0]), test[1]))

# %% [markdown]
# ## Exercise 1: accuracy
#
# `p` has a row of ten probabilities for each image, `y` holds the true digits. Return the share of the rows whose
# largest probability is that of the true digit.


# %% tags=["exercise"]
def accuracy(p, y):
    return ...


# %% tags=["solution"]
def accuracy(p, y):
    return np.mean(p.argmax(axis=1) == y)


# %% tags=["check"]
check_written("exercise 1", accuracy)
cases = [(model.predict(test[0][:n]), test[1][:n]) for n in (1, 10, 360)]
cases.append((np.array([[0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]), np.array([0, 1])))
print(f"Right: {check_function(accuracy, Accuracy(), cases)} cases.")

# %% [markdown]
# ## Exercise 2: when to stop
#
# Be `EarlyStopping` yourself. `losses` holds the validation loss of each epoch. Return the number of the epoch, from
# 1, after which training ends: the first one that comes `patience` epochs after the best so far. If that never
# happens, it is the number of epochs.


# %% tags=["exercise"]
def last_epoch(losses, patience):
    return ...


# %% tags=["solution"]
def last_epoch(losses, patience):
    best, best_epoch = np.inf, 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, best_epoch = loss, epoch
        elif epoch - best_epoch >= patience:
            return epoch
    return len(losses)


# %% tags=["check"]
def true_last_epoch(losses, patience):
    stopping = EarlyStopping(monitor="val_loss", patience=patience)
    stopped = heart.replace(callbacks=[stopping])
    return stopped.fit(model_by_heart.copy(), few, validation=validation).epoch


check_written("exercise 2", last_epoch)
losses = by_heart.history.column("val_loss")
cases = [(losses, patience) for patience in (1, 2, 4, 7, 100)]
print(f"Right: {check_function(last_epoch, true_last_epoch, cases)} cases.")

# %% [markdown]
# ## Exercise 3: a smaller network
#
# Make a network for the digits with at most 1,500 numbers to train. After 15 epochs it has to read 95 % of the
# validation images. A layer of $n$ neurons with $m$ inputs has $n (m + 1)$ numbers.

# %% tags=["exercise"]
small = ...

# %% tags=["solution"]
small = Sequential(Dense(64, 16, ReLU()), Dense(16, 10, Softmax()))

# %% tags=["check"]
check_written("exercise 3", small)
assert isinstance(small, Sequential), f"small must be Sequential(...); it is {small}"
size = small.parameters.vector.size
assert size <= 1500, f"the network has {size} numbers, which is more than 1,500"
run = trainer.replace(epochs=15).fit(small.copy(), train, validation=validation)
reached = run.history[-1]["val_accuracy"]
assert reached >= 0.95, (
    f"the network reads {100 * reached:.1f} % of the images, which is less than 95 %"
)
print(f"Right: {size} numbers read {100 * reached:.1f} % of the images.")

# %% [markdown]
# ## What to keep
#
# - Train on one part, choose by a second, report the third once.
# - A loss that falls on the training data alone means: learnt by heart.
# - A confusion matrix shows what one number hides.
