"""The report of a run: its numbers are those of the run, nothing in it can run or load, and it draws in Chromium."""

import base64
import copy
import hashlib
import math
import re
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from browser import chromium, needs_chromium
from report_pieces import Page
from sklearn.metrics import confusion_matrix

from framework import (
    Accuracy,
    BinaryCrossEntropy,
    CrossEntropy,
    DataError,
    Dense,
    DivergedError,
    EarlyStopping,
    Heads,
    MeanSquaredError,
    Neuron,
    Preprocess,
    Sequential,
    SettingsError,
    SGDOptimizer,
    Sigmoid,
    Softmax,
    Standardize,
    Trainer,
    load,
    on,
    save,
)
from framework.formulas import ExponentialSchedule, OutputLosses
from framework.training import RecordNorms, TraceSteps
from framework.views.reports.page import POINTS, thin_curve

EVIL = """</script><script>alert("1")</script> 'a' & <b>"""


X = np.random.default_rng(0).normal(size=(60, 2))
Y = (X[:, 0] + 0.5 * X[:, 1] > 0).astype(int)
TRAIN, HELD_OUT = (X[:40], Y[:40]), (X[40:], np.where(np.arange(20) < 4, 1, Y[40:]))  # with some wrong labels


def trainer(*callbacks, **settings):
    default = {"loss": BinaryCrossEntropy(), "optimizer": SGDOptimizer(learning_rate=0.5), "batch_size": 8}
    return Trainer(**default | settings, callbacks=callbacks)


@pytest.fixture(scope="module")
def run():
    first = TraceSteps(limit=3, keep="first")
    name = on("epoch_end")(lambda run: run.history[-1].update({EVIL: 2.0}))
    fast = trainer(first, name, epochs=6, metrics=[Accuracy()], optimizer=SGDOptimizer(learning_rate=3.0))
    return fast.fit(Neuron(2, Sigmoid()), TRAIN, HELD_OUT)


def read(run, path, *arguments, **options):
    run.report(path, *arguments, **options)
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return read(run, tmp_path_factory.mktemp("report") / "report.html", HELD_OUT, classes=["low", EVIL], title=EVIL)


def test_curves_are_the_columns_of_the_history(run, page):
    assert [*page.charts] == ["loss", "accuracy", EVIL]
    for name, series in page.charts.items():
        keys = [key for key in (name, f"val_{name}") if key in run.history.keys]
        assert [curve["x"] for curve in series] == [run.history["epoch"]] * len(keys)
        for curve, key in zip(series, keys, strict=True):
            np.testing.assert_allclose(curve["y"], run.history[key], rtol=1e-6)
    assert [curve["name"] for curve in page.charts["loss"]] == ["training", "validation"]


def test_figures_are_those_of_the_last_and_the_best_epoch(run, page):
    rows = {row[0]: row[1:] for row in page.tables[0]}
    best = int(np.argmin(run.history["val_loss"]))
    last = run.history[-1]
    shown = [f"{value:.6g}" for value in (last["loss"], last["val_loss"])]
    assert rows["loss"][:2] == shown
    assert best < 5
    assert rows[""][:2] == ["last epoch, 6", f"best epoch, {best + 1}"]
    assert rows["loss"][2:] == [f"{run.history[best][key]:.6g}" for key in ("loss", "val_loss")]


def test_the_table_of_epochs_has_every_epoch_of_a_short_run(run, page):
    head, *rows = page.table("epoch", "seconds")
    assert head == [*run.history.keys]
    assert [row[head.index("val_loss")] for row in rows] == [f"{value:.6g}" for value in run.history["val_loss"]]


def test_the_confusion_matrix_is_that_of_scikit_learn(run, page):
    expected = confusion_matrix(HELD_OUT[1], run.model.classify(HELD_OUT[0]))
    head, *rows, precision = page.table("low", "recall")
    assert [[int(cell) for cell in row[1:3]] for row in rows] == expected.tolist()
    assert expected[0, 1] != expected[1, 0]
    assert head[1:3] == [rows[0][0], rows[1][0]] == ["low", EVIL]
    assert [row[-1] for row in rows] == [f"{expected[i, i] / expected[i].sum():.1%}" for i in range(2)]
    assert precision[1] == f"{expected[0, 0] / expected[:, 0].sum():.1%}"


def test_first_steps_are_those_that_trace_steps_has_recorded(run, page):
    recorded = run.memories["TraceSteps.0"]["steps"]
    rows = {row[0]: row[1:] for row in page.table("quantity", "step 3")}
    assert len(recorded) == 3
    assert rows["output"] == [f"{step['output'][0]:.6g}" for step in recorded]
    weights = [np.fromstring(text.strip("[]"), sep=",") for text in rows["new weights"]]
    np.testing.assert_allclose(weights, [step["new_weights"] for step in recorded], rtol=1e-5)


def test_the_first_steps_of_a_network_are_norms_by_parameter(tmp_path):
    trace = TraceSteps(limit=3, keep="first")
    network = trainer(trace).fit(Sequential(Dense(2, 3), Neuron(3, Sigmoid())), TRAIN)
    head, *rows = read(network, tmp_path / "report.html").table("quantity", "step 3")
    assert [row[0] for row in rows[:5]] == [
        "loss",
        "learning rate",
        "0.weights",
        "0.weights, gradient",
        "0.weights, increment",
    ]
    for place, step in enumerate(trace.steps(network), 1):
        assert rows[0][place] == f"{step.loss:.6g}"
        assert [row[place] for row in rows[2:5]] == [
            f"{each['0.weights']:.6g}" for each in (step.weights, step.gradients, step.increments)
        ]
    assert (len(head), len(rows)) == (4, 2 + 3 * 4)


def test_the_newest_steps_of_a_longer_run_are_not_shown_as_the_first(tmp_path):
    run = trainer(TraceSteps(limit=3), epochs=6).fit(Neuron(2, Sigmoid()), TRAIN)
    assert "The first steps" not in read(run, tmp_path / "report.html").text


def hashed(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_the_page_s_own_scripts_and_styles_alone(page):
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'",
        "style-src": hashed(page.raw["style"][0]),
        "script-src": " ".join(map(hashed, page.raw["script"][1:])),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert "MIT License" in page.raw["script"][1]


def test_nothing_in_the_page_loads_or_runs_by_an_attribute(page):
    names = {name for _, attributes in page.elements for name in attributes}
    assert not names & {"style", "src", "srcset", "action"}
    assert not [name for name in names if name.startswith("on")]
    assert [a["href"] for _, a in page.elements if "href" in a] == ["data:,"]


def test_names_of_users_stay_text(page):
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 3
    assert "b" not in tags
    assert "alert(" not in "".join(page.raw["script"][1:])
    assert EVIL in page.table("low", "recall")[0]


def test_columns_of_a_table_are_shown_with_what_they_become_and_stay_text(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({EVIL: ["a", '"><i>', "a", "b"], "size": [1.0, 2.0, 3.0, 4.5], "late": [0, 1, 0, 1]})
    preprocess = Preprocess.of(table, target="late").replace(
        columns={EVIL: Preprocess.of(table, "late").columns[0][1], "size": [Standardize()]}
    )
    model = Neuron(activation=Sigmoid())
    run = trainer(preprocess=preprocess, batch_size=2).fit(model, (table, "late"))
    page = read(run, tmp_path / "report.html", (table, "late"))
    assert {"script", "i", "b"} & {tag for tag, _ in page.elements} == {"script"}
    head, *rows = page.table("column", "becomes")
    assert head == ["column", "kind", "steps", "becomes"]
    assert [row[:2] for row in rows] == [[EVIL, "text"], ["size", "number"], ["late", rows[2][1]]]
    assert ", ".join(row[3] for row in rows[:2]) == ", ".join(model.preprocess.names)
    assert rows[1][2].startswith("Standardize(mean=[2.625], scale=[1.29301]")  # 1.29301... with six digits


def test_a_file_that_is_not_a_report_is_kept(run, tmp_path):
    path = tmp_path / "thesis.html"
    path.write_text("<html>years of work</html>")
    with pytest.raises(SettingsError, match=r"report: '.*thesis.html' exists, and is not a report; give another path"):
        run.report(path)
    assert "years" in path.read_text()
    run.report(tmp_path / "report.html")
    run.report(tmp_path / "report.html", title="again")
    assert "<h1>again</h1>" in (tmp_path / "report.html").read_text()
    with pytest.raises(SettingsError, match=r"missing/report\.html' cannot be written: No such file"):
        run.report(tmp_path / "missing" / "report.html")


def test_a_report_without_validation_data_says_why_it_has_no_confusion_matrix(run, tmp_path):
    path = tmp_path / "report.html"
    run.report(path)
    text = '<h2>Confusion matrix</h2>\n<p class="soft">It is counted on validation data: write run.report(path, '
    assert text in path.read_text()
    run.report(path, HELD_OUT)
    assert "It is counted" not in path.read_text()
    trainer(loss=MeanSquaredError()).fit(Neuron(2), TRAIN).report(path)
    assert "Confusion matrix" not in path.read_text()
    with pytest.raises(DataError, match=r"got DataFrame; write validation=\(table, 'target'\), with the name"):
        run.report(path, pd.DataFrame({"x": [1.0]}))


def test_validation_data_is_refused_where_there_are_no_classes(run, tmp_path):
    path = tmp_path / "report.html"
    fitted = trainer(loss=MeanSquaredError()).fit(Neuron(2), TRAIN)
    with pytest.raises(SettingsError, match=r"confusion matrix of a model that ends in Softmax.*leave it out"):
        fitted.report(path, HELD_OUT)
    with pytest.raises(SettingsError, match="'classes' must have 2 names, one a class; got"):
        run.report(path, HELD_OUT, classes=["low", "middle", "high"])
    with pytest.raises(DataError, match="target"):
        run.report(path, (HELD_OUT[0], np.full(20, 0.5)))
    assert not path.exists()


def test_each_output_of_classes_has_its_confusion_matrix(tmp_path):
    heads = Heads(side=Neuron(2, Sigmoid()), size=Neuron(2), third=Dense(2, 3, Softmax()))
    third = np.arange(60) % 3
    y = {"side": Y, "size": X[:, 1], "third": third}
    loss = OutputLosses(side=BinaryCrossEntropy(), size=MeanSquaredError(), third=CrossEntropy())
    page = read(trainer(loss=loss).fit(heads, (X, y)), tmp_path / "report.html", (X, y))
    assert re.findall("<h2>(Confusion.*?)</h2>", page.text) == [f"Confusion matrix of {n}" for n in ("side", "third")]
    for table, target in zip([rows for rows in page.tables if "recall" in rows[0]], ("side", "third"), strict=True):
        predicted = heads(X)[target]
        predicted = predicted > 0.5 if target == "side" else predicted.argmax(axis=1)
        counts = [[int(cell) for cell in row[1:-2]] for row in table[1:-1]]
        assert counts == confusion_matrix(y[target], predicted).tolist()
    with pytest.raises(SettingsError, match="'classes' is for one output; the model has side, third; leave it out"):
        read(trainer(loss=loss).fit(heads, (X, y)), tmp_path / "report.html", (X, y), classes=["a", "b"])


def test_the_commonest_confusions_of_many_classes_are_listed(tmp_path):
    y = np.arange(90) % 30
    x = np.eye(30)[np.where(np.arange(90) < 5, 29, y)]
    run = trainer(loss=CrossEntropy(), epochs=200, optimizer=SGDOptimizer(learning_rate=5.0)).fit(
        Dense(30, 30, Softmax()), (np.eye(30)[y], y)
    )
    rows = read(run, tmp_path / "report.html", (x, y)).table("true class", "share of the class")
    assert rows[1:] == [[str(n), "29", "1", "33.3%"] for n in range(5)]


def test_an_error_that_ended_the_run_is_shown(tmp_path):
    wild = trainer(loss=MeanSquaredError(), epochs=99, optimizer=SGDOptimizer(learning_rate=50.0))
    with pytest.raises(DivergedError) as caught:
        wild.fit(Neuron(2), TRAIN)
    page = read(caught.value.run, tmp_path / "report.html")
    assert '<p class="alarm">DivergedError: ' in page.text
    assert caught.value.__notes__[0] in page.text
    assert page.charts["loss"][0]["y"] == [float(f"{loss:.7g}") for loss in caught.value.run.history["loss"]]


def test_an_ordinary_stop_is_no_alarm(tmp_path):
    stop = on("epoch_end")(lambda run: run.stop("this is enough"))
    page = read(trainer(stop, epochs=9).fit(Neuron(2, Sigmoid()), TRAIN), tmp_path / "report.html")
    assert '<p class="note">Stopped: this is enough</p>' in page.text
    assert 'class="alarm"' not in page.text


def test_a_learning_rate_has_a_chart_where_a_run_changes_it(run, tmp_path):
    falling = trainer(epochs=3, optimizer=SGDOptimizer(learning_rate=ExponentialSchedule(initial=0.5, decay=0.9)))
    others = {"falling": falling.fit(Neuron(2, Sigmoid()), TRAIN)}
    page = read(run, tmp_path / "report.html", title="constant", others=others)
    assert [curve["name"] for curve in page.charts["learning_rate"]] == [
        f"{name}: learning_rate" for name in ("constant", "falling")
    ]


def test_a_run_without_epochs_has_a_report(tmp_path):
    stop = on("batch_end")(lambda run: run.stop("at once"))
    page = read(trainer(stop).fit(Neuron(2, Sigmoid()), TRAIN), tmp_path / "report.html")
    assert "No epoch has been finished." in page.text
    assert "Stopped: at once" in page.text
    assert page.charts == {}


def test_a_run_can_report_while_it_trains_and_from_its_checkpoint(tmp_path):
    path = tmp_path / "report.html"
    reporting = on("epoch_end", every=2)(lambda run: run.report(path))
    run = trainer(reporting, epochs=4).fit(Neuron(2, Sigmoid()), TRAIN)
    assert len(Page(path.read_text()).charts["loss"][0]["y"]) == 4
    save(run, tmp_path / "run.safetensors")
    page = read(load(tmp_path / "run.safetensors"), path)
    assert len(page.charts["loss"][0]["y"]) == 4


def test_runs_are_compared_by_the_optimizers_that_they_began_with(tmp_path):
    @on("epoch_end")
    def halve(run):
        run.optimizer.learning_rate /= 2

    plain, halved, fast = (
        trainer(*callbacks, optimizer=SGDOptimizer(learning_rate=rate)).fit(Neuron(2, Sigmoid()), TRAIN)
        for rate, callbacks in ((0.5, ()), (0.5, [halve]), (0.75, [halve]))
    )
    rows = [row[0] for row in read(plain, tmp_path / "report.html", others={"halved": halved}).tables[0]]
    assert any("halve" in name for name in rows)
    assert "optimizer" not in rows
    rows = {row[0]: row[1:] for row in read(plain, tmp_path / "report.html", others={"fast": fast}).tables[0]}
    assert [text.partition(",")[0] for text in rows["optimizer"]] == [
        f"SGDOptimizer(learning_rate={rate}" for rate in (0.5, 0.75)
    ]


def test_other_runs_are_shown_side_by_side(run, tmp_path):
    wide = trainer(epochs=3).fit(Sequential(Dense(2, 3), Neuron(3, Sigmoid())), TRAIN, HELD_OUT)
    page = read(run, tmp_path / "report.html", HELD_OUT, title="neuron", others={"wide": wide})
    rows = {row[0]: row[1:] for row in page.tables[0]}
    assert rows[""] == ["neuron", "wide"]
    assert rows["model"] == [repr(run.model), repr(wide.model)]
    assert rows["optimizer"] == [repr(each.optimizer.recipe) for each in (run, wide)]
    assert "loss" in rows
    assert "batch_size" not in rows
    assert rows["val_loss"] == [f"{each.history[-1]['val_loss']:.6g}" for each in (run, wide)]
    assert rows["accuracy"][1] == ""
    assert [curve["name"] for curve in page.charts["loss"]] == [
        f"{name}: {kind}" for name in ("neuron", "wide") for kind in ("training", "validation")
    ]
    assert len([rows for rows in page.tables if "recall" in rows[0]]) == 2
    for others in ({"neuron": wide}, {"wide": wide.history}, [wide], {3: wide}):
        with pytest.raises(SettingsError, match=r"argument 'others' must be .*a dict of runs by names other than"):
            run.report(tmp_path / "report.html", title="neuron", others=others)
    with pytest.raises(SettingsError, match="argument 'classes' is for the confusion matrix; give validation data"):
        run.report(tmp_path / "report.html", classes=["left", "right"])
    for path, title, name in ((None, "neuron", "path"), (tmp_path / "report.html", 3, "title")):
        with pytest.raises(SettingsError, match=f"report: argument '{name}' must be"):
            run.report(path, title=title)


def test_the_figures_side_by_side_are_of_the_epoch_of_the_final_weights(run, tmp_path):
    stopping = EarlyStopping(monitor="val_loss", patience=2, restore_best=True)
    restored = trainer(stopping, epochs=30, optimizer=SGDOptimizer(learning_rate=30.0)).fit(
        Neuron(2, Sigmoid()), TRAIN, HELD_OUT
    )
    best = int(np.argmin(restored.history["val_loss"]))
    page = read(run, tmp_path / "report.html", title="run", others={"restored": restored})
    rows = {row[0]: row[1:] for row in page.tables[0]}
    assert best + 1 < restored.epoch
    assert (rows["epochs"], rows["epoch"]) == (["6", str(restored.epoch)], ["6", str(best + 1)])
    assert rows["loss"] == [f"{each:.6g}" for each in (run.history[-1]["loss"], restored.history[best]["loss"])]
    assert rows["complete"] == ["yes", "yes"]
    assert f"The weights are those of epoch {best + 1}." in page.text


def test_figures_that_are_not_finite_are_gaps(tmp_path):
    spoil = on("epoch_end")(lambda run: run.history[-1].update(odd=[np.nan, np.inf, 1.0][run.epoch - 1]))
    late = on("epoch_end")(lambda run: run.history[-1].update(late=7.0) if run.epoch == 3 else None)
    page = read(trainer(spoil, late, epochs=3).fit(Neuron(2, Sigmoid()), TRAIN), tmp_path / "report.html")
    assert page.charts["odd"][0]["y"] == [None, None, 1.0]
    assert (page.charts["late"][0]["x"], page.charts["late"][0]["y"]) == ([3], [7.0])
    column = page.table("epoch", "odd")[0].index("odd")
    assert [row[column] for row in page.table("epoch", "odd")[1:]] == ["nan", "inf", "1"]


def test_norms_of_all_layers_are_one_chart(tmp_path):
    model = Sequential(Dense(2, 3), Neuron(3, Sigmoid()))
    page = read(trainer(RecordNorms(), epochs=2).fit(model, TRAIN), tmp_path / "report.html")
    assert [curve["name"] for curve in page.charts["gradient_norm"]] == ["0", "1"]
    assert {"gradient_norm", "weight_norm"} < {*page.charts}
    assert "gradient_norm_0" not in page.charts


def test_a_long_curve_keeps_its_ends_its_peaks_and_its_gaps():
    y = np.sin(np.arange(50_000) / 3000)
    y[[123, 40_001]] = 9.0, -9.0
    y[25_000] = np.nan
    x, kept = thin_curve(range(1, 50_001), y.tolist())
    assert len(x) <= POINTS
    assert (x[0], x[-1]) == (1, 50_000)
    assert kept == [None if math.isnan(y[at - 1]) else float(f"{y[at - 1]:.7g}") for at in x]
    assert {124, 25_001, 40_002} <= {*x}
    for start in range(0, 50_000, 500):  # within a tenth of a percent of the chart, the envelope is that of all points
        inside = [v for at, v in zip(x, kept, strict=True) if start < at <= start + 500 and v is not None]
        whole = y[start : start + 500]
        assert max(inside) == pytest.approx(np.nanmax(whole), abs=0.03)


def test_a_report_of_10_000_epochs_is_small_and_says_that_it_is_thinned(run, tmp_path):
    long, row = copy.deepcopy(run), dict(run.history[-1])
    for epoch in range(7, 10_001):
        long.history.append(row | {"epoch": epoch, "loss": row["loss"] + 0.1 * math.sin(epoch)})
    page = read(long, tmp_path / "report.html")
    assert len(page.text) < 400_000
    assert "Curves of more than 2,000 epochs are thinned" in page.text
    assert "Table of 100 of 10,000 epochs" in page.text
    assert page.table("epoch", "seconds")[-1][0] == "10,000"


def test_vendored_files_are_those_that_their_page_names():
    folder = files("framework.views.reports")
    listed = re.findall(r"\| `(\S+)` \| ([0-9a-f]{64}) \|", folder.joinpath("README.md").read_text())
    assert len(listed) == 3
    for name, digest in listed:
        assert hashlib.sha256(folder.joinpath(name).read_bytes()).hexdigest() == digest


@needs_chromium
def test_chromium_draws_every_curve_without_an_error_or_a_request(page, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page.text, encoding="utf-8")
    done = chromium(path.as_uri())
    assert 'data-drawn="3"' in done.stdout
    assert done.stdout.count("<canvas") == 3
    assert "CONSOLE" not in done.stderr
    assert "b" not in [tag for tag, _ in Page(done.stdout).elements]  # the name of a curve stays text


@needs_chromium
def test_the_ticks_of_a_log_scale_are_the_powers_that_they_stand_at(run, tmp_path):
    long, row = copy.deepcopy(run), dict(run.history[-1])
    for epoch in range(7, 15):
        long.history.append(row | {"epoch": epoch, "loss": 10.0 ** (3 - epoch), "val_loss": 10.0 ** (3 - epoch)})
    page = read(long, tmp_path / "report.html").text
    policy = re.search('<meta http-equiv="Content-Security-Policy"[^>]*>', page)[0]
    noted = (
        "<script>const texts = []; CanvasRenderingContext2D.prototype.fillText = (text) => texts.push(text);</script>"
    )
    told = "<script>setTimeout(() => { document.title = texts.join(' '); });</script></body>"
    (tmp_path / "noting.html").write_text(page.replace(policy, noted).replace("</body>", told), encoding="utf-8")
    title = re.search("<title>(.*)</title>", chromium((tmp_path / "noting.html").as_uri()).stdout)[1]
    texts = title.split(" ")
    assert {"0.01", "1e-6", "1e-8"} <= {*texts}
    assert len([text for text in texts if text == "0"]) <= 2  # of accuracy and the learning rate
