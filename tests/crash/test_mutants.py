"""Each guard of the store is there for a failure that the crash tests can produce: without it they fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomad_sessions.errors import NomadSessionsError
from tests.crash import finders
from tests.crash.mutants import MUTANTS, removed

FINDERS: dict[str, Callable[[], None]] = {
    "no_checksum": finders.flipped_bits,
    "torn_bytes_are_not_kept": finders.a_torn_tail_is_kept,
    "gaps_are_overlooked": finders.a_missing_line,
    "no_judgement": finders.damaged_records,
    "no_previous": finders.previous_snapshot,
    "a_seal_is_believed": finders.power_loss_while_sealing,
    "everything_is_corruption": finders.os_lives,
    "groups_may_be_partial": finders.torn_groups,
    "the_tail_is_not_healed": finders.sealing_over_a_tail,
    "no_prune_floor": finders.lost_snapshot,
    "no_identity_check": finders.a_foreign_write_in_the_last_moment,
    "a_failed_sync_is_tried_again": finders.failing_syncs,
    "clean_pages_are_believed": finders.failing_syncs,
    "partial_appends_stay": finders.what_a_failed_append_leaves,
    "an_unreadable_snapshot_is_empty": finders.an_empty_snapshot,
    "no_checksum_in_the_snapshot": finders.flipped_bits_in_the_snapshot,
}
# What a finder says, or what breaks inside a store without its guard.
ALARMS = (AssertionError, NomadSessionsError, LookupError, OSError, ValueError, TypeError, pytest.fail.Exception)
EVERY = [
    finders.flipped_bits,
    finders.damaged_records,
    finders.flipped_bits_in_the_snapshot,
    finders.a_missing_line,
    finders.a_torn_tail_is_kept,
    finders.lost_snapshot,
    finders.an_empty_snapshot,
    finders.a_foreign_write_in_the_last_moment,
    finders.failing_writes,
    finders.failing_syncs,
    finders.torn_groups,
    finders.power_loss_while_sealing,
    finders.sealing_over_a_tail,
    finders.previous_snapshot,
    finders.what_a_failed_append_leaves,
]


@pytest.mark.parametrize("find", EVERY, ids=lambda find: find.__name__)
def test_the_whole_store_passes(find: Callable[[], None]) -> None:
    find()


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_store_is_found_out_without(name: str) -> None:
    with removed(name), pytest.raises(ALARMS):
        FINDERS.get(name, finders.lives)()
