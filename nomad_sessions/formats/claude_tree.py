"""The records of a Claude Code file, and which of them are the conversation.

The records form a tree by `parentUuid`; the obvious walk from the last one to the root loses half of a real file, for
a compaction begins a new root, parallel tools hang each result under its own call, and parents dangle. So: from the
last prompt or answer up by parent, by logical parent, and where the named parent is missing on at the record before in
the file; then whatever belongs to an answer on that path, then the results of the calls on it; all in file order. What
is left over are abandoned branches (`reference` 3.3: keeps every record of all the real files that were measured).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from nomad_sessions.formats.jsonl import Line, lines, lines_of
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import text

__all__ = ["TITLES", "Node", "conversation", "nodes_of", "side_roots"]

_SPOKEN = ("user", "assistant")
TITLES = {"custom-title": "customTitle", "ai-title": "aiTitle", "summary": "summary"}
"""The records that give a session its title, and in which field; the first kind that there is counts."""


class Node:
    """What is needed of a record to find its place: the record itself stays in the file unless it is kept here."""

    __slots__ = ("calls", "kind", "length", "message_id", "offset", "parent", "record", "results", "side", "uuid")

    def __init__(self, uuid: str, line: Line, keep: bool) -> None:
        record, self.offset, self.length = line
        get = record.get
        self.uuid = uuid
        kind, parent = get("type"), get("parentUuid")  # Not by `text`: there are many records.
        self.kind = kind = kind if isinstance(kind, str) else ""
        self.parent: str | None = parent if parent and isinstance(parent, str) else text(get("logicalParentUuid"))
        self.side = get("isSidechain") is True or get("teamName") is not None
        self.record: dict[str, Any] | None = record if keep else None
        self.message_id: str | None = None
        self.calls: Sequence[str] = ()
        self.results: Sequence[str] = ()
        message = get("message")
        if not isinstance(message, dict):
            return
        if kind == "assistant":
            self.message_id = text(message.get("id"))
        content = message.get("content")
        if isinstance(content, list):
            self._look(content)

    def _look(self, content: list[Any]) -> None:
        calls: list[str] = []
        results: list[str] = []
        for block in content:
            if not isinstance(block, dict):
                continue
            if "input" in block and (call := text(block.get("id"))):
                calls.append(call)
            if "tool_use_id" in block and (call := text(block["tool_use_id"])):
                results.append(call)
        self.calls, self.results = calls, results

    @property
    def spoken(self) -> bool:
        """Whether it is a prompt, an answer or a result."""
        return self.kind in _SPOKEN


def nodes_of(
    path: Path, report: ImportReport, *, keep: bool, read: bytes | None = None
) -> tuple[list[Node], dict[str, str]]:
    """The records of a file that have a place in the tree, in file order, and the last title of each kind. With `keep`
    the records stay in memory. Those that have no place are in the report. `read` are the bytes of the file, where they
    are at hand."""
    nodes: list[Node] = []
    titles: dict[str, str] = {}
    for line in lines(path, report) if read is None else lines_of(BytesIO(read), path, report):
        record = line.record
        if uuid := text(record.get("uuid")):
            nodes.append(Node(uuid, line, keep))
            continue
        kind = text(record.get("type")) or "no type"
        title = text(record.get(TITLES.get(kind, "")))
        if title:
            titles[kind] = title
        if kind in _SPOKEN and "message" in record:
            report.skip(f"{path} at byte {line.offset}", "a prompt or an answer without a uuid")
        else:
            report.ignore(f"Claude Code's own record: {kind}")
    return nodes, titles


def conversation(nodes: Sequence[Node], *, side: bool = False) -> list[int]:
    """The indexes of the records that are the conversation, in file order. `side`: of a file that is all side chain."""
    leaf = next((n for n in reversed(range(len(nodes))) if nodes[n].spoken and (side or not nodes[n].side)), None)
    if leaf is None:
        return []
    return sorted(_complete(nodes, _path(nodes, leaf, side), side))


def side_roots(nodes: Sequence[Node], taken: Iterable[int]) -> list[list[int]]:
    """The side chains that run inside of a main file (as version 1 wrote sub-agents): the records of each."""
    chosen = set(taken)
    left = [n for n in range(len(nodes)) if nodes[n].side and n not in chosen]
    root: dict[str, int] = {}
    chains: dict[int, list[int]] = {}
    for n in left:
        node = nodes[n]
        start = root.get(node.parent or "", n)
        if node.uuid:
            root[node.uuid] = start
        chains.setdefault(start, []).append(n)
    return [chain for chain in chains.values() if any(nodes[n].spoken for n in chain)]


def _path(nodes: Sequence[Node], leaf: int, side: bool) -> set[int]:
    by_uuid: dict[str, int] = {}
    for n, node in enumerate(nodes):
        by_uuid.setdefault(node.uuid or "", n)
    path: set[int] = set()
    at: int | None = leaf
    first = leaf
    while at is not None and at not in path:
        path.add(at)
        first = min(first, at)
        parent = nodes[at].parent
        if parent is None:
            # A root: the conversation begins here, unless something was said before a compaction that names nothing.
            at = _before(nodes, at, side) if nodes[at].kind == "system" else None
        else:
            at = by_uuid.get(parent)
            if at is None:
                at = _before(nodes, first, side)
    return path


def _before(nodes: Sequence[Node], at: int, side: bool) -> int | None:
    return next((n for n in range(at - 1, -1, -1) if side or not nodes[n].side), None)


def _complete(nodes: Sequence[Node], path: set[int], side: bool) -> set[int]:
    """The path, with all lines of the answers on it, and the results of their calls."""
    answers = {nodes[n].message_id for n in path} - {None}
    found = set(path)
    results: list[int] = []
    for n, node in enumerate(nodes):
        if side or not node.side:
            if node.message_id in answers:
                found.add(n)
            elif node.results and node.kind == "user":
                results.append(n)
    calls = {each for n in found for each in nodes[n].calls}
    found.update(n for n in results if not calls.isdisjoint(nodes[n].results))
    return found
