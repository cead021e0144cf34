"""Somebody deletes the lock file while its holder is at work, and another process takes the new one. The holder notices
before it does what cannot be taken back: it writes nothing where the other may be writing. Promise 24."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import CorruptionError, LockTimeoutError, NativeSessionManager
from nomad_sessions.storage.codec import encode
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.workspace import checkpoint, folding, repair, store
from tests.crash.finders import FOLDER, SNAPSHOT, segments
from tests.crash.life import manager_on
from tests.crash.model import WS, State, contents, expect, perform
from tests.crash.test_every_call import add, filled
from tests.support.modelfs import ModelDisk

FOREIGN = {
    "sessions": {"ses_1": {"id": "ses_1", "title": "theirs", "messageIds": ["msg_1"], "createdAt": 1, "updatedAt": 2}},
    "messages": {"msg_1": {"id": "msg_1", "sessionId": "ses_1", "role": "user", "content": "hello", "createdAt": 1}},
}


class Thief:
    """Deletes the lock file at a given call, once, and holds the new one for as long as it likes."""

    def __init__(self, disk: ModelDisk) -> None:
        self.disk = disk
        self.other = disk.process()
        self.lock = StoreLock(self.other, f"{FOLDER}/lock", 0.0)
        self.before: dict[str, bytes | None] | None = None

    def strike(self, patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        """Strikes when this function of the module has done its work."""
        original = getattr(module, name)

        def struck(*args: Any, **kwargs: Any) -> Any:
            value = original(*args, **kwargs)
            self.take()
            return value

        patch.setattr(module, name, struck)

    def take(self) -> None:
        if self.before is None:
            self.other.unlink(f"{FOLDER}/lock")
            self.lock.acquire()
            self.before = self.files()

    def files(self) -> dict[str, bytes | None]:
        """What a process without the lock must leave alone."""
        return {
            path: data
            for path, data in self.disk.tree().items()
            if path.startswith(f"{FOLDER}/journal/") or path in (SNAPSHOT, f"{SNAPSHOT}.prev")
        }

    def assert_nothing_changed(self) -> None:
        assert self.before is not None, "it never struck"
        assert self.files() == self.before


@pytest.fixture
def disk() -> ModelDisk:
    return ModelDisk()


@pytest.fixture
def state(disk: ModelDisk) -> State:
    return filled(3, fold=True)(disk)


@pytest.fixture
def manager(disk: ModelDisk, state: State) -> NativeSessionManager:
    manager = manager_on(disk.process())
    perform(manager, add(10))
    return manager


def test_a_checkpoint_replaces_nothing_without_the_lock(
    disk: ModelDisk, state: State, manager: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief = Thief(disk)
    thief.strike(monkeypatch, checkpoint, "write_snapshot")
    with pytest.raises(LockTimeoutError):
        manager.checkpoint(WS)
    thief.assert_nothing_changed()
    thief.lock.release()
    assert manager.checkpoint(WS)
    assert contents(manager_on(disk.process())) == expect(state, add(10))
    assert manager.check(WS).ok


def test_a_segment_is_not_sealed_without_the_lock_and_the_commit_that_filled_it_stands(
    disk: ModelDisk, state: State, manager: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = expect(state, add(10))
    thief = Thief(disk)
    thief.strike(monkeypatch, store, "seal_of")
    count = len(segments(disk))
    monkeypatch.setattr(folding, "FLOOR", 1 << 20)
    for number in range(20, 40):
        perform(manager, add(number, 300))
        state = expect(state, add(number, 300))
        if thief.before is not None:
            break
    thief.assert_nothing_changed()
    assert len(segments(disk)) == count
    assert contents(manager_on(disk.process())) == state
    with pytest.raises(LockTimeoutError):
        perform(manager, add(50))
    thief.lock.release()
    for number in range(60, 70):
        perform(manager, add(number, 300))
        state = expect(state, add(number, 300))
    assert len(segments(disk)) > count
    assert manager.check(WS).ok
    assert contents(manager_on(disk.process())) == state


def test_a_merge_is_not_written_without_the_lock(
    disk: ModelDisk, state: State, manager: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write(SNAPSHOT, encode(FOREIGN))
    thief = Thief(disk)
    thief.strike(monkeypatch, store, "merge_foreign")
    with pytest.raises(LockTimeoutError):
        perform(manager, add(11))
    thief.assert_nothing_changed()
    thief.lock.release()
    perform(manager, add(11))
    found = contents(manager_on(disk.process()))
    assert found["theirs"].shown == ("hello",)
    assert {title: found[title] for title in state} == expect(expect(state, add(10)), add(11))
    assert manager.check(WS).ok


def test_what_was_written_into_a_displaced_file_is_not_merged_without_the_lock(
    disk: ModelDisk, state: State, manager: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.write(f"{SNAPSHOT}.4711.tmp", encode(FOREIGN))
    thief = Thief(disk)
    thief.strike(monkeypatch, folding, "merge_foreign")
    with pytest.raises(LockTimeoutError):
        manager.checkpoint(WS)
    thief.assert_nothing_changed()
    thief.lock.release()
    manager.checkpoint(WS)
    assert contents(manager_on(disk.process()))["theirs"].shown == ("hello",)
    assert manager.check(WS).ok


def damage_a_seal(disk: ModelDisk) -> None:
    path = segments(disk)[0]
    disk.write(path, disk.read(path).replace(b'"lastSeq"', b'"lostSeq"'))


def lose_a_record(disk: ModelDisk) -> None:
    path = segments(disk)[0]
    data = bytearray(disk.read(path))
    data[data.index(b'"seq"')] ^= 1
    disk.write(path, bytes(data))


REPAIRS: list[tuple[Any, str, Callable[[ModelDisk], None], bool]] = [
    (checkpoint, "write_snapshot", damage_a_seal, False),
    (repair, "_write", damage_a_seal, False),
    (checkpoint, "write_snapshot", lose_a_record, True),
    (repair, "_write", lose_a_record, True),
]


@pytest.mark.parametrize(("module", "name", "damage", "drop"), REPAIRS)
def test_a_repair_replaces_and_removes_nothing_without_the_lock(
    disk: ModelDisk, module: Any, name: str, damage: Callable[[ModelDisk], None], drop: bool
) -> None:
    state = filled(12)(disk)
    damage(disk)
    manager = manager_on(disk.process())
    thief = Thief(disk)
    with pytest.MonkeyPatch.context() as patch:
        thief.strike(patch, module, name)
        with pytest.raises(LockTimeoutError):
            manager.repair(WS, drop_corrupt=drop)
    thief.assert_nothing_changed()
    thief.lock.release()
    with pytest.MonkeyPatch.context() as patch:
        again = Thief(disk)
        again.lock = StoreLock(again.other, f"{FOLDER}/other-lock", 0.0)  # Deleted, and taken by nobody.
        again.strike(patch, module, name)
        with pytest.raises(CorruptionError, match="removed the lock file"):
            manager.repair(WS, drop_corrupt=drop)
        again.assert_nothing_changed()
    assert manager.repair(WS, drop_corrupt=drop).after.ok
    if not drop:
        assert contents(manager_on(disk.process())) == state
