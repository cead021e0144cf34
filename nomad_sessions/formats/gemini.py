"""Gemini CLI's histories: `~/.gemini/tmp/<project>/chats/session-*.json`, since April 2026 `.jsonl`.

A chat is one JSON object, or lines: a header, messages (the same id again replaces), `$set` with fields or all messages
anew, `$rewindTo` (that message and what follows is gone). An answer's tool calls hold their results: they become
messages of role `tool` after it. Sub-agents' chats lie in a folder named after the
session that called them, whose children they become.

Source: the CLI's own code, not run here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.gemini_messages import SPOKEN, TOOL, messages_of
from nomad_sessions.formats.holding import holder
from nomad_sessions.formats.jsonl import Line, first_record, lines
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, files_below, stamp_of
from nomad_sessions.formats.values import as_text, mapping, milliseconds, text, title_from
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]

_HEAD_BYTES = 4096


def _locate(computer: Computer) -> list[Path]:
    return [computer.folder("GEMINI_CLI_HOME") / ".gemini" / "tmp"]


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return any(map(_sniff, _files(path)))
    if path.suffix == ".jsonl":
        head = first_record(path)
        return head is not None and "sessionId" in head and "projectHash" in head
    if path.suffix != ".json":
        return False
    try:
        with path.open("rb") as file:
            begin = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return begin.lstrip()[:1] == b"{" and b'"sessionId"' in begin and b'"projectHash"' in begin


def _files(folder: Path, report: ImportReport | None = None) -> Iterator[Path]:
    for path in files_below(folder, "*.json*", report):
        if "chats" in path.parts and path.suffix in (".json", ".jsonl"):
            yield path


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    families: dict[Path, dict[str, str]] = {}
    for file in _files(path, report) if path.is_dir() else [path]:
        if path.is_dir() and not _sniff(file):
            report.skip(str(file), "no chat of Gemini CLI's")
            continue
        head = _Head(file)
        project, parent = _project(file), None
        if head.caller is not None:
            root = _root(file)
            if root not in families:
                families[root] = {each.name: each.id for each in map(_Head, filter(_sniff, _files(root)))}
            parent = families[root].get(head.caller)
        stamp = stamp_of(file) if head.caller is None else f"{stamp_of(file)} {parent or '-'}"
        read = partial(_read, head, parent)
        yield Found(head.id, project, stamp, head.size, str(file), read, verbatim.of_file(file))


def _root(file: Path) -> Path:
    """The folder of the chats that a sub-agent's chat lies among, its caller's one of them."""
    return next((folder for folder in file.parents if folder.name == "chats"), file.parent)


class _Head:
    """What tells where a chat belongs: its session's id there, when it began, which session called it."""

    def __init__(self, path: Path) -> None:
        fields = _whole(path, None) if path.suffix == ".json" else first_record(path) or {}
        self.path = path
        self.size = path.stat().st_size if path.is_file() else 0
        self.name = text(fields.get("sessionId")) or path.stem
        self.created = milliseconds(fields.get("startTime")) or 0
        self.caller = path.parent.name if path.parent.name != "chats" and "chats" in path.parts else None

    @property
    def id(self) -> str:
        """The session's id here."""
        return derive_id(self.created, TOOL, self.name)


def _project(file: Path) -> str | None:
    """The project folder, where the CLI noted it beside its chats; its hash alone says nothing."""
    for folder in file.parents:
        if folder.name == "chats":
            try:
                return text((folder.parent / ".project_root").read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError):
                return None
    return None


def _whole(path: Path, report: ImportReport | None) -> dict[str, Any]:
    """A chat that is one JSON object; an empty one for a file that is none, and the report says why."""
    try:
        whole = decode(path.read_bytes())
        if isinstance(whole, dict):
            return whole
        reason = "not a JSON object"
    except (OSError, ValueError) as error:
        reason = f"not a whole JSON file: {str(error)[:100]}"
    if report is not None:
        report.skip(str(path), reason)
    return {}


class _Place(NamedTuple):
    """Where a message of a chat stands: in which line, and as which of the messages in it (None: it is the line)."""

    offset: int
    length: int
    number: int | None


class _Chat:
    """A chat of lines: its fields, and where those of its messages stand that are left at the end of the file."""

    def __init__(self, path: Path, report: ImportReport) -> None:
        self.fields: dict[str, Any] = {}
        self.kept: dict[str, _Place] = {}
        self._path = path
        self._report = report
        for line in lines(path, report):
            self._take(line)

    def _take(self, line: Line) -> None:
        record = line.record
        if isinstance(record.get("$set"), dict):
            self.fields |= {key: value for key, value in record["$set"].items() if key != "messages"}
            if "messages" in record["$set"]:
                self._set(line)
        elif "$rewindTo" in record:
            self._rewind(text(record["$rewindTo"]))
        elif "type" in record and (text(record.get("id")) or record["type"] in SPOKEN):
            self._keep(text(record.get("id")) or f"@{line.offset}", line, None)
        elif "sessionId" in record:
            self.fields = {**record, **self.fields}
        else:
            self._report.ignore("Gemini CLI's own record")

    def _rewind(self, target: str | None) -> None:
        """Takes back a message and what follows it; all of them where it is not there."""
        last = target if target in self.kept else None
        identifier = ""
        while self.kept and identifier != last:
            identifier, _ = self.kept.popitem()
            self._report.ignore("taken back by a rewind")

    def _set(self, line: Line) -> None:
        """All messages anew."""
        given = self._report.objects(line.record["$set"]["messages"], f"{self._path} at byte {line.offset} messages")
        before, self.kept = self.kept, {}
        for number, each in enumerate(line.record["$set"]["messages"] if given else ()):
            if isinstance(each, dict):
                self._keep(text(each.get("id")) or f"@{line.offset}.{number}", line, number)
        for _ in before.keys() - self.kept.keys():
            self._report.ignore("taken back by a list of all messages")

    def _keep(self, key: str, line: Line, index: int | None) -> None:
        if key in self.kept:
            self._report.ignore("an earlier state of a message")
        self.kept[key] = _Place(line.offset, line.length, index)

    def messages(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The messages that are left, each read again from its line, with its place."""
        at, holder = -1, None  # A line of many messages stays: those of their own lines may stand between them.
        with self._path.open("rb") as file:
            for place in self.kept.values():
                if place.number is None:
                    record = _decoded(file, place)
                else:
                    if place.offset != at:
                        at, holder = place.offset, _decoded(file, place)
                    record = _listed(holder, place.number)
                yield f"{self._path} at byte {place.offset}", mapping(record)


def _decoded(file: BinaryIO, place: _Place) -> Any:
    file.seek(place.offset)
    try:
        return decode(file.read(place.length).strip(b"\0 \t\r\n"))
    except ValueError:  # Rewritten since it was indexed; the next import sees to it.
        return None


def _listed(record: Any, index: int) -> Any:
    given = mapping(mapping(record).get("$set")).get("messages")
    return given[index] if isinstance(given, list) and index < len(given) else None


def _told(path: Path, report: ImportReport) -> tuple[dict[str, Any], Iterator[tuple[str, Mapping[str, Any]]]]:
    """The fields of a chat, and its messages with the place of each. Raises `OSError`."""
    if path.suffix == ".json":
        whole = _whole(path, report)
        given = report.objects(whole.pop("messages", None), f"{path} messages")
        return whole, ((f"{path} messages[{number}]", each) for number, each in enumerate(given))
    chat = _Chat(path, report)
    return chat.fields, chat.messages()


def _read(head: _Head, parent: str | None, report: ImportReport) -> ParsedSession | None:
    report.sessions.read += 1
    messages = holder(head.size)
    places: list[str] = []
    about = _About()
    path, name, created = head.path, head.name, head.created
    try:
        chat, told = _told(path, report)
        for number, (place, record) in enumerate(told):
            time = milliseconds(record.get("timestamp")) or created
            for message in messages_of(record, place, report):
                key = as_text(record.get("id")) or str(number)
                message["id"] = derive_id(time, TOOL, name, key, str(message.get("toolCallId", "")), str(number))
                message |= {"createdAt": time, "updatedAt": time, "imported": {"tool": TOOL, "messageId": key}}
                about.look(message)
                messages.append(message)
                places.append(place)
    except OSError as error:
        report.sessions.skipped += 1
        report.messages.read += len(messages)
        report.messages.skipped += len(messages)
        report.skip(str(path), f"cannot be read: {error.strerror}")
        return None
    report.messages.read += len(messages)
    if not chat and not messages:
        report.sessions.skipped += 1
        return None
    return ParsedSession(_session(head, parent, chat, about), messages, places, len(messages))


class _About:
    """What the messages of a chat tell of it."""

    def __init__(self) -> None:
        self.prompt = ""
        self.model: dict[str, str] | None = None

    def look(self, message: Mapping[str, Any]) -> None:
        """Takes in the next message."""
        if not self.prompt and message["role"] == "user":
            self.prompt = message.get("content") or ""
        self.model = message.get("model", self.model)


def _session(head: _Head, parent: str | None, chat: Mapping[str, Any], about: _About) -> dict[str, Any]:
    session: dict[str, Any] = {
        "id": head.id,
        "createdAt": head.created,
        "updatedAt": milliseconds(chat.get("lastUpdated")) or head.created,
        "imported": {"tool": TOOL, "sessionId": head.name, "path": str(head.path)},
    }
    title = text(chat.get("summary")) or (title_from(about.prompt) if about.prompt else None)
    if title:
        session["title"] = title
    if about.model is not None:
        session["model"] = about.model
    if head.caller is not None:
        session["imported"] |= {"relation": "subagent", "parentSourceId": head.caller}
        if parent is not None:
            session["parentId"] = parent
    return session


IMPORTER = Importer(
    name=TOOL,
    label="Gemini CLI",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="messages that a rewind took back are counted, not imported",
)
