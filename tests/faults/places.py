"""Jobs in places that are small or may not be written: a tmpfs of 64 KiB, a read-only mount, another user.

They mount in the mount namespace of their zygote, which ends with it: nothing can stay behind.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nomad_sessions import CrossDeviceError, DiskFullError, NativeSessionManager, NomadSessionsError, StoreReadOnlyError
from nomad_sessions.formats import import_history
from nomad_sessions.formats.claude import IMPORTER
from nomad_sessions.search import Searcher
from tests.faults.jobs import live, manager_in, tree
from tests.support.lives import LIFE, WS, Step, perform, state_of
from tests.support.zygote import Emit

__all__ = [
    "as_another_user",
    "checkpoint_on_a_full_disk",
    "fill_a_small_disk",
    "linked_to_another_disk",
    "linked_to_the_same_disk_mounted_twice",
    "on_a_read_only_mount",
    "searched_on_a_read_only_mount",
    "unreadable",
    "unreadable_project",
    "unreadable_workspace",
]

_LARGE = 1 << 20
_NOBODY = 65534


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def small_disk(folder: str, kibibytes: int = 64) -> None:
    mount("-t", "tmpfs", "-o", f"size={kibibytes}k", "none", folder)


def free(folder: str) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_bsize


def contents(folder: str) -> list[str]:
    """As a new handle reads them."""
    with NativeSessionManager(folder) as manager:
        return state_of(manager)["one"].visible


def fill_a_small_disk(emit: Emit, folder: str) -> None:
    """Adds until the disk is full, five times over; each time room is made, and appending goes on."""
    small_disk(folder)
    ballast = [Path(folder, f"ballast{number}") for number in range(5)]
    for file in ballast:
        file.write_bytes(b"b" * 8192)
    manager = manager_in(folder, segment=_LARGE)
    session = manager.create_session(WS, title="one")
    acked: list[str] = []
    for file in (*ballast, Path(folder, "no more ballast")):
        try:
            while True:
                text = f"{len(acked)} {'x' * 500}"
                acked.append(manager.add_message(WS, session.id, role="user", content=text).content)
        except DiskFullError as error:
            found: dict[str, Any] = {"error": type(error).__name__, "errno": error.errno, "path": error.path}
        report = manager.check(WS)
        found |= {"acked": len(acked), "same": state_of(manager)["one"].visible == acked == contents(folder)}
        emit(found | {"ok": report.ok, "torn": report.torn, "free": free(folder)})
        file.unlink(missing_ok=True)
    manager.clear_workspace(WS)
    emit({"acked": acked, "found": contents(folder)})


def checkpoint_on_a_full_disk(emit: Emit, folder: str) -> None:
    """A disk with room for some records and not for another snapshot."""
    small_disk(folder, 256)
    manager = manager_in(folder, segment=_LARGE)
    session = manager.create_session(WS, title="one")
    acked = []
    for number in range(24):
        acked.append(manager.add_message(WS, session.id, role="user", content=f"{number} {'x' * 900}").content)
    manager.checkpoint(WS)
    acked.append(manager.add_message(WS, session.id, role="user", content="not folded").content)
    ballast = Path(folder, "ballast")
    ballast.write_bytes(b"b" * (free(folder) - 12 * 1024))
    snapshot = Path(folder, WS, "sessions.json")
    before = snapshot.read_bytes()
    found: dict[str, Any] = {}
    try:
        manager.checkpoint(WS)
    except DiskFullError as error:
        found["error"] = type(error).__name__
    found["old_snapshot"] = snapshot.read_bytes() == before
    found["leftovers"] = [name for name in os.listdir(snapshot.parent) if ".tmp" in name]
    for number in range(5):
        acked.append(manager.add_message(WS, session.id, role="user", content=f"goes on {number}").content)
    manager.close()  # Folds what is small, where there is room: there is none, and it is silent about it.
    found["closed"] = snapshot.read_bytes() == before
    found["same"] = contents(folder) == acked
    ballast.unlink()
    manager = manager_in(folder, segment=_LARGE)
    found["checkpoint"] = manager.checkpoint(WS)
    found["folded"] = snapshot.read_bytes() != before
    found["ok"] = manager.check(WS).ok
    emit(found | {"finally": contents(folder) == acked})


def store_with_a_torn_tail(folder: str) -> None:
    """Read and written, it would be mended; only read, it must not be."""
    small_disk(folder, 4096)
    pid = os.fork()  # Its descriptors would keep the mount writable.
    if pid == 0:
        live(lambda _: None, folder, steps=11)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    with max(Path(folder, WS, "journal").iterdir()).open("ab") as journal:
        journal.write(b'{"crc":"00000000","seq":9')


def on_a_read_only_mount(emit: Emit, folder: str) -> None:
    """A store on a file system that cannot change."""
    store_with_a_torn_tail(folder)
    mount("-o", "remount,ro", folder)
    emit(_try_everything(folder))


def searched_on_a_read_only_mount(emit: Emit, folder: str) -> None:
    """A store that has been searched, on a file system that cannot change any more."""
    small_disk(folder, 4096)
    pid = os.fork()  # Its descriptors would keep the mount writable.
    if pid == 0:
        with manager_in(folder) as manager, Searcher(manager) as searcher:
            session = manager.create_session(WS, title="one")
            manager.add_message(WS, session.id, role="user", content="needle")
            searcher.find("needle")
            manager.add_message(WS, session.id, role="user", content="another needle")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert Path(folder, WS, "index.sqlite").exists()
    mount("-o", "remount,ro", folder)
    with manager_in(folder) as manager, Searcher(manager) as searcher:
        emit([searcher.find("needle").total, searcher.find("eedl", substring=True).total, searcher.events(WS).total])


def as_another_user(emit: Emit, folder: str) -> None:
    """A store that everybody may read and only its owner may change, in the hands of somebody else."""
    store_with_a_torn_tail(folder)
    for path in [Path(folder), *Path(folder).rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    become_nobody()
    emit(_try_everything(folder))


def become_nobody() -> None:
    """What `setpriv --reuid --regid --clear-groups` does, after the interpreter has been loaded."""
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    assert not os.access("/etc/shadow", os.R_OK), "still root"


def _try_everything(folder: str) -> dict[str, Any]:
    """Reads, then tries each kind of write; what it cost the files."""
    before = tree(folder)
    manager = manager_in(folder)
    state = state_of(manager)
    report = manager.check(WS)
    manager.stats(WS)
    manager.status(WS)
    session = manager.list_sessions(WS)[0]
    list(manager.list_workspaces())
    read_only = tree(folder) == before
    refused: dict[str, str] = {}
    for step in (Step("add", session.title, ["no"]), Step("create", "no"), Step("attach", session.title, ["no"])):
        refused[step.do] = _refusal(functools.partial(perform, manager, step))
    refused["checkpoint"] = _refusal(lambda: manager.checkpoint(WS))
    refused["new workspace"] = _refusal(lambda: manager.create_session("another", title="no"))
    refused["delete"] = _refusal(lambda: manager.delete_workspace(WS))
    refused["repair"] = _refusal(lambda: manager.repair(WS))
    again = state_of(manager) == state
    manager.close()
    return {
        "state": state,
        "ok": report.ok,
        "unchanged_by_reading": read_only,
        "refused": refused,
        "readable_after": again,
        "unchanged": tree(folder) == before,
    }


def _refusal(write: Callable[[], object]) -> str:
    try:
        write()
    except StoreReadOnlyError as error:
        names_it = bool(error.path) and error.path in str(error)
        return "StoreReadOnlyError" if names_it else f"it does not say where: {error}"
    except (NomadSessionsError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "did it"


def linked_to_another_disk(emit: Emit, folder: str) -> None:
    """`sessions.json` is a link to a file on another file system, where no rename reaches."""
    disk = Path(folder, "disk")
    disk.mkdir()
    small_disk(str(disk), 4096)
    with manager_in(folder, segment=_LARGE) as manager:
        session = manager.create_session(WS, title="one")
        manager.checkpoint(WS)
        path = Path(folder, WS, "sessions.json")
        path.rename(path.with_name("moved"))
        shutil.copyfile(path.with_name("moved"), disk / "real.json")
        path.with_name("moved").unlink()
        path.symlink_to(disk / "real.json")
        text = "x" * 600_000
        for number in range(6):  # More than the policy lets the journal grow to: each commit tries to fold.
            manager.add_message(WS, session.id, role="user", content=f"{number} {text}")
        try:
            manager.checkpoint(WS)
        except CrossDeviceError as error:
            told = f"{type(error).__name__}: {error}"
        repair = _refusal(lambda: manager.repair(WS)).partition(":")[0]
    with NativeSessionManager(folder) as manager:
        page = manager.get_session_messages(WS, session.id)
        kept = [message.content[0] for message in page]
        findings = [finding.kind for finding in manager.doctor().findings]
        sound = manager.check(WS).ok
    leftovers = sorted(each.name for each in Path(folder, WS).iterdir() if each.name.endswith((".tmp", ".old")))
    found = {"told": told, "repair": repair, "kept": kept, "link": path.is_symlink(), "ok": sound, "findings": findings}
    emit({**found, "leftovers": leftovers})


def linked_to_the_same_disk_mounted_twice(emit: Emit, folder: str) -> None:
    """The target's device is ours, and still no rename reaches there."""
    for name in ("store", "again"):
        Path(folder, name).mkdir()
    store = f"{folder}/store"
    with manager_in(store, segment=_LARGE) as manager:
        session = manager.create_session(WS, title="one")
        manager.checkpoint(WS)
        mount("--bind", store, f"{folder}/again")
        path = Path(store, WS, "sessions.json")
        path.rename(Path(store, "real.json"))
        path.symlink_to(Path(folder, "again", "real.json"))
        same = os.stat(path).st_dev == os.stat(store).st_dev
        before = path.read_bytes()
        manager.configure_workspace(WS, fold="always")
        manager.add_message(WS, session.id, role="user", content="kept")
        told = _refusal(lambda: manager.checkpoint(WS)).partition(":")[0]
        unchanged = path.read_bytes() == before
    with NativeSessionManager(store) as manager:
        kept = [message.content for message in manager.get_session_messages(WS, session.id)]
        sound = manager.check(WS).ok
    leftovers = sorted(each.name for each in Path(store, WS).iterdir() if each.name.endswith((".tmp", ".old")))
    emit({"same device": same, "told": told, "unchanged": unchanged, "kept": kept, "ok": sound, "leftovers": leftovers})


def unreadable(emit: Emit, folder: str) -> None:
    """A store that somebody else may not even read must not look like an empty one."""
    small_disk(folder, 4096)
    live(lambda _: None, folder, steps=len(LIFE) // 2)
    os.chmod(folder, 0o755)
    become_nobody()
    manager = manager_in(folder)
    found = {}
    looks: dict[str, Callable[[], object]] = {
        "list_sessions": lambda: manager.list_sessions(WS),
        "get_session": lambda: manager.get_session(WS, "01JXT21Q00372AC6PRTXRRGYZ6"),
        "add": lambda: manager.create_session(WS, title="no"),
    }
    for name, look in looks.items():
        try:
            found[name] = repr(look())
        except PermissionError:
            found[name] = "PermissionError"
    emit(found)


def unreadable_project(emit: Emit, folder: str) -> None:
    """A history of which one project may not be read."""
    for name in ("mine", "theirs"):
        (project := Path(folder, "projects", name)).mkdir(parents=True)
        said = {"type": "user", "uuid": name, "parentUuid": None, "message": {"role": "user", "content": "hello"}}
        record = {**said, "timestamp": "2026-01-01T10:00:00.000Z", "cwd": folder, "sessionId": name}
        (project / f"{name}.jsonl").write_text(json.dumps(record) + "\n")
    Path(folder, "data").mkdir()
    Path(folder, "data").chmod(0o777)
    Path(folder, "projects", "theirs").chmod(0o700)
    become_nobody()
    with NativeSessionManager(f"{folder}/data") as manager:
        report = import_history(manager, IMPORTER, Path(folder, "projects"), workspace_id=WS)
    emit({"imported": report.sessions.imported, "skipped": report.skipped, "warnings": report.warnings})


def unreadable_workspace(emit: Emit, folder: str) -> None:
    """A data folder of which one workspace may not be entered: the others are there."""
    with NativeSessionManager(folder) as manager:
        for name in ("mine", "theirs"):
            session = manager.create_session(name, title=name)
            manager.add_message(name, session.id, role="user", content="needle")
    for path in [Path(folder), *Path(folder).rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    Path(folder, "theirs").chmod(0o700)
    source = Path(folder, "claude", "p")
    source.mkdir(parents=True)
    said = {"type": "user", "uuid": "u", "parentUuid": None, "message": {"role": "user", "content": "hello"}}
    record = {**said, "timestamp": "2026-01-01T10:00:00.000Z", "cwd": "/nowhere", "sessionId": "x"}
    (source / "x.jsonl").write_text(json.dumps(record) + "\n")
    become_nobody()
    with NativeSessionManager(folder) as manager:
        with Searcher(manager) as searcher:
            found = searcher.find("needle")
        report = import_history(manager, IMPORTER, source)
        told = {"workspaces": manager.list_workspaces(), "found": found.total, "unreadable": list(found.unreadable)}
    emit({**told, "imported": report.sessions.imported, "warnings": report.warnings})
