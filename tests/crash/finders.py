"""Short runs that a store with a guard missing must not survive. Each raises when it finds something wrong."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from nomad_sessions.errors import DiskFullError, JournalCorruptError, SnapshotUnreadableError
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace import checkpoint, folding, store
from nomad_sessions.workspace.view import View
from tests.crash.life import DATA, manager_on, run_life
from tests.crash.model import WS, State, Step, contents, expect, perform
from tests.crash.test_every_call import add, filled
from tests.crash.test_faults import suffer
from tests.support.drawing import at_random
from tests.support.modelfs import Killed, ModelDisk

FOLDER = f"{DATA}/{WS}"
SNAPSHOT = f"{FOLDER}/sessions.json"


def lives() -> None:
    for seed in range(250):
        run_life(at_random(seed), processes=1 + seed % 2)


def failing_syncs() -> None:
    for op in ("datasync", "sync", "sync_dir"):
        for fold in (False, True):
            nth = 1
            while suffer(errno.EIO, op, nth, forever=False, effect="none", fold=fold):
                nth += 1


def failing_writes() -> None:
    nth = 1
    while suffer(errno.ENOSPC, "pwrite_all", nth, forever=False, effect="part", fold=False):
        nth += 1


def segments(disk: ModelDisk) -> list[str]:
    return sorted(path for path in disk.tree() if path.endswith(".jsonl") and "/journal/" in path)


def remove(disk: ModelDisk, path: str) -> None:
    disk.process().unlink(path)
    disk.settle()


def pruned_often() -> tuple[ModelDisk, State]:
    """A store with a long history of folds."""
    disk = ModelDisk()
    state = filled(3, fold=True)(disk)
    manager = manager_on(disk.process())
    for number in range(20, 44):
        step = add(number, 300)
        perform(manager, step)
        state = expect(state, step)
        if number % 6 == 0:
            manager.checkpoint(WS)
    return disk, state


def lost_snapshot() -> None:
    disk, state = pruned_often()
    remove(disk, SNAPSHOT)
    manager = manager_on(disk.process())
    assert contents(manager) == state
    perform(manager, add(99))
    assert contents(manager_on(disk.process())) == expect(state, add(99))


def detected(disk: ModelDisk) -> bool:
    """Whether the damage is reported, by `check` or by refusing to open."""
    manager = manager_on(disk.process())
    report = manager.check(WS)
    return not report.ok or report.torn > 0


def flipped_bits() -> None:
    disk = ModelDisk()
    filled(12)(disk)
    for path in segments(disk):
        data = disk.read(path)
        for at in range(0, len(data), 7):
            if data[at : at + 1] == b"\n" and at > data.find(b'"tables":'):
                continue  # What stands between two tables says nothing: nobody reads it.
            damaged = bytearray(data)
            damaged[at] ^= 1 << (at % 8)
            disk.write(path, bytes(damaged))
            assert detected(disk), f"{path} {at}"
        disk.write(path, data)


def damaged_records() -> None:
    """Damage before records that prove it to be damage must not be cut off as if it were a tail."""
    disk = ModelDisk()
    filled(2)(disk)
    (path,) = segments(disk)
    data = bytearray(disk.read(path))
    data[data.find(b'"seq"')] ^= 1
    disk.write(path, bytes(data))
    with pytest.raises(JournalCorruptError):
        contents(manager_on(disk.process()))


def flipped_bits_in_the_snapshot() -> None:
    disk, _ = pruned_often()
    data = disk.read(SNAPSHOT)
    for at in range(0, data.index(b'"head":'), 23):  # Beyond, a change makes it a foreign file, to be merged.
        damaged = bytearray(data)
        damaged[at] ^= 1
        disk.write(SNAPSHOT, bytes(damaged))
        assert detected(disk), str(at)


def a_missing_line() -> None:
    disk = ModelDisk()
    filled(2)(disk)
    (path,) = segments(disk)
    lines = disk.read(path).splitlines(keepends=True)
    disk.write(path, b"".join(lines[:2] + lines[3:]))
    assert detected(disk)


def a_torn_tail_is_kept() -> None:
    disk = ModelDisk()
    state = filled(3, torn=b'{"crc":"12345678","seq":99,"half of it')(disk)
    manager = manager_on(disk.process())
    perform(manager, add(10))
    kept = [data for path, data in disk.tree().items() if "/quarantine/" in path]
    assert b'{"crc":"12345678","seq":99,"half of it' in kept
    assert contents(manager_on(disk.process())) == expect(state, add(10))


def an_empty_snapshot() -> None:
    for data in (b"", bytes(100), b"{", b"null"):
        disk = ModelDisk()
        disk.write(SNAPSHOT, data)
        with pytest.raises(SnapshotUnreadableError):
            contents(manager_on(disk.process()))


def a_foreign_write_in_the_last_moment() -> None:
    disk = ModelDisk()
    state = filled(3, fold=True)(disk)
    manager = manager_on(disk.process())
    perform(manager, add(10))
    state = expect(state, add(10))
    foreign = {
        "sessions": {
            "ses_1": {"id": "ses_1", "title": "theirs", "messageIds": ["msg_1"], "createdAt": 1, "updatedAt": 2}
        },
        "messages": {
            "msg_1": {"id": "msg_1", "sessionId": "ses_1", "role": "user", "content": "from them", "createdAt": 1}
        },
    }
    original: Callable[..., int] = checkpoint.write_snapshot
    written: list[int] = []

    def write(fs: FileSystem, path: str, view: View, now: int) -> int:
        size = original(fs, path, view, now)
        if not written:
            disk.write(SNAPSHOT, encode(foreign))
            written.append(size)
        return size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "write_snapshot", write)
        manager.checkpoint(WS)
    assert written
    for each in (manager, manager_on(disk.process())):
        found = contents(each)
        assert found["theirs"].shown == ("from them",)
        assert {title: found[title] for title in state} == state


def os_lives() -> None:
    for seed in range(250):
        run_life(at_random(seed), "os")


def torn_groups() -> None:
    """Every prefix of a transaction's bytes: all of it or nothing of it."""
    disk = ModelDisk()
    state = filled(1)(disk)
    (path,) = segments(disk)
    before = len(disk.read(path))
    step = Step("group", "chat", ("one", "two", "new"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SEGMENT_BYTES", 1 << 20)
        perform(manager_on(disk.process()), step)
    data = disk.read(path)
    for size in range(before, len(data), 3):
        disk.write(path, data[:size])
        assert contents(manager_on(disk.process())) == state
    disk.write(path, data)
    assert contents(manager_on(disk.process())) == expect(state, step)


def power_loss_while_sealing() -> None:
    """Of what was written to seal a segment any part may have reached the disk."""
    sealed = 0
    for nth in range(1, 10):
        disk = ModelDisk()
        state = filled(2)(disk)
        disk.settle()
        process = disk.process()
        manager = manager_on(process)
        process.die_at(nth, op="datasync")
        allowed = [state]
        try:
            for number in range(10, 40):
                allowed = [state, expect(state, add(number))]
                perform(manager, add(number))
                state = allowed[-1]
        except Killed:
            assert not process.alive
        if b'"seal":' not in disk.read(segments(disk)[-1]):
            continue
        sealed += 1
        for seed in range(60):
            image = disk.crash(at_random(seed))
            survivor = manager_on(image.process())
            found = contents(survivor)
            assert found in allowed
            perform(survivor, add(99))
            assert contents(manager_on(image.process())) == expect(found, add(99))
            assert survivor.check(WS).ok, survivor.check(WS).problems
    assert sealed


def sealing_over_a_tail() -> None:
    """The seal must be the last line of the file: whoever reads it looks for it at the end."""
    disk = ModelDisk()
    state = filled(2, torn=b"garbage" * 900)(disk)
    manager = manager_on(disk.process())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "FLOOR", 1 << 20)  # Folded, the segment would be pruned.
        for number in range(10, 16):
            perform(manager, add(number, 450))
            state = expect(state, add(number, 450))
    assert len(segments(disk)) > 1
    assert manager.check(WS).ok, manager.check(WS).problems
    assert contents(manager_on(disk.process())) == state


def previous_snapshot() -> None:
    disk = ModelDisk()
    filled(3, fold=True)(disk)
    before = disk.read(SNAPSHOT)
    manager = manager_on(disk.process())
    perform(manager, add(10))
    manager.checkpoint(WS)
    assert disk.read(f"{SNAPSHOT}.prev") == before


def what_a_failed_append_leaves() -> None:
    disk = ModelDisk()
    filled(2)(disk)
    tree = {path: data for path, data in disk.tree().items() if not path.endswith("/lock")}
    process = disk.process()
    manager = manager_on(process)
    with process.inject(errno.ENOSPC, op="pwrite_all", effect="part"), pytest.raises(DiskFullError):
        perform(manager, add(10))
    assert {path: data for path, data in disk.tree().items() if not path.endswith("/lock")} == tree
