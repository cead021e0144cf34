"""Brings an index up to the state of its workspace, at the cost of what has changed.

Each session carries the seq of its last change, and so does each message that the journal has above the snapshot: what
changed since the index was last brought up to date is known without reading what did not. After a checkpoint the
messages of sessions that changed are read once, to see which of them did. Sessions are looked at one by one, so that
nothing waits for long, and noted in groups, so that what was done stays done when this is interrupted.

Invariant: when this returns, the index has exactly the visible messages of every session, as they were at one look that
is not older than the call. Verified by `tests/unit/test_search_index.py`, against a search of all texts, and
`tests/unit/test_search_pasts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from nomad_sessions.search.families import copies, join, known_links, links_of
from nomad_sessions.search.index import Index
from nomad_sessions.search.past import Proof, follows, holds, prove
from nomad_sessions.search.text import clean, doc_of_message, doc_of_session
from nomad_sessions.storage.codec import decode
from nomad_sessions.workspace.places import Summary
from nomad_sessions.workspace.state import Body, MessageState, SessionState
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["Progress", "catch_up"]

Progress = Callable[[int, int], None]
_ATTEMPTS = 4
_BATCH = 500
_MOST = (1 << 63) - 1
_GROUP = 4_000
_ADD = "INSERT INTO entry (session, id, doc, digest, created, role, agent, model) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class _Moment(NamedTuple):
    """A state of the workspace: its seq, the last id it has given, the seq that its log is at, and that of the snapshot
    that this began with, and its sessions. What another program wrote is above the log's until somebody writes it."""

    seq: int
    last: str
    logged: int
    floor: int
    summaries: list[Summary]


class _Changed(NamedTuple):
    """What is to be done with a session: its fields, the messages that are there and stay, those that are gone, and
    those to be read. All are read again where it has got into another family."""

    fields: Body
    known: dict[str, int]
    gone: list[int]
    wanted: list[str]


def catch_up(workspace: Workspace, index: Index, progress: Progress | None = None) -> None:
    """Makes the index say what the workspace does. `progress(done, total)` counts messages of sessions that changed.
    What is of another past than the workspace's is forgotten first.

    Cost when nothing has changed: one look at the files; else what has changed, and a segment of the journal. Raises
    what reading the workspace does, and `sqlite3.Error`.
    """
    for _ in range(_ATTEMPTS):
        if workspace.read(lambda view: (view.seq, view.last_id)) == (index.meta("seq"), index.meta("last")):
            return
        with index.changing():
            moment = workspace.read(_moment)
            if not _is_same_past(workspace, index, moment):
                index.begin_again()
            run = _CatchUp(workspace, index, Proof.of(index.meta("proof")), index.meta("epoch"))
        if run.run(moment, progress):
            return


def _is_same_past(workspace: Workspace, index: Index, moment: _Moment) -> bool:
    """Whether the state is one that followed the one that the index has."""
    proof = Proof.of(index.meta("proof"))
    if proof is None:
        return bool(index.meta("seq") == 0)  # Of a state that no log tells of, nothing can be said.
    since = proof.last.seq
    if moment.logged < since or not holds(workspace, proof):
        return False
    return moment.floor <= since or follows(workspace, since, moment.logged)


def _moment(view: View) -> _Moment:
    sessions = sorted(view.summaries().values(), key=lambda each: each.created)
    return _Moment(view.seq, view.last_id, view.journal.last_seq, view.floor, sessions)


def _stamp(summary: Summary) -> str:
    """What changes whenever a session does."""
    return f"{summary.rev} {summary.created} {summary.updated_at} {summary.visible} {summary.hidden}"


class _CatchUp:
    """One run; `proof` is that of the state that the index has, `epoch` tells when somebody emptied it."""

    def __init__(self, workspace: Workspace, index: Index, proof: Proof | None, epoch: str) -> None:
        self._workspace = workspace
        self._index = index
        self._proof = proof
        self._since = proof.last.seq if proof is not None else 0
        self._epoch = epoch

    def run(self, moment: _Moment, progress: Progress | None) -> bool:
        """All sessions that differ, then the note that it is done; False where that was in vain."""
        rows = self._index.connection.execute("SELECT id, number, stamp FROM session").fetchall()
        known = {row[0]: (row[1], row[2]) for row in rows}
        there = {each.id for each in moment.summaries}
        gone = [number for name, (number, _) in known.items() if name not in there]
        changed = [each for each in moment.summaries if known.get(each.id, (0, ""))[1] != _stamp(each)]
        if gone:
            with self._index.changing():
                for number in gone:
                    self._drop_session(number)
        done, total = 0, sum(each.visible for each in changed)
        for group in _groups(changed):
            with self._index.changing():
                for summary in group:
                    self._session(summary)
            done += sum(each.visible for each in group)
            if progress is not None:
                progress(done, total)
        with self._index.changing():
            if self._index.meta("epoch") != self._epoch:  # Another process found it to be of another past.
                return False
            noted = Proof.of(self._index.meta("proof"))
            if noted is None or moment.logged >= noted.last.seq:  # Another process may have come further.
                proof = prove(self._workspace, moment.logged, self._proof)
                text = proof.text() if proof is not None else ""
                self._index.note(seq=moment.seq, last=moment.last, proof=text)
        return True

    def _session(self, summary: Summary) -> None:
        execute = self._index.connection.execute
        row = execute("SELECT number, stamp FROM session WHERE id = ?", (summary.id,)).fetchone()
        if row is not None and row[1] == _stamp(summary):
            return  # Another process has done it meanwhile.
        number = row[0] if row is not None else None
        known: dict[str, int] = {}
        links: frozenset[str] | None = None
        if number is not None:
            query = "SELECT id, number FROM entry WHERE session = ? AND id NOT NULL"
            known, links = dict(execute(query, (number,)).fetchall()), known_links(self._index, number)
        found = self._workspace.read(lambda view: self._compare(view.session(summary.id), known, links, view.floor))
        if found is None:
            return  # Deleted since the look; the next run takes it out.
        self._drop_entries(found.gone)
        number = self._put_session(summary, found.fields, number, links)
        wanted = iter(found.wanted)
        while batch := list(islice(wanted, _BATCH)):
            self._put_messages(summary.id, number, batch, found.known)

    def _compare(
        self, session: SessionState | None, known: dict[str, int], links: frozenset[str] | None, floor: int
    ) -> _Changed | None:
        if session is None:
            return None
        if links is not None and links_of(session.fields) != links:
            return _Changed(dict(session.fields), {}, list(known.values()), list(session.order))
        there = set(session.order)
        gone = [number for name, number in known.items() if name not in there]
        wanted = [name for name in session.order if name not in known or self._may_have_changed(session, name, floor)]
        return _Changed(dict(session.fields), known, gone, wanted)

    def _may_have_changed(self, session: SessionState, name: str, floor: int) -> bool:
        state = session.changed.get(name)
        if state is None:  # As the snapshot has it, whose seq is the floor.
            return floor > self._since
        return state.rev is None or state.rev > self._since

    def _put_session(self, summary: Summary, fields: Body, number: int | None, links: frozenset[str] | None) -> int:
        execute = self._index.connection.execute
        archived = None if summary.archived_at is None else _time(summary.archived_at)
        values = (clean(str(fields.get("title") or "")), archived, _stamp(summary))
        if number is None:
            query = "INSERT INTO session (title, archived, stamp, id, family) VALUES (?, ?, ?, ?, 0)"
            number = int(execute(query, (*values, summary.id)).lastrowid or 0)
        else:
            execute("UPDATE session SET title = ?, archived = ?, stamp = ? WHERE number = ?", (*values, number))
            rows = execute("SELECT number FROM entry WHERE session = ? AND id IS NULL", (number,)).fetchall()
            self._drop_entries(row[0] for row in rows)
        if links_of(fields) != links:
            join(self._index, number, summary.id, links_of(fields))
        text = doc_of_session(fields, summary.id)
        doc = self._index.add_docs([text])
        execute(_ADD, (number, None, doc, text.digest(), _time(summary.created_at), None, None, None))
        return number

    def _put_messages(self, session_id: str, session: int, ids: Sequence[str], known: Mapping[str, int]) -> None:
        bodies = self._workspace.read(lambda view: self._bodies(view, session_id, ids))
        fresh = [each for each in bodies if each["id"] not in known or (each.get("rev") or 0) > self._since]
        if not fresh:
            return
        self._drop_entries([known[each["id"]] for each in fresh if each["id"] in known])
        docs = [doc_of_message(each) for each in fresh]
        entries = [(doc.digest(), _time(body.get("createdAt") or 0)) for body, doc in zip(fresh, docs, strict=True)]
        shared = copies(self._index, session, entries)
        new = [doc for doc, number in zip(docs, shared, strict=True) if number is None]
        number = self._index.add_docs(new) if new else 0
        rows = []
        for body, entry, same in zip(fresh, entries, shared, strict=True):
            rows.append((session, body["id"], same or number, *entry, *_filters(body)))
            number += same is None
        self._index.connection.executemany(_ADD, rows)

    def _bodies(self, view: View, session_id: str, ids: Iterable[str]) -> list[Body]:
        session = view.session(session_id)
        states = (session.message(each) for each in ids) if session is not None else ()
        return [_body(state) for state in states if state is not None]

    def _drop_entries(self, numbers: Iterable[int]) -> None:
        docs = []
        for number in numbers:
            docs += self._index.connection.execute("SELECT doc FROM entry WHERE number = ?", (number,)).fetchone()
            self._index.connection.execute("DELETE FROM entry WHERE number = ?", (number,))
        self._index.drop_docs(docs)

    def _drop_session(self, number: int) -> None:
        execute = self._index.connection.execute
        rows = execute("SELECT number FROM entry WHERE session = ?", (number,)).fetchall()
        self._drop_entries(row[0] for row in rows)
        execute("DELETE FROM link WHERE session = ?", (number,))
        execute("DELETE FROM session WHERE number = ?", (number,))


def _time(ms: Any) -> int:
    """A time as SQLite can hold it: what a program gave may be any number."""
    if isinstance(ms, float):
        ms = int(ms) if math.isfinite(ms) else 0
    return max(-_MOST, min(ms, _MOST)) if isinstance(ms, int) else 0


def _groups(changed: Iterable[Summary]) -> Iterator[list[Summary]]:
    """The sessions in groups for a transaction each: a commit costs the index more than a message does."""
    group: list[Summary] = []
    for summary in changed:
        group.append(summary)
        if sum(each.visible for each in group) >= _GROUP:
            yield group
            group = []
    if group:
        yield group


def _body(state: MessageState) -> Body:
    raw = state.json()
    body: Body = state.body() if raw is None else decode(raw)
    return body


def _filters(body: Body) -> tuple[Any, ...]:
    model = body.get("model")
    named = f"{model.get('providerId')}/{model.get('modelId')}" if isinstance(model, dict) else None
    return tuple(
        clean(each) if isinstance(each, str) else None for each in (body.get("role"), body.get("agent"), named)
    )
