"""How much Hypothesis tries: the same examples each time in CI, others at each run elsewhere."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
settings.register_profile("crash", deadline=None, suppress_health_check=_SLOW, derandomize=bool(os.environ.get("CI")))
settings.load_profile("crash")
