"""Power cuts on real file systems: every acknowledged record is there afterwards, with both ways of cutting.

NOMAD_SESSIONS_POWER_CYCLES (500 by default) and NOMAD_SESSIONS_POWER_CYCLES_XFS (40) say how many cycles; a seed that
failed is repeated with NOMAD_SESSIONS_POWER_SEED.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.power import cycles as power
from tests.power.disk import Kind
from tests.support import tiers
from tests.support.zygote import Zygote

pytestmark = [pytest.mark.power, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def apart() -> Iterator[Zygote]:
    """Mounts and loop devices end with it."""
    with Zygote(["tests.power.cycles"], tiers.own_mounts()) as one:
        yield one


def number(name: str, default: int) -> int:
    return int(os.environ.get(f"NOMAD_SESSIONS_POWER_{name}", default))


def run(
    zygote: Zygote, tmp_path: Path, kind: Kind, count: int, durability: str = "full", careless: bool = False
) -> list[dict[str, Any]]:
    tiers.needs_power(kind)
    seed = number("SEED", random.randrange(1 << 30))
    print(f"NOMAD_SESSIONS_POWER_SEED={seed}")
    done = zygote.run(
        power.cycles, folder=str(tmp_path), kind=kind, count=count, seed=seed, durability=durability, careless=careless
    ).well()
    assert len(done) == count
    assert all(each["fired"] for each in done), "the power was off each time"
    assert sum(each["acked"] for each in done) > count, "something was acknowledged before most of the cuts"
    assert sum(each["error"] for each in done) > count // 2, "most cuts came while the child was writing"
    return done


@pytest.mark.parametrize(("kind", "count"), [("ext4", number("CYCLES", 500)), ("xfs", number("CYCLES_XFS", 40))])
def test_every_acknowledged_record_is_there_after_a_power_cut(
    kind: Kind, count: int, apart: Zygote, tmp_path: Path
) -> None:
    done = run(apart, tmp_path, kind, count)
    print(f"{kind}: {count} cycles, {sum(each['acked'] for each in done)} acknowledged steps")
    assert [each for each in done if not each["ok"]] == []
    assert [each for each in done if not each["kept"]] == []
    assert [each for each in done if each["wrote_after_error"]] == [], "a handle that failed succeeded afterwards"


@pytest.mark.parametrize("durability", ["batch", "os"])
def test_without_full_durability_a_power_cut_takes_at_most_a_suffix(
    durability: str, apart: Zygote, tmp_path: Path
) -> None:
    done = run(apart, tmp_path, "ext4", max(20, number("CYCLES", 500) // 8), durability)
    assert [each for each in done if not each["ok"]] == []
    assert [each for each in done if not each["kept"]] == []
    assert any(each["lost"] for each in done), "the cuts came before the syncs"


def test_a_store_that_does_not_sync_is_found_out(apart: Zygote, tmp_path: Path) -> None:
    done = run(apart, tmp_path, "ext4", 16, careless=True)
    assert any(not each["kept"] or not each["ok"] for each in done)
