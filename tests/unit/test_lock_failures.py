"""The workspace lock on the model: what a real machine does not do when asked."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nomad_sessions.errors import (
    DiskFullError,
    LockTimeoutError,
    LockUnsupportedError,
    StorageError,
    StoreReadOnlyError,
)
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
from tests.support.modelfs import Killed, ModelDisk


def on_model() -> tuple[ModelDisk, StoreLock, StoreLock]:
    disk = ModelDisk()
    first, second = disk.process(), disk.process()
    return disk, StoreLock(first, "/lock"), StoreLock(second, "/lock")


def test_the_pauses_double_from_50_microseconds_to_2_milliseconds() -> None:
    disk, mine, theirs = on_model()
    pauses: list[float] = []
    theirs.acquire()
    disk.on_sleep = pauses.append
    with pytest.raises(LockTimeoutError):
        mine.acquire(0.02)
    assert pauses[:7] == pytest.approx([50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 1.6e-3, 2e-3])
    assert max(pauses) <= 2e-3
    assert sum(pauses) >= 0.02 - len(pauses) * 1e-5
    assert sum(pauses) <= 0.02


def test_the_lock_is_taken_when_it_becomes_free_while_waiting() -> None:
    disk, mine, theirs = on_model()
    theirs.acquire()
    disk.on_sleep = lambda seconds: theirs.release()
    mine.acquire(1.0)
    assert mine.verify()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(code: int) -> None:
    disk = ModelDisk()
    fs = disk.process()
    lock = StoreLock(fs, "/lock")
    with fs.inject(code, op="lock"), pytest.raises(LockUnsupportedError) as caught:
        lock.acquire()
    assert caught.value.path == "/lock"
    assert not lock.held
    assert fs.open_paths == []


@pytest.mark.skipif(os.name == "nt", reason="Windows says of a folder that it may not be opened")
def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    lock = StoreLock(REAL, str(tmp_path))
    with pytest.raises(StorageError, match="is a folder, and has to be an empty file: move it away") as caught:
        lock.acquire()
    assert caught.value.path == str(tmp_path)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_read_only(code: int) -> None:
    fs = ModelDisk().process()
    with fs.inject(code, op="open"), pytest.raises(StoreReadOnlyError) as caught:
        StoreLock(fs, "/lock").acquire()
    assert (caught.value.path, caught.value.errno) == ("/lock", code)
    assert ("mounted read-only" in str(caught.value)) is (code == errno.EROFS)


def test_a_full_disk_without_room_for_the_lock_file_says_so() -> None:
    fs = ModelDisk().process()
    with fs.inject(errno.ENOSPC, op="open"), pytest.raises(DiskFullError):
        StoreLock(fs, "/lock").acquire()


@pytest.mark.parametrize("op", ["open", "lock", "stat", "fstat", "unlock"])
@pytest.mark.parametrize("effect", ["none", "all"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken")])
def test_an_error_or_a_ctrl_c_at_any_call_leaves_the_lock_free(op: str, effect: str, error: BaseException) -> None:
    disk = ModelDisk()
    fs = disk.process()
    mine, theirs = StoreLock(fs, "/lock"), StoreLock(disk.process(), "/lock")
    with (
        fs.inject(error, op=op, effect="all" if effect == "all" else "none"),
        pytest.raises(type(error)),
        mine,
    ):
        pass
    assert not mine.held
    theirs.acquire(0)
    theirs.release()
    mine.acquire(0)
    assert mine.verify()


def test_dying_at_any_call_frees_the_lock() -> None:
    for nth in range(1, 7):
        disk = ModelDisk()
        fs = disk.process()
        mine, theirs = StoreLock(fs, "/lock"), StoreLock(disk.process(), "/lock")
        if nth == 6:  # open, lock, stat, fstat, unlock: a sixth call does not come
            with mine:
                pass
            assert sum(fs.calls.values()) == 5
            break
        with fs.die_at(nth), pytest.raises(Killed), mine:
            pass
        theirs.acquire(0)
