"""What the fuzz starts from: for each format, sources that are whole."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import zstandard

from nomad_sessions.formats.registry import FORMATS, IMPORTERS, Format
from nomad_sessions.formats.source import Importer
from tests.support.samples import make_llm_logs, share_of

__all__ = ["TARGETS", "Files", "Source", "sources_of"]

Files = dict[str, bytes]
_TESTS = Path(__file__).parents[1]
_FIXTURES = _TESTS / "fixtures"
_EXAMPLES = _TESTS.parent / "examples"
_OPENCODE = _FIXTURES / "opencode" / "samples"
_EXPORTS = (_OPENCODE / "export.json", _EXAMPLES / "opencode" / "slow-page-subagent.json")


class Source(NamedTuple):
    """Files by name, and which of them is named to the import ("": the folder that they are in)."""

    files: Files
    root: str = ""


TARGETS: dict[str, Importer | Format] = {
    **{each.name: each for each in IMPORTERS},
    **{f"{each.name}-file": each for each in FORMATS},
}
"""What is fuzzed, by the name that a test has of it."""


@functools.cache
def sources_of(name: str) -> list[Source]:
    """The whole sources of one target."""
    return _SOURCES[name]()


def _tree(folder: Path, under: str = "") -> Files:
    return {
        under + path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _alone(path: Path) -> Source:
    return Source({path.name: path.read_bytes()}, path.name)


def _opencode() -> list[Source]:
    files = _tree(_OPENCODE / "data")
    old, new = (_OPENCODE / f"opencode-{version}.db" for version in ("1.2", "1.18"))
    return [
        Source(files),
        Source({"opencode.db": old.read_bytes()}),
        Source({"opencode.db": new.read_bytes()}, "opencode.db"),
        Source({**files, "opencode.db": new.read_bytes()}),
    ]


def _claude() -> list[Source]:
    files = _tree(_FIXTURES / "claude" / "projects")
    (torn,) = (_FIXTURES / "claude" / "torn").iterdir()
    return [Source(files), Source(files, next(iter(files))), _alone(torn)]


def _codex() -> list[Source]:
    folder = _FIXTURES / "codex"
    paginated = _tree(folder / "paginated")
    packed = {f"{name}.zst": zstandard.ZstdCompressor().compress(data) for name, data in paginated.items()}
    sessions = {**_tree(folder / "sessions", "sessions/"), **_tree(folder / "gen1", "archived_sessions/")}
    index = (folder / "session_index.jsonl").read_bytes()
    (oldest,) = (folder / "gen1").iterdir()
    return [Source({**sessions, "session_index.jsonl": index}), Source(paginated), Source(packed), _alone(oldest)]


def _gemini() -> list[Source]:
    files = _tree(_FIXTURES / "gemini" / "tmp")
    return [Source(files), *(Source(files, name) for name in files if "/chats/" in name)]


def _pi() -> list[Source]:
    files = _tree(_FIXTURES / "pi" / "agent" / "sessions")
    return [Source(files), *(Source(files, name) for name in files)]


def _llm() -> list[Source]:
    with tempfile.TemporaryDirectory() as folder:
        return [_alone(make_llm_logs(Path(folder) / "logs.db"))]


def _exports() -> list[Source]:
    return [_alone(path) for path in _EXPORTS]


def _shares() -> list[Source]:
    shares = [json.dumps(share_of(json.loads(path.read_bytes()))).encode() for path in _EXPORTS]
    return [Source({"share.json": share}, "share.json") for share in shares]


def _nomadarch() -> list[Source]:
    message = {"sessionId": "s1", "role": "user", "content": "hi", "createdAt": 2, "updatedAt": 3}
    session = {"id": "s1", "workspaceId": "w", "createdAt": 1, "updatedAt": 9, "messageIds": ["m1", "m2"]}
    value = {
        "sessions": {
            "s1": {**session, "revert": {"messageID": "m2"}},
            "s2": {**session, "id": "s2", "parentId": "s1"},
        },
        "messages": {name: {**message, "id": name} for name in ("m1", "m2", "m3")},
    }
    return [
        _alone(_EXAMPLES / "nomadarch" / "sessions.json"),
        Source({"sessions.json": json.dumps(value).encode()}, "sessions.json"),
    ]


def _session_lines() -> list[Source]:
    value = json.loads((_EXAMPLES / "nomadarch" / "sessions.json").read_bytes())
    lines = []
    for session in value["sessions"].values():
        lines += [{"session": session}, *({"message": value["messages"][name]} for name in session["messageIds"])]
    one = [{"session": {"id": "s1", "title": "one", "createdAt": 1}}, {"message": {"id": "m1", "role": "user"}}]
    return [
        Source({"a.jsonl": b"".join(json.dumps(line).encode() + b"\n" for line in each)}, "a.jsonl")
        for each in (lines, [*one, *lines], one[:1])
    ]


_SOURCES: dict[str, Callable[[], list[Source]]] = {
    "opencode": _opencode,
    "claude-code": _claude,
    "codex": _codex,
    "gemini-cli": _gemini,
    "pi": _pi,
    "goose": lambda: [_alone(_FIXTURES / "goose" / "sessions.db")],
    "llm": _llm,
    "crush": lambda: [Source(_tree(_FIXTURES / "crush"))],
    "aider": lambda: [Source(_tree(_FIXTURES / "aider"))],
    "strands": lambda: [Source(_tree(_FIXTURES / "strands"))],
    "openai-agents": lambda: [_alone(_FIXTURES / "openai-agents" / "sessions.db")],
    "nomadarch-file": _nomadarch,
    "opencode-file": _exports,
    "opencode-share-file": _shares,
    "session-lines-file": _session_lines,
}
