"""Reading and verifying every byte of a workspace. Only reports: mending is `repair.py`'s.

Invariant: changes no file, takes no lock, and never raises for damage; each problem names the file and, where it can,
the place. Every crash test ends with it.
"""

from __future__ import annotations

import stat as stat_bits
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nomad_sessions.errors import AttachmentMissingError, CorruptionError, StorageError, UnsupportedFormatError
from nomad_sessions.errors.base import short
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import decode
from nomad_sessions.storage.files import read_whole
from nomad_sessions.storage.journal import Journal, Sealed
from nomad_sessions.storage.segment import name_of
from nomad_sessions.storage.snapshot import Snapshot, SnapshotChanged
from nomad_sessions.workspace import recovery
from nomad_sessions.workspace.adopt import absorb_foreign
from nomad_sessions.workspace.archive import FOLDER, archives, open_archive
from nomad_sessions.workspace.attached import attachments_of
from nomad_sessions.workspace.foreign import normalise
from nomad_sessions.workspace.recovery import PREVIOUS, SNAPSHOT
from nomad_sessions.workspace.rows import TABLES
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.view import View

__all__ = ["CheckReport", "Problem", "check_workspace"]


FlawOf = Callable[[str, object], str | None]
"""Why a row, of this id, is no message; None where it is one. What a message is, is not for this layer to know."""


class Problem(NamedTuple):
    """Something that is not as it should be: what kind, in which file, at which byte offset and length (or 0, 0)."""

    kind: str
    path: str
    offset: int
    length: int
    detail: str


class CheckReport(NamedTuple):
    """What `check` found; `ok` when nothing is wrong. `torn` bytes at the end of the journal are no problem: a write
    that was never acknowledged, cut off by the next one."""

    problems: list[Problem]
    sessions: int
    messages: int
    seq: int
    torn: int

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def check_workspace(fs: FileSystem, folder: str, *, flaw_of: FlawOf | None = None) -> CheckReport:
    """Verifies snapshot, `.prev`, journal, recorded events that were carried over from it, every message, every
    attachment that a record names; with `flaw_of` the rows of the mailbox too."""
    problems: list[Problem] = []
    problems += _journal(fs, folder)
    for name in (SNAPSHOT, PREVIOUS):
        problems += _snapshot(fs, f"{folder}/{name}")
    problems += _events(fs, folder)
    sessions = messages = seq = torn = 0
    try:
        opened = recovery.load(fs, folder, wait=False, trust_tables=False)
        if opened.unreadable is not None:
            problems.append(Problem("snapshot-unreadable", f"{folder}/{SNAPSHOT}", 0, 0, opened.unreadable))
        view = opened.view
        base = view.base
        ours = base is not None and base.path.endswith(SNAPSHOT)
        # Without any segment it is a copy that somebody put back, which is whole by itself.
        if base is not None and ours and view.journal.first_seqs() and recovery.is_cut_short(base, view.journal):
            detail = "the segment that the snapshot names, and all after it, are gone, with what was written since"
            problems.append(Problem("journal-missing", view.journal.folder, 0, 0, detail))
        seq, torn = view.seq, view.journal.torn
        sessions = len(view.summaries())
        for problem, found in _messages(fs, folder, view):
            messages += found
            if problem is not None:
                problems.append(problem)
        if opened.foreign is not None:  # The last look at this view: what calls see has the other program's rows.
            absorb_foreign(fs, folder, view, opened.foreign)
        problems += _mail(folder, view, flaw_of) if flaw_of is not None else ()
    except SnapshotChanged as error:
        problems.append(Problem("snapshot-damaged", f"{folder}/{SNAPSHOT}", 0, 0, str(error)))
    except (StorageError, OSError) as error:
        problems.append(_problem("unreadable", folder, error))
    return CheckReport(list(dict.fromkeys(problems)), sessions, messages, seq, torn)


def _problem(kind: str, path: str, error: Exception) -> Problem:
    offset, length = getattr(error, "offset", 0), getattr(error, "length", 0)
    return Problem(kind, getattr(error, "path", None) or path, offset, length, getattr(error, "reason", str(error)))


def _journal(fs: FileSystem, folder: str) -> Iterator[Problem]:
    """Every line of every segment, their order, and that they go as far as the snapshot says they once did."""
    journal = Journal(fs, folder)
    expected: int | None = None
    try:
        firsts = journal.first_seqs()
    except OSError as error:
        yield _problem("unreadable", journal.folder, error)
        return
    for first in firsts:
        try:
            segment = journal.segment(first)
            scan = segment.scan()
        except (CorruptionError, UnsupportedFormatError, OSError) as error:
            yield _problem("journal-damaged", journal.folder, error)
            expected = None
            continue
        last = first == firsts[-1]
        if not last and scan.seal is None:
            yield Problem("journal-damaged", segment.path, scan.end, scan.torn, "a segment before the last has no seal")
        if expected is not None and first != expected:
            yield Problem("journal-gap", segment.path, 0, 0, f"seq {expected} is due, the segment begins at {first}")
        expected = scan.entries[-1].record["seq"] + 1 if scan.entries else first
        if scan.seal is not None and not last:
            yield from _tables(journal, first)
        floor = _folded(fs, folder) if last and scan.torn else 0
        if expected <= floor:
            detail = f"the snapshot has changes up to seq {floor}, but here is no whole record from {expected} on"
            yield Problem("journal-damaged", segment.path, scan.end, scan.torn, detail)
    journal.close()


def _folded(fs: FileSystem, folder: str) -> int:
    """The seq that the snapshot goes up to; 0 where none of ours can be read."""
    try:
        snapshot = Snapshot.open(fs, f"{folder}/{SNAPSHOT}")
    except (SnapshotChanged, StorageError, OSError):
        return 0
    if snapshot is None:
        return 0
    seq = snapshot.seq
    snapshot.close()
    return seq


def _tables(journal: Journal, first: int) -> Iterator[Problem]:
    segment = journal.segment(first)
    seal = segment.seal()
    if seal is None:
        yield Problem("journal-damaged", segment.path, 0, 0, "the seal cannot be read from the end of the file")
        return
    for name in seal.tables:
        try:
            Sealed(segment, seal).rows(name)
        except CorruptionError as error:
            yield _problem("journal-damaged", segment.path, error)


def _events(fs: FileSystem, folder: str) -> Iterator[Problem]:
    """Every line of every file of `events/`, and that there are as many as it says."""
    try:
        firsts = archives(fs, folder)
    except OSError as error:
        yield _problem("events-unreadable", f"{folder}/{FOLDER}", error)
        return
    for first in firsts:
        try:
            found = open_archive(fs, folder, first)
        except (StorageError, OSError) as error:
            yield _problem("events-unreadable", f"{folder}/{FOLDER}/{name_of(first)}", error)
            continue
        for each in found.damage:
            yield Problem("events-damaged", found.path, *each)


def _snapshot(fs: FileSystem, path: str) -> Iterator[Problem]:
    """Every record and table of a snapshot of ours, and that the file is JSON; a foreign one only has to be JSON."""
    try:
        snapshot = Snapshot.open(fs, path)
        if snapshot is None:
            if fs.stat(path) is not None:
                yield from _foreign(fs, path)
            return
        snapshot.verify()
        snapshot.close()
        yield from _keys(path, decode(read_whole(fs, path)), snapshot.head["tables"])
    except (SnapshotChanged, ValueError) as error:
        yield Problem("snapshot-damaged", path, 0, 0, str(error)[:300])
    except (StorageError, OSError) as error:
        yield _problem("unreadable", path, error)


def _keys(path: str, data: Body, tables: Body) -> Iterator[Problem]:
    """What other programs look for: our index alone would not miss a key whose name is damaged."""
    ours = data.get("nomad")
    missing = [key for key in ("sessions", "messages", "nomad") if not isinstance(data.get(key), dict)]
    missing += [key for key in tables if not isinstance(ours, dict) or key not in ours]
    if missing:
        yield Problem("snapshot-damaged", path, 0, 0, f"as JSON it has no {', '.join(missing)}")


def _foreign(fs: FileSystem, path: str) -> Iterator[Problem]:
    if path.endswith(PREVIOUS):
        yield Problem("previous-damaged", path, 0, 0, "it is no intact snapshot of ours")
        return
    stat = fs.stat(path)
    assert stat is not None
    if not stat_bits.S_ISREG(stat.mode):
        return  # Opening says so.
    found = recovery.parse(read_whole(fs, path), stat)
    if not isinstance(found, str):
        for sentence in normalise(found.data)[1]:
            yield Problem("foreign-file", path, 0, 0, sentence)


def _messages(fs: FileSystem, folder: str, view: View) -> Iterator[tuple[Problem | None, int]]:
    """Every message, original and attachment: a problem or none, and whether a visible message was read."""
    for session in [*view.load_all(), view.workspace()]:
        yield from _attachments(fs, folder, session.fields, f"the original of session {session.id} is in it")
        visible = set(session.order)
        for message_id in session.ids():
            state = session.message(message_id)
            if state is None:
                detail = f"session {session.id} lists message {message_id}, which is not there"
                yield Problem("dangling-message", folder, 0, 0, detail), 0
                continue
            try:
                body = state.body()
            except CorruptionError as error:
                yield _problem("journal-damaged", folder, error), 0
                continue
            yield None, int(message_id in visible)
            yield from _attachments(fs, folder, body, f"message {message_id} names it")


def _mail(folder: str, view: View, flaw_of: FlawOf) -> Iterator[Problem]:
    """Rows of the mailbox that nobody is given, because another program wrote them."""
    rows = view.workspace().fields.get(TABLES["mail"])
    for row_id, row in rows.items() if isinstance(rows, dict) else ():
        flaw = flaw_of(row_id, row)
        if flaw is not None:
            detail = f"message {short(row_id)} of the mailbox {flaw}: nobody is given it"
            yield Problem("mail-unreadable", f"{folder}/{SNAPSHOT}", 0, 0, detail)


def _attachments(fs: FileSystem, folder: str, record: Body, detail: str) -> Iterator[tuple[Problem | None, int]]:
    for digest in attachments_of(record):
        try:
            attachments.read(fs, folder, digest)
        except AttachmentMissingError as error:
            yield Problem("attachment-missing", str(error.path), 0, 0, detail), 0
