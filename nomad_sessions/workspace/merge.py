"""Merging what another program wrote into `sessions.json`: a three-way merge of values, without any I/O.

Invariant: nobody's data is dropped. Every id that either side has is in the result unless one side deleted it having
seen it; a record that both changed keeps each field that only one of them changed, and of a field that both changed the
newer `updatedAt` wins and the other record goes to `displaced`. Laws (in `tests/properties/test_merge_laws.py`):
base == theirs gives ours; base == ours gives theirs; merging twice changes nothing.

A foreign writer is usually stale: it read the file once and writes its whole view back after each change. `seq`, which
comes back to us inside our own key, says what it had seen of ours; `last`, what it wrote the time before, says what it
has changed since. Without `last` its second change to a record would look like a conflict with its first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from nomad_sessions.workspace.comparing import ABSENT, same
from nomad_sessions.workspace.foreign import Content, millis, put_copy
from nomad_sessions.workspace.merge_extras import displacement, merge_extras
from nomad_sessions.workspace.ordering import interleaved
from nomad_sessions.workspace.state import WORKSPACE, Body

__all__ = ["TIME", "Merged", "merge"]

Kind = Literal["session", "message"]
_OURS = frozenset({"rev", "messageIds"})
TIME = "updatedAt"


class Merged(NamedTuple):
    """`changes` are journal records without envelope, in order; `displaced` is what the merge took out, for quarantine:
    objects with `reason`, `kind`, `id` and `record`."""

    changes: list[Body]
    displaced: list[Body]


def merge(
    base: Content | None,
    ours: Content,
    theirs: Content,
    *,
    seq: int | None,
    deleted: Mapping[str, int],
    last: Content | None = None,
) -> Merged:
    """What has to happen to `ours` so that it also has what `theirs` changed.

    `base` is the state of ours that they had seen, where it could be rebuilt; `seq` the last change in it, None when
    they knew nothing of ours; `deleted` what we deleted, id -> seq; `last` what they wrote before, having seen the same
    `seq`. Changes none of them. Cost: linear in the four.
    """
    return _Merge(base, ours, theirs, seq, deleted, last).run()


class _Merge:
    def __init__(
        self,
        base: Content | None,
        ours: Content,
        theirs: Content,
        seq: int | None,
        deleted: Mapping[str, int],
        last: Content | None,
    ) -> None:
        self.base, self.ours, self.theirs, self.last = base, ours, theirs, last
        self.seq = seq
        self.deleted = deleted
        self.changes: list[Body] = []
        self.displaced: list[Body] = []
        self.gone: set[str] = set()

    def run(self) -> Merged:
        self._removals()
        self._align()
        messages = self._messages_by_session()
        for session_id, record in self.theirs.sessions.items():
            if session_id in self.ours.sessions:
                if session_id not in self.gone:
                    self._session(session_id, record, messages.pop(session_id, []))
            elif session_id in self.deleted:
                self._late(messages.pop(session_id, []))
            else:
                self._new_session(session_id, record, messages.pop(session_id, []))
        for session_id, changes in messages.items():
            if session_id == WORKSPACE or (session_id in self.ours.sessions and session_id not in self.gone):
                self.changes += changes
        known = [each.extras for each in (self.last, self.base) if each is not None]
        stranger = self.theirs.stranger
        changes, displaced = merge_extras(self.ours.extras, self.theirs.extras, known, stranger=stranger)
        self.changes += changes
        self.displaced += displaced
        return Merged(self.changes, self.displaced)

    # What they deleted

    def _seen(self, identifier: str) -> bool:
        """Whether their view had this record of ours when they loaded it."""
        created = self.ours.created.get(identifier)
        return self.seq is not None and created is not None and created <= self.seq

    def _removals(self) -> None:
        ours, theirs = self.ours, self.theirs
        absent = {each for each in ours.sessions if self._left_out("sessions", each) and self._seen(each)}
        # A session to which somebody else added meanwhile is not the one that they deleted: it stays, whole.
        grown = {ours.owner[each] for each in ours.messages if ours.owner[each] in absent and not self._known(each)}
        for session_id in ours.sessions:
            if session_id in absent and session_id not in grown:
                self.gone.add(session_id)
                record = {**ours.sessions[session_id], "messageIds": ours.order[session_id]}
                self._displace("deleted by another program", "session", session_id, record)
                self.changes.append({"type": "session.deleted", "sessionId": session_id})
        for message_id, body in ours.messages.items():
            session_id = ours.owner[message_id]
            if message_id in theirs.messages or session_id in grown:
                continue
            if session_id in self.gone:
                self._displace("deleted by another program", "message", message_id, body)
            elif self._seen(message_id) and self._left_out("messages", message_id):
                self.gone.add(message_id)
                self._displace("deleted by another program", "message", message_id, body)
                self.changes.append({"type": "message.deleted", "sessionId": session_id, "messageId": message_id})

    def _left_out(self, table: str, identifier: str) -> bool:
        """Whether they have a table without this record: one that is unreadable, or has something unreadable under this
        id, says nothing of it."""
        theirs = self.theirs
        there = identifier in (theirs.sessions if table == "sessions" else theirs.messages)
        return not (there or theirs.partial or table in theirs.unread or identifier in theirs.unread)

    def _known(self, message_id: str) -> bool:
        """Whether they had this message, from us or as their own."""
        return self._seen(message_id) or (self.last is not None and message_id in self.last.messages)

    def _refused(self, message_id: str) -> bool:
        """Whether a message that we do not have is one that we deleted (with its session, then it has no tombstone)."""
        return message_id in self.deleted or any(
            each is not None and message_id in each.messages for each in (self.last, self.base)
        )

    # What they added and changed

    def _align(self) -> None:
        """A message that they show in another session than we do stays where it is with us; that session gets a copy,
        as with forks that share ids."""
        ours, theirs = self.ours, self.theirs
        moved = [
            each
            for each, owner in theirs.owner.items()
            if each in ours.owner and ours.owner[each] != owner and ours.owner[each] not in self.gone
        ]
        if not moved:
            return
        theirs = self.theirs = theirs._replace(
            messages=dict(theirs.messages),
            owner=dict(theirs.owner),
            order={key: list(order) for key, order in theirs.order.items()},
        )
        for message_id in moved:
            body, owner = theirs.messages[message_id], theirs.owner[message_id]
            if owner != WORKSPACE:
                made = put_copy(theirs, message_id, owner, body)
                theirs.order[owner] = [made if each == message_id else each for each in theirs.order[owner]]
            mine = ours.messages[message_id]
            theirs.owner[message_id] = ours.owner[message_id]
            theirs.messages[message_id] = {**body, "sessionId": mine.get("sessionId", ours.owner[message_id])}

    def _messages_by_session(self) -> dict[str, list[Body]]:
        """Changes to messages, by the session that they belong to."""
        found: dict[str, list[Body]] = {}
        for message_id, body in self.theirs.messages.items():
            session_id = self.theirs.owner[message_id]
            known = self.ours.messages.get(message_id)
            if known is None and self._refused(message_id) and session_id not in self.deleted:
                continue
            merged: Body | None = body
            if known is not None and self.ours.owner[message_id] not in self.gone:
                merged = self._record("message", message_id, known, body)
            if merged is None:
                continue
            merged = {key: value for key, value in merged.items() if key != "rev"}
            change = {"type": "message.merged", "sessionId": session_id, "messageId": message_id, "message": merged}
            found.setdefault(session_id, []).append(change)
        return found

    def _late(self, messages: list[Body]) -> None:
        """What they added to a session that we had deleted: it stays deleted, their addition is kept in quarantine."""
        for change in messages:
            message_id = change["messageId"]
            theirs = self.theirs.messages[message_id]
            ours = "rev" in theirs or (self.base is not None and message_id in self.base.messages)
            if not ours and (self.last is None or message_id not in self.last.messages):
                self._displace("added to a session that had been deleted", "message", message_id, theirs)

    def _new_session(self, session_id: str, record: Body, messages: list[Body]) -> None:
        fields = {key: value for key, value in record.items() if key not in _OURS}
        order = [each for each in self.theirs.order[session_id] if self._listed(each, session_id)]
        self.changes.append({"type": "session.created", "sessionId": session_id, "session": fields})
        self.changes += messages
        if order:
            change = {"type": "session.updated", "sessionId": session_id, "set": _time(fields), "messageIds": order}
            self.changes.append(change)

    def _session(self, session_id: str, record: Body, messages: list[Body]) -> None:
        self.changes += messages
        known = self.ours.sessions[session_id]
        merged = self._record("session", session_id, known, record)
        order = self._order(session_id)
        change: Body = {"type": "session.updated", "sessionId": session_id}
        if merged is not None:
            change["set"] = {key: value for key, value in merged.items() if not same(known.get(key, ABSENT), value)}
            unset = [key for key in known if key not in merged and key not in _OURS]
            if unset:
                change["unset"] = unset
        if order is not None:
            change["messageIds"] = order
        if len(change) > 2:
            change["set"] = {**_time(merged or known), **change.get("set", {})}
            self.changes.append(change)

    def _record(self, kind: Kind, identifier: str, ours: Body, theirs: Body) -> Body | None:
        """The merged record, or None where ours stays as it is."""
        mine, other = _plain(ours), _plain(theirs)
        if same(mine, other):
            return None
        was = self._before(kind, identifier, theirs)
        if was is None:
            rev = theirs.get("rev")
            if rev is not None and rev == self.ours.rev.get(identifier) and not self.theirs.stranger:
                return other  # As we wrote it, so that all that differs is theirs.
            if not same(_timeless(mine), _timeless(other)):
                self._displace("changed by another program; ours was kept", kind, identifier, other)
                return None
            was = mine
        if self.theirs.partial:
            other = {**mine, **other}
        merged, conflict = _three_way(_plain(was), mine, other)
        if conflict:
            loser = mine if millis(other.get(TIME)) > millis(mine.get(TIME)) else other
            self._displace("changed by us and by another program", kind, identifier, loser)
        if same(merged, mine):
            return None
        if self.theirs.partial:
            self._displace("changed in a file of ours, where it stands", kind, identifier, mine)
        return merged

    def _before(self, kind: Kind, identifier: str, theirs: Body) -> Body | None:
        """The record as they had it before their change: as they last wrote it, unless this is older than that (another
        program, or a copy put back), else as they read it from us."""
        last = _table(self.last, kind).get(identifier)
        if last is not None and millis(theirs.get(TIME)) >= millis(last.get(TIME)):
            return last
        return _table(self.base, kind).get(identifier)

    def _order(self, session_id: str) -> list[str] | None:
        """The merged order of a session that both sides have, or None where ours stays."""
        ours = self.ours.order[session_id]
        if self.theirs.partial or session_id in self.theirs.unordered:
            owned = (each for each, owner in self.theirs.owner.items() if owner == session_id)
            added = [each for each in owned if each not in self.ours.messages and not self._refused(each)]
            return [*ours, *added] if added and not self.theirs.partial else None
        theirs = [each for each in self.theirs.order[session_id] if self._listed(each, session_id)]
        listed = set(theirs)
        was = self._order_before(session_id)
        # Out of sight, but still there: their doing, if they had it in sight.
        unlisted = {each for each in was or () if each not in listed and each in self.theirs.messages}
        kept = [each for each in ours if each not in self.gone and each not in unlisted]
        in_sight, seen = set(ours), None if was is None else set(was)
        fresh = [
            each
            for each in theirs
            if each not in in_sight and (each not in self.ours.messages or (seen is not None and each not in seen))
        ]
        common = listed.intersection(kept)
        before = _only(was or (), common)
        if _only(theirs, set(before)) != before and _only(kept, set(before)) == before:
            # They put it in another order, and we did not.
            result = interleaved(_only(theirs, {*common, *fresh}), [each for each in kept if each not in common], kept)
            return None if result == ours else result
        result = interleaved(kept, fresh, theirs)
        return None if result == ours else result

    def _listed(self, message_id: str, session_id: str) -> bool:
        """Whether a message that they list in this session can be shown there."""
        if message_id in self.ours.messages:
            owner = self.ours.owner[message_id]
            return message_id not in self.gone and (owner == session_id or owner in self.gone)
        return not self._refused(message_id)

    def _order_before(self, session_id: str) -> list[str] | None:
        for content in (self.last, self.base):
            if content is not None and session_id in content.order:
                return content.order[session_id]
        return None

    def _displace(self, reason: str, kind: str, identifier: str, record: Any) -> None:
        self.displaced.append(displacement(reason, kind, identifier, record))


def _three_way(was: Body, mine: Body, other: Body) -> tuple[Body, bool]:
    """Field by field; and whether there was a field that both changed, differently."""
    newer = millis(other.get(TIME)) > millis(mine.get(TIME))
    merged: Body = {}
    conflict = False
    for key in {**mine, **other}:
        before, own, new = was.get(key, ABSENT), mine.get(key, ABSENT), other.get(key, ABSENT)
        if key == TIME:
            value = own if millis(own) >= millis(new) and own is not ABSENT else new
        elif same(new, before) or same(new, own):
            value = own
        elif same(own, before):
            value = new
        else:
            conflict = True
            value = new if newer else own
        if value is not ABSENT:
            merged[key] = value
    return merged, conflict


def _plain(record: Body) -> Body:
    return {key: value for key, value in record.items() if key not in _OURS}


def _timeless(record: Body) -> Body:
    return {key: value for key, value in record.items() if key != TIME}


def _table(content: Content | None, kind: Kind) -> dict[str, Body]:
    if content is None:
        return {}
    return content.sessions if kind == "session" else content.messages


def _time(record: Body) -> Body:
    """Keeps the record's own time of change: a merge is not a change of its own."""
    return {TIME: record.get(TIME, record.get("createdAt", 0))}


def _only(order: Iterable[str], ids: set[str]) -> list[str]:
    return [each for each in order if each in ids]
