"""The stored values of PyTorch are those of the PyTorch that is installed, if one is; JAX leaves nothing behind."""

import importlib.util

import jax
import numpy as np
import pytest
from oracles import SAVED_BY_PYTORCH, VALUES, in_float64, jax_gradients, stored

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
    before = jax.config.jax_enable_x64
    for values in stored(name).values():
        output, (gradient,) = jax_gradients(lambda a: a**3, values["output"], upstream=values["upstream"])
        assert output.dtype == gradient.dtype == np.float64
        np.testing.assert_allclose(gradient, 3 * values["output"] ** 2 * values["upstream"], rtol=1e-14)
    assert in_float64(jax.numpy.float64, 1.0).dtype == np.float64
    assert jax.config.jax_enable_x64 == before
