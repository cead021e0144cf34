"""Another program writes `sessions.json` at each moment of a checkpoint and of a commit, on the model file system.

"Moment" is a call of the file system: before the first, the second, … until the operation has no more of them.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.clock import ManualClock
from nomad_sessions.workspace import store
from tests.processes.node import contents
from tests.support.modelfs import ModelDisk
from tests.support.modelprocess import ModelFS

T = TypeVar("T")
PATH = "/data/ws/sessions.json"


class Interrupted(ModelFS):
    """A process into whose calls another one comes: `act` runs before the `at`-th call from `arm` on."""

    def __init__(self, disk: ModelDisk, pid: int) -> None:
        super().__init__(disk, pid)
        self.acts: dict[int, Callable[[], None]] = {}
        self.count = 0

    def arm(self, acts: dict[int, Callable[[], None]]) -> None:
        self.count, self.acts = 0, dict(acts)

    def _call(self, op: str, path: str, act: Callable[[], T], *args: object, **more: Any) -> T:
        self.count += 1
        for at in [each for each in self.acts if each <= self.count]:
            self.acts.pop(at)()
        return super()._call(op, path, act, *args, **more)


class Stale:
    """A foreign program: it has read the file once, and writes its own growing view of it, in place."""

    def __init__(self, disk: ModelDisk) -> None:
        self.fs = disk.process()
        self.disk = disk
        self.data: dict[str, Any] = json.loads(disk.read(PATH))
        self.fd = -1

    def add(self, name: str) -> bytes:
        self.data["messages"][name] = {"id": name, "sessionId": "s1", "role": "user", "content": name}
        self.data["sessions"]["s1"]["messageIds"].append(name)
        return json.dumps(self.data, indent=2).encode()

    def replace(self, old: str, new: str) -> bytes:
        self.data = json.loads(json.dumps(self.data).replace(f'"{old}"', f'"{new}"'))
        return json.dumps(self.data, indent=2).encode()

    def open(self) -> None:
        self.fd = self.fs.open(PATH, os.O_RDWR)

    def truncate(self) -> None:
        self.fs.truncate(self.fd, 0)

    def write(self, raw: bytes) -> None:
        self.fs.pwrite_all(self.fd, raw, 0)

    def whole(self, raw: bytes) -> None:
        self.open()
        self.truncate()
        self.write(raw)


def scene(*, foreign: bool) -> tuple[ModelDisk, Interrupted, NativeSessionManager, Stale]:
    """A folded workspace, read by a foreign program, with one message of ours in the journal since."""
    disk = ModelDisk()
    fs = Interrupted(disk, 77)
    manager = NativeSessionManager("/data", filesystem=fs, clock=ManualClock(1_750_000_000_000))
    manager.create_session("ws", id="s1")
    manager.add_message("ws", "s1", role="user", content="first")
    manager.checkpoint("ws")
    manager.add_message("ws", "s1", role="user", content="second")
    manager.checkpoint("ws")
    stale = Stale(disk)
    manager.add_message("ws", "s1", role="user", content="ours")
    if foreign:
        stale.whole(stale.add("one"))
    return disk, fs, manager, stale


def commit(manager: NativeSessionManager) -> None:
    manager.add_message("ws", "s1", role="user", content="more")


def fold(manager: NativeSessionManager) -> None:
    manager.checkpoint("ws")


def settled(disk: ModelDisk, manager: NativeSessionManager) -> set[str]:
    """What is there in the end, for this handle and for one that opens afresh."""
    commit(manager)
    fold(manager)
    texts = contents(manager, "s1")
    manager.close()
    with NativeSessionManager("/data", filesystem=disk.process()) as other:
        assert contents(other, "s1") == texts
        report = other.check("ws")
        assert report.ok, report.problems
        other.checkpoint("ws")
        assert contents(other, "s1") == texts
    plain = json.loads(disk.read(PATH))
    assert [plain["messages"][each]["content"] for each in plain["sessions"]["s1"]["messageIds"]] == texts
    assert len(texts) == len(set(texts)) + texts.count("more") - 1
    return set(texts)


@pytest.mark.parametrize("operation", [commit, fold])
@pytest.mark.parametrize("foreign", [False, True], ids=["over-ours", "over-a-foreign-file"])
def test_a_whole_write_at_any_moment_is_merged(operation: Callable[[Any], None], foreign: bool) -> None:
    for moment in itertools.count(1):
        disk, fs, manager, stale = scene(foreign=foreign)
        raw = stale.add("theirs")
        fs.arm({moment: partial(stale.whole, raw)})
        operation(manager)
        fired = not fs.acts
        fs.arm({})
        if not fired:
            assert moment > 3
            break
        expected = {"first", "second", "ours", "more", "theirs", *(["one"] if foreign else [])}
        assert settled(disk, manager) == expected, f"at call {moment}"


@pytest.mark.parametrize("operation", [commit, fold])
def test_a_rewrite_of_the_same_size_within_one_tick_at_any_moment_is_merged(operation: Callable[[Any], None]) -> None:
    for moment in itertools.count(1, 3):
        disk, fs, manager, stale = scene(foreign=True)
        # Over what it had written itself, in the file that it has open, whatever that is by now.
        fs.arm({moment: partial(stale.write, stale.replace("first", "FIRST"))})
        operation(manager)
        fired = not fs.acts
        fs.arm({})
        if not fired:
            break
        assert {"second", "ours", "more", "one"} <= settled(disk, manager), f"at call {moment}"


@pytest.mark.parametrize("gap", [1, 4, 15, 40])
def test_a_write_in_three_steps_over_any_moments_of_a_checkpoint_is_merged(gap: int) -> None:
    for moment in itertools.count(1):
        disk, fs, manager, stale = scene(foreign=False)
        raw = stale.add("theirs")
        steps: list[Callable[[], None]] = [
            stale.open,
            stale.truncate,
            partial(stale.write, raw[:40]),
            partial(stale.write, raw),
        ]
        fs.arm({moment + number * gap: step for number, step in enumerate(steps)})
        fold(manager)
        started = len(fs.acts) < len(steps)
        late = [fs.acts[at] for at in sorted(fs.acts)]
        fs.arm({})
        if not started:
            break
        for step in late:
            step()
        assert settled(disk, manager) == {"first", "second", "ours", "more", "theirs"}, f"at call {moment}, gap {gap}"


@pytest.mark.parametrize("at_commit", [False, True], ids=["checkpoint", "commit"])
def test_a_reader_is_right_at_any_moment_of_our_writer(at_commit: bool) -> None:
    operation = commit if at_commit else fold
    for moment in itertools.count(1, 2):
        disk, fs, manager, stale = scene(foreign=True)
        seen: list[list[str]] = []

        def look(disk: ModelDisk = disk, seen: list[list[str]] = seen) -> None:
            with NativeSessionManager("/data", filesystem=disk.process()) as reader:
                seen.append(contents(reader, "s1"))

        fs.arm({moment: look})
        operation(manager)
        if fs.acts:
            break
        assert {"first", "second", "ours", "one"} <= set(seen[0]), f"at call {moment}"
        assert stale.fd >= 0


@pytest.mark.parametrize("folded", [False, True], ids=["no-snapshot", "snapshot"])
@pytest.mark.parametrize("more", [0, 1], ids=["sealed", "sealed-and-gone-on"])
def test_a_segment_that_is_sealed_at_any_moment_of_opening_is_not_appended_to(
    folded: bool, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 1_000)
    for moment in itertools.count(1):
        disk = ModelDisk()
        clock = ManualClock(1_750_000_000_000)
        other = NativeSessionManager("/data", filesystem=disk.process(), clock=clock)
        other.create_session("ws", id="s1")
        if folded:
            other.checkpoint("ws")
        other.add_message("ws", "s1", role="user", content="first")
        fs = Interrupted(disk, 77)
        ours = NativeSessionManager("/data", filesystem=fs, clock=clock)
        fs.arm({moment: partial(sealing, other, more)})
        ours.get_session("ws", "s1")
        fired = not fs.acts
        fs.arm({})
        if not fired:
            assert moment > 5
            break
        ours.add_message("ws", "s1", role="user", content="ours")
        other.add_message("ws", "s1", role="user", content="more")
        texts = {"first", "sealing " * 100, *(f"{number}" for number in range(more)), "ours", "more"}
        other.close()
        assert settled(disk, ours) == texts, f"at call {moment}"


def sealing(manager: NativeSessionManager, more: int) -> None:
    """What fills a segment; then as much as goes into its successor."""
    manager.add_message("ws", "s1", role="user", content="sealing " * 100)
    for number in range(more):
        manager.add_message("ws", "s1", role="user", content=f"{number}")
