"""What every test file shares."""

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("on a busy machine too", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("on a busy machine too")


@pytest.fixture(autouse=True, scope="module")
def jax_caches() -> Iterator[None]:
    """Free what JAX has compiled for a test file: over all files it would take more than a gigabyte."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
