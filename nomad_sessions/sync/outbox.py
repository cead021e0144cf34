"""The way of one workspace's changes to one target: from its place in the log to the target, and on.

Invariant: the place (`cursors/sync-<target>.json`) moves on only when the target has confirmed everything before it, or
what it refused is noted in the dead letters; a target is told only what survives a power cut here. Whatever dies in
between, what was told is told again, and does no harm. Verified by `tests/unit/test_outbox.py` and
`tests/contract/test_sync_targets.py`.

A target that is new, that the retention has overtaken, or that has seen another past of the workspace is compared with
the store as a whole instead, and made what that is.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.sync.changes import current, everything, recorded, touched
from nomad_sessions.sync.comparing import Difference, compared
from nomad_sessions.sync.dead_letters import DeadLetters
from nomad_sessions.sync.following import Following
from nomad_sessions.sync.host import Host, all_messages, all_recorded, looked, now
from nomad_sessions.sync.target import Applied, Change, Key, Kind, Renewable, Stored, SyncTarget
from nomad_sessions.sync.verifying import Verifying
from nomad_sessions.workspace.state import RECORDED, Body
from nomad_sessions.workspace.store import Workspace
from nomad_sessions.workspace.view import View

__all__ = ["CURSOR", "Outbox", "Pushed"]

_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
CURSOR = "sync-"
"""What a target's cursor is called, before its name."""
_AT_ONCE = 500
_KNOWN = 50_000


class Pushed(NamedTuple):
    """What a push did: how many changes the target confirmed, how many it refused, whether store and target had to be
    compared as a whole, and why ("" where not), and how many records came from other machines."""

    confirmed: int = 0
    rejected: int = 0
    compared: str = ""
    fetched: int = 0

    def plus(self, other: Pushed) -> Pushed:
        """Both together."""
        return Pushed(
            self.confirmed + other.confirmed,
            self.rejected + other.rejected,
            self.compared or other.compared,
            self.fetched + other.fetched,
        )


class Outbox:
    """One workspace, one target. Holds the target's place in the log, so that no other process pushes meanwhile. Not
    for several threads at once."""

    def __init__(self, host: Host, workspace_id: str, target: SyncTarget, told: dict[Key, int] | None = None) -> None:
        """`told` says what the target is known to have, and is kept up to date: it saves repetitions, no more.

        Raises `LockTimeoutError` while another process pushes, and what reading its place does.
        """
        self.workspace_id = workspace_id
        self.target = target
        self._host = host
        self._log = Following(host, workspace_id, CURSOR + target.name)
        try:
            self.dead = DeadLetters(host._fs, self._log.folder, target.name)
            self._verifying = Verifying(host._fs, self._log.folder, target)
        except BaseException:
            self._log.close()
            raise
        self._told = {} if told is None else told

    def push(self, progress: Callable[[int], None] | None = None) -> Pushed:
        """Brings the target up to where the log is now. `progress` is told how many changes were sent.

        Raises `TargetUnavailableError`; what it has confirmed until then stays so, and is not sent again. Cost: what is
        new in the log, read, and the records that it is about; where nothing is new, a look at the files.
        """
        done = Pushed()
        if isinstance(self.target, Renewable):
            self.target.renew()
        if self._log.position is None:
            return self._compare_all("it is new", progress)
        end = self._log.now().seq  # What comes after is of the next push: run after a writer, it would go on for good.
        while True:
            try:
                pushed = self._step()
            except EventsPrunedError as error:
                why = "the log is another one" if error.first <= error.since else "the log has been pruned since"
                return done.plus(self._compare_all(why, progress))
            if pushed is None:
                return done
            done = done.plus(pushed)
            if progress is not None:
                progress(done.confirmed)
            if not self._log.is_before(end):
                return done

    def behind(self) -> int:
        """How many records of the log the target has not been told of."""
        return self._log.behind()

    def retry(self) -> Pushed:
        """Sends what the target refused, as it is now. Raises `TargetUnavailableError`."""
        keys = [letter.key for letter in self.dead]
        changes = now(self._host, self.workspace_id, keys)
        if keys:
            self._verifying.forget()
        return self._send(changes, force=False)

    def differences(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Difference]:
        """What the target has otherwise than the store, in full; to be asked after a `push`. `progress` is told how
        many records of a kind were compared, of how many. Raises `TargetUnavailableError`; who asks again within a day
        is given what was found until then, and it goes on from there."""
        self._verifying.begin(self._use(Workspace.now))
        yield from self._still(self._verifying.found)
        for kind, after in self._verifying.left():
            ours = self._stored(kind)
            done = bisect_right(ours, after, key=lambda each: each.id)
            for found in compared(ours, self.target, self.workspace_id, kind, after=after):
                differences = self._still(found.differences)
                self._verifying.note(found, differences)
                yield from differences
                done += found.records
                if progress is not None:
                    progress(done, len(ours))
        self._verifying.forget()

    def repair(self, differences: Sequence[Difference]) -> Pushed:
        """Makes the target in these what the store is. Raises `TargetUnavailableError`."""
        self._verifying.forget()
        keys = [each.key for each in differences if each.key.kind != "event"]
        done = self._send(self._look(lambda view: current(view, self.workspace_id, keys)), force=True)
        for pushed in self._repaired_events({each.key for each in differences if each.key.kind == "event"}):
            done = done.plus(pushed)
        return done

    def _repaired_events(self, keys: set[Key]) -> Iterator[Pushed]:
        """These events, as they are in the log, which is read once, and not held in memory; else they are gone."""
        wanted = (each for each in self._recorded() if each.key in keys) if keys else iter(())
        gone = set(keys)
        while batch := list(islice(wanted, _AT_ONCE)):
            gone.difference_update(each.key for each in batch)
            yield self._send(batch, force=True)
        yield self._send([Change(self.workspace_id, key, 0, None) for key in gone], force=True)

    def reset(self) -> None:
        """Forgets the target's place: the next push compares the whole."""
        self._log.forget()
        self._told.clear()

    def close(self) -> None:
        """Lets go of the place."""
        self._log.close()

    # A step along the log

    def _step(self) -> Pushed | None:
        """Sends what the next records are about; None where there are none."""
        with self._log.taken() as records:
            if not records:
                return None
            told = [recorded(self.workspace_id, each) for each in records if each["type"] == RECORDED]
            keys = dict.fromkeys(
                key for each in records for key in touched(self.workspace_id, each) if key.kind in self.target.kinds
            )
            changes = self._look(lambda view: current(view, self.workspace_id, list(keys)))
            fresh = [each for each in changes if self._told.get(each.key, -1) < each.rev]
            if "event" in self.target.kinds:
                fresh += told
            # First what was deleted: with a session its messages go, also where one of its name has come since.
            gone = self._send(_deleted(self.workspace_id, records), force=False)
            return gone.plus(self._send(fresh, force=False))

    def _send(self, changes: Sequence[Change], *, force: bool) -> Pushed:
        done = Pushed()
        for begin in range(0, len(changes), _AT_ONCE):
            batch = changes[begin : begin + _AT_ONCE]
            applied = self._apply(batch, force=force)
            done = done.plus(Pushed(applied.confirmed, len(applied.rejected)))
        return done

    def _apply(self, batch: Sequence[Change], *, force: bool) -> Applied:
        self._use(Workspace.flush)  # Before anybody elsewhere sees it: a seq that was shown is never given again.
        applied = self.target.apply(batch, force=force)
        refused = {each.key for each in applied.rejected}
        taken = [each for each in batch if each.key not in refused]
        self.dead.note(applied.rejected, (each.key for each in taken), self._use(Workspace.now))
        if len(self._told) > _KNOWN:
            self._told.clear()
        self._told.update((each.key, each.rev) for each in taken if each.key.kind != "event")
        return applied

    # The whole

    def _compare_all(self, why: str, progress: Callable[[int], None] | None) -> Pushed:
        """Makes the target what the store is, and its place where the log was when that began."""
        if self._log.position is not None:
            _LOG.warning("%s: %s is compared as a whole: %s", self.workspace_id, self.target.name, why)
        self._told.clear()
        self._verifying.forget()
        begin = self._log.now()
        done = Pushed(compared=why)
        for kind in self.target.kinds:
            for pushed in self._compared(kind):
                done = done.plus(pushed)
                if progress is not None:
                    progress(done.confirmed)
        self._log.begin(begin)
        return done

    def _compared(self, kind: Kind) -> Iterator[Pushed]:
        """Makes the target in this kind what the store is, a piece at a time."""
        if kind == "message" and not self.target.scan(self.workspace_id, kind, limit=1):
            yield from self._all_messages()
            return
        ranges = compared(self._stored(kind), self.target, self.workspace_id, kind)
        if kind == "event":  # All of them at once: for each range the log would be read again.
            yield from self._repaired_events({each.key for found in ranges for each in found.differences})
            return
        for found in ranges:
            if found.differences:
                yield self.repair(found.differences)

    def _all_messages(self) -> Iterator[Pushed]:
        """Sends all of them, some sessions at a time: looked up singly, one by one, they cost several times as much."""
        for changes in all_messages(self._host, self.workspace_id):
            # By force: it may have marks of what was deleted in another past, which no scan lists.
            yield self._send(changes, force=True)

    def _stored(self, kind: Kind) -> list[Stored]:
        """What the store has of a kind, sorted by id."""
        if kind == "event":
            return sorted(Stored(each.key.id, each.rev) for each in self._recorded())
        found = self._look(
            lambda view: [Stored(each.key.id, each.rev) for each in everything(view, self.workspace_id, kind)]
        )
        return sorted(found)

    def _recorded(self) -> Iterator[Change]:
        return all_recorded(self._host, self.workspace_id)

    def _still(self, differences: Iterable[Difference]) -> list[Difference]:
        """Those of them that no change since the push explains: it is on its way."""
        position = self._log.position
        found = [each for each in differences if not (position and each.ours and each.ours > position.seq)]
        keys = [each.key for each in found if each.key.kind != "event"]
        now = {each.key: each for each in self._look(lambda view: current(view, self.workspace_id, keys))}
        same = []
        for each in found:
            change = now.get(each.key)
            if change is None or (change.rev if change.body is not None else None) == each.ours:
                same.append(each)
        return same

    def _look(self, look: Callable[[View], T]) -> T:
        return looked(self._host, self.workspace_id, look)

    def _use(self, use: Callable[[Workspace], T]) -> T:
        return self._host._use(self.workspace_id, use)


def _deleted(workspace_id: str, records: Iterable[Body]) -> list[Change]:
    """The sessions that were deleted, each once."""
    gone = {each["sessionId"]: each["seq"] for each in records if each["type"] == "session.deleted"}
    return [Change(workspace_id, Key("session", name), seq, None, name) for name, seq in gone.items()]
