"""`sessions.json` is something else than anybody expects: a folder, a link, no file of sessions. Each has a clear
result, and nothing is lost: what was ours comes from `.prev` and the journal, what was there is merged or kept."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import JournalCorruptError, ManualClock, NativeSessionManager, SnapshotUnreadableError
from nomad_sessions.storage._os import REAL
from nomad_sessions.workspace import recovery

WS = "w"
LATER = 60_000
OURS = ["one", "two", "three", "in the journal"]
Change = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is in the middle of writing here."""
    monkeypatch.setattr(recovery, "_STABLE_WAIT", 0.02)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A workspace with a snapshot, `.prev` and a record that only the journal has."""
    manager = NativeSessionManager(tmp_path)
    manager.create_session(WS, title="t", id="s")
    for number, text in enumerate(OURS):
        if number in (1, len(OURS) - 1):
            manager.checkpoint(WS)
        manager.add_message(WS, "s", role="user", content=text, id=f"m{number}")
    manager.clear_workspace(WS)
    return tmp_path / WS / "sessions.json"


def messages(manager: NativeSessionManager) -> list[str]:
    return [each.content for each in manager.get_session_messages(WS, "s")]


def contents(snapshot: Path) -> list[str]:
    return messages(NativeSessionManager(snapshot.parent.parent))


def rewritten(change: Callable[[dict[str, dict[str, dict[str, object]]]], object]) -> Change:
    def write(path: Path) -> None:
        data = json.loads(path.read_bytes())
        change(data)
        path.write_text(json.dumps(data))

    return write


# No file of sessions: nothing of it can be merged, it is kept whole

UNREADABLE: dict[str, tuple[Change, str]] = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "an array": (lambda path: path.write_bytes(b"[" + path.read_bytes() + b"]"), "no session file"),
    "a string": (lambda path: path.write_bytes(b'"sessions"'), "no session file"),
    "an object of something else": (lambda path: path.write_bytes(b'{"a":1}'), "no session file"),
    "UTF-16": (lambda path: path.write_bytes(path.read_text("utf-8").encode("utf-16")), "not JSON"),
    "NaN": (rewritten(lambda data: data["messages"]["m1"].update(x=float("nan"))), "NaN is not JSON"),
    "Infinity": (rewritten(lambda data: data["sessions"]["s"].update(x=float("-inf"))), "-Infinity is not JSON"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_file_of_sessions_is_said_and_kept_and_written_afresh_when_nobody_goes_on_writing_it(
    snapshot: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, words = UNREADABLE[name]
    change(snapshot)
    raw = snapshot.read_bytes()
    assert contents(snapshot) == OURS
    clock = ManualClock(snapshot.stat().st_mtime_ns // 1_000_000 + 1)
    manager = NativeSessionManager(snapshot.parent.parent, clock=clock)
    (problem,) = manager.check(WS).problems
    assert (problem.kind, problem.path) == ("snapshot-unreadable", str(snapshot))
    assert words in problem.detail
    manager.add_message(WS, "s", role="user", content="goes on")
    assert snapshot.read_bytes() == raw, "somebody may be in the middle of writing it"
    clock.advance(LATER)
    with caplog.at_level(logging.WARNING, "nomad_sessions"):
        assert manager.checkpoint(WS)
    assert words in caplog.text
    assert manager.check(WS).ok
    kept = [each.read_bytes() for each in (snapshot.parent / "quarantine").iterdir()]
    assert raw in kept
    assert contents(snapshot) == [*OURS, "goes on"]
    assert set(json.loads(snapshot.read_bytes())["messages"]) >= {"m0", "m1", "m2", "m3"}


# A file of sessions, in an unusual spelling


def with_mark(path: Path) -> None:
    data = json.loads(path.read_bytes())
    data["messages"]["m9"] = {"id": "m9", "sessionId": "s", "role": "user", "content": "theirs", "createdAt": 1}
    data["sessions"]["s"]["messageIds"].append("m9")
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(data).encode())


def with_a_message_twice(path: Path) -> None:
    data = json.loads(path.read_bytes())
    record = {"id": "m9", "sessionId": "s", "role": "user", "createdAt": 1}
    data["sessions"]["s"]["messageIds"].append("m9")
    pairs = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in data["messages"].items()]
    pairs = [f'"m9":{json.dumps({**record, "content": text})}' for text in ("the first one", "theirs")] + pairs
    path.write_text(f'{{"sessions":{json.dumps(data["sessions"])},"messages":{{{",".join(pairs)}}}}}')


def with_sessions_twice(path: Path) -> None:
    with_mark(path)
    text = path.read_text("utf-8-sig")
    path.write_text('{"sessions":{"lost":{"id":"lost","title":"the first one"}},' + text[1:])


@pytest.mark.parametrize("change", [with_mark, with_a_message_twice, with_sessions_twice])
def test_a_byte_order_mark_and_keys_that_stand_twice_are_read_as_other_programs_read_them_and_the_bytes_kept(
    snapshot: Path, change: Change
) -> None:
    """Of keys that stand twice the last one counts, as in JavaScript and Python; the file itself goes to quarantine."""
    change(snapshot)
    raw = snapshot.read_bytes()
    assert sorted(contents(snapshot)) == sorted([*OURS, "theirs"])
    manager = NativeSessionManager(snapshot.parent.parent)
    manager.add_message(WS, "s", role="user", content="goes on")
    manager.checkpoint(WS)
    assert manager.check(WS).ok
    assert sorted(contents(snapshot)) == sorted([*OURS, "theirs", "goes on"])
    assert raw in [each.read_bytes() for each in (snapshot.parent / "quarantine").iterdir()]


# No file at all


@pytest.mark.parametrize("inside", [None, "notes.txt"])
@pytest.mark.skipif(sys.platform == "win32", reason="opening a folder is refused there")
def test_a_folder_in_its_place_stops_only_the_checkpoint(snapshot: Path, inside: str | None) -> None:
    snapshot.unlink()
    snapshot.mkdir()
    if inside is not None:
        (snapshot / inside).write_text("somebody's")
    assert contents(snapshot) == OURS
    clock = ManualClock(snapshot.stat().st_mtime_ns // 1_000_000 + LATER)
    manager = NativeSessionManager(snapshot.parent.parent, clock=clock)
    manager.configure_workspace(WS, fold="always")
    manager.add_message(WS, "s", role="user", content="goes on")
    for call in (manager.checkpoint, manager.repair):
        with pytest.raises(SnapshotUnreadableError, match="move away; the journal has everything") as caught:
            call(WS)
        assert caught.value.path == str(snapshot)
    (problem,) = manager.check(WS).problems
    assert (problem.kind, problem.path) == ("snapshot-unreadable", str(snapshot))
    manager.close()
    assert snapshot.is_dir()
    assert [each.name for each in snapshot.iterdir()] == ([inside] if inside else [])
    assert contents(snapshot) == [*OURS, "goes on"]
    if inside is not None:
        (snapshot / inside).unlink()
    snapshot.rmdir()
    again = NativeSessionManager(snapshot.parent.parent)
    assert again.checkpoint(WS)
    assert again.check(WS).ok
    assert contents(snapshot) == [*OURS, "goes on"]


@pytest.mark.parametrize("name", ["sessions.json", "sessions.json.prev", "lock"])
@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no place in folders there")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(snapshot: Path, name: str) -> None:
    path = snapshot.parent / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert contents(snapshot) == OURS
    with NativeSessionManager(snapshot.parent.parent) as manager:
        manager.add_message(WS, "s", role="user", content="goes on")
        if name == "sessions.json":
            with pytest.raises(SnapshotUnreadableError, match="a folder, a pipe or a device stands"):
                manager.checkpoint(WS)
            path.unlink()
        assert manager.checkpoint(WS)
        manager.check(WS)
    assert contents(snapshot) == [*OURS, "goes on"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no place in folders there")
def test_a_pipe_in_the_place_of_a_segment_is_damage(snapshot: Path) -> None:
    (segment,) = (snapshot.parent / "journal").iterdir()
    aside = segment.rename(snapshot.parent.parent / "aside")
    os.mkfifo(segment)
    with NativeSessionManager(snapshot.parent.parent) as manager:
        with pytest.raises(JournalCorruptError, match="it is no file") as caught:
            manager.add_message(WS, "s", role="user")
        assert caught.value.path == str(segment)
        assert str(segment) in [problem.path for problem in manager.check(WS).problems]
    aside.rename(segment)
    assert contents(snapshot) == OURS


# A link


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="symlinks need rights there")


@pytest.fixture
def target(snapshot: Path, tmp_path: Path) -> Path:
    """Where `sessions.json` leads, through two links; on the same file system."""
    target = tmp_path / "elsewhere" / "real.json"
    target.parent.mkdir()
    snapshot.rename(target)
    (tmp_path / "between").symlink_to(target)
    snapshot.symlink_to(os.path.join("..", "between"))
    return target


@needs_links
def test_the_file_behind_a_link_is_replaced_and_the_link_stays(snapshot: Path, target: Path) -> None:
    manager = NativeSessionManager(snapshot.parent.parent)
    manager.add_message(WS, "s", role="user", content="behind it")
    before = target.read_bytes()
    assert manager.checkpoint(WS)
    assert os.readlink(snapshot) == os.path.join("..", "between")
    assert b"behind it" in target.read_bytes()
    assert (snapshot.parent / "sessions.json.prev").read_bytes() == before
    assert [each.name for each in target.parent.iterdir()] == [target.name], "nothing is left beside it"
    assert manager.check(WS).ok
    assert contents(snapshot) == [*OURS, "behind it"]


@needs_links
def test_what_another_program_writes_through_a_link_or_behind_it_is_merged(snapshot: Path, target: Path) -> None:
    manager = NativeSessionManager(snapshot.parent.parent)
    with_mark(target)
    assert "theirs" in messages(manager)
    manager.checkpoint(WS)
    assert sorted(contents(snapshot)) == sorted([*OURS, "theirs"])
    assert snapshot.is_symlink()


@needs_links
def test_a_repair_writes_the_file_behind_the_link(snapshot: Path, target: Path) -> None:
    target.write_bytes(b"")
    manager = NativeSessionManager(snapshot.parent.parent)
    report = manager.repair(WS)
    assert report.after.ok
    assert snapshot.is_symlink()
    assert set(json.loads(target.read_bytes())["messages"]) == {"m0", "m1", "m2", "m3"}
    assert [each.name for each in target.parent.iterdir()] == [target.name]
    assert contents(snapshot) == OURS


@needs_links
def test_a_link_to_nowhere_stops_only_the_checkpoint(snapshot: Path, target: Path) -> None:
    """A disk that is not plugged in, say."""
    target.parent.rename(target.parent.with_name("away"))
    assert contents(snapshot) == OURS
    with NativeSessionManager(snapshot.parent.parent) as manager:
        manager.configure_workspace(WS, fold="always")
        manager.add_message(WS, "s", role="user", content="goes on")
        for call in (manager.checkpoint, manager.repair):
            with pytest.raises(SnapshotUnreadableError, match="that folder is not there"):
                call(WS)
        assert [each.kind for each in manager.doctor().findings] == ["dangling-link"]
    assert snapshot.is_symlink()
    target.parent.with_name("away").rename(target.parent)
    assert contents(snapshot) == [*OURS, "goes on"]
    again = NativeSessionManager(snapshot.parent.parent)
    assert again.checkpoint(WS)
    assert b"goes on" in target.read_bytes()


@needs_links
def test_a_link_to_a_file_that_is_not_there_yet_makes_it_there(snapshot: Path, target: Path) -> None:
    target.unlink()
    assert contents(snapshot) == OURS
    manager = NativeSessionManager(snapshot.parent.parent)
    assert manager.checkpoint(WS)
    assert snapshot.is_symlink()
    assert set(json.loads(target.read_bytes())["messages"]) == {"m0", "m1", "m2", "m3"}
    assert contents(snapshot) == OURS


def test_doctor_reports_a_damaged_index_and_does_not_fail_on_it(snapshot: Path) -> None:
    data = snapshot.read_bytes()
    at = data.index(b'"groups":[\n["') + 14
    snapshot.write_bytes(data[:at] + b"00000000" + data[at + 8 :])
    manager = NativeSessionManager(snapshot.parent.parent)
    assert [each.kind for each in manager.doctor().findings] == ["damaged"]
    assert contents(snapshot) == OURS
    assert manager.repair(WS).after.ok
    assert not manager.doctor().findings


class Patient(type(REAL)):  # type: ignore[misc]  # That of the platform.
    """Counts the waits; they take no time, but for the clock."""

    def __init__(self) -> None:
        self.waits = 0

    def sleep(self, seconds: float) -> None:
        self.waits += 1

    def monotonic(self) -> float:
        return self.waits * 0.01


@pytest.mark.parametrize(("age", "waits"), [(0, True), (9, True), (11, False), (-3600, True)])
def test_only_what_was_written_lately_is_waited_for(
    tmp_path: Path, snapshot: Path, age: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call would wait a second, for ever, once a file is damaged."""
    monkeypatch.setattr(recovery, "_STABLE_WAIT", 1.0)
    snapshot.write_text('{"sessions":')
    now = 1_750_000_000
    os.utime(snapshot, (now - age, now - age))
    fs = Patient()
    assert recovery.load(fs, str(snapshot.parent), wait=True, now=now * 1000).unreadable
    assert (fs.waits > 0) is waits
    fs = Patient()
    for each in [snapshot.with_name("sessions.json.prev"), *snapshot.parent.glob("journal/*")]:
        each.unlink()
    with pytest.raises(SnapshotUnreadableError):
        recovery.load(fs, str(snapshot.parent), wait=True, now=now * 1000)
    assert (fs.waits > 1) is waits, "once, to see that it stays as it is"
