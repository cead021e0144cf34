"""Small stores, and how much Hypothesis tries: the same examples each time in CI, others at each run elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.crash.life import small_store

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("crash", deadline=None, suppress_health_check=_SLOW, derandomize=bool(os.environ.get("CI")))
settings.load_profile("crash")


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    # Captured log records would keep errors, their frames, and so descriptors alive, and look like leaks.
    logging.disable(logging.CRITICAL)
    with small_store():
        yield
    logging.disable(logging.NOTSET)
