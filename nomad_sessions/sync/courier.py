"""What carries changes to one target: on a thread of its own, or for who asks.

Verified by `tests/unit/test_synchronizer.py`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from nomad_sessions.errors import (
    LockTimeoutError,
    NomadSessionsError,
    StorageError,
    StoreClosedError,
    TargetUnavailableError,
)
from nomad_sessions.events.cursors import list_cursors
from nomad_sessions.sync.dead_letters import DeadLetter, DeadLetters
from nomad_sessions.sync.host import Host
from nomad_sessions.sync.outbox import CURSOR, Outbox
from nomad_sessions.sync.target import Key, SyncTarget
from nomad_sessions.sync.two_way.conflicts import Conflicts
from nomad_sessions.sync.two_way.exchange import TWO_WAY, Exchange
from nomad_sessions.sync.two_way.glance import Glance
from nomad_sessions.sync.two_way.place import Place
from nomad_sessions.workspace.store import Workspace

__all__ = ["Carrier", "Courier", "TargetStatus"]

Carrier = Outbox | Exchange
"""What brings one workspace to one target, or to and from a place that several machines have in common."""
_LOG = logging.getLogger("nomad_sessions")
T = TypeVar("T")
_POLL_EVERY = 1.0
_LOOK_EVERY = 0.25
"""Seconds between two looks at what was written: changes gather meanwhile, and those of a stream are sent together. Not
at each of them, as the file system would tell of it: that costs a writer half as much again."""
_GATHER = 0.05
"""Seconds in which what other machines do gathers."""
_TARGET = ""  # Whose error it is, where it is no workspace's.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0


class _Stopped(Exception):
    """In the middle of a push: nobody wants the rest any more."""


class TargetStatus(NamedTuple):
    """How a target stands in a workspace: how many records of the log it has not been told of, and how many it refused
    (None where the workspace cannot be read); what stands in the way, and when (ms) it was last reached, both as far
    as it is kept up to date in the background."""

    target: str
    workspace_id: str
    behind: int | None
    dead: int | None
    error: str | None
    reached_at: int | None


class Courier:
    """One target."""

    def __init__(self, host: Host, target: SyncTarget) -> None:
        self.target = target
        self._host = host
        self._told: dict[str, dict[Key, int]] = {}
        self._glances: dict[str, Glance] = {}
        self._due: set[str] = set()
        self._seen: dict[str, int] = {}
        self._forget()
        self._failures = 0
        self._errors: dict[str, str] = {}
        self._reached_at: int | None = None

    def _forget(self) -> None:
        self._busy = threading.Lock()
        self._called = threading.Event()
        self._stopped = False
        self._polled = 0.0
        self._thread: threading.Thread | None = None
        self._listener: threading.Thread | None = None

    def after_fork(self) -> None:
        """In a forked child, where its thread is not: the parent's goes on."""
        self._forget()

    # For who asks

    def with_carrier(self, workspace_id: str, use: Callable[[Carrier], T]) -> T:
        """`use(carrier)`, with the target's place in the workspace held. Raises `LockTimeoutError` where another
        process holds it, and what `use` does."""
        with self._busy:  # A target is for one thread at a time.
            carrier = self._carrier(workspace_id)
            try:
                return use(carrier)
            finally:
                try:
                    carrier.close()
                except BaseException:  # A Ctrl-C in between: its place would stay held by a process that goes on.
                    carrier.close()
                    raise

    def _carrier(self, workspace_id: str) -> Carrier:
        if self.target.place is None:
            return Outbox(self._host, workspace_id, self.target, self._told.setdefault(workspace_id, {}))
        glance = self._glances.setdefault(workspace_id, Glance())
        return Exchange(self._host, workspace_id, self.target.name, self.target.place, glance)

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """The target's turn for who asks it, and no push at the same time."""
        with self._busy:
            yield

    def dead(self, workspace_id: str) -> list[DeadLetter]:
        """What the target refused."""
        return list(DeadLetters(self._host._fs, self._folder(workspace_id), self.target.name))

    def all_workspaces(self) -> list[str]:
        """Those that are here, and those that other machines have in common. Raises what the target does."""
        place = self.target.place
        with self._busy:
            shared = [] if place is None else place.shared()
        return sorted({*shared, *self._host.list_workspaces()})

    def conflicts(self, workspace_id: str) -> Conflicts:
        """Where machines changed the same."""
        return Conflicts(self._host._fs, self._folder(workspace_id), self.target.name)

    def status(self, workspace_id: str) -> TargetStatus:
        """How it stands. Asks nobody, and waits for nobody."""
        error = self._errors.get(workspace_id) or self._errors.get(_TARGET)
        behind, dead = None, None
        try:
            behind, dead = self._behind(workspace_id), len(self.dead(workspace_id))
        except StorageError as unreadable:
            error = str(unreadable)
        return TargetStatus(self.target.name, workspace_id, behind, dead, error, self._reached_at)

    def _behind(self, workspace_id: str) -> int:
        name = (CURSOR if self.target.place is None else TWO_WAY) + self.target.name
        cursors = {each.name: each.seq for each in list_cursors(self._host._fs, self._folder(workspace_id))}
        return max(0, self._last_seq(workspace_id) - cursors.get(name, 0))

    def _last_seq(self, workspace_id: str) -> int:
        rested = self._host._use(workspace_id, Workspace.rested_at)
        if rested is not None:
            return rested
        seq: int = self._host._use(workspace_id, lambda each: each.read(lambda view: view.journal.last_seq))
        return seq

    def _folder(self, workspace_id: str) -> str:
        return self._host._use(workspace_id, lambda workspace: workspace.folder)

    # In the background

    def start(self) -> None:
        """On a thread from now on, if it is not."""
        if self._thread is None:
            self._stopped = False
            self._called.set()
            self._thread = threading.Thread(
                target=self._run, name=f"nomad-sessions-sync-{self.target.name}", daemon=True
            )
            self._thread.start()
            if self.target.place is not None:
                name = f"nomad-sessions-listen-{self.target.name}"
                self._listener = threading.Thread(
                    target=self._listen, args=(self.target.place,), name=name, daemon=True
                )
                self._listener.start()

    def stop(self) -> None:
        """Ends it, when the piece that it is about to send was sent or refused, or the one that it fetches is here."""
        self._stopped = True
        self._called.set()
        threads = self._thread, self._listener
        self._thread = self._listener = None
        for each in filter(None, threads):
            each.join()

    def _run(self) -> None:
        while not self._stopped:
            if self._called.wait(_LOOK_EVERY):
                time.sleep(_GATHER)
            self._called.clear()
            due, self._due = self._due, set()
            if time.monotonic() >= self._polled + _POLL_EVERY:
                self._polled = time.monotonic()
                due.update(self._workspaces() if self.target.place is None else self._moved(self.target.place))
            due.update(self._written())
            self._round(sorted(due))

    def _written(self) -> list[str]:
        """The workspaces whose log has grown since their turn. Cost: a look at the files of each."""
        found = []
        for each, seq in self._seen.items():
            with contextlib.suppress(NomadSessionsError, OSError):  # Whose turn it is each second, who sends says so.
                if self._last_seq(each) > seq:
                    found.append(each)
        return found

    def _listen(self, place: Place) -> None:
        """Hears what other machines do, where the place can tell at once; where it cannot, it is asked every second."""
        while not self._stopped:
            try:
                if place.wait(_POLL_EVERY):
                    self._polled = 0.0
                    self._called.set()
            except TargetUnavailableError:  # Who sends finds that out, too, and says so.
                _pause(_POLL_EVERY, lambda: self._stopped)
        place.stop_waiting()

    def _moved(self, place: Place) -> list[str]:
        """The workspaces in which something may have happened, here or there. Cost: a question, and a look at each."""
        workspaces = self._workspaces()
        try:
            with self._busy:
                announced = place.announced(workspaces)
        except TargetUnavailableError as error:
            self._fail(_TARGET, error)
            return workspaces  # Who tries to send waits longer each time.
        for each, count in announced.items():
            self._glances.setdefault(each, Glance()).announced = count
        return [each for each in workspaces if not self._is_quiet(each)]

    def _is_quiet(self, workspace_id: str) -> bool:
        glance = self._glances.get(workspace_id)
        try:
            seq = self._host._use(workspace_id, Workspace.rested_at)
            if seq is None:
                seq = self._host._use(workspace_id, lambda each: each.read(lambda view: view.seq))
            return glance is not None and glance.is_quiet(seq)
        except StorageError:
            return False  # Who tries to send says so.

    def _workspaces(self) -> list[str]:
        try:
            there = self._host.list_workspaces()
            self._seen = {each: self._seen.get(each, 0) for each in there}
            return there
        except (NomadSessionsError, OSError) as error:
            self._fail(_TARGET, error)
            return []

    def _round(self, due: list[str]) -> None:
        for number, workspace_id in enumerate(due):
            if self._stopped:
                return
            try:
                self._seen[workspace_id] = self._last_seq(workspace_id)
                self.with_carrier(workspace_id, lambda carrier: carrier.push(self._go_on))
                self._reached_at = self._host._use(workspace_id, Workspace.now)
            except _Stopped:
                return
            except LockTimeoutError:  # Another process is at it.
                continue
            except StoreClosedError:
                self._stopped = True
            except TargetUnavailableError as error:
                self._fail(_TARGET, error)
                self._pause()
                self._due.update(due[number:])
                self._called.set()
                return
            except (NomadSessionsError, OSError) as error:  # Of this workspace: the others go on.
                self._fail(workspace_id, error)
            except Exception as error:  # A defect of the target's: the thread that would say so goes on.
                _LOG.exception("sync to %s", self.target.name)
                self._fail(workspace_id, error)
                self._pause()
            else:
                self._failures = 0
                self._errors.pop(workspace_id, None)
                self._errors.pop(_TARGET, None)

    def _go_on(self, _: int) -> None:
        """Between two pieces of a push: who closes does not wait for the whole."""
        if self._stopped:
            raise _Stopped

    def _fail(self, whose: str, error: Exception) -> None:
        """Keeps the error, and says it once."""
        if self._errors.get(whose) != str(error):
            _LOG.warning("sync to %s: %s", self.target.name, error)
        self._errors[whose] = str(error)

    def _pause(self) -> None:
        """Longer each time, and never the same: many that wait for one server do not come back at once."""
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        self._failures += 1
        _pause(random.uniform(longest / 2, longest), lambda: self._stopped)


def _pause(seconds: float, is_over: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not is_over() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
