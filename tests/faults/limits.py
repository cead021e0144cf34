"""Jobs that lower a limit of their own process. Each emits what it saw; the tests judge."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nomad_sessions import DiskFullError, NativeSessionManager, NomadSessionsError
from tests.faults.jobs import manager_in
from tests.support.lives import WS, state_of
from tests.support.zygote import Emit

__all__ = [
    "descriptors_after_close",
    "every_limit_of_an_append",
    "limits_of_a_checkpoint",
    "limits_of_a_rotation",
    "too_few_descriptors",
]

_LARGE = 1 << 20


@contextlib.contextmanager
def limited(name: str, value: int) -> Iterator[None]:
    """The soft limit alone: it can be raised again."""
    import resource  # Not on Windows, where this module is only collected.

    kind = getattr(resource, name)
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


def contents(manager: NativeSessionManager) -> list[str]:
    return state_of(manager)["one"].visible


def every_limit_of_an_append(emit: Emit, folder: str) -> None:
    """An append at each limit from the journal's size up to the size with the record, and one more."""
    manager = manager_in(folder, segment=_LARGE)
    session = manager.create_session(WS, title="one")
    journal = Path(folder, WS, "journal", "0000000000000001.jsonl")
    acked: list[str] = []
    room = 0
    while True:
        before = journal.read_bytes()
        text = f"{room:04} {'x' * 40}"
        try:
            with limited("RLIMIT_FSIZE", len(before) + room):
                manager.add_message(WS, session.id, role="user", content=text)
        except DiskFullError as error:
            emit({"limit": room, "error": type(error).__name__, **_kept(manager, journal, before, acked)})
        else:
            acked.append(text)
            break
        text = "after " + text
        manager.add_message(WS, session.id, role="user", content=text)
        acked.append(text)
        room += 1
    manager.clear_workspace(WS)
    ok = manager.check(WS).ok
    emit({"record": journal.stat().st_size - len(before), "acked": acked, "found": contents(manager), "ok": ok})


def _kept(manager: NativeSessionManager, journal: Path, before: bytes, acked: list[str]) -> dict[str, Any]:
    report = manager.check(WS)
    return {
        "size_kept": journal.stat().st_size == len(before),
        "bytes_kept": journal.read_bytes() == before,
        "readable": contents(manager) == acked == contents(NativeSessionManager(manager.data_dir)),
        "torn": report.torn,
        "ok": report.ok,
    }


def limits_of_a_checkpoint(emit: Emit, folder: str) -> None:
    """A checkpoint at limits up to the size of the new snapshot; what it would replace is a snapshot already."""
    manager = manager_in(folder, segment=_LARGE)
    session = manager.create_session(WS, title="one")
    acked = []
    for number in range(60):
        acked.append(manager.add_message(WS, session.id, role="user", content=f"{number} {'y' * 100}").content)
    manager.checkpoint(WS)
    path = Path(folder, WS, "sessions.json")
    size = path.stat().st_size
    for room in range(0, size, size // 40):
        acked.append(manager.add_message(WS, session.id, role="user", content=f"room {room}").content)
        before = path.read_bytes()
        try:
            with limited("RLIMIT_FSIZE", room):
                manager.checkpoint(WS)
        except DiskFullError as error:
            acked.append(manager.add_message(WS, session.id, role="user", content=f"after {room}").content)
            emit(
                {
                    "error": type(error).__name__,
                    "old_snapshot": path.read_bytes() == before,
                    "leftovers": [name for name in os.listdir(path.parent) if ".tmp" in name],
                    "appended": contents(manager) == acked,
                    "ok": manager.check(WS).ok,
                }
            )
    done = manager.checkpoint(WS)
    manager.clear_workspace(WS)
    emit({"checkpoint": done, "acked": contents(manager) == acked, "ok": manager.check(WS).ok})


def limits_of_a_rotation(emit: Emit, folder: str) -> None:
    """Appends with a limit that leaves room for the record, but not (yet) for the seal that is due."""
    segment = 2000
    manager = manager_in(folder, segment=segment)
    session = manager.create_session(WS, title="one")
    acked: list[str] = []
    postponed = 0
    for number in range(120):
        text = f"{number:04} {'x' * 40}"
        live = max(Path(folder, WS, "journal").iterdir())
        sealed = len(list(live.parent.iterdir()))
        try:
            with limited("RLIMIT_FSIZE", segment + 400 + 3 * number):
                acked.append(manager.add_message(WS, session.id, role="user", content=text).content)
        except DiskFullError:
            acked.append(manager.add_message(WS, session.id, role="user", content=text).content)
        postponed += live.stat().st_size >= segment and len(list(live.parent.iterdir())) == sealed
    rotated = len(list(live.parent.iterdir())) > 2
    manager.clear_workspace(WS)
    report = manager.check(WS)
    emit({"postponed": postponed, "rotated": rotated, "acked": acked, "found": contents(manager), "ok": report.ok})


def too_few_descriptors(emit: Emit, folder: str) -> None:
    """Opens, adds, folds and reads with 0 to 12 free descriptors; then with enough."""
    manager = manager_in(folder)
    session = manager.create_session(WS, title="one")
    manager.close()
    acked: list[str] = []
    failed = 0
    errors: set[str] = set()
    used = _descriptors()
    for free in list(range(12)) * 3:
        text = f"{len(acked)} with {free} free"
        manager = manager_in(folder)
        with limited("RLIMIT_NOFILE", used + free):
            for call in (_add, _fold, _add):
                try:
                    call(manager, session.id, text, acked)
                except (OSError, NomadSessionsError) as error:
                    failed += 1
                    errors.add(type(error).__name__)
        with contextlib.suppress(NomadSessionsError):
            manager.close()
    gc.collect()  # Errors that were raised may hold frames, and these the store, in cycles.
    leaked = _open_below(folder)
    manager = manager_in(folder)
    ok = manager.check(WS).ok
    found = contents(manager)
    emit({"failed": failed, "errors": sorted(errors), "acked": acked, "found": found, "leaked": leaked, "ok": ok})


def _add(manager: NativeSessionManager, session_id: str, text: str, acked: list[str]) -> None:
    acked.append(manager.add_message(WS, session_id, role="user", content=text).content)


def _fold(manager: NativeSessionManager, session_id: str, text: str, acked: list[str]) -> None:
    manager.checkpoint(WS)


def descriptors_after_close(emit: Emit, folder: str) -> None:
    """How many are open after each of a few lives, without a garbage collection."""
    gc.disable()
    used = _descriptors()
    for number in range(4):
        manager = manager_in(folder)
        session = manager.create_session(WS, title=f"number {number}")
        manager.add_message(WS, session.id, role="user", content="x" * 2000)
        manager.list_sessions(WS)
        manager.close()
        emit(_descriptors() - used)


def _open_below(folder: str) -> list[str]:
    links = Path("/proc/self/fd")
    return [path for path in (os.path.realpath(link) for link in links.iterdir()) if path.startswith(folder)]


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
