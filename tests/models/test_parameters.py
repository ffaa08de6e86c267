import numpy as np
import pytest

from framework import Dense, DivergedError, MeanSquaredError, Parameters, Sequential, SettingsError
from framework.models.parameters import require_finite_gradient

SHAPES = {"weights": (2, 3), "bias": (3,), "scale": ()}


def joined(parts, dtype):
    whole = Parameters.join(parts, dtype)
    whole.lay_out()
    return whole


def numbered(shapes=SHAPES):
    parameters = Parameters(shapes, "float64")
    parameters.vector[:] = np.arange(parameters.vector.size)
    parameters.gradient[:] = -parameters.vector
    return parameters


def test_views_lie_one_after_another_in_the_flat_vector():
    parameters = numbered()
    assert list(parameters) == ["weights", "bias", "scale"]
    assert len(parameters) == 3
    assert parameters["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert parameters["bias"].tolist() == [6, 7, 8]
    assert parameters["scale"][()] == 9
    assert parameters.gradients["bias"].tolist() == [-6, -7, -8]


def test_views_and_vector_are_the_same_memory():
    parameters = numbered()
    parameters["bias"][1] = 70
    parameters.gradients["scale"][...] = 90
    assert parameters.vector[7] == 70
    assert parameters.gradient[9] == 90
    parameters.vector[0] = 50
    assert parameters["weights"][0, 0] == 50


def test_join_moves_the_numbers_and_the_parts_become_views():
    a, b = numbered({"weights": (2,), "bias": ()}), numbered({"weights": (3,)})
    whole = joined({"0": a, "1": b}, "float64")
    assert list(whole) == ["0.weights", "0.bias", "1.weights"]
    assert whole.vector.tolist() == [0, 1, 2, 0, 1, 2]
    whole.vector[:] = 7.0
    whole.gradient[:] = 8.0
    assert a["bias"] == 7.0
    assert b.vector.tolist() == [7.0] * 3
    assert b.gradients["weights"].tolist() == [8.0] * 3
    assert np.shares_memory(a.vector, whole.vector)


def test_parts_of_parts_move_too():
    leaf = numbered({"weights": (2,)})
    inner = joined({"0": leaf}, "float64")
    outer = joined({"0": inner, "1": numbered({"weights": (1,)})}, "float64")
    assert list(outer) == ["0.0.weights", "1.weights"]
    outer.vector[:] = [5.0, 6.0, 7.0]
    assert leaf["weights"].tolist() == inner["0.weights"].tolist() == [5.0, 6.0]
    outer.freeze("0.0.weights")
    assert leaf.frozen == ("weights",)
    assert inner.frozen == ("0.weights",)
    leaf.unfreeze()
    assert outer.frozen == ()


@pytest.mark.parametrize(
    ("frozen", "runs"),
    [
        ((), [(0, 10)]),
        (("weights",), [(6, 10)]),
        (("bias",), [(0, 6), (9, 10)]),
        (("scale",), [(0, 9)]),
        (("weights", "scale"), [(6, 9)]),
        (("weights", "bias", "scale"), []),
    ],
)
def test_trainable_runs_are_the_longest_between_frozen_parameters(frozen, runs):
    parameters = numbered()
    if frozen:
        parameters.freeze(*frozen)
    assert parameters.trainable_runs() == [slice(*run) for run in runs]
    assert parameters.frozen == frozen


def test_a_run_spans_the_layers_of_a_model():
    whole = joined({"0": numbered(), "1": numbered()}, "float64")
    whole.freeze("0.weights", "1.scale")
    assert whole.trainable_runs() == [slice(6, 19)]


def test_a_frozen_gradient_is_zero():
    parameters = numbered()
    parameters.freeze("bias")
    assert parameters.gradients["bias"].tolist() == [0.0] * 3
    assert parameters.gradients["weights"].tolist() == [[-0.0, -1, -2], [-3, -4, -5]]
    assert parameters["bias"].tolist() == [6, 7, 8]


def test_what_is_unfrozen_after_a_forward_gets_its_gradient_in_the_backward():
    x, model = np.array([[1.0, 2.0]]), Dense.from_weights([[1.0], [1.0]])
    model.parameters.freeze("weights")
    model.forward(x)
    model.parameters.unfreeze("weights")
    MeanSquaredError().backward(model, [[0.0]])
    assert model.parameters.gradient.tolist() == [6.0, 12.0, 6.0]


def test_freezing_without_a_name_is_for_all():
    parameters = numbered()
    parameters.freeze()
    assert parameters.frozen == tuple(SHAPES)
    parameters.unfreeze("bias")
    assert parameters.frozen == ("weights", "scale")
    parameters.unfreeze()
    assert parameters.frozen == ()


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        (["0.*"], ["0.0.weights", "0.0.bias", "0.0.scale"]),
        (["*bias"], ["0.0.bias", "1.bias"]),
        (["1.scale", "0.0.w*"], ["0.0.weights", "1.scale"]),
        (["?.weights"], ["1.weights"]),
    ],
)
def test_parameters_are_frozen_by_pattern(patterns, frozen):
    whole = joined({"0": joined({"0": numbered()}, "float64"), "1": numbered()}, "float64")
    whole.freeze(*patterns)
    assert list(whole.frozen) == frozen
    whole.unfreeze(*patterns)
    assert whole.frozen == ()


def test_freezing_a_model_lays_out_each_part_once(monkeypatch):
    whole = joined({str(place): numbered() for place in range(50)}, "float64")
    calls, refresh = [], Parameters._refresh
    monkeypatch.setattr(Parameters, "_refresh", lambda self: (calls.append(self), refresh(self)))
    whole.freeze()
    assert len(calls) == 51


def test_the_version_tells_of_every_change_of_layout():
    parameters = numbered()
    versions = [parameters.version]
    for change in (parameters.freeze, parameters.unfreeze, lambda: joined({"0": parameters}, "float64")):
        change()
        versions.append(parameters.version)
    assert versions == sorted(set(versions))


def test_freezing_a_part_tells_the_whole():
    part = numbered()
    whole = joined({"0": part}, "float64")
    version = whole.version
    part.freeze("bias")
    assert whole.version > version
    assert whole.frozen == ("0.bias",)


@pytest.mark.parametrize("method", ["freeze", "unfreeze"])
def test_an_unknown_name_is_refused_and_nothing_is_frozen(method):
    parameters = numbered()
    with pytest.raises(SettingsError, match=r"no parameter 'wieghts'; did you mean 'weights'.*Parameters: weights"):
        getattr(parameters, method)("bias", "wieghts")
    assert parameters.frozen == ()


def test_a_gradient_that_is_not_finite_is_refused_by_name():
    parameters = numbered()
    parameters.gradient[:] = 1e300  # its square overflows, and it is finite
    require_finite_gradient(parameters)
    parameters.gradients["bias"][1] = np.nan
    parameters.gradients["scale"][...] = np.inf
    with pytest.raises(DivergedError, match="the gradient of bias, scale is not finite"):
        require_finite_gradient(parameters)


def test_repr_shows_shapes_and_what_is_frozen():
    parameters = numbered()
    parameters.freeze("bias")
    assert repr(parameters) == "Parameters(weights: (2, 3), bias: (3,) frozen, scale: ())"


def test_views_of_another_array_are_laid_out_as_the_parameters_are():
    model = Sequential(Dense(2, 3), Sequential(Dense(3, 1)))
    parameters, other = model.parameters, np.arange(13.0)
    views = parameters.views_of(other)
    assert {name: view.shape for name, view in views.items()} == {n: v.shape for n, v in parameters.items()}
    np.testing.assert_array_equal(np.concatenate([view.ravel() for view in views.values()]), other)
    views["0.bias"][...] = -1.0
    assert (other == -1.0).sum() == 3
