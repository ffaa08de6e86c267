"""
A chaotic series: a GRU against two simple rules
================================================

The equation of Mackey and Glass (1977) makes a series that never repeats itself. A GRU sees 40 values and predicts the
one that comes 6 steps later. Two simple rules say what that is worth: the last value, and a linear fit to the 40.
"""

import matplotlib.pyplot as plt
import numpy as np

from framework import GRU, AdamOptimizer, CosineSchedule, MeanSquaredError, Neuron, Sequential, Trainer

series = np.empty(3000)
series[:18] = 1.2
for t in range(17, 2999):
    series[t + 1] = series[t] + 0.2 * series[t - 17] / (1 + series[t - 17] ** 10) - 0.1 * series[t]
series = (series[200:] - series[200:].mean()) / series[200:].std()

steps, ahead = 40, 6
windows = np.lib.stride_tricks.sliding_window_view(series, steps)[:-ahead]
targets = series[steps - 1 + ahead :]
x, x_test, y, y_test = windows[:2000], windows[2000:], targets[:2000], targets[2000:]

# %%
# The test is the end of the series, which lies after everything that was trained on.

model = Sequential(GRU(16, inputs=1), Neuron(16))
trainer = Trainer(
    loss=MeanSquaredError(),
    optimizer=AdamOptimizer(learning_rate=CosineSchedule(initial=0.01)),
    epochs=12,
)
run = trainer.fit(model, (x[:, :, None], y), validation=(x_test[:, :, None], y_test))


def error(prediction):
    """Return the root of the mean squared error on the end of the series."""
    return np.sqrt(np.mean((prediction - y_test) ** 2))


line, *_ = np.linalg.lstsq(np.c_[x, np.ones(len(x))], y)
predictions = {
    "the last value": x_test[:, -1],
    "linear in 40 values": np.c_[x_test, np.ones(len(x_test))] @ line,
    "GRU": model(x_test[:, :, None]),
}
for name, prediction in predictions.items():
    print(f"{name:20} {error(prediction):.3f}")

# %%
# The errors are in standard deviations of the series. The linear rule is a strong rival on a series as smooth as this;
# the network has to learn how it bends.

run.plot().set_yscale("log")

# %%
# The true values, and the errors of both:

figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
above.plot(y_test[:300], color="tab:gray", label="true")
above.plot(predictions["GRU"][:300], "--", color="tab:orange", label="GRU")
below.plot((predictions["linear in 40 values"] - y_test)[:300], ":", color="tab:blue", label="error, linear")
below.plot((predictions["GRU"] - y_test)[:300], "--", color="tab:orange", label="error, GRU")
for axis in (above, below):
    axis.legend(loc="upper right")
below.set_xlabel("step")
