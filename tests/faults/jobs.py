"""What the tested processes do. Each is a job for a zygote: it emits what the test has to know outside of it."""

from __future__ import annotations

import encodings.utf_16_le  # noqa: F401 - lone surrogates need it: imported here, before anybody counts calls
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomad_sessions import CorruptionError, ManualClock, NativeSessionManager, NomadSessionsError
from nomad_sessions.workspace import folding, store
from tests.support.lives import LIFE, WS, Step, perform, state_of
from tests.support.zygote import Emit

__all__ = ["foreign_rewrite", "heal", "inspect", "live", "manager_in", "plant_torn_tail", "tree"]

SEGMENT = 1200
_START = 1_750_000_000_000


def manager_in(folder: str, *, segment: int = SEGMENT, durability: Any = "full") -> NativeSessionManager:
    """A manager whose journal rotates after a few messages, so that a short life meets every kind of file."""
    store.SEGMENT_BYTES = segment
    folding._ROTATE_ABOVE = segment // 2
    return NativeSessionManager(folder, durability=durability, lock_timeout=0.5, clock=ManualClock(_START))


def live(
    emit: Emit, folder: str, *, durability: str = "full", segment: int = SEGMENT, after: int = 0, steps: int = len(LIFE)
) -> None:
    """Lives the life from step `after` up to step `steps` and acknowledges each. The first error ends it: it is
    emitted, with what the same handle says and does then."""
    manager = manager_in(folder, segment=segment, durability=durability)
    for number, step in enumerate(LIFE[after:steps], after):
        try:
            if step.do == "reopen":
                manager.close()
                manager = manager_in(folder, segment=segment, durability=durability)
            else:
                perform(manager, step)
        except (NomadSessionsError, OSError) as error:
            emit({"failed": _named(error), "step": number, **_after_error(manager, number)})
            return
        emit({"acked": number})
    emit({"complete": True})


def _named(error: BaseException) -> list[Any]:
    return [type(error).__name__, getattr(error, "errno", None), str(error)]


def _after_error(manager: NativeSessionManager, number: int) -> dict[str, Any]:
    """What the handle shows after an error, and whether it takes another write."""
    seen: dict[str, Any] = {"again": None, "state": None}
    try:
        seen["state"] = state_of(manager)
    except (NomadSessionsError, OSError) as error:
        seen["unreadable"] = _named(error)
    if LIFE[number].do == "reopen":
        return seen
    try:
        manager.create_session(WS, title="after the error")
        seen["again"] = "ok"
    except (NomadSessionsError, OSError) as error:
        seen["again"] = type(error).__name__
    return seen


def inspect(emit: Emit, folder: str) -> None:
    """Reads a store as a crash left it, then goes on with it: two writes (the second one after a checkpoint)."""
    before = tree(folder)
    manager = manager_in(folder)
    report = manager.check(WS)
    found: dict[str, Any] = {"ok": report.ok, "problems": [str(each) for each in report.problems]}
    found["state"] = state_of(manager)
    manager.close()
    found["untouched"] = tree(folder) == before
    manager = manager_in(folder)
    perform(manager, Step("create", "going on"))
    manager.checkpoint(WS)
    perform(manager, Step("add", "going on", ["still here"]))
    manager.clear_workspace(WS)
    manager = manager_in(folder)
    found["after"] = state_of(manager)
    report = manager.check(WS)
    found["ok_after"] = report.ok
    found["problems"] += [str(each) for each in report.problems]
    found["leftovers"] = [name for name in os.listdir(f"{folder}/{WS}") if ".tmp" in name]
    emit(found)


def tree(folder: str) -> str:
    """A hash over every name, mode, size, inode, time and byte below a folder."""
    digest = hashlib.sha256()
    for path in _below(Path(folder)):
        stat = path.lstat()
        digest.update(json.dumps([str(path), stat.st_mode, stat.st_ino, stat.st_size, stat.st_mtime_ns]).encode())
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _below(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*")))


def plant_torn_tail(emit: Emit, folder: str, *, cut: int, stale: bool) -> None:
    """The first steps of the life, then half a record at the end of the journal and perhaps a stale temporary file."""
    live(emit, folder, steps=4)
    segment = max(Path(folder, WS, "journal").iterdir())
    with segment.open("ab") as journal:
        journal.write(b'{"crc":"c2e123ec","seq":5,"id":"01JXT21Q00372AC6PRTXRRGYZ6","ts":1750000000000,"dur'[:cut])
    if stale:
        Path(folder, WS, "sessions.json.1.tmp").write_bytes(b"{")


def heal(emit: Emit, folder: str) -> None:
    """Opens, reads, writes (which cuts the torn tail off) and folds."""
    manager = manager_in(folder)
    emit({"seen": state_of(manager)})
    perform(manager, Step("add", "one", ["healed"]))
    emit({"acked": 0})
    manager.checkpoint(WS)
    emit({"acked": 1})


def foreign_rewrite(emit: Emit, folder: str) -> None:
    """The first steps of the life; then another program reads `sessions.json` and writes it back, stale, with a
    message of its own in the first session and a session of its own, while ours has gone on."""
    live(emit, folder, steps=5)
    path = Path(folder, WS, "sessions.json")
    theirs = json.loads(path.read_text(encoding="utf-8"))
    session = next(iter(theirs["sessions"].values()))
    message = {"id": "m-node", "sessionId": session["id"], "role": "user", "content": "from node", "createdAt": 1}
    theirs["messages"]["m-node"] = message
    session["messageIds"].append("m-node")
    theirs["sessions"]["s-node"] = {"id": "s-node", "workspaceId": WS, "title": "node's", "messageIds": ["m-own"]}
    theirs["messages"]["m-own"] = {"id": "m-own", "sessionId": "s-node", "role": "user", "content": "in its own"}
    manager = manager_in(folder)
    perform(manager, Step("create", "ours"))
    perform(manager, Step("add", "ours", ["not in their view"]))
    path.write_text(json.dumps(theirs, indent=2), encoding="utf-8")


def merge(emit: Emit, folder: str) -> None:
    """Writes to a store that another program has rewritten, and folds."""
    manager = manager_in(folder)
    perform(manager, Step("add", "ours", ["after theirs"]))
    emit({"acked": 0})
    manager.checkpoint(WS)
    emit({"acked": 1})


def move(emit: Emit, folder: str) -> None:
    """Moves the session with an attachment to another workspace."""
    manager = manager_in(folder)
    session = next(each for each in manager.list_sessions(WS) if each.title == "three")
    manager.move_session(WS, session.id, to_workspace="elsewhere")
    emit({"acked": 0})


def delete(emit: Emit, folder: str) -> None:
    """Deletes the workspace."""
    manager_in(folder).delete_workspace(WS)
    emit({"acked": 0})


def inspect_deleted(emit: Emit, folder: str) -> None:
    """What is visible of a half-deleted workspace; then deletes it again."""
    seen: Any = "gone"
    manager = manager_in(folder)
    if WS in manager.list_workspaces():
        try:
            seen = state_of(manager)
        except CorruptionError:
            seen = "refused"
        manager.delete_workspace(WS)
    emit({"seen": seen, "listed_after": WS in manager_in(folder).list_workspaces()})


def inspect_moved(emit: Emit, folder: str) -> None:
    """Both workspaces of a move that was killed; then moves again, unless it had been finished."""
    manager = manager_in(folder)
    there = "elsewhere"
    problems = [str(each) for ws in (WS, there) for each in manager.check(ws).problems]
    found: dict[str, Any] = {"here": state_of(manager), "there": state_of(manager, there)}
    manager.close()
    if "three" in found["here"]:
        move(lambda _: None, folder)
    manager = manager_in(folder)
    problems += [str(each) for ws in (WS, there) for each in manager.check(ws).problems]
    emit({**found, "here_after": state_of(manager), "there_after": state_of(manager, there), "problems": problems})


def add_many(emit: Emit, folder: str, *, count: int, durability: str) -> None:
    """Adds messages of 1 KB to one session, acknowledging each."""
    manager = manager_in(folder, segment=1 << 20, durability=durability)
    session = manager.create_session(WS, title="one")
    for number in range(count):
        manager.add_message(WS, session.id, role="user", content="x" * 1000)
        emit({"acked": number})
