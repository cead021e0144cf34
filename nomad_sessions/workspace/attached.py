"""Which attachments a record names: those of a message's file parts, and the original that an import kept. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nomad_sessions.workspace.bodies import Body

__all__ = ["attachments_of"]


def attachments_of(record: Body) -> Iterator[str]:
    """The SHA-256 of each attachment that a session or a message names, in order; what has another shape is no name."""
    for part in record.get("parts") or ():
        file = part.get("file") if isinstance(part, dict) else None
        digest = file.get("sha256") if isinstance(file, dict) else None
        if isinstance(digest, str):
            yield digest
    imported = record.get("imported")
    original = imported.get("original") if isinstance(imported, dict) else None
    chunks = original.get("chunks") if isinstance(original, dict) else None
    for chunk in chunks if isinstance(chunks, list) else ():
        if isinstance(chunk, list) and chunk and isinstance(chunk[0], str):
            yield chunk[0]
