"""Real limits of the kernel: sizes of files (RLIMIT_FSIZE writes a part, then says EFBIG), numbers of descriptors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import limits
from tests.support.zygote import Zygote

pytestmark = pytest.mark.faults


def test_an_append_that_meets_any_limit_within_its_record_leaves_nothing_and_the_next_one_works(
    limited: Zygote, tmp_path: Path
) -> None:
    *tried, last = limited.run(limits.every_limit_of_an_append, folder=str(tmp_path)).well()
    record = last["record"]
    assert record > 200
    assert [each["limit"] for each in tried] == list(range(record)), "every limit in [size, size + record]"
    for each in tried:
        assert each == {
            "limit": each["limit"],
            "error": "DiskFullError",
            "size_kept": True,
            "bytes_kept": True,
            "readable": True,
            "torn": 0,
            "ok": True,
        }
    assert last["acked"] == last["found"]
    assert last["ok"]


def test_a_checkpoint_that_meets_a_limit_keeps_the_old_snapshot_and_appends_continue(
    limited: Zygote, tmp_path: Path
) -> None:
    found = limited.run(limits.limits_of_a_checkpoint, folder=str(tmp_path)).well()
    failed, done = found[:-1], found[-1]
    assert len(failed) > 20
    for each in failed:
        assert each == {"error": "DiskFullError", "old_snapshot": True, "leftovers": [], "appended": True, "ok": True}
    assert done == {"checkpoint": True, "acked": True, "ok": True}


def test_a_seal_that_meets_a_limit_waits_and_what_was_acknowledged_stays(limited: Zygote, tmp_path: Path) -> None:
    found = limited.run(limits.limits_of_a_rotation, folder=str(tmp_path)).well()[-1]
    assert found["postponed"] > 5
    assert found["rotated"]
    assert found["acked"] == found["found"]
    assert found["ok"]


def test_running_out_of_descriptors_loses_and_leaks_nothing(limited: Zygote, tmp_path: Path) -> None:
    found = limited.run(limits.too_few_descriptors, folder=str(tmp_path)).well()[-1]
    assert found["failed"] > 5, "the limit was felt"
    assert set(found["errors"]) <= {"OSError", "DurabilityLostError"}
    assert found["acked"] == found["found"]
    assert found["leaked"] == []
    assert found["ok"]


def test_close_gives_every_descriptor_back_without_a_garbage_collection(limited: Zygote, tmp_path: Path) -> None:
    assert limited.run(limits.descriptors_after_close, folder=str(tmp_path)).well() == [0, 0, 0, 0]
