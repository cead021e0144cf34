"""A record as rows of Chroma, and back: a row for each piece of its text, the first with the record itself. Pure.

Invariant: `change_of` gives exactly what `rows_of` was given, whatever stands in it; and every row of a record names
its workspace, its session, the record and its rev. Verified by `tests/unit/test_chroma_rows.py`.

Metadata of each row: `workspaceId`, `sessionId`, `recordId`, `rev`, `chunk` (its number), and what queries filter by:
`role`, `agent`, `model` (`provider/model`), `status`, `title`, `createdAt`, `updatedAt`, and `metadata.<name>` for what
stands in the record's own metadata and is a text, a number, True or False. The first row further has `chunks` (how
many), `digest` (of all its text) and `body` (the record as JSON). Ids are as they are, except that what is no ASCII
letter or digit, `_`, `.`, `-` or `~` is percent-encoded.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from nomad_sessions.search.text import clean, doc_of_message, doc_of_session
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.sync.chunks import chunked
from nomad_sessions.sync.target import Change, Key, Kind

__all__ = ["Metadata", "Row", "bare_id", "change_of", "key_of", "quoted", "row_id", "rows_of", "text_of", "unquoted"]

Metadata = Mapping[str, Any]
_FILTERS = ("role", "agent", "status", "title", "createdAt", "updatedAt", "archivedAt", "parentId")
_BASE64 = "base64:"
_LONGEST = 1_000
_LARGEST = 1 << 63


class Row(NamedTuple):
    """One row: `text` is a piece of the record's, "" where it has none."""

    id: str
    text: str
    metadata: dict[str, Any]


def quoted(name: str) -> str:
    """An id as Chroma has it: ASCII, without `:`."""
    return quote(name, safe="", errors="surrogatepass")


def unquoted(name: str) -> str:
    """The id that was `quoted`."""
    return unquote(name, errors="surrogatepass")


def row_id(workspace_id: str, record_id: str, chunk: int = 0) -> str:
    """The id of a row of a record: from it the record is known."""
    return f"{quoted(workspace_id)}:{quoted(record_id)}:{chunk}"


def bare_id(workspace_id: str, key: Key) -> str:
    """The id of the row of a record without a vector: one without a text, or one that is gone."""
    return f"{key.kind}:{quoted(workspace_id)}:{quoted(key.id)}"


def text_of(kind: Kind, body: Mapping[str, Any]) -> str:
    """What of a record is made a vector: of a session title and description, of a message what it says, and names,
    arguments and results of its tools, as the search index takes them."""
    if kind == "session":
        return doc_of_session(body, "").title
    doc = doc_of_message(body)
    return "\n".join(each for each in (doc.body, doc.names, doc.calls) if each)


def rows_of(change: Change) -> list[Row]:
    """The rows of a record, in the order of its text; of one without a text one without, and so of one that is gone."""
    common: dict[str, Any] = {
        "workspaceId": change.workspace_id,
        "recordId": quoted(change.key.id),
        "rev": change.rev,
    }
    if change.session_id is not None:
        common["sessionId"] = quoted(change.session_id)
    if change.body is None:
        return [_bare(change, {**common, "gone": True})]
    common |= _filters(change.body)
    first = {**common, "body": _as_text(encode(change.body))}
    pieces = chunked(text_of(change.key.kind, change.body))
    if not pieces:
        return [_bare(change, {**first, "gone": False})]
    name = f"{quoted(change.workspace_id)}:{quoted(change.key.id)}"
    head = Row(f"{name}:0", pieces[0], {**first, "chunk": 0, "chunks": len(pieces), "digest": _digest(pieces)})
    return [head, *(Row(f"{name}:{n}", piece, {**common, "chunk": n}) for n, piece in enumerate(pieces[1:], 1))]


def _digest(pieces: list[str]) -> str:
    return hashlib.blake2b("\0".join(pieces).encode("utf-8"), digest_size=16).hexdigest()


def _bare(change: Change, metadata: dict[str, Any]) -> Row:
    return Row(bare_id(change.workspace_id, change.key), "", {**metadata, "kind": change.key.kind})


def change_of(kind: Kind, metadata: Metadata) -> Change:
    """The record that a first row, or one without a text, is of."""
    body = None if metadata.get("gone") else decode(_as_bytes(metadata["body"]))
    session = metadata.get("sessionId")
    owner = None if session is None else unquoted(session)
    return Change(metadata["workspaceId"], key_of(kind, metadata), metadata["rev"], body, owner)


def key_of(kind: Kind, metadata: Metadata) -> Key:
    """The record that a row is of."""
    return Key(kind, unquoted(metadata["recordId"]))


def _as_text(data: bytes) -> str:
    """JSON as a text that Chroma takes: it takes no half of a pair, which a text may have all the same."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _BASE64 + base64.b64encode(data).decode("ascii")


def _as_bytes(text: str) -> bytes:
    return base64.b64decode(text[len(_BASE64) :]) if text.startswith(_BASE64) else text.encode("utf-8")


def _filters(body: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(_plain((name, body.get(name)) for name in _FILTERS))
    model = body.get("model")
    if isinstance(model, dict):
        found["model"] = clean(f"{model.get('providerId')}/{model.get('modelId')}")
    own = body.get("metadata")
    if isinstance(own, dict):
        found |= _plain((f"metadata.{name}", value) for name, value in own.items())
    return found


def _plain(pairs: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Those that Chroma takes, and that somebody may filter by."""
    for name, value in pairs:
        if len(name) > _LONGEST or clean(name) != name:
            continue
        if isinstance(value, str):
            yield name, clean(value[:_LONGEST])
        elif (isinstance(value, int) and -_LARGEST <= value < _LARGEST) or _is_finite(value):
            yield name, value


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)
