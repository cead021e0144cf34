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
from nomad_sessions.formats.claude_files import Head, files_in, heads_of, is_session
from nomad_sessions.formats.claude_messages import TOOL, messages_of
from nomad_sessions.formats.claude_tree import TITLES, Node, conversation, nodes_of, side_roots
from nomad_sessions.formats.holding import LARGE, holder
from nomad_sessions.formats.report import ImportReport, ParsedSession
from nomad_sessions.formats.source import Computer, Found, Importer, stamp_of
from nomad_sessions.formats.values import mapping, text, title_from
from nomad_sessions.ids import derive_id
from nomad_sessions.storage.codec import decode

__all__ = ["IMPORTER"]


def _locate(computer: Computer) -> list[Path]:
    return [computer.folder("CLAUDE_CONFIG_DIR", ".claude") / "projects"]


def _sniff(path: Path) -> bool:
    if not path.is_dir():
        return is_session(path)
    mains, agents = files_in(path)
    return any(is_session(file) for files in (mains, *agents.values()) for file in files)


def _sessions(path: Path, report: ImportReport) -> Iterator[Found]:
    mains, agents = files_in(path, report)
    heads = {head.path: head for head in heads_of(mains, report)}
    origins: dict[str, Head] = {}
    for head in sorted(heads.values(), key=lambda each: (each.changed, each.path.name)):
        origins.setdefault(head.first or str(head.path), head)
    by_name = {head.name: head for head in reversed(heads.values())}
    # Of a session that Claude Code has deleted its sub-agents are left. In the order of time, as if they came just now.
    times = {file: head.time or 0 for file, head in heads.items()}
    for main in sorted(dict.fromkeys([*mains, *agents]), key=lambda each: times.get(each, 0)):
        own = heads.get(main)
        if own is not None:
            origin = origins[own.first or str(main)]
            parent = origin if origin.name != own.name else None
            if own.agent:
                parent = by_name.get(own.session or "")
            yield _found(own, parent, own.session, "subagent" if own.agent else "fork")
        called = list(heads_of(agents.get(main, []), report))
        if called and own is None and main not in mains:  # It may lie beside the folder that was named.
            own = next(heads_of([main], ImportReport()), None)
        for head in called:
            yield _found(head, own, main.stem, "subagent")


def _found(head: Head, parent: Head | None, session: str | None, relation: str) -> Found:
    """A session that was read from the file of this head. `session` is the one it was called by, where it was."""
    path = head.path
    meta = path.with_suffix(".meta.json")
    stamp = stamp_of(path, meta) if head.agent else stamp_of(path)
    link = (parent.id, parent.name, relation) if parent is not None else None
    if link is None and (head.forked_from or head.agent):
        link = ("", (session if head.agent else head.forked_from) or "", relation)
    read = partial(_read, path, head, link, meta)
    return Found(head.id, head.directory, stamp, head.size, str(path), read, verbatim.of_file(path))


def _read(
    path: Path, head: Head, link: tuple[str, str, str] | None, meta: Path, report: ImportReport
) -> ParsedSession | None:
    report.sessions.read += 1
    try:
        keep = path.stat().st_size < LARGE  # A larger one is read twice.
        read = verbatim.at_once(path)
        nodes, titles = nodes_of(path, report, keep=keep, read=read)
    except OSError as error:
        report.sessions.skipped += 1
        report.skip(str(path), f"the file cannot be read: {error.strerror}")
        return None
    chosen = conversation(nodes, side=head.agent)
    chains = [] if head.agent else side_roots(nodes, chosen)
    with path.open("rb") as file:

        def record(node: Node) -> Mapping[str, Any]:
            file.seek(node.offset)
            try:
                return mapping(decode(file.read(node.length).strip(b"\0 \t\r\n")))
            except ValueError:
                return {}

        def parsed(name: str, indexes: Sequence[int], beside: Sequence[dict[str, Any]] = ()) -> ParsedSession:
            messages, places, about = holder(head.size, beside), [], _About()
            for message, place in messages_of([nodes[n] for n in indexes], record, name, str(path), report):
                about.look(message)
                messages.append(message)
                places.append(place)
            return ParsedSession(_session(head, about, str(path)), messages, places, len(messages))

        whole = parsed(head.name, chosen)
        whole.inner = [parsed(f"{head.name}/{nodes[chain[0]].uuid}", chain, whole.messages) for chain in chains]
    _count_rest(nodes, [*chosen, *(n for chain in chains for n in chain)], report)
    whole.read_from = read
    _entitle(whole, titles, _described(meta))
    if link is not None:
        _link(whole.session, *link)
    for number, (chain, inner) in enumerate(zip(chains, whole.inner, strict=True), 1):
        report.sessions.read += 1
        name = f"{head.name}/{nodes[chain[0]].uuid}"
        inner.session["id"] = derive_id(inner.session["createdAt"], TOOL, name)
        inner.session["imported"]["sessionId"] = name
        _entitle(inner, {}, {})
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


class _About:
    """What the messages of a session tell of it."""

    def __init__(self) -> None:
        self.created: int | None = None
        self.updated = 0
        self.model: dict[str, str] | None = None

    def look(self, message: Mapping[str, Any]) -> None:
        """Takes in the next message."""
        self.created = message["createdAt"] if self.created is None else self.created
        self.updated = max(self.updated, message["updatedAt"])
        self.model = message.get("model", self.model)


def _session(head: Head, about: _About, path: str) -> dict[str, Any]:
    imported = {"tool": TOOL, "sessionId": head.name, "path": path}
    if head.version:
        imported["version"] = head.version
    created = head.time or 0 if about.created is None else about.created
    session: dict[str, Any] = {
        "id": head.id,
        "createdAt": created,
        "updatedAt": created if about.created is None else about.updated,
        "imported": imported,
    }
    if head.directory:
        session["directory"] = head.directory
    if about.model is not None:
        session["model"] = about.model
    return session


def _entitle(parsed: ParsedSession, titles: Mapping[str, str], meta: Mapping[str, Any]) -> None:
    session = parsed.session
    told = next((titles[kind] for kind in TITLES if kind in titles), None)
    title = text(meta.get("description")) or told or _prompt(parsed.messages)
    if title:
        session["title"] = title
    if text(meta.get("agentType")):
        session["agent"] = meta["agentType"]
    if text(meta.get("toolUseId")):
        session["imported"]["toolCallId"] = meta["toolUseId"]


def _link(session: dict[str, Any], parent_id: str, name: str, relation: str) -> None:
    """Says what the session came from: `name` in the source, `parent_id` here ("" for what is not known)."""
    session["imported"] |= {"relation": relation, **({"parentSourceId": name} if name else {})}
    if parent_id:
        session["parentId"] = parent_id


def _prompt(messages: Sequence[Mapping[str, Any]]) -> str | None:
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
