"""Disks without room, and disks out of reach: a tmpfs in a mount namespace of its own (root)."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from tests.faults import places
from tests.support.zygote import Zygote

pytestmark = pytest.mark.tmpfs


def test_a_full_disk_refuses_the_append_keeps_what_was_there_and_goes_on_once_there_is_room(
    mounting: Zygote, tmp_path: Path
) -> None:
    *times, last = mounting.run(places.fill_a_small_disk, folder=str(tmp_path)).well()
    assert len(times) == 6
    for each in times:
        assert each["error"] == "DiskFullError"
        assert each["errno"] == errno.ENOSPC
        assert str(tmp_path) in each["path"]
        assert each["same"], "what was acknowledged is what is read, by this handle and by a new one"
        assert each["ok"]
        assert each["torn"] == 0
        assert each["free"] < 4096, "the disk was really full"
    assert all(earlier["acked"] < later["acked"] for earlier, later in itertools.pairwise(times))
    assert last["found"] == last["acked"]
    assert len(last["acked"]) > 40


def test_a_checkpoint_on_a_full_disk_keeps_the_old_state_and_appends_continue(mounting: Zygote, tmp_path: Path) -> None:
    (found,) = mounting.run(places.checkpoint_on_a_full_disk, folder=str(tmp_path)).well()
    assert found == {
        "error": "DiskFullError",
        "old_snapshot": True,
        "leftovers": [],
        "closed": True,
        "same": True,
        "checkpoint": True,
        "folded": True,
        "ok": True,
        "finally": True,
    }


def test_a_link_to_another_disk_is_refused_by_name_and_everything_stays_in_the_journal(
    mounting: Zygote, tmp_path: Path
) -> None:
    (found,) = mounting.run(places.linked_to_another_disk, folder=str(tmp_path)).well()
    told = found.pop("told")
    assert told.startswith("CrossDeviceError: ")
    assert "sessions.json is a link to another file system" in told
    assert found == {
        "repair": "CrossDeviceError",
        "kept": ["0", "1", "2", "3", "4", "5"],
        "link": True,
        "ok": True,
        "findings": ["cross-device"],
        "leftovers": [],
    }


def test_a_link_through_another_mount_of_the_same_disk_is_refused_by_name_too(mounting: Zygote, tmp_path: Path) -> None:
    (found,) = mounting.run(places.linked_to_the_same_disk_mounted_twice, folder=str(tmp_path)).well()
    assert found == {
        "same device": True,
        "told": "CrossDeviceError",
        "unchanged": True,
        "kept": ["kept"],
        "ok": True,
        "leftovers": [],
    }
