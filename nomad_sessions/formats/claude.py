"""Claude Code's histories: `~/.claude/projects/<project>/<session>.jsonl`, of all versions.

A session is a file, and its id the file's name: the `sessionId` in the records may be another's. Sub-agents become
sessions of their own, children of the one that called them, wherever a version put them: into the same file (1), beside
it (2.0), or in a folder named after it (2.1). What `forkedFrom` or an identical beginning tells of forks is kept as the
parent; both are whole. Branches that were rewound are counted as ignored.

Source: the format as measured on the published programs, versions 1.0.51, 2.0.42 and 2.1.329.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.claude_messages import TOOL, messages_of
from nomad_sessions.formats.claude_tree import Node, conversation, nodes_of, side_roots
from nomad_sessions.formats.jsonl import first_record, lines
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, stamp_of
from nomad_sessions.formats.values import as_text, mapping, milliseconds, text, title_from
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]

_KEEP_BYTES = 64 << 20
"""A file up to this size is read once and kept in memory while its session is made; a larger one is read twice."""
_HEAD_RECORDS = 40
_MARKS = {"parentUuid", "leafUuid", "sessionId", "isSidechain"}
_TITLES = (("custom-title", "customTitle"), ("ai-title", "aiTitle"), ("summary", "summary"))


def _locate(computer: Computer) -> list[Path]:
    return [computer.folder("CLAUDE_CONFIG_DIR", ".claude") / "projects"]


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return next(_files(path), None) is not None
    record = first_record(path) if path.suffix == ".jsonl" else None
    return record is not None and bool(_MARKS & record.keys()) and "type" in record and "payload" not in record


def _files(folder: Path) -> Iterator[Path]:
    """The files of sessions in a folder and below, sub-agents' not among them, a project after the other."""
    for path in sorted(folder.rglob("*.jsonl")):
        if "subagents" not in path.parts[len(folder.parts) :] and path.is_file() and _sniff(path):
            yield path


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    files = list(_files(path)) if path.is_dir() else [path]
    heads = {file: _Head(file) for file in files}
    origins: dict[str, Path] = {}
    for file in sorted(files, key=lambda each: (heads[each].changed, each.name)):
        origins.setdefault(heads[file].first or str(file), file)
    for file in files:
        head = heads[file]
        if head.time is None:
            report.ignore("a file without a record that has a time")
            continue
        origin = origins[head.first or str(file)]
        parent = heads[origin] if origin.stem != file.stem else None
        if head.agent:
            parent = next((heads[each] for each in files if each.stem == head.session), None)
        yield _found(file, head, parent, "subagent" if head.agent else "fork")
        for agent in sorted((file.parent / file.stem).glob("subagents/**/agent-*.jsonl")):
            inner = _Head(agent)
            if inner.time is not None:
                yield _found(agent, inner, head, "subagent")


class _Head:
    """What the first records of a file tell."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.agent = path.stem.startswith("agent-")
        self.time: int | None = None
        self.directory: str | None = None
        self.first: str | None = None
        self.session: str | None = None
        self.forked_from: str | None = None
        self.version: str | None = None
        try:
            self.changed = path.stat().st_mtime_ns
            for number, line in enumerate(lines(path, None)):
                self._look(line.record)
                if number >= _HEAD_RECORDS and self.told:
                    break
        except OSError:  # Read whole later, and reported then.
            self.changed = 0

    def _look(self, record: Mapping[str, Any]) -> None:
        if self.time is None:
            self.time = milliseconds(record.get("timestamp"))
        self.directory = self.directory or text(record.get("cwd"))
        self.session = self.session or text(record.get("sessionId"))
        self.version = self.version or text(record.get("version"))
        self.forked_from = self.forked_from or text(mapping(record.get("forkedFrom")).get("sessionId"))
        if self.first is None and record.get("type") in ("user", "assistant"):
            # A fork begins with the very records of its origin.
            self.first = f"{as_text(record.get('uuid'))} {as_text(record.get('timestamp'))}"

    @property
    def told(self) -> bool:
        """Whether there is nothing more to look for."""
        return self.time is not None and self.directory is not None

    @property
    def id(self) -> str:
        """The session's id here."""
        return derive_id(self.time or 0, TOOL, self.name)


def _found(path: Path, head: _Head, parent: _Head | None, relation: str) -> Found:
    meta = path.with_suffix(".meta.json")
    stamp = stamp_of(path, meta) if head.agent else stamp_of(path)
    size = path.stat().st_size
    link = (parent.id, parent.name, relation) if parent is not None else None
    if link is None and head.forked_from:
        link = ("", head.forked_from, "fork")
    read = partial(_read, path, head, link, meta)
    return Found(head.id, head.directory, stamp, size, str(path), read, verbatim.of_file(path))


def _read(
    path: Path, head: _Head, link: tuple[str, str, str] | None, meta: Path, report: ImportReport
) -> ParsedSession | None:
    report.sessions.read += 1
    try:
        keep = path.stat().st_size <= _KEEP_BYTES
        nodes, loose = nodes_of(path, report, keep=keep)
    except OSError as error:
        report.sessions.skipped += 1
        report.skip(str(path), f"the file cannot be read: {error.strerror}")
        return None
    chosen = conversation(nodes, side=head.agent)
    chains = [] if head.agent else side_roots(nodes, chosen)
    for each in loose:
        report.ignore(f"Claude Code's own record: {text(each.get('type')) or 'no type'}")
    with path.open("rb") as file:

        def record(node: Node) -> Mapping[str, Any]:
            if node.record is not None:
                return node.record
            file.seek(node.offset)
            try:
                return mapping(decode(file.read(node.length).strip(b"\0 \t\r\n")))
            except ValueError:
                return {}

        def parsed(name: str, indexes: Sequence[int]) -> ParsedSession:
            told = list(messages_of((nodes[n] for n in indexes), record, name, str(path), report))
            session = _session(head, told, str(path))
            return ParsedSession(session, [message for message, _ in told], [place for _, place in told], len(told))

        whole = parsed(head.name, chosen)
        whole.inner = [parsed(f"{head.name}/{nodes[chain[0]].uuid}", chain) for chain in chains]
    _count_rest(nodes, [*chosen, *(n for chain in chains for n in chain)], report)
    _entitle(whole, loose, _described(meta))
    if link is not None:
        _link(whole.session, *link)
    for number, (chain, inner) in enumerate(zip(chains, whole.inner, strict=True), 1):
        report.sessions.read += 1
        name = f"{head.name}/{nodes[chain[0]].uuid}"
        inner.session["id"] = derive_id(inner.session["createdAt"], TOOL, name)
        inner.session["imported"]["sessionId"] = name
        _entitle(inner, (), {})
        inner.session.setdefault("title", f"Sub-agent {number}")
        _link(inner.session, head.id, head.name, "subagent")
    return whole


def _count_rest(nodes: Sequence[Node], chosen: Sequence[int], report: ImportReport) -> None:
    left = set(range(len(nodes))) - set(chosen)
    for n in left:
        if nodes[n].spoken:
            report.ignore("on a branch that was abandoned")
        else:
            report.ignore(f"Claude Code's own record: {nodes[n].kind or 'no type'}")


def _session(head: _Head, told: Sequence[tuple[dict[str, Any], str]], path: str) -> dict[str, Any]:
    messages = [message for message, _ in told]
    imported = {"tool": TOOL, "sessionId": head.name, "path": path}
    if head.version:
        imported["version"] = head.version
    created = messages[0]["createdAt"] if messages else head.time or 0
    session: dict[str, Any] = {
        "id": head.id,
        "createdAt": created,
        "updatedAt": max([message["updatedAt"] for message in messages], default=created),
        "imported": imported,
    }
    if head.directory:
        session["directory"] = head.directory
    models = [message["model"] for message in messages if "model" in message]
    if models:
        session["model"] = models[-1]
    return session


def _entitle(parsed: ParsedSession, loose: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
    session = parsed.session
    title = text(meta.get("description")) or _title(loose, parsed.messages)
    if title:
        session["title"] = title
    if text(meta.get("agentType")):
        session["agent"] = meta["agentType"]
    if text(meta.get("toolUseId")):
        session["imported"]["toolCallId"] = meta["toolUseId"]


def _link(session: dict[str, Any], parent_id: str, name: str, relation: str) -> None:
    """Says what the session came from: `name` in the source, `parent_id` here ("" where that is not known)."""
    session["imported"] |= {"relation": relation, "parentSourceId": name}
    if parent_id:
        session["parentId"] = parent_id


def _title(loose: Sequence[Mapping[str, Any]], messages: Sequence[Mapping[str, Any]]) -> str | None:
    for kind, field in _TITLES:
        found = [each for record in loose if record.get("type") == kind and (each := text(record.get(field)))]
        if found:
            return found[-1]
    for message in messages:
        if message["role"] == "user":
            parts = message.get("parts") or [{"type": "text", "content": message.get("content")}]
            prompt = "\n".join(part["content"] for part in parts if part["type"] == "text" and part.get("content"))
            if prompt.strip():
                return title_from(prompt)
    return None


def _described(meta: Path) -> Mapping[str, Any]:
    """What a sub-agent's `.meta.json` says."""
    try:
        return mapping(decode(meta.read_bytes()))
    except (OSError, ValueError):
        return {}


IMPORTER = Importer(
    name="claude-code",
    label="Claude Code",
    locate=_locate,
    sniff=_sniff,
    sessions=_sessions,
    lacks="rewound branches, hooks, attachments and other records of the program's own are counted, not imported",
)
