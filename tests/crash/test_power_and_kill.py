"""Crashes at any call, drawn by Hypothesis: what was acknowledged is there afterwards, whole, and nothing else is.

Promises 1 to 4, 8, 12: see `life.py` for the oracle, which ends each recovery with `check()` and all contents.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.workspace.options import Durability
from tests.crash.life import run_life
from tests.support.drawing import Draw, at_random


def drawn(data: st.DataObject) -> Draw:
    return lambda choices: data.draw(st.sampled_from(choices))


@given(data=st.data())
@settings(max_examples=120)
def test_what_was_acknowledged_survives_kills_and_power_loss(data: st.DataObject) -> None:
    run_life(drawn(data))


@given(data=st.data())
@settings(max_examples=80)
def test_two_processes_on_one_disk_lose_nothing_when_one_dies_or_the_power_fails(data: st.DataObject) -> None:
    run_life(drawn(data), processes=2)


@given(data=st.data())
@settings(max_examples=60)
def test_batch_loses_at_most_a_suffix_to_a_power_loss_and_nothing_to_a_kill(data: st.DataObject) -> None:
    run_life(drawn(data), "batch")


@given(data=st.data())
@settings(max_examples=60)
def test_os_survives_the_death_of_the_process(data: st.DataObject) -> None:
    run_life(drawn(data), "os")


@pytest.mark.parametrize("durability", ["full", "batch", "os"])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_long_series_of_seeded_lives_ends_as_acknowledged(durability: Durability, processes: int) -> None:
    for seed in range(60):
        run_life(at_random(seed), durability, processes=processes)


@pytest.mark.parametrize("page", [16, 512, 4096])
def test_the_size_of_a_lost_page_makes_no_difference(page: int) -> None:
    for seed in range(40):
        run_life(at_random(seed + 1000), processes=2, page=page)
