"""What every test file shares."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from oracles import RUN, store

settings.register_profile("on a busy machine too", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on a busy machine too")


@pytest.fixture(autouse=True, scope="module")
def results_of_jax(pytestconfig: pytest.Config) -> Iterator[None]:
    """Store what JAX has computed for a test file after ``--store``.

    Free what it has compiled: over all files it would take more than a gigabyte.
    """
    RUN.anew = pytestconfig.option.all
    RUN.made.clear()
    yield
    if pytestconfig.option.store:
        store()
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
