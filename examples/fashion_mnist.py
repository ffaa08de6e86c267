"""A network of two layers tells shirts from shoes: Fashion-MNIST, 60,000 images of 28 x 28 pixels and 10,000 to test.

    python examples/fashion_mnist.py FOLDER

FOLDER holds the four idx files, gzipped or not. Debian packages them; this opens the package without installing it:

    apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion
    python examples/fashion_mnist.py fashion/usr/share/datasets/fashion-mnist

The mean training image is subtracted from every image; with that the mean test accuracy of 12 seeds is 0.881, without
it 0.867.

The data is from Xiao, Rasul and Vollgraf, Fashion-MNIST (2017), https://arxiv.org/abs/1708.07747.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

from framework import Accuracy, CrossEntropy, Dense, ProgressBar, ReLU, Sequential, SGDOptimizer, Softmax, Trainer


def read_idx(folder, name):
    """Return the array of an idx file: two zero bytes, the dtype, the number of axes, their sizes, the values."""
    path = folder / name
    content = path.read_bytes() if path.exists() else gzip.decompress((folder / f"{name}.gz").read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path} is no idx file of unsigned bytes")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", count=axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def read_part(folder, part):
    """Return (x, y) of "train" or "t10k": a row of 784 pixels in [0, 1] and a class for each image."""
    images = read_idx(folder, f"{part}-images-idx3-ubyte")
    x = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return x, read_idx(folder, f"{part}-labels-idx1-ubyte")


def network(seed):
    """Return an untrained network."""
    return Sequential(Dense(784, 128, ReLU()), Dense(128, 10, Softmax()), seed=seed, dtype="float32")


def main():
    """Print the test accuracy of each seed, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the four idx files are")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="runs: seeds 0, 1, ... (default: 3)")
    options = parser.parse_args()
    (x, y), (x_test, y_test) = read_part(options.folder, "train"), read_part(options.folder, "t10k")
    mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    train, test = (x - mean, y), (x_test - mean, y_test)
    print(network(0).summary(), "\n")
    accuracies = []
    for seed in range(options.seeds):
        trainer = Trainer(
            loss=CrossEntropy(),
            optimizer=SGDOptimizer(learning_rate=0.05, momentum=0.9),
            epochs=options.epochs,
            batch_size=64,
            seed=seed,
            metrics=[Accuracy()],
            callbacks=[ProgressBar()],
        )
        model = network(seed)
        run = trainer.fit(model, train)
        accuracies.append(trainer.evaluate(model, test)["accuracy"])
        seconds = np.mean(run.history.column("seconds"))
        print(f"seed {seed}: test accuracy {accuracies[-1]:.4f}, {seconds:.2f} s an epoch")
    print(f"mean test accuracy {np.mean(accuracies):.4f}")


if __name__ == "__main__":
    main()
