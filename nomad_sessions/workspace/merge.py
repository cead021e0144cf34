"""Merging what another program wrote into `sessions.json`: a three-way merge of values, without any I/O.

Invariant: nobody's data is dropped. Every id that either side has is in the result unless one side deleted it having
seen it; a record that both changed keeps each field that only one of them changed, and of a field that both changed the
newer `updatedAt` wins and the other record goes to `displaced`. Laws (in `tests/properties/test_merge_laws.py`): base ==
theirs gives ours; base == ours gives theirs; merging twice changes nothing.

A foreign writer is usually stale: it read the file once and writes its whole view back after each change. `seq`, which
comes back to us inside our own key, says what it had seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nomad_sessions.workspace.foreign import Content
from nomad_sessions.workspace.state import WORKSPACE, Body

__all__ = ["Merged", "merge"]

_OURS = frozenset({"rev", "messageIds"})
_TIMES = frozenset({"updatedAt"})
_ABSENT = object()


class Merged(NamedTuple):
    """`changes` are journal records without envelope, in order; `displaced` is what the merge took out, for quarantine:
    objects with `reason`, `kind`, `id` and `record`."""

    changes: list[Body]
    displaced: list[Body]


def merge(
    base: Content | None, ours: Content, theirs: Content, *, seq: int | None, deleted: Mapping[str, int]
) -> Merged:
    """What has to happen to `ours` so that it also has what `theirs` changed.

    `base` is the state that they had seen, where it could be rebuilt; `seq` the last change in it, None when they knew
    nothing of ours; `deleted` what we deleted, id -> seq. Cost: linear in the three.
    """
    return _Merge(base, ours, theirs, seq, deleted).run()


class _Merge:
    def __init__(
        self, base: Content | None, ours: Content, theirs: Content, seq: int | None, deleted: Mapping[str, int]
    ) -> None:
        self.base, self.ours, self.theirs = base, ours, theirs
        self.seq = seq
        self.deleted = deleted
        self.changes: list[Body] = []
        self.displaced: list[Body] = []
        self.gone: set[str] = set()

    def run(self) -> Merged:
        self._removals()
        new_messages = self._messages_by_session()
        for session_id, record in self.theirs.sessions.items():
            if session_id in self.gone or (session_id not in self.ours.sessions and session_id in self.deleted):
                continue
            self._session(session_id, record, new_messages.pop(session_id, []))
        for session_id, changes in new_messages.items():
            if session_id == WORKSPACE or session_id in self.ours.sessions:
                self.changes += changes
        self._extras()
        return Merged(self.changes, self.displaced)

    def _seen(self, identifier: str) -> bool:
        """Whether their view had this record of ours when they loaded it."""
        created = self.ours.created.get(identifier)
        return self.seq is not None and created is not None and created <= self.seq

    def _removals(self) -> None:
        ours, theirs = self.ours, self.theirs
        for session_id in ours.sessions:
            if session_id not in theirs.sessions and self._seen(session_id):
                self.gone.add(session_id)
                record = {**ours.sessions[session_id], "messageIds": ours.order[session_id]}
                self._displace("deleted by another program", "session", session_id, record)
                self.changes.append({"type": "session.deleted", "sessionId": session_id})
        for message_id, body in ours.messages.items():
            session_id = ours.owner[message_id]
            if session_id in self.gone:
                self._displace("deleted by another program", "message", message_id, body)
            elif message_id not in theirs.messages and self._seen(message_id):
                self.gone.add(message_id)
                self._displace("deleted by another program", "message", message_id, body)
                self.changes.append({"type": "message.deleted", "sessionId": session_id, "messageId": message_id})

    def _messages_by_session(self) -> dict[str, list[Body]]:
        """Changes to messages, by the session that they belong to."""
        found: dict[str, list[Body]] = {}
        for message_id, body in self.theirs.messages.items():
            known = self.ours.messages.get(message_id)
            if known is not None:
                session_id = self.ours.owner[message_id]
                if session_id in self.gone or message_id in self.gone:
                    continue
                before = self.base.messages.get(message_id) if self.base is not None else None
                merged = self._record("message", message_id, before, known, body)
                if merged is None:
                    continue
                body = merged
            elif message_id in self.deleted:
                continue
            else:
                session_id = self.theirs.owner[message_id]
            change = {"type": "message.merged", "sessionId": session_id, "messageId": message_id, "message": body}
            found.setdefault(session_id, []).append(change)
        return found

    def _session(self, session_id: str, record: Body, messages: list[Body]) -> None:
        known = self.ours.sessions.get(session_id)
        if known is None:
            order = [each for each in self.theirs.order[session_id] if each not in self.deleted]
            self.changes.append({"type": "session.created", "sessionId": session_id, "session": record})
            self.changes += messages
            if order:
                self.changes.append(
                    {"type": "session.updated", "sessionId": session_id, "set": _time(record), "messageIds": order}
                )
            return
        self.changes += messages
        before = self.base.sessions.get(session_id) if self.base is not None else None
        merged = self._record("session", session_id, before, known, record)
        order = self._order(session_id, before is not None)
        change: Body = {"type": "session.updated", "sessionId": session_id}
        if merged is not None:
            change["set"] = {key: value for key, value in merged.items() if known.get(key, _ABSENT) != value}
            unset = [key for key in known if key not in merged]
            if unset:
                change["unset"] = unset
        if order is not None:
            change["messageIds"] = order
        if len(change) > 2:
            change["set"] = {**_time(merged or known), **change.get("set", {})}
            self.changes.append(change)

    def _record(self, kind: str, identifier: str, base: Body | None, ours: Body, theirs: Body) -> Body | None:
        """The merged record, or None where ours stays as it is."""
        rev = theirs.get("rev")
        base, mine, other = (
            {key: value for key, value in each.items() if key not in _OURS} if each is not None else None
            for each in (base, ours, theirs)
        )
        assert mine is not None
        assert other is not None
        if mine == other or base == other:
            return None
        if base is None:
            if rev is None or rev != self.ours.rev.get(identifier):
                self._displace("changed by another program; ours was kept", kind, identifier, other)
                return None
            return other
        newer = (other.get("updatedAt") or 0) > (mine.get("updatedAt") or 0)
        merged: Body = {}
        conflict = False
        for key in {**mine, **other}:
            was, own, new = base.get(key, _ABSENT), mine.get(key, _ABSENT), other.get(key, _ABSENT)
            value = own if new == was else new if own == was or newer else own
            conflict = conflict or (key not in _TIMES and own != new and was not in (own, new))
            if key in _TIMES:
                value = max((each for each in (own, new) if isinstance(each, int)), default=own)
            if value is not _ABSENT:
                merged[key] = value
        if conflict:
            loser = mine if newer else other
            self._displace("changed by us and by another program", kind, identifier, loser)
        return None if merged == mine else merged

    def _order(self, session_id: str, has_base: bool) -> list[str] | None:
        """The merged order of a session that both sides have, or None where ours stays."""
        ours = self.ours.order[session_id]
        kept = [each for each in ours if each not in self.gone]
        known = set(self.ours.messages)
        theirs = [each for each in self.theirs.order[session_id] if each not in self.gone]
        theirs = [each for each in theirs if each in known or each not in self.deleted]
        if has_base and self.base is not None and self.base.order.get(session_id) == ours:
            visible = [each for each in theirs if each not in known or self.ours.owner[each] == session_id]
            unseen = [each for each in kept if each not in set(visible) and not self._seen(each)]
            result = visible + unseen
        else:
            result = _interleave(kept, [each for each in theirs if each not in known], theirs)
        return None if result == kept else result

    def _extras(self) -> None:
        changed: Body = {}
        for key, value in self.theirs.extras.items():
            own = self.ours.extras.get(key, _ABSENT)
            was = self.base.extras.get(key, _ABSENT) if self.base is not None else _ABSENT
            if value in (own, was):
                continue
            if own is not _ABSENT and own != was:
                self._displace("changed by us and by another program", "key", key, value)
                continue
            changed[key] = value
        if changed:
            self.changes.append({"type": "workspace.updated", "sessionId": WORKSPACE, "set": changed})

    def _displace(self, reason: str, kind: str, identifier: str, record: Any) -> None:
        self.displaced.append({"reason": reason, "kind": kind, "id": identifier, "record": record})


def _time(record: Body) -> Body:
    """Keeps the record's own time of change: a merge is not a change of its own."""
    return {"updatedAt": record["updatedAt"]} if "updatedAt" in record else {}


def _interleave(ours: list[str], new: list[str], theirs: list[str]) -> list[str]:
    """Ours, with each new id of theirs after the id that it follows there, or at the end."""
    result = list(ours)
    fresh = set(new)
    present = set(ours)
    after: str | None = None
    for each in theirs:
        if each in fresh:
            tail_of_theirs = after is None or after not in present
            position = len(result) if tail_of_theirs else result.index(str(after)) + 1
            # What we added meanwhile at the end came first: a chat goes on after it.
            if position < len(result) and not any(follower in theirs for follower in result[position:]):
                position = len(result)
            result.insert(position, each)
            present.add(each)
        after = each
    return result
