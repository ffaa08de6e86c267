"""Steps of optimizers, learning rates, first weights, and PyTorch's refusals."""

from itertools import pairwise, product

import numpy as np
import torch
from torch.nn import functional
from torch.optim import lr_scheduler

# Optimizers

# With these rates and first weights training is not chaotic: a change of the weights by 1e-15 stays below 1e-11.
OPTIMIZERS = {
    "Adam": (torch.optim.Adam, {}),
    "Adam, other settings": (torch.optim.Adam, {"lr": 0.002, "betas": (0.8, 0.95), "eps": 1e-4}),
    "Adam, decay": (torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "Adam, no momentum": (torch.optim.Adam, {"lr": 0.01, "betas": (0.0, 0.999)}),
    "AdamW": (torch.optim.AdamW, {}),
    "AdamW, other settings": (torch.optim.AdamW, {"lr": 0.002, "betas": (0.8, 0.95), "weight_decay": 0.5}),
    "AdamW, no decay": (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}),
    "NAdam": (torch.optim.NAdam, {}),
    "NAdam, other settings": (torch.optim.NAdam, {"lr": 0.002, "betas": (0.8, 0.95), "momentum_decay": 0.1}),
    "NAdam, decay": (torch.optim.NAdam, {"lr": 0.01, "weight_decay": 0.1}),
    "NAdam, momentum decay": (torch.optim.NAdam, {"lr": 0.001, "betas": (0.5, 0.999), "momentum_decay": 1.0}),
    "RMSprop": (torch.optim.RMSprop, {}),
    "RMSprop, momentum": (torch.optim.RMSprop, {"lr": 0.0005, "alpha": 0.9, "momentum": 0.9, "eps": 1e-6}),
    "RMSprop, centered": (torch.optim.RMSprop, {"centered": True, "eps": 1e-3}),
    "RMSprop, all": (
        torch.optim.RMSprop,
        {"lr": 0.001, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 1e-3},
    ),
    "Adagrad": (torch.optim.Adagrad, {}),
    "Adagrad, other settings": (
        torch.optim.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.1, "weight_decay": 0.1, "eps": 1e-6},
    ),
    "Adagrad, rate decay": (torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.02}),
    "Adadelta": (torch.optim.Adadelta, {}),
    "Adadelta, other settings": (torch.optim.Adadelta, {"lr": 0.5, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.1}),
}
STEPS = (1, 2, 3, 10, 50, 200)
SCALES = np.logspace(-4, 4, 9)  # curvatures of the quadratic 1/2 sum(s w^2)
QUADRATIC = np.where(np.arange(9) % 2, -1.0, 1.0) * np.linspace(0.5, 2.0, 9)


class Network:
    """Dense layers on one list of weights (inputs, units) and biases."""

    def __init__(self, sizes, activations, start):
        self.activations, self.parameters, place = activations, [], 0
        for inputs, units in pairwise(sizes):
            for shape in ((inputs, units), (units,)):
                value = start[place : place + int(np.prod(shape))].reshape(shape)
                self.parameters.append(torch.tensor(value, requires_grad=True))
                place += value.size
        assert place == start.size

    def __call__(self, x):
        for i, activation in enumerate(self.activations):
            x = activation(x @ self.parameters[2 * i] + self.parameters[2 * i + 1])
        return x

    def vector(self):
        return np.concatenate([value.detach().numpy().ravel() for value in self.parameters])


def linear(h):
    return h


def training(parameters, kind, settings, loss, vector):
    """Return the parameters after each number of STEPS."""
    optimizer, vectors = kind(parameters, **settings), []
    for step in range(1, max(STEPS) + 1):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        if step in STEPS:
            vectors.append(vector().copy())
    return np.array(vectors)


def optimizers():
    rng = np.random.default_rng(0)
    x, y, start = (
        rng.normal(size=(16, 3)),
        rng.normal(size=(16, 2)),
        np.random.default_rng(31).normal(scale=0.4, size=50),
    )
    cases = {
        "steps": {"steps": np.array(STEPS)},
        "network": {"x": x, "y": y, "start": start},
        "quadratic": {"scales": SCALES, "start": QUADRATIC},
    }
    for name, (kind, settings) in OPTIMIZERS.items():
        net = Network((3, 8, 2), (torch.tanh, linear), start)
        w = torch.tensor(QUADRATIC, requires_grad=True)
        cases[name] = {
            "network": training(
                net.parameters,
                kind,
                settings,
                lambda net=net: functional.mse_loss(net(torch.from_numpy(x)), torch.from_numpy(y)),
                net.vector,
            ),
            "quadratic": training(
                [w], kind, settings, lambda w=w: (0.5 * torch.from_numpy(SCALES) * w * w).sum(), w.detach().numpy
            ),
        }
    w, gradients = torch.ones(50, requires_grad=True), np.logspace(-3, 3, 50)
    optimizer = torch.optim.RMSprop([w], lr=1e-12, alpha=0.5, centered=True)
    for _ in range(200):
        w.grad = torch.from_numpy(gradients.copy())
        optimizer.step()
    cases["RMSprop, constant gradient"] = {"gradients": gradients, "weights": w.detach().numpy()}
    return cases


def clip_by_norm(parameters):  # PyTorch's own divides by norm + 1e-6
    norm = torch.sqrt(sum((value.grad**2).sum() for value in parameters))
    for value in parameters:
        value.grad *= min(1.0, 0.05 / norm.item())


SGD = {
    "plain": ({}, None),
    "momentum": ({"momentum": 0.9}, None),
    "nesterov": ({"momentum": 0.9, "nesterov": True}, None),
    "decay": ({"weight_decay": 0.02}, None),
    "decay and momentum": ({"momentum": 0.5, "weight_decay": 0.02}, None),
    "clip norm": ({}, clip_by_norm),
    "clip value": ({}, lambda parameters: torch.nn.utils.clip_grad_value_(parameters, 0.01)),
}


def sgd():
    """50 steps on softmax classifiers of 1 to 4 layers, with batches of many sizes.

    The batches of all cases are in "data": rows of x and y, filled up with -1.
    """
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(12, 5)), rng.integers(0, 3, 12)
    batches = np.full((50, 12), -1)
    for step, batch in enumerate(batches):
        size = 5 + step % 8
        batch[:size] = rng.permutation(12)[:size]
    cases = {"data": {"x": x, "y": y, "batches": batches}}
    for depth in (1, 2, 3, 4):
        sizes = [*[5, 7, 6, 4][:depth], 3]
        start = np.concatenate(
            [np.append(rng.normal(size=i * u) / np.sqrt(i), np.zeros(u)) for i, u in pairwise(sizes)]
        )
        for name, (settings, clip) in SGD.items():
            activations = [*[torch.tanh, torch.relu, torch.sigmoid][: depth - 1], linear]
            net, losses = Network(sizes, activations, start), []
            optimizer = torch.optim.SGD(net.parameters, lr=0.1, **settings)
            for batch in batches:
                rows = batch[batch >= 0]
                optimizer.zero_grad()
                loss = functional.cross_entropy(net(torch.from_numpy(x[rows])), torch.from_numpy(y[rows]))
                loss.backward()
                if clip:
                    clip(net.parameters)
                optimizer.step()
                losses.append(loss.item())
            cases[f"{name} depth={depth}"] = {"start": start, "losses": np.array(losses), "end": net.vector()}
    return cases


def clipping():
    gradient = np.random.default_rng(0).normal(size=66)
    value = torch.zeros(66, requires_grad=True)
    value.grad = torch.from_numpy(gradient.copy())
    torch.nn.utils.clip_grad_norm_([value], 0.5)
    return {"norm": {"gradient": gradient, "clipped": value.grad.numpy()}}


# Learning rates


def rates_of(make, initial, steps):
    """Return the rates with which PyTorch makes its first steps."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=initial)
    scheduler, rates = make(optimizer), []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


def one_cycle(maximum, length, pct_start, div_factor, final_div_factor, anneal_strategy):
    return lambda o: lr_scheduler.OneCycleLR(
        o,
        maximum,
        length,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        cycle_momentum=False,
    )


def warmed(length, make):
    def warm(o):
        rise = lr_scheduler.LinearLR(o, start_factor=1 / (length + 1), total_iters=length)
        return lr_scheduler.SequentialLR(o, [rise, make(o)], milestones=[length])

    return warm


SCHEDULES = {  # all begin at 0.3: how to make it, and for how many steps it is compared
    "constant": (lambda o: lr_scheduler.ConstantLR(o, factor=1.0), 60),
    "step": (lambda o: lr_scheduler.StepLR(o, 7, 0.5), 60),
    "multi-step": (lambda o: lr_scheduler.MultiStepLR(o, (3, 4, 20), 0.2), 60),
    "exponential": (lambda o: lr_scheduler.ExponentialLR(o, 0.97), 60),
    "inverse time": (lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + 0.05 * step)), 60),
    "polynomial, power 2.5": (lambda o: lr_scheduler.PolynomialLR(o, 31, 2.5), 60),
    "polynomial": (lambda o: lr_scheduler.PolynomialLR(o, 50, 1.0), 60),
    "cosine, final 0.01": (lambda o: lr_scheduler.CosineAnnealingLR(o, 50, 0.01), 50),
    "cosine": (lambda o: lr_scheduler.CosineAnnealingLR(o, 59, 0.0), 59),
    "one cycle": (one_cycle(0.3, 60, 0.3, 25.0, 1e4, "cos"), 60),
    "one cycle, linear": (one_cycle(0.3, 61, 0.45, 5.0, 100.0, "linear"), 61),
    "restarts": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 13, 1, 0.01), 60),
    "restarts, growth 2": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2, 0.0), 60),
    "restarts, growth 3": (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4, 3, 0.02), 60),
    "warm-up, exponential": (warmed(9, lambda o: lr_scheduler.ExponentialLR(o, 0.97)), 60),
    "warm-up, cosine": (warmed(9, lambda o: lr_scheduler.CosineAnnealingLR(o, 51, 0.0)), 60),
}


def schedules():
    cases = {name: {"rates": rates_of(make, 0.3, steps)} for name, (make, steps) in SCHEDULES.items()}
    # PyTorch overshoots once after the end of a cycle, then fails; its cosine rises again.
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, rates, words = one_cycle(1.0, 10, 0.3, 25.0, 1e4, "cos")(optimizer), [], ""
    try:
        for _ in range(12):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    except ValueError as error:
        words = str(error)
    cases["one cycle, beyond its end"] = {"rates": np.array(rates), "error": np.array(words)}
    cases["cosine, beyond its end"] = {"rates": rates_of(lambda o: lr_scheduler.CosineAnnealingLR(o, 10, 0.1), 1.0, 16)}
    return cases


PLATEAUS = {
    "patience=1": {"patience": 0, "factor": 0.1},
    "patience=3": {"patience": 2, "factor": 0.5},
    "min_delta": {"patience": 1, "factor": 0.1, "threshold": 0.05, "cooldown": 3},
    "minimum": {"patience": 3, "factor": 0.3, "cooldown": 1, "min_lr": 0.05},
}


def monitored():
    falling = np.concatenate([np.linspace(2, 1, 8), np.full(9, 1.0), np.linspace(1, 0.9, 6), np.full(12, 0.95)])
    noisy = 1 / np.arange(1, 61) + 0.1 * np.random.default_rng(0).normal(size=60)
    broken = np.where(np.arange(60) % 7 == 3, np.nan, noisy)
    broken[5:9] = np.inf
    broken[0] = np.nan
    return {"falling": falling, "noisy": noisy, "broken": broken, "negative": -noisy}


def plateau():
    cases = {}
    for (series, raw), mode, (name, settings) in product(monitored().items(), ("min", "max"), PLATEAUS.items()):
        # PyTorch takes a value of +inf for the best there is.
        values = np.where(np.isposinf(raw), -np.inf, raw) if mode == "max" else raw
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        options = {"threshold": 0.0} | settings
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, threshold_mode="abs", eps=0.0, **options)
        rates = []
        for value in values:
            optimizer.step()
            scheduler.step(value)
            rates.append(optimizer.param_groups[0]["lr"])
        cases[f"{series} {mode} {name}"] = {"values": values, "rates": np.array(rates)}
    return cases


# First weights

SHAPES = [(300, 200), (50, 900), (4000,), (5, 6, 700)]  # (..., inputs, units)


class Given(torch.Tensor):
    """An array whose normal numbers are given, in the order in which PyTorch takes them."""

    numbers: np.ndarray

    def new_empty(self, size, **_options):
        return torch.empty(size).as_subclass(Given)

    def normal_(self, *_args, **_options):
        wide = self.shape[0] < self.shape[1]
        return torch.from_numpy(Given.numbers.T.copy() if wide else Given.numbers)


def initializers():
    cases = {}
    for shape in SHAPES:
        weights = torch.empty(shape if len(shape) > 1 else (*shape, 1)).movedim(-1, 0).contiguous()  # (units, ...)
        fans = torch.nn.init._calculate_fan_in_and_fan_out(weights)
        torch.nn.init.kaiming_uniform_(weights, nonlinearity="linear", generator=torch.Generator().manual_seed(0))
        cases[str(shape)] = {"fans": np.array(fans), "largest": weights.abs().max().numpy()}
    for shape in [(6, 6), (9, 4), (4, 9)]:
        Given.numbers = np.random.default_rng(0).normal(size=(max(shape), min(shape)))
        units_by_inputs = torch.empty(shape[::-1]).as_subclass(Given)
        weights = torch.nn.init.orthogonal_(units_by_inputs, gain=1.5).numpy().T
        cases[f"orthogonal {shape}"] = {"numbers": Given.numbers, "weights": weights}
    return cases


def refusals():
    """PyTorch's words for tensors that do not become arrays."""
    cases = {}
    for name, tensor in {
        "gradient": torch.ones(2, 1, requires_grad=True),
        "bfloat16": torch.ones(2, 1, dtype=torch.bfloat16),
    }.items():
        try:
            np.asarray(tensor)
        except (RuntimeError, TypeError) as error:
            cases[name] = {"type": np.array(type(error).__name__), "words": np.array(str(error))}
    return cases
