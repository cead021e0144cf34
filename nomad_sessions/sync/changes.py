"""From the store to what a target is told: which records a log entry is about, and what they are now. Pure.

Invariant: whoever is told `current` of all keys that the log names up to some seq, in any order, has what the store has
at that seq or later. Verified by `tests/properties/test_sync.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from nomad_sessions.storage.codec import decode
from nomad_sessions.sync.target import Change, Key, Kind
from nomad_sessions.workspace.rows import TABLES, rows_in
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body, SessionState
from nomad_sessions.workspace.view import View

__all__ = ["FETCHED", "current", "everything", "messages_of", "recorded", "touched"]


FETCHED = "fetched"
"""The key of a log entry that says from which common place of several machines it was fetched, the highest time among
its stamps, and, of an event, under which id it lies there."""


def touched(workspace_id: str, record: Body) -> Iterator[Key]:
    """The records that an entry of the log may have changed, but for what was recorded, which `recorded` gives."""
    kind, session_id = record["type"], record["sessionId"]
    if "rowId" in record:
        yield Key("task" if kind.startswith("task.") else "mail", record["rowId"])
        yield Key("workspace", workspace_id)  # Its rev is that of the last change of any of its keys.
        return
    if session_id == WORKSPACE:
        if kind != RECORDED:
            yield Key("workspace", workspace_id)
        if isinstance(record.get("messageId"), str):
            yield Key("message", record["messageId"])
        return
    yield Key("session", session_id)
    if kind == "session.forked":
        yield from (Key("message", new) for _, new in record["messageIds"])
    elif isinstance(record.get("messageId"), str):
        yield Key("message", record["messageId"])
        yield from (Key("message", each) for each in record.get("dropped", ()))


def recorded(workspace_id: str, record: Body) -> Change:
    """What somebody recorded, as a change. It is never changed."""
    body = {**record["event"], "seq": record["seq"], "id": record["event"].get("id", record["id"])}
    body.setdefault("timestamp", record.get("ts", 0))
    mark = record.get(FETCHED)
    identifier = record["id"] if mark is None else mark[2]
    return Change(workspace_id, Key("event", identifier), record["seq"], body, record["event"].get("sessionId"))


def current(view: View, workspace_id: str, keys: Collection[Key]) -> list[Change]:
    """What these are now. Cost: the sessions and messages, read."""
    tombstones: dict[str, int] | None = None
    view.prepare(key.id for key in keys if key.kind == "session")
    changes = []
    for key in keys:
        change = _of(view, workspace_id, key)
        if change is None:
            tombstones = view.tombstones() if tombstones is None else tombstones
            change = Change(workspace_id, key, tombstones.get(key.id, view.journal.last_seq), None)
        changes.append(change)
    return changes


def everything(view: View, workspace_id: str, kind: Kind) -> Iterator[Change]:
    """All records of a kind, but for what was recorded; messages session by session. Cost: they are read, one session
    in memory at a time."""
    if kind == "workspace":
        if view.workspace().rev:
            yield _workspace(view, workspace_id)
    elif kind in TABLES:
        for identifier in rows_in(view.workspace().fields, TABLES[kind]) or ():
            yield from filter(None, [_of(view, workspace_id, Key(kind, identifier))])
    elif kind == "session":
        yield from (_session(workspace_id, each) for each in view.load_all())
    elif kind == "message":
        for session in chain(view.load_all(), [view.workspace()]):
            yield from _messages(view, workspace_id, session)


def messages_of(view: View, workspace_id: str, session_ids: Iterable[str]) -> list[Change]:
    """All messages of these sessions, as far as they are there; `WORKSPACE` has those of none."""
    view.prepare(each for each in session_ids if each != WORKSPACE)
    found = (view.session(each) for each in session_ids)
    return [each for session in found if session is not None for each in _messages(view, workspace_id, session)]


def _messages(view: View, workspace_id: str, session: SessionState) -> Iterator[Change]:
    yield from filter(None, (_message(view, workspace_id, session, each) for each in session.ids()))


def _of(view: View, workspace_id: str, key: Key) -> Change | None:
    """What this is now, None where it is gone."""
    if key.kind == "workspace":
        return _workspace(view, workspace_id)
    if key.kind == "session":
        session = view.session(key.id)
        return None if session is None else _session(workspace_id, session)
    if key.kind == "message":
        owner = view.owner(key.id)
        session = None if owner is None else view.session(owner)
        return None if session is None else _message(view, workspace_id, session, key.id)
    row = (rows_in(view.workspace().fields, TABLES[key.kind]) or {}).get(key.id)
    if row is None:
        return None
    about = row.get("sessionId")
    rev = row.get("rev")
    return Change(workspace_id, key, rev if isinstance(rev, int) else 0, row, about if isinstance(about, str) else None)


def _workspace(view: View, workspace_id: str) -> Change:
    state = view.workspace()
    others = {key: value for key, value in state.fields.items() if key not in TABLES.values()}
    return Change(
        workspace_id, Key("workspace", workspace_id), state.rev, {"settings": state.settings, "fields": others}
    )


def _session(workspace_id: str, session: SessionState) -> Change:
    body = session.record()
    if session.hidden:
        body["hiddenIds"] = list(session.hidden)
    if session.detached:
        body["detachedIds"] = list(session.detached)
    return Change(workspace_id, Key("session", session.id), session.rev, body, session.id)


def _message(view: View, workspace_id: str, session: SessionState, message_id: str) -> Change | None:
    state = session.message(message_id)
    if state is None:
        return None
    body = decode(view.message_json(state))
    return Change(workspace_id, Key("message", message_id), body.get("rev", 0), body, session.id)
