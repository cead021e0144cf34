"""aider's `.aider.chat.history.md`: one Markdown file for each git repository, appended to for ever.

`# aider chat started at <local time>` begins a session; `#### ` is the user's line, `> ` the tool's, the rest the
answer. There are no ids, no times within a session and no structure of tools, so this is a session as it can be read
and no more. A heading in an answer is text: only the exact banner begins a session.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, Original
from nomad_sessions.formats.values import title_from
from nomad_sessions.ids import derive_id

__all__ = ["IMPORTER"]

TOOL = "aider"
_NAME = ".aider.chat.history.md"
_BANNER = re.compile(rb"# aider chat started at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*\Z")
_HEAD_LINES = 20


def _locate(computer: Computer) -> list[Path]:
    return list(dict.fromkeys([computer.home / _NAME, *computer.nearest(_NAME)]))


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return _sniff(path / _NAME)
    if path.suffix != ".md":
        return False
    try:
        with path.open("rb") as file:
            return any(_BANNER.match(line) for line, _ in zip(file, range(_HEAD_LINES), strict=False))
    except OSError:
        return False


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    file = path / _NAME if path.is_dir() else path
    folder = str(file.resolve().parent)
    for number, (start, lines) in enumerate(_chats(file, report)):
        time = _time(lines[0])
        name = f"{folder}#{number}"
        size = sum(map(len, lines))
        read = partial(_read, file, name, time, start, lines)
        kept, place = Original(_NAME, partial(iter, lines)), f"{file} at byte {start}"
        yield Found(derive_id(time, TOOL, name), folder, f"{start} {size}", size, place, read, kept)


def _chats(path: Path, report: ImportReport) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of each session, banner first, and the byte where it begins."""
    start = offset = 0
    chat: list[bytes] = []
    lost: int | None = None
    try:
        with path.open("rb") as file:
            for line in file:
                if _BANNER.match(line):
                    if chat:
                        yield start, chat
                    start, chat = offset, [line]
                elif chat:
                    chat.append(line)
                elif lost is None and line.strip():
                    lost = offset
                    report.skip(f"{path} at byte {lost}", "text before the first session")
                offset += len(line)
    except OSError as error:
        report.skip(str(path), f"cannot be read: {error.strerror}")
    if chat:
        yield start, chat


def _time(banner: bytes) -> int:
    found = _BANNER.match(banner)
    assert found is not None, "a session begins with its banner"
    try:
        return max(0, round(datetime.strptime(found[1].decode("ascii"), "%Y-%m-%d %H:%M:%S").timestamp() * 1000))
    except (ValueError, OverflowError, OSError):
        return 0


def _read(path: Path, name: str, time: int, start: int, lines: list[bytes], report: ImportReport) -> ParsedSession:
    report.sessions.read += 1
    messages: list[dict[str, Any]] = []
    places: list[str] = []
    for number, (role, content, offset) in enumerate(_turns(lines, start)):
        message = {"role": role, "content": content, "createdAt": time, "updatedAt": time}
        key = {"id": derive_id(time, TOOL, name, str(number)), "imported": {"tool": TOOL, "messageId": str(number)}}
        messages.append(message | key)
        places.append(f"{path} at byte {offset}")
    report.messages.read += len(messages)
    session: dict[str, Any] = {
        "id": derive_id(time, TOOL, name),
        "createdAt": time,
        "updatedAt": time,
        "directory": str(path.resolve().parent),
        "imported": {"tool": TOOL, "sessionId": name, "path": str(path)},
    }
    said = next((message["content"] for message in messages if message["role"] == "user"), None)
    if said:
        session["title"] = title_from(said)
    return ParsedSession(session, messages, places, len(messages))


def _turns(lines: list[bytes], start: int) -> Iterator[tuple[str, str, int]]:
    """Runs of lines of one side: role, text, and the byte where it begins."""
    role, said, begin = "", [""], start
    offset = start + len(lines[0])
    for line in lines[1:]:
        decoded = line.decode("utf-8", "replace").rstrip("\r\n")
        speaker = "user" if decoded.startswith("#### ") else "system" if decoded.startswith("> ") else "assistant"
        if not decoded.strip() and role:
            speaker = role  # An empty line belongs to whoever spoke.
        if speaker != role:
            yield from _turn(role, said, begin)
            role, said, begin = speaker, [], offset
        mark = {"user": 5, "system": 2}.get(speaker, 0)
        said.append(decoded[mark:].rstrip() if mark else decoded)
        offset += len(line)
    yield from _turn(role, said, begin)


def _turn(role: str, said: list[str], begin: int) -> Iterator[tuple[str, str, int]]:
    content = "\n".join(said).strip("\n")
    if role and content.strip():
        yield role, content, begin


IMPORTER = Importer(
    name=TOOL,
    label="aider",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="the file has no ids, no times within a session and no structure of tools",
)
