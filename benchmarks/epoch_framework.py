"""Train with Trainer; print as JSON the seconds of an epoch after the first one, and every epoch's loss.

    OPENBLAS_NUM_THREADS=1 python benchmarks/epoch_framework.py

The seconds include the check of the whole data that every call of fit or resume makes. step.py runs this.
"""

import json
import time

from epoch_data import BATCH, EPOCHS, RATE, SEED, epoch_data

from framework import CrossEntropy, Dense, ReLU, Sequential, SGDOptimizer, Softmax, Trainer

x, y, hidden, output = epoch_data()
model = Sequential(
    Dense.from_weights(hidden, activation=ReLU(), dtype="float32"),
    Dense.from_weights(output, activation=Softmax(), dtype="float32"),
)
trainer = Trainer(loss=CrossEntropy(), optimizer=SGDOptimizer(learning_rate=RATE), batch_size=BATCH, seed=SEED)
run = trainer.fit(model, (x, y), epochs=1)  # warm
start = time.perf_counter()
trainer.resume(run, (x, y), epochs=EPOCHS)
print(json.dumps([(time.perf_counter() - start) / EPOCHS, run.history.column("loss")]))
