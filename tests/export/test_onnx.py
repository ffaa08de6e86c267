"""ONNX Runtime computes with an exported file what the model computes."""

import numpy as np
import onnxruntime
import pytest

from framework import AdamOptimizer, CrossEntropy, Dense, ReLU, Sequential, Softmax, Trainer, export_onnx
from framework.datasets import load_digits


def session(model, folder, **settings):
    path = folder / "model.onnx"
    export_onnx(model, path, **settings)
    return onnxruntime.InferenceSession(path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digits_have_the_classes_of_the_model(tmp_path, dtype):
    x, y = load_digits()
    x = x / 16
    model = Sequential(Dense(64, 32, ReLU()), Dense(32, 10, Softmax()))
    optimizer = AdamOptimizer(learning_rate=0.003)
    Trainer(loss=CrossEntropy(), optimizer=optimizer, epochs=3).fit(model, (x, y))
    run = session(model, tmp_path, dtype=dtype, classes=[f"digit {n}" for n in range(10)])
    output, label = run.run(None, {"x": x.astype(dtype)})
    np.testing.assert_allclose(output, model(x), rtol=0, atol=1e-6 if dtype == "float32" else 1e-14)
    assert label.tolist() == [f"digit {n}" for n in model.classify(x)]
