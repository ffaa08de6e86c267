"""Stored values are those of the PyTorch that is installed, if one is, and of JAX, which leaves nothing behind."""

import importlib.util

import numpy as np
import oracles
import pytest
from oracles import RUN, SAVED_BY_PYTORCH, VALUES, VALUES_OF_JAX, in_float64, jax_gradients, jnp, stored

NAMES = sorted(path.stem for path in VALUES.glob("*.npz"))
needs_pytorch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@needs_pytorch
def test_every_reference_is_stored():
    from pytorch.make import REFERENCES

    assert sorted(REFERENCES) == NAMES
    assert SAVED_BY_PYTORCH.is_file()


@needs_pytorch
@pytest.mark.parametrize("name", NAMES)
def test_the_stored_values_are_those_of_the_installed_pytorch(name):
    from pytorch.make import compute

    live = compute(name)
    assert live.keys() == stored(name).keys()
    for case, values in live.items():
        assert values.keys() == stored(name)[case].keys()
        for key, array in values.items():
            kept = stored(name)[case][key]
            assert (kept.dtype, kept.shape) == (array.dtype, array.shape)
            if array.dtype.kind == "f":
                # PyTorch's float32 differs by two units in the last place between kinds of processor.
                near = {"rtol": 1e-6, "atol": 1e-7} if array.dtype == np.float32 else {"rtol": 1e-10, "atol": 1e-11}
                np.testing.assert_allclose(kept, array, **near, err_msg=f"{case}/{key}")
            else:
                assert np.array_equal(kept, array), f"{case}/{key}"


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_values_are_small_and_say_which_pytorch_made_them(name):
    assert (VALUES / f"{name}.npz").stat().st_size < 100_000
    with np.load(VALUES / f"{name}.npz") as arrays:
        assert str(arrays["torch"])[0].isdigit()


@pytest.mark.parametrize("name", ["bilinear", "layer_norm"])
def test_jax_runs_in_float64_and_the_setting_is_put_back(name):
    import jax

    before = jax.config.jax_enable_x64
    for values in stored(name).values():
        output, (gradient,) = jax_gradients(lambda a: a**3, values["output"], upstream=values["upstream"])
        assert output.dtype == gradient.dtype == np.float64
        np.testing.assert_allclose(gradient, 3 * values["output"] ** 2 * values["upstream"], rtol=1e-14)
    assert in_float64(jax.numpy.float64, 1.0).dtype == np.float64
    assert jax.config.jax_enable_x64 == before


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Return a function that runs a JAX function of x as a case, anew or not, and stores the result in a folder."""
    calls = []

    def sine(x):
        calls.append(x)
        return {"sine": jnp.sin(x), "both": (jnp.cos(x), [jnp.arange(3)])}

    def run(x, function=sine, *, anew=False):
        oracles._results.cache_clear()
        monkeypatch.setattr(RUN, "anew", anew)
        monkeypatch.setattr(RUN, "made", {})
        calls.clear()
        results = in_float64(function, x, case="sine")
        oracles.store()
        return results, len(calls)

    monkeypatch.setattr(oracles, "VALUES_OF_JAX", tmp_path)
    yield run
    oracles._results.cache_clear()


def test_a_result_of_jax_is_stored_for_its_arguments_and_text(runs):
    x = np.linspace(0, 1, 5)
    for calls in (1, 0):
        results, count = runs(x)
        assert count == calls
        np.testing.assert_allclose(results["sine"], np.sin(x), rtol=1e-14)
        np.testing.assert_allclose(results["both"][0], np.cos(x), rtol=1e-14)
        assert results["both"][1][0].tolist() == [0, 1, 2]
        assert results["sine"].dtype == np.float64
    assert runs(x + 1)[1] == 1
    assert runs(x.reshape(5, 1) + 1)[1] == 1
    np.testing.assert_allclose(runs(x, jnp.cos)[0], np.cos(x), rtol=1e-14)


def test_results_that_are_made_anew_are_compared_with_the_stored_ones(runs, tmp_path):
    x = np.linspace(0, 1, 5)
    runs(x)
    assert runs(x, anew=True)[1] == 1
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        files = dict(arrays)
    files["numbers"] = files["numbers"].copy()
    files["numbers"][6] ^= 1  # of a float64
    np.savez(path, **files)
    with pytest.raises(AssertionError, match="stored and live results of JAX"):
        runs(x, anew=True)


@pytest.mark.parametrize("path", sorted(VALUES_OF_JAX.glob("*.npz")), ids=lambda path: path.stem)
def test_the_stored_results_of_jax_are_those_of_a_test_file_and_say_which_jax_made_them(path):
    assert path.stat().st_size < 400_000
    *folders, name = path.stem.split(".")
    assert VALUES.parents[1].joinpath(*folders, f"{name}.py").is_file()
    with np.load(path) as arrays:
        assert str(arrays["jax"])[0].isdigit()
