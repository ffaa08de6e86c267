import numpy as np
import pytest
import sklearn.datasets

from framework.data import datasets


@pytest.mark.parametrize("name", ["load_breast_cancer", "load_digits"])
def test_values_are_those_of_scikit_learn(name):
    x, y = getattr(datasets, name)()
    expected_x, expected_y = getattr(sklearn.datasets, name)(return_X_y=True)
    assert x.dtype == np.float64
    assert y.dtype == np.int64
    np.testing.assert_array_equal(x, expected_x, strict=True)
    np.testing.assert_array_equal(y, expected_y)


@pytest.mark.parametrize("load", [datasets.load_breast_cancer, datasets.load_digits])
def test_each_call_gives_the_caller_arrays_of_its_own(load):
    first, second = load(), load()
    for mine, other in zip(first, second, strict=True):
        assert mine.flags.owndata
        assert mine.flags.writeable
        assert mine.flags.c_contiguous
        mine[:] = 0
        assert other.any()


def test_names_are_those_of_scikit_learn():
    expected = sklearn.datasets.load_breast_cancer()
    assert list(datasets.BREAST_CANCER_FEATURES) == expected.feature_names.tolist()
    assert list(datasets.BREAST_CANCER_CLASSES) == expected.target_names.tolist()


def test_class_1_is_benign():
    _, y = datasets.load_breast_cancer()
    assert np.bincount(y).tolist() == [212, 357]
