"""Whole models at random train with JAX as with NumPy: three steps from the same start.

The models are those of a rotation, so each run of the suite has others; ``MODELS=300`` takes so many. A failure shows
the model, and its case and rotation make it again.
"""

import os

import pytest
from jax_pieces import quick  # noqa: F401 (a fixture)
from whole_models import WholeModel, require_agreement, results

COUNT = int(os.environ.get("MODELS", "30"))


@pytest.mark.share(1 / 10)
@pytest.mark.parametrize("case", range(COUNT))
def test_a_random_model_learns_with_jax_as_with_numpy(case, pytestconfig):
    drawn = WholeModel(pytestconfig.option.rotation, case)
    require_agreement(drawn, results(drawn, "jax"))
