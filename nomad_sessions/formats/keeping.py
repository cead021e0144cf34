"""The originals of imported sessions, kept as they were read; `originals.py` gives them back.

An original is cut into chunks, each kept as an attachment. `imported.original` of its session names them:
`{"name", "size", "sha256", "stamp", "chunks": [[attachment, bytes of the source, sha256 up to its end], ...]}`. The
digests tell how much of what is kept a source still begins with: only what follows is kept anew.

Invariant: every chunk is durable before a record that names it is written, and no more than one is in memory; what is
kept is what one reading of the source gave. Verified by `tests/unit/test_originals.py`, `test_kept_originals.py` and
`test_originals_beside.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nomad_sessions.errors import ConflictError
from nomad_sessions.formats.importing import mark_of
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Found, Original
from nomad_sessions.models import Session

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["CHUNK_BYTES", "EMPTY", "INCOMPLETE", "Chunk", "is_outdated", "keep_missed", "keep_original", "kept_chunks"]

CHUNK_BYTES = 16 << 20
_WORTH_A_CHUNK = 64 << 10
_WORTH_A_THREAD = 1 << 20
_MANY = 8
EMPTY = hashlib.sha256().hexdigest()
INCOMPLETE = ""
"""The stamp of a session of whose source something was left out: it is none that a source has."""


class Chunk(NamedTuple):
    """A part of an original: the attachment that holds it, its size, the digest of the original up to its end."""

    attachment: str
    size: int
    sha256: str


def kept_chunks(mark: Mapping[str, Any]) -> list[Chunk] | None:
    """The chunks of the original that a session's mark names; None where it names none, or not as we would."""
    given = mark.get("original")
    listed = given.get("chunks") if isinstance(given, dict) else None
    if not isinstance(given, dict) or not isinstance(listed, list):
        return None
    chunks = [Chunk(*each) for each in listed if isinstance(each, list) and [*map(type, each)] == [str, int, str]]
    size, digest = sum(chunk.size for chunk in chunks), chunks[-1].sha256 if chunks else EMPTY
    if len(chunks) < len(listed) or (size, digest) != (given.get("size"), given.get("sha256")):
        return None
    return chunks if all(0 < chunk.size <= CHUNK_BYTES for chunk in chunks) else None


def keep_original(
    manager: NativeSessionManager, workspace_id: str, found: Found, parsed: ParsedSession, report: ImportReport
) -> None:
    """Keeps the original of a session that is about to be stored, and notes it in its mark and those of its inner ones.

    What cannot be read is a warning in the report. Durable once `parsed.await_original` has returned: an original that
    is large and at hand is written while its session is made ready. Cost: the source, read once more where it is not.
    """
    stored = manager.get_session(workspace_id, found.id)
    noted = {} if stored is None else mark_of(stored.model_extra or {})
    another = noted.get("source") not in (None, os.path.abspath(report.source))
    if stored is not None and another and parsed.session["updatedAt"] <= stored.updated_at:
        return  # Another source than the one it came from, which says nothing newer: it stays that one's.
    read, keeping = parsed.read_from, None
    if found.original is not None and read is not None and _is_beside(read, noted):
        digest = hashlib.sha256(read).hexdigest()
        original: dict[str, Any] | None = _named(found.original.name, found.stamp, [Chunk(digest, len(read), digest)])
        keeping = _on_a_thread(partial(manager._attach, workspace_id, read, digest))
    else:
        original = _kept_anew(manager, workspace_id, found, noted, report, read)
    if original is not None:
        for each in (parsed, *parsed.inner):
            each.session["imported"] = {**mark_of(each.session), "original": original}
            each.keeping = keeping


def _is_beside(read: bytes, mark: Mapping[str, Any]) -> bool:
    """Whether what was read is one chunk, of which nothing is kept, and worth a thread."""
    return _WORTH_A_THREAD <= len(read) <= CHUNK_BYTES and not kept_chunks(mark)


def _on_a_thread(call: Callable[[], object]) -> Future[object] | None:
    """Calls it on a thread of its own; right here, where there is none to be had."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="nomad-original")
    try:
        return pool.submit(call)
    except RuntimeError:
        call()
        return None
    finally:
        pool.shutdown(wait=False)


def keep_missed(manager: NativeSessionManager, workspace_id: str, found: Found, report: ImportReport) -> None:
    """Keeps the original of a session that is unchanged, where an earlier import left it out. Durable on return."""
    stored = manager.get_session(workspace_id, found.id)
    noted = {} if stored is None else mark_of(stored.model_extra or {})
    if stored is None or (kept_chunks(noted) is not None and not is_outdated(stored)):
        return
    original = _kept_anew(manager, workspace_id, found, noted, report)
    if original is None:
        return
    # Changed meanwhile, by somebody else: then the next import notes it.
    with contextlib.suppress(ConflictError), manager.transaction(workspace_id) as tx:
        for each in (stored, *_inner(manager, workspace_id, stored)):
            mark = {**mark_of(each.model_extra or {}), "original": original}
            tx.update_session(workspace_id, each.id, {"imported": mark, "updatedAt": each.updated_at}, if_rev=each.rev)


def is_outdated(session: Session) -> bool:
    """Whether what is kept as a session's original is what an earlier import read, and not the last one."""
    mark = mark_of(session.model_extra or {})
    return kept_chunks(mark) is not None and mark.get("stamp") not in (None, INCOMPLETE, mark["original"].get("stamp"))


def _inner(manager: NativeSessionManager, workspace_id: str, session: Session) -> Iterator[Session]:
    """The sessions that were read from inside of this one's source."""
    path = mark_of(session.model_extra or {}).get("path")
    for child in manager.children(workspace_id, session.id):
        mark = mark_of(child.model_extra or {})
        if mark.get("path") == path and "stamp" not in mark:
            yield child


def _kept_anew(
    manager: NativeSessionManager,
    workspace_id: str,
    found: Found,
    mark: Mapping[str, Any],
    report: ImportReport,
    read: bytes | None = None,
) -> dict[str, Any] | None:
    """What a mark will say of the original as it is now, where it was `mark`; None where there is none to keep, or it
    cannot be read. `read` is the original, where that has been done."""
    if found.original is None:
        return None
    try:
        pieces = _read(found.original) if read is None else iter((read,))
        known = _lasting(kept_chunks(mark) or ())
        chunks = list(_chunks(pieces, known, partial(manager._attach, workspace_id)))
    except _UnreadableError as error:
        report.warn(found.place, f"its original is not kept: {error}")
        return None
    return _named(found.original.name, found.stamp, chunks)


def _named(name: str, stamp: str, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What a mark says of an original."""
    return {
        "name": name,
        "size": sum(chunk.size for chunk in chunks),
        "sha256": chunks[-1].sha256 if chunks else EMPTY,
        "stamp": stamp,
        "chunks": [list(chunk) for chunk in chunks],
    }


class _UnreadableError(Exception):
    """The source cannot be read. What the store cannot write is another thing."""


def _read(original: Original) -> Iterator[bytes]:
    try:
        yield from original.read()
    except OSError as error:
        raise _UnreadableError(error.strerror or error) from error


def _lasting(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """The chunks that stay if the source still begins with them. Of many small ones the last are put together, so many
    that each of the others is at least twice what follows it: so few are kept, and few bytes are kept twice."""
    if sum(chunk.size < CHUNK_BYTES for chunk in chunks) < _MANY:
        return chunks
    at, tail = len(chunks) - 1, chunks[-1].size
    while at and chunks[at - 1].size < 2 * tail:
        at -= 1
        tail += chunks[at].size
    return chunks[:at]


def _chunks(
    pieces: Iterator[bytes], known: Sequence[Chunk], keep: Callable[[memoryview, str | None], str]
) -> Iterator[Chunk]:
    """The chunks of a source, those that are `known` as far as it begins with them, the rest kept now."""
    reading, digest = _Reading(pieces), hashlib.sha256()
    done = False
    for chunk in known:
        reading.fill(chunk.size)
        after = digest.copy()
        with memoryview(reading.data) as data, data[: chunk.size] as part:
            after.update(part)
        if after.hexdigest() != chunk.sha256:
            break
        digest = after
        reading.drop(chunk.size)
        done = True
        yield chunk
    while size := reading.chunk():
        with memoryview(reading.data) as data, data[:size] as part:
            digest.update(part)
            # Up to the end of the first chunk the original is that chunk, and its digest the attachment's name.
            attachment = keep(part, None if done else digest.hexdigest())
        done = True
        reading.drop(size)
        yield Chunk(attachment, size, digest.hexdigest())


class _Reading:
    """A source while it is read: what is read ahead is at most a chunk and one of its pieces. A piece that nothing
    follows is not copied."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._border = 0  # Where a chunk may end, says the source.
        self.data: bytes | bytearray = b""

    def fill(self, size: int) -> None:
        """Reads on until so many bytes are there, or there are no more."""
        while len(self.data) < size:
            piece = next(self._pieces, None)
            if piece is None:
                return
            if not piece:
                self._border = len(self.data)
            elif not self.data:
                self.data = piece
            else:
                self.data = self.data if isinstance(self.data, bytearray) else bytearray(self.data)
                self.data += piece

    def chunk(self) -> int:
        """The size of the next chunk, which is there then; 0 at the end."""
        self.fill(CHUNK_BYTES)
        size = min(len(self.data), CHUNK_BYTES)
        return self._border if _WORTH_A_CHUNK <= self._border < size else size

    def drop(self, size: int) -> None:
        """Forgets the first bytes."""
        if isinstance(self.data, bytearray):
            del self.data[:size]
        else:
            self.data = self.data[size:]
        self._border = max(0, self._border - size)
