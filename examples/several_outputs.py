"""Embeddings together with numbers, and two outputs: the price of a flight, and whether it is late.

    python examples/several_outputs.py

The data is made up: each airport has a height and a delay of its own, which the model learns as three numbers. One
model with two heads learns both targets; a checkpoint of it predicts the same bits.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from framework import (
    Accuracy,
    AdamOptimizer,
    BinaryCrossEntropy,
    Dense,
    EarlyStopping,
    Embedding,
    Heads,
    Join,
    MeanSquaredError,
    ReLU,
    Sequential,
    Sigmoid,
    Trainer,
    load_model,
    save,
    split,
)
from framework.formulas import OutputLosses, OutputMetric

rng = np.random.default_rng(0)
rows, airports = 3000, 20
x = {"numbers": rng.normal(size=(rows, 3)), "airport": rng.integers(0, airports, size=rows)}
fee, delay = rng.normal(size=(2, airports))
y = {
    "price": x["numbers"][:, 0] + fee[x["airport"]] + 0.1 * rng.normal(size=rows),
    "late": x["numbers"][:, 1] + 2.0 * delay[x["airport"]] + 0.5 * rng.normal(size=rows) > 0,
}
train, test = split((x, y), 0.25)

model = Sequential(
    Join(numbers=None, airport=Embedding(airports, 3)),
    Dense(units=32, activation=ReLU()),
    Heads(price=Dense(units=1), late=Dense(units=1, activation=Sigmoid())),
)
trainer = Trainer(
    loss=OutputLosses(price=MeanSquaredError(), late=BinaryCrossEntropy(), weights={"price": 2.0}),
    optimizer=AdamOptimizer(learning_rate=0.01),
    epochs=30,
    metrics=[OutputMetric("late", Accuracy())],
    callbacks=[EarlyStopping(monitor="val_late_loss", patience=5, restore_best=True)],
)
run = trainer.fit(model, train, validation=test)

print(model.summary())
for name, value in trainer.evaluate(model, test).items():
    print(f"{name:15} {value:.3f}")
with TemporaryDirectory() as folder:
    save(run, Path(folder) / "flights")
    again = load_model(Path(folder) / "flights")
prediction = again.predict(test[0])
print({name: np.array_equal(output, model.predict(test[0])[name]) for name, output in prediction.items()})
