"""A tier that cannot run says why, and in CI it fails instead."""

from __future__ import annotations

import pytest

from tests.support import tiers


def test_without_an_obstacle_a_tier_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    tiers.unless(None)


def test_elsewhere_than_in_ci_an_obstacle_skips_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no strace"):
        tiers.unless("no strace")


def test_in_ci_an_obstacle_fails_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no strace"):
        tiers.unless("no strace")
