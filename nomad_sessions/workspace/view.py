"""One consistent picture of a workspace: a snapshot, the journal above it, and the sessions that were asked for.

Invariant: `session(id)` is the snapshot's record of that session with every record of the journal above the snapshot's
seq applied, in order; what is not asked for is neither read nor kept. Opening costs the index of the live segment.
Verified by `tests/unit/test_view.py` and the state machine in `tests/properties/`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from nomad_sessions.storage.codec import decode, encode, encode_name
from nomad_sessions.storage.journal import Journal, Sealed
from nomad_sessions.storage.segment import Entry
from nomad_sessions.storage.snapshot import GroupRow, Snapshot
from nomad_sessions.storage.table import Region
from nomad_sessions.workspace.cache import BodyCache
from nomad_sessions.workspace.live import Live
from nomad_sessions.workspace.places import Additions, Ahead, LazySegment, Place, Summary, placed
from nomad_sessions.workspace.replay import History, replay
from nomad_sessions.workspace.state import RECORDED, WORKSPACE, Body, MessageState, Ref, SessionState, added, apply
from nomad_sessions.workspace.stored import stored_session, stored_workspace

__all__ = ["View"]


class View:
    """A picture of a workspace. Not for several threads at once; reads of several are serialised by the caller.

    `limit` stops the journal at a seq, to look at the past.
    """

    def __init__(
        self,
        base: Snapshot | None,
        journal: Journal,
        sealed: list[Sealed],
        entries: Iterable[Entry],
        limit: int | None = None,
    ) -> None:
        self.base = base
        self.journal = journal
        self.bodies: BodyCache | None = None
        self.sealed = sealed
        self.limit = limit
        self.floor = base.seq if base is not None else 0
        self.seq = self.floor
        self.last_id: str = base.head.get("lastId", "") if base is not None else ""
        self.named_at = 0  # The seq of the record with that id, where it was seen.
        self._sessions: dict[str, SessionState | None] = {}
        self.live = Live()
        self._summaries: dict[str, Summary] | None = None
        self._rows: dict[str, list[Any]] | None = None
        self._stale: set[str] = set()
        self._sealed_ids: set[str] = set()
        self._listed: set[str] = set()
        self._sources: dict[int, LazySegment] = {}
        self.ahead = Ahead()
        self.pending_bytes = 0
        for part in sealed:
            self.pending_bytes += part.seal.note["bytes"]
            self.last_id = part.seal.note["lastId"]
            self.seq = max(self.seq, part.seal.last_seq)
        for first, older in journal.scanned:
            for entry in older:
                self.absorb(entry, first)
            self.live.next_segment()
        for entry in entries:
            self.absorb(entry, journal.live_first)

    # Reading

    def session(self, session_id: str) -> SessionState | None:
        """A session as it is, or None. The object is the view's own: read it, do not change it."""
        if session_id not in self._sessions:
            self._sessions |= replay([session_id], self)
        return self._sessions[session_id]

    def prepare(self, ids: Iterable[str]) -> None:
        """Builds at once what will be asked for singly, of what the summaries name: of forks of one another that costs
        less. What the snapshot alone knows is left to be read when it is asked for."""
        wanted = (each for each in ids if each not in self._sessions)
        self._sessions |= replay(filter(self._in_journal, wanted), self)

    def owner(self, message_id: str) -> str | None:
        """The id of the session that has this message (or had it last), or None for one never seen."""
        return self.owners((message_id,)).get(message_id)

    def owners(self, ids: Collection[str]) -> dict[str, str]:
        """The owner of each of these messages, by id, without those never seen. Many at once cost little each."""
        live = self.live.owners
        found = {each: live[each] for each in ids if each in live}
        missing = [each for each in ids if each not in found]
        for part in reversed(self.sealed):
            found |= {key: row[1] for key, row in part.lookup_many("messages", missing).items()}
            missing = [each for each in missing if each not in found]
        if missing and self.base is not None:
            found |= {key: item.group for key, item in self.base.items_of(missing).items()}
        return found

    def message(self, message_id: str) -> tuple[SessionState, MessageState] | None:
        """A message with its session, visible or not; None when there is none (any more)."""
        owner = self.owner(message_id)
        session = self.session(owner) if owner is not None else None
        state = session.message(message_id) if session is not None else None
        return (session, state) if session is not None and state is not None else None

    def message_body(self, message_id: str) -> Body | None:
        """A message as JSON. One that only the snapshot knows is read without its session."""
        if message_id not in self.live.owners and self.base is not None:
            item = self.base.item(message_id)
            if item is not None and self._untouched(item.group):
                body: Body = self.base.value(item.line)
                return body
        found = self.message(message_id)
        return decode(self.message_json(found[1])) if found is not None else None

    def message_json(self, state: MessageState) -> bytes:
        """A message of this view as JSON."""
        raw = state.json()
        if raw is None:
            raw = encode(state.body()) if self.bodies is None else self.bodies.json(state)
        return raw

    def session_json(self, session_id: str) -> bytes | None:
        """A session as the snapshot has it, where that is all there is to know and nothing of it is loaded, else None:
        the cheap way to a list of many."""
        if self.base is None or self.limit is not None or not self._untouched(session_id):
            return None
        fields = self._rows.get(session_id) if self._rows is not None else None
        if fields is None or session_id in self._listed:
            return None  # Asked for again: worth keeping, as any session is that somebody reads.
        self._listed.add(session_id)
        return self.base.read(Region(*fields[-5:-2]))[len(encode_name(session_id)) + 1 :]

    def summaries(self) -> dict[str, Summary]:
        """The summary of every session, by id. The first call reads the snapshot's session table."""
        if self._summaries is None:
            self._stale.update(self.live.places)
            self._summaries = self._stored_summaries()
        self._stale.discard(WORKSPACE)
        self.prepare(self._stale)
        for session_id in self._stale:
            state = self._sessions[session_id]
            if state is None:
                self._summaries.pop(session_id, None)
            else:
                self._summaries[session_id] = Summary.of(state)
        self._stale.clear()
        return self._summaries

    def workspace(self) -> SessionState:
        """The workspace's own fields: further top-level keys, settings, messages that belong to no session."""
        return self.session(WORKSPACE) or SessionState(WORKSPACE, {}, 0, 0)

    def settings(self) -> Body:
        """The workspace's own settings."""
        touched = WORKSPACE in self._sessions or WORKSPACE in self.live.places or self.sealed
        if not touched:
            settings: Body = self.base.head["settings"] if self.base is not None else {}
            return settings
        return self.workspace().settings

    def tombstones(self) -> dict[str, int]:
        """All deletions that are remembered: id -> seq."""
        rows = self.base.table("tombstones") if self.base is not None else []
        for part in self.sealed:
            rows = rows + part.rows("tombstones")
        return {**{row[0]: row[1] for row in rows}, **self.live.tombstones}

    # Moving on

    def absorb(self, entry: Entry, segment: int) -> None:
        """Takes in the next record, which lies in the segment with this first seq."""
        record, live = entry.record, self.live
        seq = record["seq"]
        if "type" not in record:
            live.expand(record, self.owner)
        live.time = record.get("ts", live.time)
        if self.limit is not None and seq > self.limit:
            return
        if record["type"] == RECORDED:
            if seq > self.floor:
                self.seq = seq
                self._reach(entry)
            return
        if seq <= self.floor:
            live.folded.append((entry, segment))
            return
        self.take(record, Ref(self.source(segment), entry.offset, entry.length))
        live.add(entry, segment)
        self._reach(entry)

    def absorb_additions(self, made: Additions, offset: int, segment: int) -> None:
        """Takes in messages whose records have just been written from this offset of the segment on."""
        session_id, source, places = made.session_id, self.source(segment), made.places(offset, segment)
        state = self._sessions.get(session_id)
        if state is not None:
            added(state, places, source)
        self.live.note(session_id, places)
        self.live.time = made.time
        self.seq = self.named_at = places[-1].seq
        self.last_id = made.last_id
        self.pending_bytes += made.size
        self._stale.add(session_id)

    def _reach(self, entry: Entry) -> None:
        record = entry.record
        self.pending_bytes += entry.length
        if "id" in record:
            self.last_id, self.named_at = record["id"], record["seq"]

    def take(self, record: Body, ref: Ref) -> None:
        """Applies a record that lies at `ref`, wherever that is."""
        session_id = record["sessionId"]
        if session_id in self._sessions:
            self._sessions[session_id] = apply(self._sessions[session_id], record, ref, self.session)
        self.live.index(record)
        self.seq = record["seq"]
        self._stale.add(session_id)

    def sealed_now(self, kept: list[Sealed], part: Sealed) -> None:
        """The live segment has become `part`; what was known of it is found there from now on."""
        self.sealed = [*kept, part]
        self.journal.scanned.clear()
        self._sealed_ids.update(self.live.places)
        if self._summaries is not None:
            self.summaries()
        self.live.clear()

    def load_all(self) -> Iterator[SessionState]:
        """Every session, in the order of creation, without keeping those that nobody asked for before."""
        summaries = sorted(self.summaries().values(), key=lambda each: (each.created, each.id))
        touched = (each.id for each in summaries if each.id not in self._sessions)
        built = replay(filter(self._in_journal, touched), self)
        for summary in summaries:
            state = self._sessions.get(summary.id) or built.pop(summary.id, None) or self.stored(summary.id)
            assert state is not None, "a summary stands for a session"
            yield state

    # Loading a session

    def _untouched(self, session_id: str) -> bool:
        """Whether the snapshot alone says what this session is."""
        if session_id in self._sessions:
            return False
        if self._summaries is not None:
            return not self._in_journal(session_id)
        in_live = session_id in self.live.places
        return not in_live and not any(part.lookup("places", session_id) for part in self.sealed)

    def _in_journal(self, session_id: str) -> bool:
        """Whether any record above the snapshot may be of this session. Once the summaries are there."""
        return session_id in self.live.places or session_id in self._sealed_ids

    def histories(self, ids: Collection[str]) -> dict[str, History]:
        """What the journal has of these sessions above the snapshot; see `Records`."""
        ceiling = self.seq if self.limit is None else min(self.seq, self.limit)
        sealed: dict[str, list[Place]] = {each: [] for each in ids}
        times = dict.fromkeys(ids, 0)
        for part in self.sealed:
            rows = part.lookup_many("places", ids)
            for session_id, row in rows.items():
                sealed[session_id] += [placed(fields) for fields in row[1] if self.floor < fields[0] <= ceiling]
            if self.limit is None:
                for session_id, row in part.lookup_many("sessions", rows).items():
                    times[session_id] = row[1] if len(row) > 1 else 0
        live = self.live.places
        return {
            each: History(sealed[each], [place for place in live.get(each, ()) if place.seq <= ceiling], times[each])
            for each in sealed
        }

    def at_hand(self, session_id: str, seq: int) -> SessionState | None:
        """The session as it was before `seq`, if it is loaded and nothing has happened to it since; see `Records`."""
        state = self._sessions.get(session_id)
        return state if state is not None and state.rev < seq else None

    def source(self, first_seq: int) -> LazySegment:
        """A segment that is opened when something in it is read; see `Records`."""
        source = self._sources.get(first_seq)
        if source is None:
            source = self._sources[first_seq] = LazySegment(self.journal, first_seq, self.ahead)
        return source

    def stored(self, session_id: str) -> SessionState | None:
        """The session as the snapshot has it; see `Records`."""
        if self.base is None:
            return SessionState(WORKSPACE, {}, 0, 0) if session_id == WORKSPACE else None
        if self._rows is None:
            row = self.base.group(session_id)
        else:
            row = GroupRow.of(self._rows[session_id][1:]) if session_id in self._rows else None
        if session_id == WORKSPACE:
            return stored_workspace(self.base, row)
        return stored_session(self.base, row) if row is not None else None

    def _stored_summaries(self) -> dict[str, Summary]:
        stored: dict[str, Summary | None] = {}
        if self.base is not None:
            self._rows = {fields[1]: fields for fields in self.base.group_fields()}
            stored.update({key: Summary._make(fields[1:11]) for key, fields in self._rows.items() if key != WORKSPACE})
        for part in self.sealed:
            for session_id, *summary in part.rows("sessions"):
                self._sealed_ids.add(session_id)
                if self.limit is not None:  # The seal tells of a later moment than the one looked at.
                    self._stale.add(session_id)
                elif session_id != WORKSPACE:
                    stored[session_id] = Summary(session_id, *summary) if summary else None
        return {key: value for key, value in stored.items() if value is not None}
