"""The random numbers of a seed, which releases keep: first weights, the order of rows, the masks of Dropout."""

import numpy as np
import pytest

from framework import Dense, Dropout, Sequential, random_generator
from framework.data.pieces import permutation
from framework.models import He


def test_a_generator_is_a_function_of_its_key_alone():
    numbers = random_generator(0, "my noise", 3).random(3)
    assert [float(number).hex() for number in numbers] == [
        "0x1.de02095680930p-5",
        "0x1.412dac1c11800p-8",
        "0x1.2be7ea884f94cp-1",
    ]
    for other in [(1, "my noise", 3), (0, "your noise", 3), (0, "my noise", 4), (0, "my noise"), (0, "my noise", 3, 0)]:
        assert not np.array_equal(random_generator(*other).random(3), numbers)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            lambda: Dense(2, 3, seed=5).weights,
            [
                [-0.8968735441789429, 0.25842221286327294, -0.4138176194516622],
                [-0.2899319519875876, 0.5558021279818088, 0.6185851845257668],
            ],
        ),
        (
            lambda: Sequential(Dense(2, 3), Dense(3, 1)).parameters["1.weights"],
            [[0.774733226991825], [0.408643676930313], [-0.408882362040377]],
        ),
        (
            lambda: He()((2, 2), random_generator(7, "initialize", 0)),
            [[-0.5743954232023556, 0.9672890595442261], [-0.5791763491678491, -1.6070848537618072]],
        ),
    ],
    ids=["uniform", "in a network", "normal"],
)
def test_first_weights_of_a_seed_stay_what_they_are(weights, expected):
    np.testing.assert_allclose(weights(), expected, rtol=1e-15)


def test_the_order_of_rows_and_the_mask_of_dropout_stay_what_they_are():
    assert permutation(8, 0, 0).tolist() == [1, 0, 7, 2, 3, 6, 5, 4]
    mask = Dropout(0.5).forward(np.ones(12), key=(0, 0, 1)) > 0
    assert np.flatnonzero(mask).tolist() == [0, 3, 4, 6, 9]
