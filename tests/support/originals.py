"""What the tests of kept originals share: a history is imported, and its original asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nomad_sessions import (
    NativeSessionManager,
    Session,
)
from nomad_sessions.formats import (
    ImportReport,
    import_history,
    importer_of,
    original_of,
)
from tests.support.there import there

__all__ = ["FIXTURES", "WS", "brought", "mark", "original", "records"]

FIXTURES = Path(__file__).parents[1] / "fixtures"
WS = "ws"


def brought(m: NativeSessionManager, path: Path, **how: Any) -> ImportReport:
    """Imports a history."""
    return import_history(m, there(importer_of(path)), path, workspace_id=WS, **how)


def original(m: NativeSessionManager, session_id: str) -> bytes:
    """All of a session's original."""
    return b"".join(original_of(m, WS, session_id))


def mark(session: Session | None) -> dict[str, Any]:
    """What a session says of its import."""
    found: dict[str, Any] = there(there(session).model_extra)["imported"]
    return found


def records(data: bytes) -> list[Any]:
    """The lines of a file, each as JSON."""
    return [json.loads(line) for line in data.splitlines()]
