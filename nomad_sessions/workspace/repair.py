"""Mending a workspace: what `check` finds, as far as it can be mended; what is taken out is kept in quarantine."""

from __future__ import annotations

import os
from typing import NamedTuple

from nomad_sessions.errors import CorruptionError, JournalCorruptError, SnapshotUnreadableError
from nomad_sessions.storage import quarantine
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.files import read_whole
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.segment import Entry, name_of
from nomad_sessions.storage.snapshot import Snapshot, SnapshotChanged
from nomad_sessions.workspace import checkpoint
from nomad_sessions.workspace.adopt import Given, merge_foreign, take
from nomad_sessions.workspace.archive import carry_over, mend
from nomad_sessions.workspace.check import CheckReport, check_workspace
from nomad_sessions.workspace.faults import translated
from nomad_sessions.workspace.foreign import ForeignFile
from nomad_sessions.workspace.recovery import PREVIOUS, SNAPSHOT, identity, is_of_another_store, parse
from nomad_sessions.workspace.state import WORKSPACE, Body, Ref
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["RepairReport", "repair_workspace"]


_PASSES = 2  # What is damaged in a journal may be seen only once it can be opened again.
# Records that change a session, and so say that there was one.
_OF_SESSIONS = ("message.added", "message.merged", "message.updated", "session.updated", "session.reverted")


class RepairReport(NamedTuple):
    """What was done, in sentences, and what `check` said before and after."""

    actions: list[str]
    before: CheckReport
    after: CheckReport


def repair_workspace(fs: FileSystem, workspace: Workspace, *, drop_corrupt: bool) -> RepairReport:
    """Cuts a torn tail, removes stale temporary files, rewrites an unreadable or foreign snapshot and a damaged `.prev`
    from what is intact, and retires a journal whose seals or tables are damaged, or records that the snapshot has. With
    `drop_corrupt`, records that cannot be read are left out (their bytes kept), recorded events in `events/` too.

    Raises `CrossDeviceError` where `sessions.json` is a link to another file system, what opening raises for damage
    that only `drop_corrupt` gets past, `DiskFullError` and what else writing raises.
    """
    folder = workspace.folder
    checkpoint.refuse_target(fs, folder)
    before = check_workspace(fs, folder)
    actions: list[str] = []
    if before.ok and not before.torn:
        return RepairReport(actions, before, before)
    after = before
    for _ in range(_PASSES):
        with workspace.locked(), workspace.guarded(), translated(folder):
            checkpoint.remove_stale(fs, folder)
            actions += _mend_events(fs, folder, after, drop_corrupt=drop_corrupt)
            if after.torn or any(not problem.kind.startswith("events") for problem in after.problems):
                actions += _mend_state(fs, workspace, after, drop_corrupt=drop_corrupt)
        after = check_workspace(fs, folder)
        if not any(problem.kind.startswith("journal") for problem in after.problems):
            break
    return RepairReport(actions, before, after)


def _mend_state(fs: FileSystem, workspace: Workspace, before: CheckReport, *, drop_corrupt: bool) -> list[str]:
    """Journal and snapshots."""
    damaged = any(problem.kind.startswith(("journal", "unreadable")) for problem in before.problems)
    if damaged and (drop_corrupt or _is_below_snapshot(fs, workspace.folder)):
        return _rebuild(fs, workspace)
    try:
        actions = _refold(fs, workspace)
    except CorruptionError:
        if not drop_corrupt:
            raise
        return _rebuild(fs, workspace)
    if damaged:
        # All that they say was read, from lines that are intact or from the snapshot above them.
        actions += _retire(fs, workspace, workspace.current().seq)
        _begin(workspace)
    return actions


def _is_below_snapshot(fs: FileSystem, folder: str) -> bool:
    """Whether all records that an intact snapshot has not can be read: then it has what the damaged ones said."""
    journal = Journal(fs, folder)
    try:
        base = _newest(fs, folder, journal)
        return base is not None and _has_all_above(journal, base.seq)
    finally:
        journal.close()


def _newest(fs: FileSystem, folder: str, journal: Journal) -> Snapshot | None:
    """The newest snapshot that is intact, and of the store that the journal is of."""
    found = (Snapshot.intact(fs, f"{folder}/{name}") for name in (SNAPSHOT, PREVIOUS))
    ours = [each for each in found if each is not None and not _is_another_s(each, journal)]
    return max(ours, key=lambda each: each.seq, default=None)


def _is_another_s(snapshot: Snapshot, journal: Journal) -> bool:
    """Whether a snapshot is of another store than what is intact of a journal."""
    for first in reversed(journal.first_seqs()):
        for entry in reversed(journal.segment(first).salvage()[0]):
            if "id" in entry.record:
                return is_of_another_store(snapshot, journal, last=entry.record)
    return is_of_another_store(snapshot, journal)


def _foreign(fs: FileSystem, folder: str, base: Snapshot | None, journal: Journal) -> ForeignFile | None:
    """What another program wrote into `sessions.json`, or what a snapshot of another store has there."""
    path = f"{folder}/{SNAPSHOT}"
    stat = fs.stat(path)
    if stat is None or (base is not None and base.path == path):
        return None
    found = parse(read_whole(fs, path), stat)
    snapshot = Snapshot.open(fs, path)
    if not isinstance(found, ForeignFile) or snapshot is None:
        return found if isinstance(found, ForeignFile) else None
    # By its index it is a snapshot: another store's, or an old one or a damaged one of ours, and what it has is known.
    snapshot.close()
    intact = Snapshot.intact(fs, path)
    return found._replace(stranger=True) if intact is not None and _is_another_s(intact, journal) else None


def _has_all_above(journal: Journal, seq: int) -> bool:
    """Whether each record above `seq` that anything intact in the journal tells of can be read."""
    found: set[int] = set()
    told = 0
    firsts = journal.first_seqs()
    for first in firsts:
        segment = journal.segment(first)
        entries, seal = segment.salvage()[0], segment.seal()
        found.update(entry.record["seq"] for entry in entries)
        told = max(told, first - 1, seal.last_seq if seal is not None else 0, max(found, default=0))
        if first == firsts[-1] and entries and seal is None:
            last = entries[-1]
            try:
                segment.scan(last.offset + last.length, last.record["seq"] + 1)
            except JournalCorruptError:  # More was synced than can be read.
                return False
    return found.issuperset(range(seq + 1, told + 1))


def _mend_events(fs: FileSystem, folder: str, before: CheckReport, *, drop_corrupt: bool) -> list[str]:
    if drop_corrupt:
        return mend(fs, folder)
    paths = dict.fromkeys(each.path for each in before.problems if each.kind == "events-damaged")
    return [f"left {path} as it is: only with drop_corrupt are its intact records made a file anew" for path in paths]


def _refold(fs: FileSystem, workspace: Workspace) -> list[str]:
    """Everything is there in one place or another: write it down afresh."""
    workspace.distrust_tables()  # The records themselves are asked, so that no damage to what is made of them counts.
    try:
        view = _read_whole(workspace)
    except SnapshotChanged:
        workspace.reload(distrust=True)
        try:
            view = _read_whole(workspace)
        except SnapshotChanged as error:
            raise SnapshotUnreadableError(path=f"{workspace.folder}/{SNAPSHOT}", reason=str(error)) from error
    actions = []
    if view.journal.torn:
        actions.append(f"cut an incomplete tail of {view.journal.torn} bytes off the journal")
        view.journal.prepare()
    actions += _write(fs, workspace, view)
    workspace.reload()
    return actions


def _read_whole(workspace: Workspace) -> View:
    """The view, everything of which can be read that a snapshot of it takes."""
    view = workspace.current_to_write()
    view.tombstones()
    if view.base is not None:
        list(view.base.items())
    for session in view.load_all():
        for message_id in session.ids():
            state = session.message(message_id)
            if state is not None:
                state.body()
    return view


def _retire(fs: FileSystem, workspace: Workspace, seq: int) -> list[str]:
    """Takes the segments out of the journal, into quarantine; the snapshot has what they say up to `seq`. The
    next write begins a new one, and who follows the changes is told that these are gone. Copied and unlinked, not
    moved: another process that has the live one open sees that it lost its name, and writes into it no more."""
    folder = workspace.folder
    journal = Journal(fs, folder)
    for first in journal.first_seqs():
        name = name_of(first)
        quarantine.keep(fs, folder, f"{name}.repair", read_whole(fs, f"{journal.folder}/{name}"))
    carry_over(fs, folder, map(journal.segment, journal.first_seqs()), salvage_to=seq)
    journal.close()
    _still_alone(workspace)
    for first in journal.first_seqs():
        fs.unlink(f"{journal.folder}/{name_of(first)}")
    fs.sync_dir(journal.folder)
    return ["moved the journal's segments to quarantine; the snapshot has all that could be read"]


def _still_alone(workspace: Workspace) -> None:
    """Before anything is replaced or removed: what another process wrote meanwhile was not read."""
    if not workspace.still_locked():
        reason = "somebody removed the lock file during the repair"
        raise CorruptionError(path=f"{workspace.folder}/lock", reason=reason, hint="try again")


def _write(fs: FileSystem, workspace: Workspace, view: View) -> list[str]:
    """A fresh snapshot, and a fresh `.prev` that is an inode of its own; what stood there and was not ours is kept."""
    folder = workspace.folder
    actions = []
    for name in (SNAPSHOT, PREVIOUS):
        path = fs.resolve(f"{folder}/{name}")
        stat = fs.stat(path)
        if stat is not None:
            kept = quarantine.keep(fs, folder, f"{name}.repair", read_whole(fs, path))
            actions.append(f"kept the former {name} as {kept}")
        temporary = f"{path}.tmp"
        fs.unlink(temporary)
        checkpoint.write_snapshot(fs, temporary, view, workspace.now())
        if identity(fs.stat(path)) != identity(stat):
            raise CorruptionError(path=path, reason="another program changed it during the repair", hint="try again")
        _still_alone(workspace)
        fs.replace(temporary, path)
        fs.sync_dir(os.path.dirname(path))
        actions.append(f"wrote {name} afresh")
    return actions


def _rebuild(fs: FileSystem, workspace: Workspace) -> list[str]:
    """Takes every record that can be read, whatever is missing between them."""
    folder = workspace.folder
    journal = Journal(fs, folder)
    base = _newest(fs, folder, journal)
    foreign = _foreign(fs, folder, base, journal)
    actions: list[str] = []
    view = View(base, journal, [], [])
    firsts = journal.first_seqs()
    known: set[str] = set()
    for first in firsts:
        segment = journal.segment(first)
        entries, skipped = segment.salvage()
        for entry in _whole_groups(entries) if first == firsts[-1] else entries:
            name = entry.record.get("id") or f"{entry.record['seq']} {entry.record.get('text')}"
            if name not in known:  # A line may stand there twice, where somebody appended a copy.
                actions += _absorb(view, entry, first)
            known.add(name)
        for offset, length in skipped:
            actions.append(f"skipped {length} bytes at offset {offset} of {segment.path}")
    if foreign is not None:
        take(view, merge_foreign(fs, folder, view, foreign))
        actions.append(f"merged what another program wrote into {SNAPSHOT}")
    actions += _write(fs, workspace, view)
    journal.close()
    actions += _retire(fs, workspace, view.seq)
    _begin(workspace)
    return actions


def _begin(workspace: Workspace) -> None:
    """A new journal: without one the snapshot would seem to miss the one that it knows of."""
    workspace.reload()
    workspace.current().journal.prepare()
    workspace.reload()


def _whole_groups(entries: list[Entry]) -> list[Entry]:
    """Without a group at the end of which the end is missing: its writer was never told that it is there."""
    if not entries:
        return entries
    last = entries[-1].record
    until = last.get("until", last["seq"])
    return [each for each in entries if each.record.get("until") != until] if until > last["seq"] else entries


def _absorb(view: View, entry: Entry, first: int) -> list[str]:
    """Takes in a record, and what it needs: of a session whose creation is damaged, what can be read still counts."""
    record = entry.record
    if not view.live.knows(record):
        return []
    actions = []
    session_id: str = record.get("sessionId", WORKSPACE)
    counts = record.get("type") in _OF_SESSIONS and record["seq"] > view.floor and session_id != WORKSPACE
    if counts and view.session(session_id) is None and session_id not in view.tombstones():
        fields: Body = {"id": session_id, "title": "Recovered", "parentId": None}
        fields |= {"createdAt": record.get("ts", 0), "updatedAt": record.get("ts", 0)}
        made = {"seq": record["seq"], "type": "session.created", "sessionId": session_id, "session": fields}
        view.take(made, Ref(Given(made), 0, 0))
        actions.append(f"made session {session_id} again: the record of its creation cannot be read")
    view.absorb(entry, first)
    return actions
