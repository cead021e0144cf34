"""One sync for many threads, and none after one that failed."""

from __future__ import annotations

import errno
import threading

import pytest

from nomad_sessions.errors import DurabilityLostError
from nomad_sessions.storage.counters import Counters
from nomad_sessions.storage.group_sync import GroupSync, Position
from nomad_sessions.storage.segment import Segment
from tests.support.modelfs import CREATE, ModelDisk, ModelFS


def segment_on(fs: ModelFS, first: int = 1) -> Segment:
    path = f"/{first}"
    fd = fs.open(path, CREATE)
    fs.sync_dir("/")
    return Segment(fs, path, first, fd, fs.fstat(fd))


@pytest.fixture
def fs() -> ModelFS:
    return ModelDisk().process()


@pytest.fixture
def segment(fs: ModelFS) -> Segment:
    return segment_on(fs)


@pytest.fixture
def sync(fs: ModelFS) -> GroupSync:
    return GroupSync(fs, Counters())


def test_what_is_synced_already_is_not_synced_again(fs: ModelFS, segment: Segment, sync: GroupSync) -> None:
    fs.pwrite_all(segment.fd, b"data", 0)
    goal = sync.wrote(segment, 4)
    for _ in range(3):
        sync.wait(goal)
    assert fs.calls["datasync"] == 1
    assert sync.synced == goal == Position(1, 4)


def test_what_somebody_else_synced_is_noted(fs: ModelFS, sync: GroupSync) -> None:
    sync.note(Position(5, 10))
    sync.wait(Position(4, 99_999))
    assert fs.calls["datasync"] == 0


def test_a_journal_that_begins_again_is_synced_again(fs: ModelFS, sync: GroupSync) -> None:
    old = segment_on(fs, 900)
    sync.wait(sync.wrote(old, 50))
    new = segment_on(fs, 1)
    sync.start(new, 20, 20)
    fs.pwrite_all(new.fd, bytes(30), 0)
    sync.wait(sync.wrote(new, 30))
    assert fs.calls["datasync"] == 2
    assert sync.synced == Position(1, 30)


def test_reading_the_same_journal_afresh_forgets_no_sync(fs: ModelFS, segment: Segment, sync: GroupSync) -> None:
    goal = sync.wrote(segment, 40)
    sync.wait(goal)
    sync.start(segment, 40, 10)
    sync.wait(goal)
    assert fs.calls["datasync"] == 1


def test_waiting_threads_share_the_next_sync(
    fs: ModelFS, segment: Segment, sync: GroupSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()
    real = fs.datasync

    def slow(fd: int, /) -> None:
        begun.set()
        assert go.wait(10)
        real(fd)

    monkeypatch.setattr(fs, "datasync", slow)  # A disk that takes its time.
    threads = [threading.Thread(target=sync.wait, args=(sync.wrote(segment, 1),))]
    threads[0].start()
    assert begun.wait(10)
    for end in range(2, 9):
        threads.append(threading.Thread(target=sync.wait, args=(sync.wrote(segment, end),)))
        threads[-1].start()
    go.set()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert fs.calls["datasync"] == 2
    assert sync.synced == Position(1, 8)


def test_a_failed_sync_fails_every_later_call_and_is_not_tried_again(
    fs: ModelFS, segment: Segment, sync: GroupSync
) -> None:
    fs.pwrite_all(segment.fd, b"data", 0)
    goal = sync.wrote(segment, 4)
    with fs.inject(errno.EIO, op="datasync"), pytest.raises(DurabilityLostError) as caught:
        sync.wait(goal)
    assert caught.value.errno == errno.EIO
    for _ in range(3):
        with pytest.raises(DurabilityLostError):
            sync.wait(goal)
    assert fs.calls["datasync"] == 1
    assert sync.synced < goal


def test_after_a_failed_sync_the_bytes_are_written_again_so_that_the_next_one_is_honest(
    fs: ModelFS, segment: Segment, sync: GroupSync
) -> None:
    fs.pwrite_all(segment.fd, b"data", 0)
    with fs.inject(errno.EIO, op="datasync"), pytest.raises(DurabilityLostError):
        sync.wait(sync.wrote(segment, 4))
    other = GroupSync(fs, Counters())
    other.wait(other.wrote(segment, 4))
    assert fs.disk.crash(lambda choices: choices[-1]).read("/1") == b"data"


def test_an_interrupted_sync_lets_the_next_thread_try(fs: ModelFS, segment: Segment, sync: GroupSync) -> None:
    goal = sync.wrote(segment, 4)
    with fs.inject(KeyboardInterrupt(), op="datasync"), pytest.raises(KeyboardInterrupt):
        sync.wait(goal)
    sync.wait(goal)
    assert sync.error is None


def test_a_failure_elsewhere_fails_those_who_wait_here(sync: GroupSync) -> None:
    sync.fail(DurabilityLostError(path="/folder"))
    with pytest.raises(DurabilityLostError, match="/folder"):
        sync.wait(Position(1, 1))
