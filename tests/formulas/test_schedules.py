import numpy as np
import pytest
from oracles import stored

from framework import (
    AdamOptimizer,
    CosineSchedule,
    Dense,
    MeanSquaredError,
    Neuron,
    Sequential,
    SGDOptimizer,
    Stream,
    Tanh,
    Trainer,
    load,
    on,
    save,
)
from framework.base.errors import ResumeWarning, SettingsError
from framework.base.settings.component import Component
from framework.formulas import (
    ConstantSchedule,
    CosineRestartsSchedule,
    ExponentialSchedule,
    InverseTimeSchedule,
    MultiStepSchedule,
    OneCycleSchedule,
    PolynomialSchedule,
    StepSchedule,
    WarmupSchedule,
)
from framework.formulas.schedules import Schedule

TWINS = {  # PyTorch's scheduler, and the same of ours
    "constant": ConstantSchedule(rate=0.3),
    "step": StepSchedule(initial=0.3, every=7, decay=0.5),
    "multi-step": MultiStepSchedule(initial=0.3, milestones=(3, 4, 20), decay=0.2),
    "exponential": ExponentialSchedule(initial=0.3, decay=0.97),
    "inverse time": InverseTimeSchedule(initial=0.3, decay=0.05),
    "polynomial, power 2.5": PolynomialSchedule(initial=0.3, length=31, power=2.5),
    "polynomial": PolynomialSchedule(initial=0.3, length=50),
    "cosine, final 0.01": CosineSchedule(initial=0.3, length=50, final=0.01),
    "cosine": CosineSchedule(initial=0.3, length=59),
    "one cycle": OneCycleSchedule(maximum=0.3, length=60),
    "one cycle, linear": OneCycleSchedule(
        maximum=0.3, length=61, rise=0.45, division=5.0, final_division=100.0, shape="linear"
    ),
    "restarts": CosineRestartsSchedule(initial=0.3, length=13, final=0.01),
    "restarts, growth 2": CosineRestartsSchedule(initial=0.3, length=5, growth=2),
    "restarts, growth 3": CosineRestartsSchedule(initial=0.3, length=4, growth=3, final=0.02),
    "warm-up, exponential": WarmupSchedule(schedule=ExponentialSchedule(initial=0.3, decay=0.97), length=9),
    "warm-up, cosine": WarmupSchedule(schedule=CosineSchedule(initial=0.3, length=51), length=9),
}
ALL = list(TWINS.values())


@pytest.mark.parametrize("twin", TWINS)
def test_the_rates_are_pytorchs(twin):
    expected = stored("schedules")[twin]["rates"]
    ours = [TWINS[twin](step) for step in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_one_cycle_stays_at_its_last_rate_where_pytorch_overshoots_and_fails():
    schedule = OneCycleSchedule(maximum=1.0, length=10)
    *rates, beyond = stored("schedules")["one cycle, beyond its end"]["rates"]
    assert len(rates) == 10
    assert schedule(9) == pytest.approx(rates[-1])
    assert schedule(10) == schedule(9) == schedule(10**9)
    assert beyond > 1000 * schedule(10)  # the update after the last, PyTorch's step 10
    assert "Tried to step 11 times" in str(stored("schedules")["one cycle, beyond its end"]["error"])


def test_a_cosine_stays_at_its_final_rate_where_pytorch_rises_again():
    schedule = CosineSchedule(initial=1.0, length=10, final=0.1)
    assert schedule(10) == schedule(11) == schedule(10**9) == 0.1
    assert stored("schedules")["cosine, beyond its end"]["rates"][15] > 0.5


def test_a_polynomial_ends_at_its_final_rate():
    schedule = PolynomialSchedule(initial=1.0, length=4, final=0.2)
    assert [schedule(step) for step in (0, 2, 4, 5, 10**9)] == [1.0, pytest.approx(0.6), 0.2, 0.2, 0.2]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_is_a_pure_function_with_plain_floats(schedule):
    steps = [0, 59, 3, 10**6, 3, 0, 59]
    rates = [schedule(step) for step in steps]
    assert rates == [schedule.replace()(step) for step in steps]
    assert all(type(rate) is float and rate >= 0 for rate in rates)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_its_json_gives_it_back(schedule):
    assert Component.from_json(schedule.to_json()) == schedule
    assert Schedule.from_json(schedule.to_json())(17) == schedule(17)


def test_an_optimizer_takes_the_rate_of_the_updates_made():
    neuron = Neuron.from_weights([0.0], train_bias=False)
    optimizer = SGDOptimizer(neuron, learning_rate=MultiStepSchedule(initial=1.0, milestones=(2,), decay=0.5))
    weights = []
    for _ in range(4):
        neuron.parameters.gradients["weights"][:] = -1.0
        optimizer.step()
        weights.append(float(neuron.weights[0]))
    assert weights == [1.0, 2.0, 2.5, 3.0]


def test_a_rate_that_overflows_is_refused_with_the_schedules_name():
    neuron = Neuron.from_weights([0.0], train_bias=False)
    optimizer = SGDOptimizer(neuron, learning_rate=ExponentialSchedule(initial=1.0, decay=1e200))
    optimizer.step()
    optimizer.step()
    with pytest.raises(SettingsError, match=r"ExponentialSchedule.*got inf"):
        optimizer.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantSchedule(rate=-0.1), "rate"),
        (lambda: StepSchedule(initial=0.1, every=0), "every"),
        (lambda: MultiStepSchedule(initial=0.1, milestones=(3, 3)), "must rise"),
        (lambda: MultiStepSchedule(initial=0.1, milestones=(0, 3)), "milestones"),
        (lambda: ExponentialSchedule(initial=0.0), "initial"),
        (lambda: InverseTimeSchedule(initial=0.1, decay=-1.0), "decay"),
        (lambda: PolynomialSchedule(initial=0.1, length=0), "length"),
        (lambda: CosineSchedule(initial=0.1, length=5, final=-0.1), "final"),
        (lambda: OneCycleSchedule(maximum=0.1, length=3), r"more than 1 / rise = 3\.33"),
        (lambda: OneCycleSchedule(maximum=0.1, length=30, rise=1.0), "rise"),
        (lambda: OneCycleSchedule(maximum=0.1, length=30, division=0.5), "division"),
        (lambda: CosineRestartsSchedule(initial=0.1, length=3, growth=0), "growth"),
        (lambda: WarmupSchedule(schedule=0.1, length=3), "schedule"),
    ],
)
def test_a_setting_out_of_range_is_refused(make, message):
    with pytest.raises(SettingsError, match=message):
        make()


X = np.random.default_rng(0).normal(size=(50, 3))
DATA = X, X.sum(axis=1, keepdims=True)
OPEN = {
    "cosine": (CosineSchedule(initial=0.01), CosineSchedule(initial=0.01, length=28)),
    "polynomial": (PolynomialSchedule(initial=0.01, power=2.0), PolynomialSchedule(initial=0.01, length=28, power=2.0)),
    "one cycle": (OneCycleSchedule(maximum=0.01), OneCycleSchedule(maximum=0.01, length=28)),
    "within a warm-up": (
        WarmupSchedule(schedule=CosineSchedule(initial=0.01), length=5),
        WarmupSchedule(schedule=CosineSchedule(initial=0.01, length=23), length=5),
    ),
}


def small(seed=0):
    return Sequential(Dense(3, 4, Tanh()), Dense(4, 1), seed=seed)


def trainer_at(rate, **settings):
    optimizer = AdamOptimizer(learning_rate=rate)
    return Trainer(loss=MeanSquaredError(), optimizer=optimizer, epochs=4, batch_size=8, **settings)


def vector(run):
    return run.model.parameters.vector


@pytest.mark.parametrize("engine", ["numpy", "compiled", "jax"])
@pytest.mark.parametrize("name", OPEN)
def test_a_schedule_without_a_length_takes_that_of_the_fit(name, engine):
    ours, twin = (trainer_at(rate, engine=engine).fit(small(), DATA) for rate in OPEN[name])
    assert vector(ours).tobytes() == vector(twin).tobytes()
    assert ours.history.columns()["learning_rate"].tolist() == twin.history.columns()["learning_rate"].tolist()
    assert ours.optimizer.learning_rate == OPEN[name][0]


@pytest.mark.parametrize("engine", ["numpy", "compiled", "jax"])
def test_a_resume_within_the_length_equals_one_long_run(engine, tmp_path):
    @on("batch_end")
    def cut(run):
        if run.step == 10:
            run.stop("enough")

    schedule = CosineSchedule(initial=0.01)
    long = trainer_at(schedule, engine=engine).fit(small(), DATA)
    trainer = trainer_at(schedule, engine=engine, callbacks=[cut])
    save(trainer.fit(small(), DATA), tmp_path / "run")
    run = trainer.resume(tmp_path / "run", DATA)
    assert run.epoch == 4
    assert vector(run).tobytes() == vector(long).tobytes()


def test_a_resume_beyond_the_length_is_refused_and_names_the_setting(tmp_path):
    trainer = trainer_at(CosineSchedule(initial=0.01))
    save(trainer.fit(small(), DATA, epochs=3), tmp_path / "run")
    run = load(tmp_path / "run")
    before = vector(run).tobytes(), vars(run.progress), run.optimizer.length
    with pytest.raises(SettingsError, match=r"'length'.* 21 updates; this resume ends after 28. Resume to epoch 3 at"):
        trainer.resume(run, DATA)
    assert (vector(run).tobytes(), vars(run.progress), run.optimizer.length) == before
    complete = trainer_at(CosineSchedule(initial=0.01)).replace(epochs=3)
    with pytest.warns(ResumeWarning, match="made its 3 epochs; its schedule ends there"):
        complete.resume(run, DATA)
    run.optimizer.learning_rate = 0.0001
    assert trainer.resume(run, DATA).epoch == 4


def test_many_models_take_the_length_of_their_fit():
    ours, twins = (trainer_at(rate, engine="compiled").fit_many([small(0), small(1)], DATA) for rate in OPEN["cosine"])
    assert [vector(run).tobytes() for run in ours] == [vector(run).tobytes() for run in twins]


def test_a_stream_of_unknown_length_needs_a_schedule_with_one():
    trainer, model, epochs = trainer_at(CosineSchedule(initial=0.01)), small(), [DATA] * 4
    with pytest.raises(SettingsError, match="a stream does not say how many rows it has"):
        trainer.fit(model, Stream(lambda epoch: [epochs[epoch]]))
    run = trainer.fit(model, Stream(lambda epoch: [epochs[epoch]], rows=50))
    assert run.optimizer.length == 28


def test_a_fit_that_is_too_short_for_its_schedule_is_refused_before_anything_changes():
    trainer, model = trainer_at(OneCycleSchedule(maximum=0.01, rise=0.01)), small()
    before = model.parameters.vector.copy()
    with pytest.raises(SettingsError, match=r"more than 1 / rise = 100.*got 28"):
        trainer.fit(model, DATA)
    warming = WarmupSchedule(schedule=CosineSchedule(initial=0.01), length=28)
    with pytest.raises(SettingsError, match=r"WarmupSchedule: .*'length' must be less than the 28 updates.*got 28"):
        trainer_at(warming).fit(model, DATA)
    assert model.parameters.vector.tobytes() == before.tobytes()


def test_a_schedule_without_a_length_says_that_a_loop_by_hand_gives_none():
    optimizer = SGDOptimizer(Neuron(1), learning_rate=CosineSchedule(initial=0.1))
    with pytest.raises(SettingsError, match=r"a loop by hand needs CosineSchedule\(\.\.\., length=1000\)"):
        optimizer.rate()
