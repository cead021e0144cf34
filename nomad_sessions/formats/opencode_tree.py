"""OpenCode's store up to 1.1: a JSON file for each session, message and part.

Two layouts, the second the older one:

    storage/session/<project>/<session>.json    project/<name>/storage/session/info/<session>.json
    storage/message/<session>/<message>.json    project/<name>/storage/session/message/<session>/<message>.json
    storage/part/<message>/<part>.json          project/<name>/storage/session/part/<session>/<message>/<part>.json

Ids are taken from the paths: OpenCode moved files without writing their content anew. A session whose own file is gone
or cannot be read is rebuilt from its messages, and the report says so.

Source: layouts and the rule on ids from the program (1.1.65) and its own migrations.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats.opencode_store import Placed, Raw, Stored, rebuilt_info
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import mapping, text
from nomad_sessions.storage.codec import decode

__all__ = ["is_tree", "sessions", "trees"]

_ROOT = os.sep


@dataclass(frozen=True)
class _Tree:
    """Where one tree keeps what. `projects` is None in the older layout, which has a tree for each project."""

    infos: Path
    messages: Path
    parts: Path
    projects: Path | None
    beside: Path | None

    def parts_of(self, session_id: str, message_id: str) -> Path:
        return self.parts / message_id if self.projects is not None else self.parts / session_id / message_id


def trees(data: Path) -> list[Path]:
    """The trees in OpenCode's data folder, or the one that the folder itself is."""
    candidates = [data, data / "storage", *sorted(data.glob("project/*/storage"))]
    return [each for each in candidates if is_tree(each)]


def is_tree(path: Path) -> bool:
    """Whether a folder is the `storage` of a tree. Never raises."""
    return (path / "session").is_dir() and any(
        (path / each).is_dir() for each in ("message", "part", "session/info", "session/message", "project")
    )


def sessions(storage: Path, report: ImportReport) -> Iterator[Stored]:
    """The sessions of a tree, those that are only in their messages' folders last; reads the sessions' own files.

    Files that belong to nothing go to the report.
    """
    tree = _tree(storage)
    known: set[str] = set()
    for folder in [tree.infos, *(_folders(tree.infos) if tree.projects is not None else ())]:
        for file in _files(folder, report):
            known.add(file.stem)
            yield _stored(tree, file.stem, file)
    for folder in _folders(tree.messages):
        if folder.name not in known:
            yield _stored(tree, folder.name, None)
    _report_orphans(tree, report)


def _tree(storage: Path) -> _Tree:
    session = storage / "session"
    if (session / "info").is_dir() or (session / "message").is_dir():
        return _Tree(session / "info", session / "message", session / "part", None, None)
    return _Tree(session, storage / "message", storage / "part", storage / "project", storage)


def _stored(tree: _Tree, session_id: str, file: Path | None) -> Stored:
    size, stamp = _measured(tree, session_id, file)
    info = (_object(file)[0] if file is not None else None) or {}
    directory = text(info.get("directory")) or _worktree(tree, file)
    if directory is None:
        directory = _directory_of_messages(tree, session_id)
    place = str(file or tree.messages / session_id)
    return Stored(session_id, directory, stamp, size, place, partial(_read, tree, session_id, file))


def _worktree(tree: _Tree, file: Path | None) -> str | None:
    """The folder of the session's project; none for those outside of any."""
    if tree.projects is None or file is None:
        return None
    worktree = text((_object(tree.projects / f"{file.parent.name}.json")[0] or {}).get("worktree"))
    return None if worktree == _ROOT else worktree


def _directory_of_messages(tree: _Tree, session_id: str) -> str | None:
    for each in _files(tree.messages / session_id):
        cwd = text(mapping((_object(each)[0] or {}).get("path")).get("cwd"))
        if cwd is not None:
            return cwd
    return None


def _measured(tree: _Tree, session_id: str, file: Path | None) -> tuple[int, str]:
    """The size of all files of a session, and what changes when one of them does."""
    size, digest = 0, hashlib.sha256()
    for each in _all_files(tree, session_id, file):
        try:
            stat = each.stat()
        except OSError:
            continue
        size += stat.st_size
        digest.update(f"{each.name} {stat.st_size} {stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return size, digest.hexdigest()[:16]


def _all_files(tree: _Tree, session_id: str, file: Path | None) -> Iterator[Path]:
    if file is not None:
        yield file
    for message in _files(tree.messages / session_id):
        yield message
        yield from _files(tree.parts_of(session_id, message.stem))
    if tree.beside is not None:
        yield from (tree.beside / kind / f"{session_id}.json" for kind in ("todo", "session_diff"))


def _read(tree: _Tree, session_id: str, file: Path | None, report: ImportReport) -> Raw:
    messages = list(_messages(tree, session_id, report))
    info, reason = _object(file) if file is not None else (None, "there is no such file")
    if info is None:
        place = str(file or tree.messages / session_id)
        report.warn(place, f"the session's own file is lost ({reason}), it is rebuilt from its messages")
        info = rebuilt_info(session_id, messages)
    info = {**info, "id": session_id}
    if tree.projects is not None and file is not None:
        info["projectID"] = file.parent.name
    return Raw(info, messages, _beside(tree, session_id, report))


def _messages(tree: _Tree, session_id: str, report: ImportReport) -> Iterator[Placed]:
    for file in _files(tree.messages / session_id, report):
        info, reason = _object(file)
        parts = list(_parts(tree.parts_of(session_id, file.stem), session_id, file.stem, info is not None, report))
        if info is None:
            report.messages.read += 1
            report.skip_message(str(file), reason)
            continue
        inline = info.pop("parts", None)
        if not parts and isinstance(inline, list):
            parts = inline
        yield str(file), {"info": {**info, "id": file.stem, "sessionID": session_id}, "parts": parts}


def _parts(
    folder: Path, session_id: str, message_id: str, wanted: bool, report: ImportReport
) -> Iterator[dict[str, Any]]:
    for file in _files(folder, report):
        part, reason = _object(file)
        if part is None:
            report.skip(str(file), reason)
        elif not wanted:
            report.skip(str(file), "a part of a message that cannot be read")
        else:
            yield {**part, "id": file.stem, "messageID": message_id, "sessionID": session_id}


def _beside(tree: _Tree, session_id: str, report: ImportReport) -> dict[str, Any]:
    """The session's todos and diffs, where there are any."""
    found: dict[str, Any] = {}
    for kind, name in (("todo", "todos"), ("session_diff", "diffs")):
        file = tree.beside / kind / f"{session_id}.json" if tree.beside is not None else None
        if file is None or not file.is_file():
            continue
        value, reason = _json(file)
        if isinstance(value, list):
            found |= {name: value} if value else {}
        else:
            report.skip(str(file), reason or "not a list")
    return found


def _report_orphans(tree: _Tree, report: ImportReport) -> None:
    """Parts whose message has no file: OpenCode itself leaves some behind."""
    if tree.projects is None:
        pairs = [
            (tree.messages / session.name, folder) for session in _folders(tree.parts) for folder in _folders(session)
        ]
        orphans = [folder for messages, folder in pairs if not (messages / f"{folder.name}.json").exists()]
    else:
        known = {file.stem for folder in _folders(tree.messages) for file in _files(folder)}
        orphans = [folder for folder in _folders(tree.parts) if folder.name not in known]
    for folder in orphans:
        for file in _files(folder):
            report.skip(str(file), "a part of a message that is not there")


def _files(folder: Path, report: ImportReport | None = None) -> list[Path]:
    """The JSON files in a folder, by name. Other files are counted, where a report is given."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    files = [entry for entry in entries if entry.suffix == ".json" and not entry.name.startswith(".")]
    if report is not None:
        for _ in range(sum(1 for entry in entries if not entry.is_dir()) - len(files)):
            report.ignore("stray files")
    return files


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except OSError:
        return []


def _object(file: Path) -> tuple[dict[str, Any] | None, str]:
    """The object in a file, or why there is none."""
    value, reason = _json(file)
    return (value, "") if isinstance(value, dict) else (None, reason or "not an object")


def _json(file: Path) -> tuple[Any, str]:
    try:
        data = file.read_bytes()
    except OSError as error:
        return None, f"cannot be read: {error.strerror}"
    if not data.strip(b"\0 \t\r\n"):
        return None, "NUL bytes" if b"\0" in data else "an empty file"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return None, "invalid UTF-8"
    try:
        return decode(data), ""
    except (ValueError, RecursionError):
        return None, "not a whole JSON file"
