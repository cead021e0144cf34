"""The guards of the store, each of which can be taken away by name: the crash tests must notice every one.

A mutant is a change that a careless edit could make. `test_mutants.py` runs the lives of `life.py` and the scenarios
below with it, and fails when their oracle stays silent.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import pytest

from nomad_sessions.storage import codec, quarantine, sealed, segment, snapshot_writer
from nomad_sessions.storage.group_sync import GroupSync
from nomad_sessions.storage.journal import Journal
from nomad_sessions.storage.snapshot import Snapshot
from nomad_sessions.workspace import archive, checkpoint, folding, recovery, retention
from nomad_sessions.workspace.view import View


class Mutant(NamedTuple):
    """What is taken away, and how."""

    guard: str
    remove: Callable[[pytest.MonkeyPatch], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(guard: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], Callable[[pytest.MonkeyPatch], None]]:
    def register(remove: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
        MUTANTS[remove.__name__] = Mutant(guard, remove)
        return remove

    return register


class _Without:
    """A file system of which some calls do nothing."""

    def __init__(self, fs: Any, *calls: str) -> None:
        self._fs = fs
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: None) if name in self._calls else getattr(self._fs, name)


def _without(patch: pytest.MonkeyPatch, owner: type, *calls: str) -> None:
    """Makes objects of a class that take a file system first ignore these calls of it."""
    original: Any = vars(owner)["__init__"]

    def init(self: Any, fs: Any, *args: Any, **kwargs: Any) -> None:
        original(self, _Without(fs, *calls), *args, **kwargs)

    patch.setattr(owner, "__init__", init)


@mutant("the sync of a commit")
def no_journal_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupSync, "wait", lambda self, goal: None)


@mutant("the folder's sync after a segment was created")
def no_folder_sync_of_segments(patch: pytest.MonkeyPatch) -> None:
    _without(patch, Journal, "sync_dir")


@mutant("the sync of a new segment's header, and of a seal")
def no_file_sync_of_segments(patch: pytest.MonkeyPatch) -> None:
    _without(patch, Journal, "sync", "datasync")


@mutant("the sync of a snapshot before it is moved into place")
def no_snapshot_sync(patch: pytest.MonkeyPatch) -> None:
    _without(patch, snapshot_writer.SnapshotWriter, "sync")


@mutant("the sync of the journal before it is folded")
def no_journal_sync_before_the_fold(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(folding.Folding, "_ready", lambda self: self._workspace.current_to_write())
    patch.setattr(GroupSync, "wait", lambda self, goal: None)


@mutant("the folders' syncs by the one who did not make them")
def no_second_sync_of_what_a_dead_process_made(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "_before_creating", lambda self, first: self._fs.mkdir(self.folder, 0o700))


@mutant("a segment without records is created again")
def unfinished_segments_are_taken_for_finished(patch: pytest.MonkeyPatch) -> None:
    original = Journal._take

    def take(self: Journal, *args: Any) -> None:
        original(self, *args)
        self.unfinished = not self.end

    patch.setattr(Journal, "_take", take)


@mutant("the checksum of a line")
def no_checksum(patch: pytest.MonkeyPatch) -> None:
    def unframe(line: bytes) -> bytes | None:
        body = b"{" + line.rstrip(b"\n")[codec.FRAME_PREFIX_LENGTH :]
        try:
            codec.decode(body)
        except ValueError:
            return None
        return body

    patch.setattr(segment, "unframe", unframe)


@mutant("a torn tail is cut before the next append")
def the_tail_is_not_healed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Journal, "_heal", lambda self, live: setattr(self, "torn", 0))


@mutant("the torn bytes are kept in quarantine")
def torn_bytes_are_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quarantine, "keep", lambda *args: "nowhere")


@mutant("a group counts only when it is whole")
def groups_may_be_partial(patch: pytest.MonkeyPatch) -> None:
    original = segment._Scanner._record

    def record(self: Any, found: dict[str, Any], at: int, length: int) -> None:
        found.pop("until", None)
        original(self, found, at, length)

    patch.setattr(segment._Scanner, "_record", record)


@mutant("records below the snapshot's seq are not applied again")
def no_floor(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(View, "floor", property(lambda self: 0, lambda self, floor: None), raising=False)


@mutant("seqs must follow each other")
def gaps_are_overlooked(patch: pytest.MonkeyPatch) -> None:
    original = segment._Scanner._record

    def record(self: Any, found: dict[str, Any], at: int, length: int) -> None:
        self.next_seq = found["seq"]
        original(self, found, at, length)

    patch.setattr(segment._Scanner, "_record", record)


@mutant("damage to what was durable is corruption, not a torn tail")
def no_judgement(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segment._Scanner, "_judge", lambda self, at: None)


@mutant("damage that no record knew to be durable is a torn tail, not corruption")
def everything_is_corruption(patch: pytest.MonkeyPatch) -> None:
    def judge(self: Any, at: int) -> None:
        if self.data.find(codec.FRAME_START, at + 1) >= 0:
            raise self._corrupt(at, 1, "damage")

    patch.setattr(segment._Scanner, "_judge", judge)


@mutant("the displaced snapshot is kept as .prev")
def no_previous(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoint, "_keep", lambda fs, folder, displaced, **_: fs.unlink(displaced))
    patch.setattr(checkpoint, "ensure_previous", lambda *_: None)


@mutant("segments above .prev's seq are not pruned")
def no_prune_floor(patch: pytest.MonkeyPatch) -> None:
    original = Journal.prune
    patch.setattr(Journal, "prune", lambda self, keep_from: original(self, self.live_first))
    patch.setattr(retention, "BUDGET_BYTES", 0)


@mutant("what was recorded is carried over before its segment is pruned")
def no_carrying_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(retention, "carry_over", lambda *_: None)


@mutant("what was carried over is synced before its segment is pruned")
def carried_over_unsynced(patch: pytest.MonkeyPatch) -> None:
    original = archive.carry_over
    patch.setattr(retention, "carry_over", lambda fs, *rest: original(_Without(fs, "sync"), *rest))


@mutant("the file to be replaced is the one that was read")
def no_identity_check(patch: pytest.MonkeyPatch) -> None:
    original = checkpoint.replace_snapshot

    def replace(fs: Any, folder: str, temporary: str, expected: Any, **kwargs: Any) -> Any:
        path = f"{folder}/{recovery.SNAPSHOT}"
        if fs.stat(path) is None:
            return original(fs, folder, temporary, expected, **kwargs)
        fs.replace(temporary, path)
        return checkpoint.Replaced(True)

    patch.setattr(checkpoint, "replace_snapshot", replace)


@mutant("a seal counts only with its tables, while it has no successor")
def a_seal_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sealed.Sealed, "intact", lambda self: True)


@mutant("a failed sync poisons the handle")
def a_failed_sync_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupSync, "error", property(lambda self: None, lambda self, error: None), raising=False)


@mutant("after a failed sync the same bytes are written once more")
def clean_pages_are_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GroupSync, "_write_again", lambda self, found, end: None)


@mutant("a failed append is cut off")
def partial_appends_stay(patch: pytest.MonkeyPatch) -> None:
    original = Journal.append

    def append(self: Journal, pieces: Iterable[bytes]) -> int:
        data = b"".join(pieces)
        live = self.live
        assert live is not None
        fs = live.fs
        try:
            return original(self, [data])
        except OSError:
            fs.pwrite_all(live.fd, data[: len(data) // 2], self.end)
            self.torn = 0
            raise

    patch.setattr(Journal, "append", append)


@mutant("an unreadable snapshot is no empty store")
def an_unreadable_snapshot_is_empty(patch: pytest.MonkeyPatch) -> None:
    def without(fs: Any, folder: str, found_journal: Journal, found: Any) -> View:
        return View(None, found_journal, [], [])

    patch.setattr(recovery, "_without_snapshot", without)


@mutant("the checksums of the records in a snapshot")
def no_checksum_in_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    def read(self: Snapshot, region: Any) -> bytes:
        return self._fs.pread(self._fd, region.length, region.offset)

    patch.setattr(Snapshot, "read", read)


@contextlib.contextmanager
def removed(name: str) -> Iterator[None]:
    """The store without this guard."""
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name].remove(patch)
        yield
