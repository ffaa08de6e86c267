"""Train with PyTorch eager; print as JSON the seconds of an epoch after the first one, and every epoch's loss.

    OMP_NUM_THREADS=1 python benchmarks/epoch_torch.py 1

The argument is the number of threads. The tensors are indexed in the order of Trainer's epochs. step.py runs this.
"""

import json
import sys
import time

import torch
from epoch_data import BATCH, CLASSES, EPOCHS, INPUTS, RATE, ROWS, SEED, UNITS, epoch_data

from framework.data import permutation

torch.set_num_threads(int(sys.argv[1]))
x, y, hidden, output = map(torch.from_numpy, epoch_data())
model = torch.nn.Sequential(torch.nn.Linear(INPUTS, UNITS), torch.nn.ReLU(), torch.nn.Linear(UNITS, CLASSES))
with torch.no_grad():
    for layer, weights in ((model[0], hidden), (model[2], output)):
        layer.weight.copy_(weights.T)
        layer.bias.zero_()
loss_function = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=RATE)


def train(epoch):
    """Make one pass over the data, and return its mean loss."""
    order = torch.from_numpy(permutation(ROWS, SEED, epoch))
    total = 0.0
    for first in range(0, ROWS, BATCH):
        rows = order[first : first + BATCH]
        loss = loss_function(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / ROWS


losses = [train(0)]  # warm
start = time.perf_counter()
losses += [train(epoch) for epoch in range(1, EPOCHS + 1)]
print(json.dumps([(time.perf_counter() - start) / EPOCHS, losses]))
