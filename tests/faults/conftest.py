"""Zygotes that the tests of this folder share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiers
from tests.support.zygote import Zygote


@pytest.fixture(scope="session")
def zygotes() -> Iterator[list[Zygote]]:
    """Two, for children that are traced: one for each core of a small machine."""
    tiers.needs_strace()
    with Zygote(["tests.faults.jobs"]) as one, Zygote(["tests.faults.jobs"]) as other:
        cores = sorted(os.sched_getaffinity(0))
        first = 2 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        one.pin(cores[first % len(cores)])
        other.pin(cores[(first + 1) % len(cores)])
        yield [one, other]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: kill -9 asks nothing of a disk, and a thousand lives are faster there."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def zygote(zygotes: list[Zygote]) -> Zygote:
    return zygotes[0]


@pytest.fixture(scope="session")
def limited() -> Iterator[Zygote]:
    """One whose children limit themselves; needs no strace."""
    tiers.needs_linux()
    with Zygote(["tests.faults.limits"]) as one:
        yield one


@pytest.fixture(scope="session")
def mounting() -> Iterator[Zygote]:
    """One whose children mount."""
    with Zygote(["tests.faults.places"], tiers.own_mounts()) as one:
        yield one
