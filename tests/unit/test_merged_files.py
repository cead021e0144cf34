"""A program that rewrites `sessions.json` after each change leaves a bounded number of its files in quarantine; and of
a file that has something which the store has not, none is ever removed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage.codec import encode
from nomad_sessions.workspace import recovery
from nomad_sessions.workspace.adopt import SPENT
from tests.crash.life import DATA, manager_on
from tests.support.drawing import at_random
from tests.support.modelfs import MUTATING, Killed, ModelDisk

WS = "w"
FOLDER = f"{DATA}/{WS}"
SNAPSHOT = f"{FOLDER}/sessions.json"
Body = dict[str, Any]


class StaleWriter:
    """Reads the file once, keeps it in memory and writes all of it back, in place, after each change."""

    def __init__(self, disk: ModelDisk, name: str = "theirs") -> None:
        self.disk = disk
        self.name = name
        self.data: Body = json.loads(disk.read(SNAPSHOT))
        self.written: list[bytes] = []
        self.time = 2_000_000_000_000

    def session(self, name: str) -> None:
        self.data["sessions"][name] = {"id": name, "title": name, "messageIds": [], "createdAt": 1, "updatedAt": 1}

    def says(self, session: str, text: str, **fields: Any) -> str:
        """Adds a message."""
        self.time += 1
        name = f"{self.name}-{self.time}"
        record = {"id": name, "sessionId": session, "role": "user", "content": text, "createdAt": self.time}
        self.data["messages"][name] = {**record, "updatedAt": self.time, **fields}
        self.data["sessions"][session]["messageIds"].append(name)
        self.data["sessions"][session]["updatedAt"] = self.time
        return name

    def streams(self, name: str, delta: str) -> None:
        self.time += 1
        self.data["messages"][name]["content"] += delta
        self.data["messages"][name]["updatedAt"] = self.time

    def write(self, raw: bytes | None = None) -> bytes:
        raw = json.dumps(self.data, indent=2).encode() if raw is None else raw
        self.disk.write(SNAPSHOT, raw)
        self.written.append(raw)
        return raw


@pytest.fixture
def disk() -> ModelDisk:
    disk = ModelDisk()
    manager = manager_on(disk.process())
    for session in ("one", "two"):
        manager.create_session(WS, title=session, id=session)
        for number in range(3):
            manager.add_message(WS, session, role="user", content=f"{number}", id=f"{session}-{number}")
    manager.checkpoint(WS)
    return disk


def kept(disk: ModelDisk) -> dict[str, bytes]:
    """The files of other programs in quarantine."""
    folder = f"{FOLDER}/quarantine/"
    return {
        path.removeprefix(folder): disk.read(path) for path in disk.tree() if path.startswith(f"{folder}sessions.json")
    }


def texts(manager: NativeSessionManager, session: str) -> list[str]:
    return [each.content for each in manager.get_session_messages(WS, session)]


def take_in(manager: NativeSessionManager) -> None:
    """A write of ours, and the checkpoint that follows a merge."""
    manager.add_message(WS, "two", role="user", content="ours")
    manager.checkpoint(WS)


def test_sixty_rewrites_leave_a_handful_of_files_and_everything_that_they_said(disk: ModelDisk) -> None:
    manager = manager_on(disk.process())
    writer = StaleWriter(disk)
    most = 0
    for number in range(20):
        answer = writer.says("one", f"answer {number}: ", status="streaming")
        for delta in ("half", " and whole"):
            writer.write()
            take_in(manager)
            writer.streams(answer, delta)
            most = max(most, len(kept(disk)))
        writer.write()
        take_in(manager)
    assert most <= SPENT + 1
    assert texts(manager, "one") == ["0", "1", "2", *(f"answer {number}: half and whole" for number in range(20))]
    assert texts(manager, "two") == ["0", "1", "2", *["ours"] * 60]
    assert set(writer.written[-SPENT:]) <= set(kept(disk).values())
    assert manager.check(WS).ok


def test_two_writers_and_deletions_of_ours_in_between_leave_a_handful_too(disk: ModelDisk) -> None:
    manager = manager_on(disk.process())
    one = StaleWriter(disk, "first")
    manager.add_message(WS, "two", role="user", content="newer", id="newer")
    manager.checkpoint(WS)
    other = StaleWriter(disk, "second")
    manager.delete_message(WS, "two-1")
    for number in range(20):
        for writer in (one, other):
            writer.says("one", f"{writer.name} {number}")
            writer.write()
            take_in(manager)
    assert len(kept(disk)) <= SPENT + 2
    found = texts(manager, "one")
    assert {f"{name} {number}" for name in ("first", "second") for number in range(20)} <= set(found)
    assert "1" not in texts(manager, "two")


def test_a_program_that_reads_afresh_before_each_change_leaves_a_handful_too(disk: ModelDisk) -> None:
    manager = manager_on(disk.process())
    for number in range(20):
        writer = StaleWriter(disk, f"run{number}")
        writer.says("one", f"{number + 3}")
        writer.write()
        take_in(manager)
    assert len(kept(disk)) <= SPENT + 4
    assert texts(manager, "one") == [f"{number}" for number in range(23)]


def twice(writer: StaleWriter) -> bytes:
    raw = json.dumps(writer.data).encode()
    return raw.replace(b'"sessions": {', b'"sessions": {"lost": {"title": "only here"}}, "sessions": {', 1)


def out_of_place(writer: StaleWriter) -> bytes:
    data = copy.deepcopy(writer.data)
    data["messages"]["note"] = "only here"
    return json.dumps(data).encode()


def in_conflict(writer: StaleWriter) -> bytes:
    data = copy.deepcopy(writer.data)
    data["sessions"]["one"].update(title="only here", updatedAt=1)
    return json.dumps(data).encode()


@pytest.mark.parametrize("odd", [twice, out_of_place, in_conflict])
def test_a_file_with_something_that_the_store_has_not_is_never_removed(disk: ModelDisk, odd: Any) -> None:
    manager = manager_on(disk.process())
    writer = StaleWriter(disk)
    if odd is in_conflict:
        manager.update_session(WS, "one", title="ours")
    precious = b""
    for number in range(30):
        writer.says("one", f"{number + 3}")
        if number == 5:
            precious = writer.write(odd(writer))
        else:
            writer.write()
        take_in(manager)
    assert precious in kept(disk).values()
    assert len(kept(disk)) <= SPENT + 3
    assert texts(manager, "one") == [f"{number}" for number in range(33)]


def test_files_that_nobody_can_read_and_files_of_somebody_else_stay(disk: ModelDisk) -> None:
    manager = manager_on(disk.process())
    others = {
        f"{FOLDER}/quarantine/{name}": name.encode()
        for name in ("sessions.json.foreign", "sessions.json.merged-1-00000000", "notes", "0000000000000001.jsonl.44")
    }
    for path, data in others.items():
        disk.write(path, data)
    writer = StaleWriter(disk)
    for number in range(12):
        writer.says("one", f"{number}")
        writer.write()
        take_in(manager)
    assert {path: disk.read(path) for path in others} == others


def bases(disk: ModelDisk) -> set[str]:
    """The files in quarantine that the next merge starts from."""
    view = recovery.load(disk.process(), FOLDER, wait=False).view
    files: dict[str, str] = view.settings().get("merged", {}).get("files", {})
    return set(files.values())


def test_whenever_the_process_dies_or_the_power_fails_nothing_said_is_lost_nor_what_the_next_merge_needs() -> None:
    died = 0
    for nth in range(1, 400):
        disk = ModelDisk()
        manager = manager_on(disk.process())
        manager.create_session(WS, title="one", id="one")
        manager.create_session(WS, title="two", id="two")
        manager.checkpoint(WS)
        writer = StaleWriter(disk)
        for number in range(SPENT + 2):
            writer.says("one", f"{number}")
            writer.write()
            take_in(manager)
        writer.says("one", "last")
        writer.write()
        disk.settle()
        process = disk.process()
        process.die_at(nth, op=MUTATING, effect=("all", "part", "none")[nth % 3])
        finished = False
        try:
            take_in(manager_on(process))
            finished = True
        except Killed:
            died += 1
        for image in (disk, disk.crash(at_random(nth))):
            assert bases(image) <= set(kept(image))
            survivor = manager_on(image.process())
            assert texts(survivor, "one") == [*(f"{number}" for number in range(SPENT + 2)), "last"]
            take_in(survivor)
            assert bases(image) <= set(kept(image))
            assert survivor.check(WS).ok
        if finished:
            break
    assert died > 10
    assert finished


def test_the_setting_can_name_no_file_outside_of_quarantine(disk: ModelDisk) -> None:
    manager = manager_on(disk.process())
    writer = StaleWriter(disk)
    writer.says("one", "3")
    writer.write()
    take_in(manager)
    path = f"{FOLDER}/precious"
    disk.write(path, b"mine")
    names = [f"sessions.json.merged-{number}/../../precious" for number in range(SPENT + 3)]
    mark = {"digest": "", "files": {}, "spent": names}
    workspace = manager.workspace(WS)
    change = {"type": "workspace.configured", "sessionId": "", "settings": {"merged": mark}}
    workspace.commit(lambda _view, _stamp: ([change], lambda _: None))
    manager.checkpoint(WS)
    assert disk.read(path) == b"mine"
    assert encode(mark) in disk.read(SNAPSHOT)
