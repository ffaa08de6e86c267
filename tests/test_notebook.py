"""A notebook is executed, and shows a table or a formula for each object that has one."""

import nbclient
import nbformat
import pytest
from notebook_pieces import text_of

CELLS = {
    "start": """
import numpy as np
import pandas as pd
from framework import *
from framework.formulas import *
from framework.preprocessing import *

x = np.linspace(-1, 1, 16)[:, None]
model = Sequential(Dense(1, 3, Tanh()), Residual(Dense(3, 3)), Neuron(3))
trainer = Trainer(loss=HalfSquaredError(), optimizer=SGDOptimizer(learning_rate=0.1), epochs=30)
run = trainer.fit(model, (x, x[:, 0] ** 2), (x, x[:, 0] ** 2))
cities, late = ["<b>", "&", "Rome"], ["n", "y", "n"]
table = pd.DataFrame({"<script>alert(1)</script>": [1.0, 2.0, 4.0], "city": cities, "late": late})
recipe = Preprocess(columns={"<number>": [Log(), Standardize()], "<text>": [OneHot()]}, target=[Classes()])
""",
    "model": "model",
    "open model": "Sequential(Dense(units=3), ReLU(), LayerNorm(3))",
    "run": "run",
    "history": "run.history",
    "activation": "Swish(beta=2.0)",
    "loss": "HalfSquaredError()",
    "shown layer": "show(Dense(2, 3, Tanh()))",
    "step": "trace_step(Neuron.from_weights([0.1, 0.2], activation=Sigmoid()), [1.0, 1.0], 5.0)",
    "printed step": "print(trace_step(Neuron.from_weights([0.1, 0.2], activation=Sigmoid()), [1.0, 1.0], 5.0))",
    "recipe": "recipe",
    "fitted": "recipe.fit((table, 'late'))",
    "gradients": "check_gradients(model, HalfSquaredError(), x[:4], x[:4, 0])",
    "wrong": """
class Wrong(Activation):
    beta: float = 1.0

    def __call__(self, h):
        return h / (1 + np.exp(-self.beta * h))

    def derivative(self, h):
        return 1 / (1 + np.exp(-self.beta * h))

Dense(2, 3, Wrong(beta=2.0))
""",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Return the outputs of each cell."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    cells[-1].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))  # not the user's settings and history
        nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    return dict(zip(CELLS, (cell.outputs for cell in notebook.cells), strict=True))


def page(outputs):
    (output,) = outputs
    return text_of(output["data"]["text/html"])


def test_a_model_unfolds_to_its_layers(shown):
    text = page(shown["model"])
    assert text[:2] == ["Sequential", " 22 parameters, 22 trainable"]
    assert {"0 Dense(Tanh)", "(rows, 3)", "1 Residual", "1.block.0 Dense(Identity)", "12"} <= {*text}
    assert text[text.index("activation") + 1] == "Tanh()"
    assert text[text.index("weights") + 1] == "(1, 3)"
    text = page(shown["open model"])
    assert text[1] == " its number of inputs is not known yet"
    assert {"0 Dense", "1 ReLU", "2 LayerNorm"} <= {*text}


def test_a_run_shows_its_history_its_model_and_its_settings(shown):
    text = page(shown["run"])
    assert text[:2] == ["Run", " 30 of 30 epochs, 30 steps, engine numpy"]
    assert {"model", "settings"} <= {*text}
    assert text[text.index("loss", text.index("settings")) + 1] == "HalfSquaredError()"
    assert {"1", "5", "...", "26", "30", "val_loss"} <= {*page(shown["history"])}
    assert page(shown["history"])[-1].startswith("bold: the lowest val_loss, in row ")


def test_formulas_are_drawn_with_their_derivative(shown):
    for cell in ("activation", "loss", "shown layer"):
        (output,) = shown[cell]
        latex = output["data"]["text/latex"]
        assert latex.startswith(r"$$\begin{aligned}")
        assert "text/html" not in output["data"]
    (output,) = shown["activation"]
    assert r"f'(h) &= " in output["data"]["text/latex"]


def test_a_step_is_a_table_also_when_it_is_printed(shown):
    text = page(shown["step"])
    assert text[text.index("output f(h)") + 1] == "0.574442516811659"
    (output,) = shown["printed step"]
    assert "output f(h)     0.574442516811659\n" in output["text"]


def test_preprocessing_shows_each_column_with_its_text_escaped(shown):
    assert page(shown["recipe"])[2:5] == ["column", "<number>", "Log(), Standardize()"]
    text = page(shown["fitted"])
    assert text[4:6] == ["<script>alert(1)</script>", "number"]
    assert "city=&, city=<b>, city=Rome" in text


@pytest.mark.share(1 / 3)
def test_checked_gradients_are_a_table(shown):
    text = page(shown["gradients"])
    assert {"parameter", "0.weights", "x", "passed, tolerance 1e-05"} <= {*text}


@pytest.mark.share(1 / 3)
def test_a_wrong_derivative_takes_a_few_lines(shown):
    (output,) = shown["wrong"]
    assert output["ename"] == "DerivativeError"
    lines = "\n".join(output["traceback"]).splitlines()
    assert len(lines) <= 8, lines
    assert lines[0].endswith("in <module>")
    assert "Dense(2, 3, Wrong(beta=2.0))" in lines[1]
    assert any("Wrong.derivative is wrong at h" in line for line in lines)
