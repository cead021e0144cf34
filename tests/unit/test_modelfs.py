"""The model file system: its processes, faults, trace and time. Power loss: `test_modelfs_power_loss.py`."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.drawing import Draw, every
from tests.support.faults import Effect
from tests.support.modelfs import CREATE, MUTATING, Call, Killed, ModelDisk, put
from tests.support.together import together

# Processes


def test_a_killed_process_leaves_its_bytes_and_frees_its_locks_and_does_nothing_more() -> None:
    disk = ModelDisk()
    victim, other = disk.process(), disk.process()
    fd = victim.open("/f", CREATE)
    victim.pwrite_all(fd, b"data", 0)
    assert victim.lock(fd)
    theirs = other.open("/f", os.O_RDWR)
    assert not other.lock(theirs)
    victim.kill()
    assert other.lock(theirs)
    assert other.pread(theirs, 9, 0) == b"data"
    for use in (lambda: victim.fstat(fd), lambda: victim.unlink("/f"), lambda: victim.sleep(1.0)):
        with pytest.raises(Killed):
            use()
    assert disk.read("/f") == b"data"


@pytest.mark.parametrize(("effect", "left"), [("none", b""), ("part", b"da"), ("all", b"data")])
def test_death_in_a_write_leaves_none_half_or_all_of_it(effect: Effect, left: bytes) -> None:
    disk = ModelDisk()
    fs = disk.process()
    fd = fs.open("/f", CREATE)
    with fs.die_at(1, op="pwrite_all", effect=effect), pytest.raises(Killed):
        fs.pwrite_all(fd, b"data", 0)
    assert disk.read("/f") == left
    assert not fs.alive


def test_cleanup_after_death_does_not_reach_the_disk() -> None:
    disk = ModelDisk()
    fs = disk.process()

    def careful() -> None:
        fd = fs.open("/f", CREATE)
        try:
            fs.datasync(fd)
        finally:
            fs.unlink("/f")

    with fs.die_at(1, op="datasync"), pytest.raises(Killed):
        careful()
    assert "/f" in disk.tree()


def test_the_smallest_free_descriptor_and_inode_number_are_used_again() -> None:
    disk = ModelDisk()
    fs = disk.process()
    put(fs, "/a", b"")
    first = fs.stat("/a")
    assert fs.open("/a", os.O_RDONLY) == fs.open("/b", CREATE) - 1
    fs.close(3)
    assert fs.open("/a", os.O_RDONLY) == 3
    fs.unlink("/a")
    put(fs, "/c", b"")
    third = fs.stat("/c")
    assert first is not None
    assert third is not None
    assert third.ino != first.ino, "the open descriptor keeps the inode"
    fs.close(3)
    put(fs, "/d", b"")
    fourth = fs.stat("/d")
    assert fourth is not None
    assert fourth.ino == first.ino


# Faults


def test_a_fault_strikes_the_nth_call_of_its_name_once() -> None:
    fs = ModelDisk().process()
    fd = fs.open("/f", CREATE)
    fault = fs.inject(errno.EIO, op="pwrite_all", nth=2)
    fs.pwrite_all(fd, b"1", 0)
    fs.datasync(fd)
    with pytest.raises(OSError, match="/f") as caught:
        fs.pwrite_all(fd, b"2", 1)
    assert caught.value.errno == errno.EIO
    fs.pwrite_all(fd, b"3", 1)
    assert fs.pread(fd, 9, 0) == b"13"
    fault.assert_fired()
    assert fault.fired == 1


def test_a_fault_for_good_strikes_until_removed_and_counts_over_all_calls() -> None:
    fs = ModelDisk().process()
    fault = fs.inject(errno.EACCES, nth=2, forever=True)
    fd = fs.open("/f", CREATE)
    for _ in range(3):
        with pytest.raises(PermissionError):
            fs.pread(fd, 1, 0)
    fault.remove()
    assert fs.pread(fd, 1, 0) == b""
    assert fault.fired == 3


def test_a_fault_that_never_fires_fails_the_test() -> None:
    fs = ModelDisk().process()
    with pytest.raises(AssertionError, match="never fired"), fs.inject(errno.EIO, op="sync"):
        fs.mkdir("/d")


def test_a_full_disk_takes_a_part_and_reports_it() -> None:
    fs = ModelDisk().process()
    fd = fs.open("/f", CREATE)
    with fs.inject(errno.ENOSPC, op="pwrite_all", effect="part"), pytest.raises(OSError, match="/f"):
        fs.pwrite_all(fd, b"abcdef", 0)
    assert fs.pread(fd, 9, 0) == b"abc"


def test_a_short_write_without_an_error_is_completed() -> None:
    disk = ModelDisk()
    fs = disk.process()
    fd = fs.open("/f", CREATE)
    with fs.inject(None, op="pwrite_all", effect="part"):
        fs.pwrite_all(fd, b"abcdef", 0)
    assert disk.read("/f") == b"abcdef"


def test_an_error_may_come_after_the_call_took_effect() -> None:
    fs = ModelDisk().process()
    put(fs, "/a", b"1")
    with fs.inject(errno.EIO, op="replace", effect="all"), pytest.raises(OSError, match="/a"):
        fs.replace("/a", "/b")
    assert fs.listdir("/") == ["b"]


def test_a_disk_of_limited_capacity_fills_and_has_room_again() -> None:
    fs = ModelDisk(capacity=10).process()
    fd = fs.open("/f", CREATE)
    fs.pwrite_all(fd, b"12345678", 0)
    with pytest.raises(OSError, match="/f") as caught:
        fs.pwrite_all(fd, b"abcd", 8)
    assert caught.value.errno == errno.ENOSPC
    assert fs.pread(fd, 99, 0) == b"12345678ab"
    fs.pwrite_all(fd, b"!", 0)
    fs.truncate(fd, 4)
    fs.pwrite_all(fd, b"abcdef", 4)


def test_a_read_only_disk_refuses_every_change_and_lets_read() -> None:
    disk = ModelDisk()
    disk.write("/d/f", b"1")
    disk.read_only = True
    fs = disk.process()
    fd = fs.open("/d/f", os.O_RDONLY)
    assert fs.pread(fd, 9, 0) == b"1"
    before = disk.tree()
    changes: list[Callable[[], object]] = [
        lambda: fs.open("/d/f", os.O_RDWR),
        lambda: fs.open("/d/new", CREATE),
        lambda: fs.mkdir("/e"),
        lambda: fs.unlink("/d/f"),
        lambda: fs.remove_dir("/d"),
        lambda: fs.replace("/d/f", "/g"),
        lambda: fs.link("/d/f", "/g"),
    ]
    for change in changes:
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            change()
    assert disk.tree() == before
    assert fs.mkdir("/d") is False


def test_capabilities_can_be_taken_away() -> None:
    disk = ModelDisk()
    disk.write("/a", b"1")
    disk.write("/b", b"2")
    disk.can_lock = disk.can_exchange = disk.can_link = False
    fs = disk.process()
    assert fs.exchange("/a", "/b") is False
    assert disk.read("/a") == b"1"
    with pytest.raises(PermissionError):
        fs.link("/a", "/c")
    with pytest.raises(OSError, match=os.strerror(errno.ENOLCK)):
        fs.lock(fs.open("/a", os.O_RDWR))


def test_append_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="O_APPEND"):
        ModelDisk().process().open("/f", CREATE | os.O_APPEND)


# Trace and time


def test_the_trace_lists_the_calls_of_all_processes_in_order() -> None:
    disk = ModelDisk()
    first, second = disk.process(), disk.process()
    put(first, "/f", b"data", sync=True, folder="/")
    second.stat("/f")
    assert [(call.pid, call.op, call.path) for call in disk.trace] == [
        (1, "open", "/f"),
        (1, "pwrite_all", "/f"),
        (1, "sync", "/f"),
        (1, "close", "/f"),
        (1, "sync_dir", "/"),
        (2, "stat", "/f"),
    ]
    assert disk.trace[1] == Call(1, "pwrite_all", "/f", (4, 0))
    assert first.calls["pwrite_all"] == 1
    assert {call.op for call in disk.trace} - MUTATING == {"close", "stat"}


def test_sleeping_moves_the_clock_and_lets_others_act() -> None:
    disk = ModelDisk()
    fs = disk.process()
    disk.on_sleep = lambda seconds: disk.write("/woken", str(seconds).encode())
    start = fs.monotonic()
    fs.sleep(30.0)
    assert fs.monotonic() - start >= 30
    assert disk.read("/woken") == b"30.0"


def test_two_writes_in_a_row_leave_the_same_time() -> None:
    fs = ModelDisk().process()
    fd = fs.open("/f", CREATE)
    times = []
    for pause in (0.0, 0.0, 0.1):
        fs.sleep(pause)
        fs.pwrite_all(fd, b"x", 0)
        times.append(fs.fstat(fd).mtime_ns)
    assert times[0] == times[1] < times[2]


def test_threads_may_share_a_process() -> None:
    disk = ModelDisk()
    fs = disk.process()
    fd = fs.open("/f", CREATE)

    def work(number: int) -> None:
        for step in range(200):
            fs.pwrite_all(fd, bytes([number]), number * 200 + step)

    together(*(partial(work, number) for number in range(4)))
    assert disk.read("/f") == b"".join(bytes([number]) * 200 for number in range(4))


def test_every_combination_is_drawn_once() -> None:
    def run(draw: Draw) -> str:
        first = draw("ab")
        return first + (draw("xyz") if first == "b" else "")

    assert list(every(run)) == ["a", "bx", "by", "bz"]
    assert list(every(lambda draw: draw(range(1000)), thin=3)) == [0, 499, 999]
