"""Which sessions share messages: forks and what they were forked from, ours and those that importers link.

A family is the sessions that such links connect, also by way of one that is gone. Only in it the same text at the same
time is taken for a copy: two tools, or two agents, may well have said the same in one millisecond.

Tables: `link` names, for each session, those that it may have copied; `session.family` is the smallest number of a
session that the family had. Verified by `tests/unit/test_search_forks.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nomad_sessions.search.index import Index
from nomad_sessions.search.text import clean

__all__ = ["copies", "join", "known_links", "links_of"]


def links_of(fields: Mapping[str, Any]) -> frozenset[str]:
    """The ids of sessions that one of these fields (camelCase) may have copied. A sub-agent copies nothing."""
    origin, imported = fields.get("forkedFrom"), fields.get("imported")
    names = [origin.get("sessionId") if isinstance(origin, dict) else None]
    if not (isinstance(imported, dict) and imported.get("relation") == "subagent"):
        names.append(fields.get("parentId"))
    return frozenset(clean(each) for each in names if isinstance(each, str) and each)


def known_links(index: Index, session: int) -> frozenset[str]:
    """What the index has of them."""
    rows = index.connection.execute("SELECT name FROM link WHERE session = ?", (session,))
    return frozenset(row[0] for row in rows)


def join(index: Index, session: int, session_id: str, links: frozenset[str]) -> None:
    """Puts a session, which has no messages there yet, into its family; families that it connects become one."""
    execute = index.connection.execute
    execute("DELETE FROM link WHERE session = ?", (session,))
    index.connection.executemany("INSERT INTO link (name, session) VALUES (?, ?)", ((each, session) for each in links))
    query = (
        "SELECT family FROM session WHERE id IN (SELECT value FROM json_each(?1)) UNION "
        "SELECT s.family FROM link l JOIN session s ON s.number = l.session WHERE s.number != ?2 "
        "AND l.name IN (SELECT value FROM json_each(?3))"
    )
    near = [json.dumps(sorted(links)), session, json.dumps([clean(session_id), *sorted(links)])]
    families = {row[0] for row in execute(query, near)}
    family = min(families | {session})
    moved = [row[0] for other in sorted(families - {family}) for row in execute(_MEMBERS, (other,))]
    index.connection.executemany("UPDATE session SET family = ? WHERE number = ?", ((family, each) for each in moved))
    execute("UPDATE session SET family = ? WHERE number = ?", (family, session))
    for each in moved:
        _share(index, each)


_MEMBERS = "SELECT number FROM session WHERE family = ?"


def _share(index: Index, session: int) -> None:
    """Gives the messages of a session that are copies, as one sees now, the doc of the others."""
    execute = index.connection.execute
    query = "SELECT number, doc, digest, created FROM entry WHERE session = ? AND id NOT NULL"
    rows = execute(query, (session,)).fetchall()
    left = []
    for (number, doc, *_), other in zip(rows, copies(index, session, [row[2:] for row in rows]), strict=True):
        if other is not None:
            execute("UPDATE entry SET doc = ? WHERE number = ?", (other, number))
            left.append(doc)
    index.drop_docs(left)


def copies(index: Index, session: int, entries: Sequence[tuple[int, int]]) -> list[int | None]:
    """For each digest and time the doc of a copy in another session of the family, if there is one; each doc once."""
    execute = index.connection.execute
    family = execute("SELECT family FROM session WHERE number = ?", (session,)).fetchone()[0]
    if len(execute(f"{_MEMBERS} LIMIT 2", (family,)).fetchall()) < 2:
        return [None] * len(entries)
    query = (
        "SELECT e.doc FROM entry e JOIN session s ON s.number = e.session WHERE e.digest = ? AND e.created = ? "
        "AND e.id NOT NULL AND s.family = ? AND NOT EXISTS (SELECT 1 FROM entry WHERE doc = e.doc AND session = ?)"
    )
    taken: set[int | None] = set()
    found: list[int | None] = []
    for entry in entries:
        rows = execute(query, (*entry, family, session))
        doc = next((row[0] for row in rows if row[0] not in taken), None)
        taken.add(doc)
        found.append(doc)
    return found
