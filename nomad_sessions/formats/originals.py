"""The originals of imported sessions, given back byte for byte; `keeping.py` keeps them.

Invariant: what is given back is what was read, or an error. Verified by `tests/unit/test_originals.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nomad_sessions.errors import AttachmentMissingError, OriginalNotFoundError, SessionNotFoundError
from nomad_sessions.formats.exporting import export_session, indented
from nomad_sessions.formats.importing import mark_of
from nomad_sessions.formats.keeping import Chunk, kept_chunks
from nomad_sessions.storage.attachments import FOLDER
from nomad_sessions.storage.codec import decode

if TYPE_CHECKING:
    from nomad_sessions.manager import NativeSessionManager

__all__ = ["original_of"]


def original_of(manager: NativeSessionManager, workspace_id: str, session_id: str) -> Iterator[bytes]:
    """What a session was imported from, in pieces of at most 16 MiB: of a file its bytes, of rows and small files JSON
    lines; of OpenCode and NomadArch, whose records are kept whole, their form, with what was changed here since.

    Raises `SessionNotFoundError` and `OriginalNotFoundError`, and, when a piece is asked for, `AttachmentMissingError`.
    A piece that is given is as it was; only after the last is the original whole.
    """
    session = manager.get_session(workspace_id, session_id)
    if session is None:
        raise SessionNotFoundError(session_id=session_id)
    mark = mark_of(session.model_extra or {})
    chunks = kept_chunks(mark)
    if chunks is not None:
        return _pieces(manager, workspace_id, chunks)
    if mark.get("format") in ("opencode", "nomadarch"):
        data = export_session(manager, workspace_id, session_id, mark["format"])
        return iter([data if mark["format"] == "opencode" else _as_nomadarch_has_it(data)])
    raise OriginalNotFoundError(session_id=session_id, hint=_hint(mark))


def _hint(mark: Mapping[str, Any]) -> str:
    if not mark:
        return "it was not imported: there is only what is here, which can be exported"
    if mark.get("format") == "opencode-share":
        return "a share of OpenCode's is not kept as it was: export the session in the form opencode"
    where = mark.get("path") or mark.get("source")
    return f"it was imported from {where} without its original; where that still is, import it again, with originals"


def _as_nomadarch_has_it(exported: bytes) -> bytes:
    """A `sessions.json` of one session, without what this store and its import have added to each record."""
    value = decode(exported)
    for record in (*value["sessions"].values(), *value["messages"].values()):
        for ours in ("imported", "rev"):
            record.pop(ours, None)
        if "nomadarchRole" in record:
            record["role"] = record.pop("nomadarchRole")
    return indented(value)


def _pieces(manager: NativeSessionManager, workspace_id: str, chunks: Sequence[Chunk]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for chunk in chunks:
        data = manager.read_attachment(workspace_id, chunk.attachment)
        digest.update(data)
        if (len(data), digest.hexdigest()) != (chunk.size, chunk.sha256):
            path = f"{manager.workspace(workspace_id).folder}/{FOLDER}/{chunk.attachment}"
            raise AttachmentMissingError(path=path, sha256=chunk.attachment, reason="it is no chunk of the original")
        yield data
