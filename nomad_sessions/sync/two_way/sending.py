"""What this machine did, into the common place: field by field, and nothing of what others did is written over.

Invariant: when a push has returned, the place has of each record the later of what each machine wrote; a write that was
cut short is repeated, and does no harm. Verified by `tests/properties/test_two_way.py`.

A record that nobody else has touched since it was seen is written as it is here, without being read first; only where
the place refuses that, because there is another version, are both joined (`joining.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from nomad_sessions.errors import TargetUnavailableError
from nomad_sessions.operations.plain import without
from nomad_sessions.sync.target import Change, Key, Kind, Rejected
from nomad_sessions.sync.two_way.arrangement import arrangement_of
from nomad_sessions.sync.two_way.joining import WHOLE, Joined, Loss, by_unit, first_version, joined
from nomad_sessions.sync.two_way.place import AT_ONCE, Place, Settled, pieces
from nomad_sessions.sync.two_way.shadow import OTHERWISE, UNANNOUNCED, Known, Shadow, known_of
from nomad_sessions.sync.two_way.versions import Stamp, Stamps, Version, Write
from nomad_sessions.sync.two_way.writes import Deed
from nomad_sessions.workspace.state import Body

__all__ = ["ORDER", "Sender", "Sent", "plain_body", "write_of"]

_ATTEMPTS = 50
_LONGEST_PAUSE = 0.5
"""Seconds between two attempts at a record that others write at the same time."""
ORDER: Sequence[Kind] = ("message", "task", "mail", "event", "workspace", "session")
"""Sessions last: who finds one there finds its messages, too."""


class Sent(NamedTuple):
    """How many records were brought up to date, which cannot be taken, and the sessions that come back to life: when
    they were deleted, and what revives them."""

    confirmed: int
    rejected: Sequence[Rejected]
    taken: Sequence[Key]
    revived: Mapping[str, tuple[Stamp, Stamp]]


class Sender:
    """One workspace, one place."""

    def __init__(
        self,
        workspace_id: str,
        name: str,
        place: Place,
        shadow: Shadow,
        note: Callable[[Iterable[tuple[Key, Loss]]], None],
    ) -> None:
        """`name` is the target's; `note` is told of what is lost, before it is."""
        self._workspace_id = workspace_id
        self._name = name
        self._place = place
        self._shadow = shadow
        self._note = note

    def send(self, writes: Sequence[tuple[Write, int]]) -> Sent:
        """Sends these, each with the rev of what is here. Raises what the place does; what was sent stays."""
        count, rejected, taken = 0, list[Rejected](), list[Key]()
        revived: dict[str, tuple[Stamp, Stamp]] = {}
        for kind in ORDER:
            mine = [each for each in writes if each[0].key.kind == kind]
            for begin in range(0, len(mine), AT_ONCE):
                done = self._batch(kind, mine[begin : begin + AT_ONCE])
                count += done.confirmed
                rejected += done.rejected
                taken += done.taken
                revived |= done.revived
        return Sent(count, rejected, taken, revived)

    def _write(self, versions: Sequence[Version]) -> Settled:
        if versions:
            self._shadow.tell(UNANNOUNCED, "yes")
        return self._place.write(self._workspace_id, versions)

    def _batch(self, kind: Kind, writes: Sequence[tuple[Write, int]]) -> Sent:
        known = self._shadow.known(kind, [write.key.id for write, _ in writes])
        straight: dict[Key, tuple[Version, int]] = {}
        others: dict[Key, tuple[Write, int]] = {}
        for write, rev in writes:
            version = _straight(write, known.get(write.key.id))
            if version is not None:
                straight[write.key] = version, rev
            else:
                others[write.key] = write, rev
        settled = self._write([version for version, _ in straight.values()])
        refused = {each.key for each in settled.rejected}
        done = {key: each for key, each in straight.items() if key not in settled.overtaken and key not in refused}
        self._shadow.note({key: known_of(version, rev) for key, (version, rev) in done.items()})
        others |= {write.key: (write, rev) for write, rev in writes if write.key in settled.overtaken}
        rest = self._joined(kind, others, known)
        return Sent(len(done) + rest.confirmed, [*settled.rejected, *rest.rejected], [*done, *rest.taken], rest.revived)

    def _joined(self, kind: Kind, writes: dict[Key, tuple[Write, int]], known: Mapping[str, Known]) -> Sent:
        """Joins these with what is there, until nobody else comes between."""
        count, rejected, taken = 0, list[Rejected](), list[Key]()
        revived: dict[str, tuple[Stamp, Stamp]] = {}
        left, pause, attempts = writes, 0.01, 0
        while left:
            attempts += 1
            if attempts > _ATTEMPTS:
                raise TargetUnavailableError(target=self._name, reason="others write the same all the time")
            there = self._place.read(self._workspace_id, kind, [key.id for key in left])
            results = {key: self._join(there.get(key.id), left[key][0], known.get(key.id)) for key in left}
            self._note((key, loss) for key, each in results.items() for loss in each.losses)
            todo = [each.version for each in results.values() if each.version is not None]
            settled = self._write(todo)
            refused = {each.key for each in settled.rejected}
            rejected += settled.rejected
            done = {key: each for key, each in results.items() if key not in settled.overtaken and key not in refused}
            self._keep(done, there, left, known)
            for key in done:
                if kind == "session":
                    self._follow_up(key.id, left[key][0], there.get(key.id), results[key])
            count += sum(each.version is not None for each in done.values())
            taken += done
            ended = {key: there[key.id].stamps.alive for key, each in done.items() if each.revived}
            revived |= {key.id: (gone, left[key][0].alive) for key, gone in ended.items()}
            left = {key: left[key] for key in settled.overtaken}
            if left:
                time.sleep(random.uniform(0, pause))
                pause = min(_LONGEST_PAUSE, pause * 2)
        return Sent(count, rejected, taken, revived)

    def _join(self, there: Version | None, write: Write, known: Known | None) -> Joined:
        if write.key.kind == "event" and there is not None:
            return Joined(None, [], fits=True)  # What was recorded is never changed.
        seen = None if known is None else known.stamps
        at = write.gone
        if write.key.kind == "session" and at is not None and there is not None and there.stamps.alive < at:
            newest = max((each.stamps.alive for each in self._messages(write.key.id)), default=at)
            if newest > at:  # Somebody went on in it, later than it was deleted: his session says so soon.
                there = there._replace(stamps=there.stamps._replace(alive=max(there.stamps.alive, newest)))
        return joined(there, write, seen, self._gone(there, write))

    def _gone(self, there: Version | None, write: Write) -> set[str]:
        """The messages of a session that are there no more, as far as the session there still names them."""
        if write.key.kind != "session" or write.body is None or there is None or there.body is None:
            return set()
        ids = set(arrangement_of(there.body).ids()).difference(arrangement_of(write.body).ids())
        return {name for some in self._read(list(ids)) for name, each in some.items() if each.body is None}

    def _follow_up(self, session_id: str, write: Write, there: Version | None, result: Joined) -> None:
        """With a session its messages go, after it: who is cut short in between comes to it again."""
        now = result.version or there
        if now is None or now.body is not None:
            return
        gone = now.stamps.alive
        if write.body is not None:  # Said after somebody else had deleted it, and before it was known: that is lost.
            self._note((each.key, Loss(WHOLE, None, each.body, gone)) for each in self._messages(session_id))
        self.end(session_id, gone)

    def end(self, session_id: str, at: Stamp) -> None:
        """Deletes the messages of a session that was deleted; none, where one is newer than that."""
        messages = self._messages(session_id)
        if any(each.stamps.alive > at for each in messages):
            return
        gone = {each.key: (Write(each.key, None, None, at, {}, gone=at), OTHERWISE) for each in messages}
        self._joined("message", gone, self._shadow.known("message", [each.key.id for each in messages]))

    def _messages(self, session_id: str) -> list[Version]:
        """The messages of a session that are not gone."""
        ids = self._place.messages_of(self._workspace_id, session_id)
        return [each for some in self._read(ids) for each in some.values() if each.body is not None]

    def _read(self, ids: Sequence[str]) -> Iterator[dict[str, Version]]:
        return pieces(self._place, self._workspace_id, "message", ids)

    def lost_with(self, gone: Stamp, ids: Sequence[str]) -> set[str]:
        """Which of these messages were deleted with their session, then."""
        found = (each for some in self._read(ids) for each in some.values())
        return {each.key.id for each in found if each.body is None and each.stamps.alive == gone}

    def _keep(
        self,
        done: Mapping[Key, Joined],
        there: Mapping[str, Version],
        writes: Mapping[Key, tuple[Write, int]],
        known: Mapping[str, Known],
    ) -> None:
        rows = {}
        for key, result in done.items():
            version = result.version or there.get(key.id)
            if version is None:
                continue
            rows[key] = known_of(version, writes[key][1])
            if not result.fits:  # What is there has not been seen here yet.
                seen = known[key.id].stamps if key.id in known else None
                rows[key] = rows[key]._replace(rev=OTHERWISE, stamps=seen)
        self._shadow.note(rows)


def plain_body(change: Change) -> Body | None:
    """What of a record all machines have in common: without its rev, and of a workspace the top-level keys alone."""
    if change.body is None:
        return None
    if change.key.kind == "workspace":
        return dict(change.body["fields"])
    return without(change.body, "seq" if change.key.kind == "event" else "rev")


def write_of(change: Change, deed: Deed) -> Write:
    """What was done to a record, with what it is now."""
    gone = None if change.body is not None else deed.ended or deed.alive
    fields = by_unit(change.key.kind, deed.fields)
    return Write(change.key, plain_body(change), change.session_id, deed.alive, fields, deed.whole, gone)


def _straight(write: Write, known: Known | None) -> Version | None:
    """The next version of a record that nobody else has touched since it was seen, or None where that is not known."""
    if write.body is None:
        return None
    if known is None:
        return first_version(write)
    if known.rev == OTHERWISE or known.gone or known.stamps is None or not write.certain:
        return None
    base, fields, alive = known.stamps
    if write.whole is not None:
        base, fields = write.whole, {}
    stamps = Stamps(base, {**fields, **write.fields}, max(alive, write.alive))
    return Version(write.key, known.number + 1, dict(write.body), write.session_id, stamps)
