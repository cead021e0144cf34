"""What the tests of kept originals share: a history is imported, and its original asked for."""

from __future__ import annotations

import json
import shutil
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

__all__ = ["FIXTURES", "WS", "brought", "claude_session", "grown", "mark", "original", "records"]

FIXTURES = Path(__file__).parents[1] / "fixtures"
WS = "ws"


def brought(m: NativeSessionManager, path: Path, **how: Any) -> ImportReport:
    """Imports a history."""
    return import_history(m, there(importer_of(path)), path, workspace_id=WS, **how)


def claude_session(folder: Path) -> Path:
    """One file of Claude Code's, copied into a folder."""
    source = next((FIXTURES / "claude" / "projects").glob("*/5f2b*.jsonl"))
    return Path(shutil.copy(source, folder))


def grown(path: Path, text: str = "More", number: int = 0) -> None:
    """Has somebody say something more in a file of Claude Code's."""
    record = next(each for each in reversed(records(path.read_bytes())) if "uuid" in each)
    record |= {"uuid": f"new {text} {number}", "parentUuid": record["uuid"]}
    record |= {"type": "user", "message": {"role": "user", "content": text}}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


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
