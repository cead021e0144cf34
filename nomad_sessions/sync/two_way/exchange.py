"""One workspace that several machines have in common: what was done here goes into the common place, and what others
did comes from there.

Invariant: when nobody writes any more, and each machine has pushed once more, and once again, all of them have the
same: what the place has. The place in the log (`cursors/two-way-<target>.json`) moves on only when the common place has
what lies before it. Verified by `tests/properties/test_two_way.py`.

A store that begins to share, whose log has been pruned beyond what was sent, or that knows no more what the place has,
compares both whole: what only one side has goes to the other, and of what both have otherwise the later wins.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TypeVar

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.sync.changes import FETCHED, current, everything, messages_of, recorded
from nomad_sessions.sync.comparing import Difference, compared
from nomad_sessions.sync.dead_letters import DeadLetters
from nomad_sessions.sync.following import Following
from nomad_sessions.sync.host import Host, all_messages, all_recorded, looked, now
from nomad_sessions.sync.outbox import Pushed
from nomad_sessions.sync.target import KINDS, Change, Key, Kind, Stored
from nomad_sessions.sync.two_way.conflicts import Conflicts
from nomad_sessions.sync.two_way.fetching import Fetcher
from nomad_sessions.sync.two_way.glance import Glance
from nomad_sessions.sync.two_way.identity import machine_of
from nomad_sessions.sync.two_way.joining import Loss
from nomad_sessions.sync.two_way.place import Listed, Place, pieces
from nomad_sessions.sync.two_way.sending import ORDER, Sender, Sent, plain_body, write_of
from nomad_sessions.sync.two_way.shadow import COMPARING, OTHERWISE, UNANNOUNCED, Known, open_shadow
from nomad_sessions.sync.two_way.versions import Stamp, Write, moment_of
from nomad_sessions.sync.two_way.writes import Deeds
from nomad_sessions.workspace.state import RECORDED, Body
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["TWO_WAY", "Exchange"]

_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
TWO_WAY = "two-way-"
"""What the place in the log is called, before the target's name."""
_AT_ONCE = 500
_LOST = "what was known of it is lost"
_READ_ON = 2_000
"""Records that are fetched before the log is followed over them."""


class Exchange:
    """One workspace, one place. Holds its place in the log, so that no other process exchanges meanwhile. Not for
    several threads at once."""

    def __init__(self, host: Host, workspace_id: str, name: str, place: Place, glance: Glance) -> None:
        """Raises `LockTimeoutError` while another process is at it, and what reading what is known does."""
        self.workspace_id = workspace_id
        self.name = name
        self._host = host
        self._place = place
        self._glance = glance
        self._log = Following(host, workspace_id, TWO_WAY + name)
        try:
            self.dead = DeadLetters(host._fs, self._log.folder, name)
            self.conflicts = Conflicts(host._fs, self._log.folder, name)
            self._shadow = open_shadow(host._fs, self._log.folder, name)
            self._machine = machine_of(self._shadow, self._log.lock_path)
        except BaseException:
            self._log.close()
            raise
        self._sender = Sender(workspace_id, name, place, self._shadow, self._note)
        self._place_id = ""

    def push(self, progress: Callable[[int], None] | None = None) -> Pushed:
        """Tells the place what was done here, and then brings what others did. `progress` is told how many records were
        sent and fetched; what it raises ends this between two pieces, and what was done until then stays.

        Raises `TargetUnavailableError`; what was done until then stays. Cost: what is new on either side; where nothing
        is, a look at the files and one question.
        """
        done = Pushed()
        if not self._share():
            why = "it is new" if self._log.position is None else self._shadow.told(COMPARING) or _LOST
            done = self._compare_all(why, progress)
        end = self._log.now().seq  # What comes after is of the next push: run after a writer, it would go on for good.
        while True:
            try:
                pushed = self._step()
            except EventsPrunedError as error:
                if error.first <= error.since:
                    self._shadow.clear()
                    self._shadow.tell("place", self._place_id)
                    why = "the log is another one"
                else:
                    why = "the log has been pruned since"
                if done.compared == why:
                    raise  # Whoever changes the log so fast is to be told of.
                done = done.plus(self._compare_all(why, progress))
                continue
            if pushed is None:
                break
            done = done.plus(pushed)
            if progress is not None:
                progress(done.confirmed)
            if not self._log.is_before(end):
                break
        done = done.plus(self._fetch(done.confirmed, progress))
        self._keep_up()
        return done

    def _keep_up(self) -> None:
        """What is written from now on is later than all that has been seen, also where nothing had to be fetched."""
        latest, floor = self._shadow.latest, int(self._shadow.told("floor") or 0)
        if latest is not None and latest.time >= floor:
            self._shadow.tell("floor", str(latest.time + 1))

    def behind(self) -> int:
        """How many records of the log the place has not been told of."""
        return self._log.behind()

    def retry(self) -> Pushed:
        """Sends what the place refused, as it is now. Raises `TargetUnavailableError`."""
        self._share()
        done = self._send_now([letter.key for letter in self.dead])
        self._announce()
        return done

    def differences(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Difference]:
        """What the place has otherwise than the store, in full; to be asked after a `push`. `progress` is told how many
        records of a kind were compared, of how many. Raises `TargetUnavailableError`."""
        for kind in KINDS:
            ours = sorted(self._stored(kind))
            done = 0
            there = Listed(self._place.numbers(self.workspace_id, kind, None)[0])
            for found in compared(ours, there, self.workspace_id, kind):
                yield from found.differences
                done += found.records
                if progress is not None:
                    progress(done, len(ours))

    def repair(self, differences: Sequence[Difference]) -> Pushed:
        """Brings together again what is otherwise here and there. Raises `TargetUnavailableError`."""
        self._share()
        keys = [each.key for each in differences]
        self._shadow.forget(keys)
        done = self._send_now([each.key for each in differences if each.ours is not None])
        self._announce()
        self._glance.look_at_all(self._shadow)
        return done.plus(self._fetch(done.confirmed, None))

    def reset(self) -> None:
        """Forgets what is known of the place: the next push compares the whole."""
        self._log.forget()
        self._shadow.clear()
        self._glance.forget()

    def close(self) -> None:
        """Lets go of the place in the log. May be called twice."""
        self._shadow.close()
        self._log.close()

    # The place

    def _share(self) -> bool:
        """Whether the place is known, and has been told up to where the log is followed."""
        if self._glance.is_to_share():
            self._glance.shared(self._place.share(self.workspace_id))
        self._place_id = self._glance.place_id
        before = self._shadow.told("place")
        if before != self._place_id:
            self._shadow.clear()
            self._shadow.tell("place", self._place_id)
            self._glance.fetched = self._glance.whole_at = None
        self._glance.recall(self._shadow)
        return before == self._place_id and self._log.position is not None and not self._shadow.told(COMPARING)

    def _fetch(self, sent: int, progress: Callable[[int], None] | None) -> Pushed:
        """Brings what others did, where somebody has announced anything."""
        now = self._glance.announced
        if now is None:
            now = self._place.announced([self.workspace_id]).get(self.workspace_id, 0)
        self._glance.announced = None
        if now < (self._glance.fetched or 0):
            self._glance.forget()  # It is another place, or this one as it was before.
        done, due = Pushed(), self._glance.is_due()
        if now != self._glance.fetched or due:
            done = self._fetched(now, sent, progress, whole=due)
        position = self._log.position
        assert position is not None, "first the place is told"
        self._glance.sent = position.seq
        return done

    def _fetched(self, now: int, sent: int, progress: Callable[[int], None] | None, *, whole: bool) -> Pushed:
        meanwhile, read_on = Pushed(), 0

        def between(count: int) -> None:
            nonlocal meanwhile, read_on
            if progress is not None:
                progress(sent + count)
            if count >= read_on + _READ_ON:
                meanwhile, read_on = meanwhile.plus(self._read_on()), count

        position = self._log.position
        assert position is not None, "first the place is told"
        fetcher = Fetcher(self._host, self.workspace_id, self._place, self._place_id, self._shadow, between)
        fetched = fetcher.fetch(position.seq, whole=whole)
        if fetched.complete:
            self._glance.note(self._shadow, now, whole=whole)
        meanwhile = meanwhile.plus(self._read_on() if fetched.records else Pushed())
        return meanwhile._replace(fetched=fetched.records)

    def _read_on(self) -> Pushed:
        """Follows the log over what was fetched, before its retention takes that: else the next push would have to
        compare the whole."""
        done = Pushed()
        with contextlib.suppress(EventsPrunedError):  # The next push finds that, too, and does what is to be done then.
            end = self._log.now().seq
            while self._log.is_before(end) and (pushed := self._step()) is not None:
                done = done.plus(pushed)
        return done

    def _announce(self) -> None:
        """Has others look at what was written, before our place moves on: who is cut short here comes to it again."""
        self._place.announce(self.workspace_id)
        self._shadow.tell(UNANNOUNCED, "")
        self._glance.announced = None

    # What was done here

    def _step(self) -> Pushed | None:
        """Sends what the next records did; None where there are none."""
        with self._log.taken() as records:
            if not records:
                return None
            deeds = Deeds(self.workspace_id, self._place_id, self._machine, int(self._shadow.told("floor") or 0))
            for each in records:
                deeds.take(each)
            changes = self._look(lambda view: current(view, self.workspace_id, list(deeds.found)))
            for change in changes:
                ended = deeds.found[change.key].ended
                if change.key.kind == "session" and change.body is not None and ended is not None:
                    self._sender.end(change.key.id, ended)  # Another has its name since.
            writes = [(write_of(each, deeds.found[each.key]), each.rev) for each in changes]
            done = self._send([*writes, *self._recorded(records)])
            self._shadow.tell("floor", str(deeds.floor))
            if deeds.found or self._shadow.told(UNANNOUNCED):
                self._announce()
            return done

    def _recorded(self, records: Iterable[Body]) -> Iterator[tuple[Write, int]]:
        """What was recorded here; of what was fetched it is noted that it is here."""
        known: dict[Key, Known] = {}
        for record in records:
            if record["type"] == RECORDED:
                change, mark = recorded(self.workspace_id, record), record.get(FETCHED)
                if mark is not None and mark[0] == self._place_id:
                    known[change.key] = Known(1, 1, False, None)
                else:
                    yield self._as_is(change, None)
        self._shadow.note(known)

    def _as_is(self, change: Change, known: Known | None) -> tuple[Write, int]:
        """A write that says no more than how a record is now."""
        moment = moment_of(change.body or {})
        if known is not None and known.stamps is not None and known.rev not in (change.rev, OTHERWISE):
            moment = max(moment, known.stamps.alive.time + 1)  # It has been changed here since that was so.
        stamp = Stamp(moment, self._machine, change.rev)
        gone = stamp if change.body is None else None
        fields = plain_body(change)
        return Write(change.key, fields, change.session_id, stamp, {}, stamp, gone, certain=False), change.rev

    def _send(self, writes: Sequence[tuple[Write, int]]) -> Pushed:
        self._use(Workspace.flush)  # Before anybody elsewhere sees it: a seq that was shown is never given again.
        sent = self._sender.send(writes)
        done = Pushed(sent.confirmed, len(sent.rejected)).plus(self._revive(sent))
        self.dead.note(sent.rejected, sent.taken, self._use(Workspace.now))
        return done

    def _revive(self, sent: Sent) -> Pushed:
        """A session that others had deleted, and that stays, has all its messages again."""
        done = Pushed()
        for session_id, (gone, alive) in sent.revived.items():
            changes = self._look(partial(messages_of, workspace_id=self.workspace_id, session_ids=[session_id]))
            lost = self._sender.lost_with(gone, [each.key.id for each in changes])
            writes = [self._as_is(each, None) for each in changes if each.key.id in lost]
            done = done.plus(self._send([(write._replace(alive=alive), rev) for write, rev in writes]))
        return done

    def _note(self, losses: Iterable[tuple[Key, Loss]]) -> None:
        self.conflicts.note(losses, self._use(Workspace.now))

    # The whole

    def _compare_all(self, why: str, progress: Callable[[int], None] | None) -> Pushed:
        """Tells the place what it does not know, or has otherwise. The log is followed from where it is now; where only
        what was known of the place is lost, from where it was before: it tells what has been deleted since."""
        if self._log.position is not None:
            _LOG.warning("%s: %s is compared as a whole: %s", self.workspace_id, self.name, why)
        begin, done = self._log.now(), Pushed(compared=why)
        self._shadow.tell(COMPARING, why)  # Who is cut short here begins it again: what is known is not all.
        for kind in ORDER:  # What was said in a session that others deleted goes with it, so it has to be there.
            known = self._shadow.numbers(kind)
            there = {each.id: each for each in self._place.numbers(self.workspace_id, kind, None)[0]}
            here: set[str] = set()
            for changes in self._all(kind):
                here.update(each.key.id for each in changes)
                fresh = [each for each in changes if not _is_known(each, known, each.key.id in there)]
                done = done.plus(self._send_as_is(kind, fresh))
                if progress is not None:
                    progress(done.confirmed)
            gone = [Key(kind, name) for name, row in known.items() if name not in here and _was_here(row)]
            still = [key for key in gone if key.id in there and not there[key.id].gone]
            if kind == "message":
                still = self._singly(still)
            done = done.plus(self._send_as_is(kind, [Change(self.workspace_id, key, 0, None) for key in still]))
        if self._shadow.told(UNANNOUNCED):
            self._announce()
        self._glance.look_at_all(self._shadow)
        if why != _LOST:
            self._log.begin(begin)
        self._shadow.tell(COMPARING, "")
        return done

    def _singly(self, gone: Sequence[Key]) -> list[Key]:
        """Of messages that are here no more, those that did not go with their session: the others go when that does,
        and stay where somebody went on in it."""
        known = {name for name, row in self._shadow.numbers("session").items() if _was_here(row)} if gone else set()
        ended = known.difference(self._look(View.summaries)) if known else known
        owners = {
            name: each.session_id
            for some in pieces(self._place, self.workspace_id, "message", [key.id for key in gone] if ended else [])
            for name, each in some.items()
        }
        return [key for key in gone if owners.get(key.id) not in ended]

    def _send_as_is(self, kind: Kind, changes: Sequence[Change]) -> Pushed:
        known = self._shadow.known(kind, [each.key.id for each in changes])
        return self._send([self._as_is(each, known.get(each.key.id)) for each in changes])

    def _send_now(self, keys: Sequence[Key]) -> Pushed:
        """Sends these as they are now."""
        changes = now(self._host, self.workspace_id, keys)
        return self._send([self._as_is(each, None) for each in changes])

    def _all(self, kind: Kind) -> Iterator[list[Change]]:
        """All records of a kind, a piece at a time."""
        if kind == "message":
            yield from all_messages(self._host, self.workspace_id)
            return
        if kind == "event":
            found: Iterator[Change] = all_recorded(self._host, self.workspace_id)
        else:
            here = self._look(lambda view: list(everything(view, self.workspace_id, kind)))
            found = (each for each in here if kind != "workspace" or plain_body(each))
        while batch := list(islice(found, _AT_ONCE)):
            yield batch

    def _stored(self, kind: Kind) -> Iterator[Stored]:
        """What the store has of a kind, each with the number of the version that is the same; 0 where none is."""
        known = self._shadow.numbers(kind)
        if kind == "workspace":  # Its rev is that of its rows, too; without keys of its own it is nowhere.
            number, rev, _ = known.get(self.workspace_id, (0, OTHERWISE, True))
            if number or any(self._all(kind)):
                yield Stored(self.workspace_id, number if rev != OTHERWISE else 0)
            return
        for changes in self._all(kind):
            for each in changes:
                number, rev, gone = known.get(each.key.id, (0, OTHERWISE, True))
                same = rev != OTHERWISE and (rev == each.rev or kind == "event")
                yield Stored(each.key.id, number if same and not gone else 0)

    def _look(self, look: Callable[[View], T]) -> T:
        return looked(self._host, self.workspace_id, look)

    def _use(self, use: Callable[[Workspace], T]) -> T:
        return self._host._use(self.workspace_id, use)


def _is_known(change: Change, known: Mapping[str, tuple[int, int, bool]], there: bool) -> bool:
    """Whether a record is here as it was when it was last seen there, so that all that may differ is others' doing."""
    row = known.get(change.key.id)
    return there and row is not None and (row[1] == change.rev or change.key.kind == "event")


def _was_here(row: tuple[int, int, bool]) -> bool:
    """Whether a record was here when it was last seen there."""
    return not row[2] and row[1] != OTHERWISE
