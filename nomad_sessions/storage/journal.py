"""The journal: a folder of segments, appended to at the end of the last one.

Invariant: seqs run without a gap from segment to segment; every segment but the last is sealed and synced before its
successor exists; bytes are only ever added at the end of the last segment, or cut there by a writer under the lock
after they were kept in quarantine. Verified by `tests/unit/test_journal.py` and `tests/crash/`.

Opening reads the live segment and, of the sealed ones, only the few seals whose tables together cover the rest: a seal
may stand for several segments before its own, as in the levels of an LSM tree, so that log(n) of them suffice.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from nomad_sessions.errors import DurabilityLostError, JournalCorruptError, JournalGapError
from nomad_sessions.storage import quarantine, table
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.storage.codec import encode, frame
from nomad_sessions.storage.files import syncing
from nomad_sessions.storage.sealed import Sealed, TablesDamaged
from nomad_sessions.storage.segment import Entry, Scan, Seal, Segment, first_seq_of, header, name_of
from nomad_sessions.storage.table import Region

__all__ = ["Journal", "Sealed", "TablesDamaged"]

_LOG = logging.getLogger("nomad_sessions")
_ENDING = 64  # Bytes before `end`.


class Journal:
    """The segments of one workspace as one handle sees them.

    Attributes: `last_seq`; `live` (the segment appended to, None where it does not exist yet); `end` (offset after the
    last whole record of `live`); `torn` (bytes after it); `durable` (offset up to which `live` is known synced); `told`
    (the highest such offset that a record of `live` says); `found` (where it ended at the last look); `unfinished`
    (`live` has no record yet: its maker may have died before header and name were durable; or could only be opened for
    reading; or was taken for the last one on a hint); `overtaken` (the last record, where a snapshot has a higher seq
    than all of it); `scanned` (the entries of sealed segments read line by line, by first seq, as their tables are not
    trusted); `appended` (how many times all that was to be written was).
    """

    def __init__(self, fs: FileSystem, workspace: str, *, trust_tables: bool = True) -> None:
        self._fs = fs
        self._workspace = workspace
        self._trust_tables = trust_tables
        self.folder = f"{workspace}/journal"
        self._open: dict[int, Segment] = {}
        self.live: Segment | None = None
        self.last_seq = self.appended = self.end = self.torn = self.durable = self.told = self.found = 0
        self.live_first = 1
        self.scanned: list[tuple[int, list[Entry]]] = []
        self._last_sealed: tuple[Segment, int] | None = None
        self.unfinished = self._hinted = False
        self.overtaken: dict[str, Any] | None = None
        self._ending = b""

    def first_seqs(self) -> list[int]:
        """The first seq of each segment in the folder, ascending; other files there are left alone."""
        return sorted(filter(None, map(first_seq_of, self._fs.listdir(self.folder))))

    def segment(self, first_seq: int) -> Segment:
        """The open segment that starts with this seq; stays open until `close`, also after its file is pruned."""
        segment = self._open.get(first_seq)
        if segment is None:
            segment = self._open[first_seq] = Segment.open_as_may_be(self._fs, self.folder, first_seq)
        return segment

    def id_at(self, seq: int) -> str:
        """The id of the change with this seq; see `Segment.id_of`."""
        below = [first for first in self.first_seqs() if first <= seq]
        return self.segment(below[-1]).id_of(seq) if below else ""

    def close(self) -> None:
        """Closes every segment."""
        while self._open:
            self._open.popitem()[1].close()
        self.live = None

    def load(self, after: int, hint: int = 0) -> tuple[list[Sealed], list[Entry]]:
        """Finds all records above seq `after`: seals whose tables cover the sealed ones (oldest first; they may reach
        further back than asked), and the entries of the live segment.

        `hint` is the first seq of the segment that was live when the base was written: where it still is, the folder
        need not be listed, not before the second look at it. Sets `last_seq` and the state of the live segment. Raises
        `JournalGapError` where records above `after` are missing, `JournalCorruptError`.
        """
        self._hinted = self._trust_tables and 0 < hint <= after + 1 and self._is_live(hint)
        firsts = [hint] if self._hinted else self.first_seqs()
        self.last_seq, self.live, self.end, self.torn, self.durable, self.told = after, None, 0, 0, 0, 0
        self.live_first = after + 1
        self.scanned, self._last_sealed, self.unfinished = [], None, False
        return self._load(firsts, after)

    def _load(self, firsts: list[int], after: int) -> tuple[list[Sealed], list[Entry]]:
        if not firsts:
            return [], []
        if firsts[0] > after + 1:
            raise JournalGapError(path=self.folder, expected_seq=after + 1, found_seq=firsts[0])
        last = self.segment(firsts[-1])
        seal = last.seal()
        # Nobody has synced a seal for sure before its successor is there: a power loss may have kept it and lost some
        # of the tables. Then the segment is not sealed, and all that follows its records is a torn tail.
        unsealed = seal is not None and not Sealed(last, seal).intact()
        if seal is not None and not unsealed:
            self._last_sealed = (last, self._fs.fstat(last.fd).size)
            return self._behind(seal, firsts, after)
        scan = last.scan(unsealed=unsealed)
        if scan.seal is not None:  # Since we looked, or with something behind it: nobody may append to it.
            return self.load(after) if self._hinted else self._behind(scan.seal, firsts, after)
        self.last_seq = found = _last(scan) if scan.entries else firsts[-1] - 1
        if self._hinted and (scan.torn or not scan.end or found < after or (scan.entries and self._exists(found + 1))):
            # Perhaps not the last one, as the hint had it: what is torn, or gone, was its seal.
            return self.load(after)
        if found < after:  # A snapshot from elsewhere is ahead of this journal: its numbers go on in a new segment.
            last.refuse_hole(scan, after)
            self.overtaken = scan.entries[-1].record if scan.entries else None
            self.last_seq = after
            return [], []
        self._take(last, scan)
        sealed = self._covering(firsts, len(firsts) - 2, after)
        if sealed and sealed[-1].seal.last_seq != firsts[-1] - 1 and after < firsts[-1] - 1:
            found = sealed[-1].seal.last_seq + 1
            raise JournalGapError(path=self.folder, expected_seq=found, found_seq=firsts[-1])
        return sealed, scan.entries

    def _behind(self, seal: Seal, firsts: list[int], after: int) -> tuple[list[Sealed], list[Entry]]:
        """What there is where the last segment is sealed, and has no successor yet."""
        if seal.last_seq <= after:
            return [], []
        self.last_seq = seal.last_seq
        self.live_first = self.last_seq + 1
        return self._covering(firsts, len(firsts) - 1, after), []

    def _is_live(self, first_seq: int) -> bool:
        try:
            return self.segment(first_seq).seal() is None
        except FileNotFoundError:
            return False

    def _exists(self, first_seq: int) -> bool:
        return self._fs.stat(f"{self.folder}/{name_of(first_seq)}") is not None

    def _confirm(self) -> None:
        """Looks whether the segment that a hint named is the last one: without seal and last records it would look so,
        and what follows it would be overlooked, and its numbers be given again."""
        live = self.live
        if not self._hinted or live is None:
            return
        self._hinted = max(self.first_seqs(), default=0) > self.live_first
        if self._hinted and self._fs.fstat(live.fd).size == self.end + self.torn:  # Nobody sealed it just now.
            raise JournalCorruptError(path=live.path, offset=self.end, length=0, reason="it ends before its successor")

    def _covering(self, firsts: list[int], newest: int, after: int) -> list[Sealed]:
        """The seals that cover everything above `after`, from segment number `newest` down."""
        if not self._trust_tables:
            return self._scan_sealed(firsts, newest, after)
        found: list[Sealed] = []
        number = newest
        upper = firsts[newest + 1] if newest + 1 < len(firsts) else None
        while number >= 0 and (upper is None or upper > after + 1):
            segment = self.segment(firsts[number])
            seal = segment.seal()
            if seal is None:  # Its records may be intact.
                raise TablesDamaged(
                    path=segment.path, offset=0, length=0, reason="a segment before the last one has no intact seal"
                )
            if upper is not None and seal.last_seq + 1 != upper:
                raise JournalGapError(path=self.folder, expected_seq=seal.last_seq + 1, found_seq=upper)
            covers = [first for first in seal.covers if first in firsts]
            wanted = [first for first in seal.covers if first not in firsts]
            if wanted and seal.covers[seal.covers.index(wanted[-1]) + 1] > after + 1:
                raise JournalGapError(path=self.folder, expected_seq=wanted[-1], found_seq=firsts[number])
            found.append(Sealed(segment, seal))
            number = firsts.index(covers[0]) - 1
            upper = covers[0]
        if upper is not None and upper > after + 1 and number < 0:
            raise JournalGapError(path=self.folder, expected_seq=after + 1, found_seq=upper)
        return found[::-1]

    def _scan_sealed(self, firsts: list[int], newest: int, after: int) -> list[Sealed]:
        """Reads the sealed segments above `after` line by line into `scanned`."""
        upper = firsts[newest + 1] if newest + 1 < len(firsts) else self.last_seq + 1
        for first in reversed(firsts[: newest + 1]):
            if upper <= after + 1:
                break
            segment = self.segment(first)
            scan = segment.scan()
            # Without a seal the successor says where this one ended: all of its records have to be there.
            last = _last(scan) if scan.entries else first - 1
            if scan.seal is None and last + 1 != upper:
                raise JournalCorruptError(
                    path=segment.path, offset=scan.end, length=scan.torn, reason="records and the seal are damaged"
                )
            if last + 1 != upper:
                raise JournalGapError(path=self.folder, expected_seq=last + 1, found_seq=upper)
            self.scanned.insert(0, (first, scan.entries))
            upper = first
        if upper > after + 1:
            raise JournalGapError(path=self.folder, expected_seq=after + 1, found_seq=upper)
        return []

    def refresh(self, *, held: bool = False) -> list[Entry] | None:
        """Entries that others appended to the live segment since the last look; None when it was sealed, replaced or
        has appeared, so that the caller has to load afresh. Cost when nothing happened: one `stat`, or `fstat` for the
        holder of the lock (`held`), who knows that nobody seals or replaces the segment now."""
        if self.live is None:
            return [] if self._still_sealed() else None
        stat = self._fs.fstat(self.live.fd) if held else self._fs.stat(self.live.path)
        if stat is None or (stat.dev, stat.ino) != self.live.identity or not stat.nlink or stat.size < self.end:
            return None
        if stat.size == self.end:
            self.torn = 0
            self._confirm()
            return []
        before = self._fs.pread(self.live.fd, len(self._ending), self.end - len(self._ending))
        if not self.end or before != self._ending:  # A backup may have been put back into the same file.
            return None
        scan = self.live.scan(self.end, self.last_seq + 1)
        if scan.seal is not None:
            return None
        self._take(self.live, scan)
        if scan.entries:
            self.last_seq = _last(scan)
        return scan.entries

    def _still_sealed(self) -> bool:
        """Whether there is no successor yet, and the seal of the last segment was not cut off again."""
        if self._exists(self.live_first):
            return False
        if self._last_sealed is None:
            return True
        segment, size = self._last_sealed
        stat = self._fs.stat(segment.path)
        return stat is not None and (stat.dev, stat.ino) == segment.identity and stat.size == size

    def _take(self, segment: Segment, scan: Scan) -> None:
        self.live = segment
        self.live_first = segment.first_seq
        self.end, self.torn, self.found = scan.end, scan.torn, scan.end
        self._ending = self._fs.pread(segment.fd, min(_ENDING, self.end), max(0, self.end - _ENDING))
        self.durable = max(self.durable, scan.durable)
        self.told = max(self.told, scan.durable)
        self.unfinished = self.end <= len(header(segment.first_seq)) or not segment.writable or self._hinted

    # What follows is for the holder of the workspace's lock, after a refresh.

    def prepare(self) -> None:
        """Makes the end of the journal fit to append to: creates a missing live segment, finishes one whose creation
        was cut short, moves a torn tail to quarantine and cuts it off. Durable on return."""
        if self.live is not None and not self.live.writable:
            self._reopen(self.live)
        self._confirm()
        if self.torn and self.live is not None:
            self._heal(self.live)
        if self.live is None:
            self._before_creating(self.last_seq + 1)
            self._create(self.last_seq + 1)
        elif self.end <= len(header(self.live_first)):
            self._before_creating(self.live_first)
            self._create(self.live_first)
        self.unfinished = False

    def append(self, pieces: Iterable[bytes]) -> int:
        """Writes lines, given in pieces, at the end of the live segment; the offset of the first. Not yet durable.

        On an error it is cut off again, and where that fails too the rest is a torn tail for the next writer. What a
        Ctrl-C interrupts when all of it is there is `appended`, and stays: others may have read it. Raises `OSError`,
        what the pieces raise, and `JournalCorruptError` where the segment ends elsewhere: that would be written over.
        """
        live, start = self.live, self.end
        assert live is not None, "prepare() comes first"
        if (size := self._fs.fstat(live.fd).size) != start:
            raise live.changed_unlocked(start, size)
        end, rest, coming, ending = start, iter(pieces), b"", self._ending
        try:
            coming = next(rest, b"")
            while coming:
                data, coming = coming, next(rest, b"")
                end += len(data)
                self._fs.pwrite_all(live.fd, data, end - len(data))
                ending = (ending + data[-_ENDING:])[-_ENDING:]
        except BaseException as error:
            self.torn, self.told = end - start, 0
            if not (coming or isinstance(error, Exception)) and start < end == self._fs.fstat(live.fd).size:
                self.end, self.torn, self.appended, self._ending = end, 0, self.appended + 1, b""
                raise
            with contextlib.suppress(OSError):
                self._fs.truncate(live.fd, start)
                self.torn = 0
            raise
        self.end, self.appended, self._ending = end, self.appended + 1, ending
        return start

    def rotate(self, tables: dict[str, list[list[Any]]], covers: list[int], note: dict[str, Any]) -> Sealed:
        """Seals the live segment with these tables (rows, key first) and creates its successor; returns the sealed one.

        `covers` are the first seqs of the segments that the tables tell of, this one last; `note` is any JSON object to
        be found in the seal. Durable on return.
        """
        live = self.live
        assert live is not None, "prepare() comes first"
        self._confirm()
        if self.torn:
            self._heal(live)  # A checkpoint seals without appending first; the seal must be the last line of the file.
        blocks = {name: b"\n".join([table.row(fields) for fields in rows]) + b"\n" for name, rows in tables.items()}
        marker = frame(encode({"tables": sum(map(len, blocks.values())), "durable": self.durable}))
        offset, places = self.end + len(marker), dict[str, Region]()
        for name, block in blocks.items():
            places[name] = Region.of(block[:-1], offset)
            offset += len(block)
        body = {"lastSeq": self.last_seq, "covers": covers, "tables": places, "note": note}
        seal = frame(encode({"seal": body, "durable": self.durable}))
        start = self.append([b"".join([marker, *blocks.values(), seal])])
        try:
            with syncing(live.path):
                self._fs.datasync(live.fd)
        except DurabilityLostError:
            # A seal that is visible but not on the disk would let the next process begin a successor.
            self._fs.truncate(live.fd, start)
            raise
        self._last_sealed = (live, self.end)
        self.live, self.live_first, self.end = None, self.last_seq + 1, 0
        self._create(self.live_first)
        return Sealed(live, Seal(self.last_seq, covers, places, note))

    def below(self, keep_from: int) -> list[int]:
        """The first seqs of the sealed segments all of whose records are below `keep_from`."""
        return [first for first, successor in pairwise(self.first_seqs()) if successor <= keep_from]

    def prune(self, keep_from: int) -> list[int]:
        """Removes the segments that are `below`; returns their first seqs."""
        for first in (gone := self.below(keep_from)):
            try:
                self._fs.unlink(f"{self.folder}/{name_of(first)}")
            except PermissionError:  # Windows: somebody still reads it. The next checkpoint tries again.
                break
        if gone:
            with syncing(self.folder):
                self._fs.sync_dir(self.folder)
        return gone

    def _before_creating(self, first_seq: int) -> None:
        """Makes durable what the new segment relies on, whoever left it: the one before it, or the folders."""
        earlier = [first for first in self.first_seqs() if first < first_seq]
        if earlier:
            # Its sealer may have died between writing the seal and syncing it.
            segment = self.segment(earlier[-1])
            with syncing(segment.path):
                self._fs.datasync(segment.fd)
            return
        self._fs.mkdir(self.folder, 0o700)
        with syncing(self._workspace):
            self._fs.sync_dir(self._workspace)
            self._fs.sync_dir(os.path.dirname(self._workspace))

    def _create(self, first_seq: int) -> None:
        path = f"{self.folder}/{name_of(first_seq)}"
        self._fs.close(self._fs.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        segment = Segment.open(self._fs, self.folder, first_seq, writable=True)
        self._open[first_seq] = segment
        line = header(first_seq)
        try:
            self._fs.truncate(segment.fd, 0)
            self._fs.pwrite_all(segment.fd, line, 0)
        except BaseException:
            with contextlib.suppress(OSError):
                self._fs.truncate(segment.fd, 0)
            raise
        with syncing(path):
            self._fs.sync(segment.fd)
            self._fs.sync_dir(self.folder)
        self.live, self.live_first, self.unfinished = segment, first_seq, False
        self.end = self.durable = self.found = len(line)
        self._ending = line[-_ENDING:]
        self.torn = self.told = 0

    def _reopen(self, live: Segment) -> None:
        """What could only be read when it was opened may be writable by now (a remount, a chmod)."""
        self.live = self._open[live.first_seq] = Segment.open(self._fs, self.folder, live.first_seq, writable=True)

    def _heal(self, live: Segment) -> None:
        data = self._fs.pread(live.fd, self.torn, self.end)
        kept = quarantine.keep(self._fs, self._workspace, f"{name_of(live.first_seq)}.{self.end}", data)
        _LOG.warning(
            "%s: cut an incomplete tail of %d bytes at offset %d, kept in %s", live.path, len(data), self.end, kept
        )
        self._fs.truncate(live.fd, self.end)
        with syncing(live.path):
            self._fs.datasync(live.fd)
        self.torn, self.durable = 0, self.end


def _last(scan: Scan) -> int:
    return int(scan.entries[-1].record["seq"])
