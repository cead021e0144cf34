"""Several stores with one place in common: whatever they do meanwhile, in the end they have the same, and nothing of it
is lost that nobody deleted."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from nomad_sessions import NativeSessionManager, TargetUnavailableError
from nomad_sessions.models import dump
from nomad_sessions.sync import MemoryTarget, MongoTarget, Synchronizer, SyncTarget
from nomad_sessions.sync.two_way.memory_place import MemoryPlace
from nomad_sessions.sync.two_way.place import Place, Settled
from nomad_sessions.sync.two_way.versions import Version
from nomad_sessions.workspace.view import View
from tests.support.mongod import Mongod, running_mongod

WS = "ws"
MACHINES = 3


def told(value: Any) -> Any:
    """Without what numbers the changes of one store."""
    if isinstance(value, dict):
        return {key: told(child) for key, child in value.items() if key != "rev"}
    return [told(child) for child in value] if isinstance(value, list) else value


def content(manager: NativeSessionManager) -> dict[str, Any]:
    """Everything that machines have in common."""
    if WS not in manager.list_workspaces():
        return {}
    sessions = sorted(manager.list_sessions(WS, archived=None), key=lambda each: each.id)
    hidden = manager._use(
        WS,
        lambda each: each.read(
            lambda view: {one.id: (list(one.hidden), sorted(one.detached)) for one in view.load_all()}
        ),
    )
    return {
        "sessions": [told(dump(each)) for each in sessions],
        "hidden": hidden,
        "messages": {
            each.id: [told(dump(one)) for one in manager.get_session_messages(WS, each.id)] for each in sessions
        },
        "tasks": sorted((told(dump(each)) for each in manager.list_tasks(WS)), key=lambda each: each["id"]),
        "events": sorted((e.id, e.type, str(e.properties)) for e in manager.events(WS, recorded=True)),
    }


class Flaky:
    """A place that cannot be reached at one of the calls that write, before it has written, or after."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.fail_in: tuple[int, bool] | None = None

    def write(self, workspace_id: str, versions: Sequence[Version]) -> Settled:
        calls, after = self.fail_in or (1, False)
        self.fail_in = None if self.fail_in is None or calls == 0 else (calls - 1, after)
        if calls == 0 and not after:
            raise TargetUnavailableError(target="it", reason="not now")
        settled = self._place.write(workspace_id, versions)
        if calls == 0:
            raise TargetUnavailableError(target="it", reason="not in time")
        return settled

    def __getattr__(self, name: str) -> Any:
        return getattr(self._place, name)


class Machines(RuleBasedStateMachine):
    """Machines that write, stay offline, come back, and sync in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.places: list[Flaky] = []
        self.managers = [
            NativeSessionManager(Path(self.folder.name) / str(n), durability="os") for n in range(MACHINES)
        ]
        self.syncs = [Synchronizer(each, [target]) for each, target in zip(self.managers, self.targets(), strict=True)]
        self.written: set[str] = set()
        self.removed: set[str] = set()
        self.count = 0

    def targets(self) -> Iterator[SyncTarget]:
        """One for each machine, all with one place."""
        place = MemoryPlace()
        for _ in range(MACHINES):
            self.places.append(Flaky(place))
            target = MemoryTarget("it")
            target.place = self.places[-1]
            yield target

    @initialize()
    def begin(self) -> None:
        for n, manager in enumerate(self.managers):
            manager.create_session(WS, id=f"own-{n}")
        self.managers[0].create_session(WS, id="s", title="of all")
        for _ in range(3):
            self.add(0, "s")
        self.sync(0)
        for n in range(1, MACHINES):
            self.sync(n)

    def text(self) -> str:
        self.count += 1
        text = f"text-{self.count}"
        self.written.add(text)
        return text

    def sessions(self, machine: int) -> list[str]:
        return sorted(each.id for each in self.managers[machine].list_sessions(WS, archived=None))

    def pick(self, machine: int, number: int) -> str | None:
        ids = self.sessions(machine)
        return ids[number % len(ids)] if ids else None

    def pick_message(self, machine: int, number: int) -> str | None:
        manager = self.managers[machine]
        ids = [one.id for each in self.sessions(machine) for one in manager.get_session_messages(WS, each)]
        return ids[number % len(ids)] if ids else None

    def known(self, machine: int, session: str) -> dict[str, str]:
        """The texts of all messages of a session, by id, hidden ones among them."""

        def look(view: View) -> dict[str, str]:
            state = view.session(session)
            assert state is not None
            found = ((each, view.message_body(each)) for each in state.ids())
            return {name: body["content"].split()[0] for name, body in found if body is not None}

        return self.managers[machine]._use(WS, lambda each: each.read(look))

    def add(self, machine: int, session: str, **options: Any) -> None:
        shown = {each.id for each in self.managers[machine].get_session_messages(WS, session)}
        self.removed.update(text for name, text in self.known(machine, session).items() if name not in shown)
        self.managers[machine].add_message(WS, session, role="user", content=self.text(), **options)

    def forget(self, machine: int, message: str) -> None:
        found = self.managers[machine].get_message(WS, message)
        assert found is not None
        self.removed.add(found.content.split()[0])

    machines = st.integers(0, MACHINES - 1)
    numbers = st.integers(0, 20)

    @rule(machine=machines)
    def sync(self, machine: int) -> None:
        self.syncs[machine].push(WS)

    @rule(machine=machines, calls=st.integers(0, 6), after=st.booleans())
    def sync_cut_short(self, machine: int, calls: int, after: bool) -> None:
        self.places[machine].fail_in = calls, after
        with contextlib.suppress(TargetUnavailableError):
            self.sync(machine)
        self.places[machine].fail_in = None

    @rule(machine=machines)
    def forget_the_place(self, machine: int) -> None:
        for each in Path(self.folder.name).glob(f"{machine}/{WS}/sync/it-two-way.sqlite*"):
            each.unlink()

    @rule(machine=machines, number=numbers, count=st.integers(1, 3))
    def append(self, machine: int, number: int, count: int) -> None:
        if session := self.pick(machine, number):
            for _ in range(count):
                self.add(machine, session)

    @rule(machine=machines, number=numbers, name=st.sampled_from(["x", "y"]))
    def append_under_an_id(self, machine: int, number: int, name: str) -> None:
        """Perhaps one that was deleted, or that another machine gives to a message of another session."""
        if (session := self.pick(machine, number)) and self.managers[machine].get_message(WS, name) is None:
            self.add(machine, session, id=name)

    @rule(machine=machines, number=st.integers(0, 1))
    def create_again(self, machine: int, number: int) -> None:
        """A session, under an id that may have been another's."""
        if f"named-{number}" not in self.sessions(machine):
            self.managers[machine].create_session(WS, id=f"named-{number}")

    @rule(machine=machines)
    def create(self, machine: int) -> None:
        session = self.managers[machine].create_session(WS, title="new")
        self.add(machine, session.id)

    @rule(machine=machines, number=numbers, field=st.sampled_from(["title", "description", "agent"]))
    def change(self, machine: int, number: int, field: str) -> None:
        if session := self.pick(machine, number):
            self.count += 1
            self.managers[machine].update_session(WS, session, {field: f"{field}-{self.count}"})

    @rule(machine=machines, number=numbers)
    def edit(self, machine: int, number: int) -> None:
        if message := self.pick_message(machine, number):
            self.forget(machine, message)
            self.managers[machine].update_message(WS, message, content=self.text())

    @rule(machine=machines, number=numbers)
    def stream(self, machine: int, number: int) -> None:
        if message := self.pick_message(machine, number):
            self.managers[machine].append_to_message(WS, message, " and more")

    @rule(machine=machines, number=numbers)
    def delete_message(self, machine: int, number: int) -> None:
        if message := self.pick_message(machine, number):
            self.forget(machine, message)
            self.managers[machine].delete_message(WS, message)

    @rule(machine=machines, number=numbers)
    def delete(self, machine: int, number: int) -> None:
        if session := self.pick(machine, number):
            self.removed.update(self.known(machine, session).values())
            self.managers[machine].delete_session(WS, session)

    @rule(machine=machines, number=numbers)
    def revert(self, machine: int, number: int) -> None:
        if session := self.pick(machine, number):
            messages = self.managers[machine].get_session_messages(WS, session)
            if messages:
                self.managers[machine].revert(WS, session, messages[number % len(messages)].id)

    @rule(machine=machines, number=numbers)
    def unrevert(self, machine: int, number: int) -> None:
        if session := self.pick(machine, number):
            self.managers[machine].unrevert(WS, session)

    @rule(machine=machines, number=numbers)
    def fork(self, machine: int, number: int) -> None:
        if session := self.pick(machine, number):
            self.managers[machine].fork_session(WS, session)

    @rule(machine=machines, number=numbers)
    def task(self, machine: int, number: int) -> None:
        tasks = self.managers[machine].list_tasks(WS)
        session = self.pick(machine, number)
        if tasks:
            self.managers[machine].update_task(
                WS, tasks[number % len(tasks)].id, metadata={"do": self.count, "n": number}
            )
        elif session:
            self.managers[machine].create_task(WS, session, {"do": self.count})

    @rule(machine=machines)
    def record(self, machine: int) -> None:
        self.count += 1
        self.managers[machine].record_event(WS, "note", {"n": self.count})

    def settle(self) -> None:
        for _ in range(2):
            for n in range(MACHINES):
                self.sync(n)

    def check_nothing_lost(self) -> None:
        """What was written is there, or somebody removed it who had it before him, or it is among the conflicts."""
        there = {text for each in self.sessions(0) for text in self.known(0, each).values()}
        for sync in self.syncs:
            for conflict in sync.conflicts(WS):
                there |= {
                    word for value in (conflict.lost or {}).values() if type(value) is str for word in value.split()
                }
        assert self.written - there - self.removed == set()

    def teardown(self) -> None:
        try:
            self.settle()
            first = content(self.managers[0])
            for manager in self.managers[1:]:
                assert content(manager) == first
            for sync in self.syncs:
                assert sync.verify(WS, target="it") == []
            self.check_nothing_lost()
        finally:
            for sync, manager in zip(self.syncs, self.managers, strict=True):
                sync.close()
                manager.close()
            self.folder.cleanup()


class OverMongo(Machines):
    """The same, over one MongoDB."""

    mongod: Mongod
    databases = itertools.count()

    def targets(self) -> Iterator[SyncTarget]:
        database = f"d{next(self.databases)}"
        for _ in range(MACHINES):
            target = MongoTarget(self.mongod.uri, database=database, name="it", two_way=True)
            assert target.place is not None
            self.places.append(Flaky(target.place))
            target.place = self.places[-1]
            yield target


CHECKS = list(HealthCheck)


def test_machines_converge() -> None:
    run_state_machine_as_test(
        Machines,
        settings=settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS),
    )


def test_machines_converge_through_mongodb() -> None:
    with running_mongod() as mongod:
        OverMongo.mongod = mongod
        run_state_machine_as_test(
            OverMongo,
            settings=settings(max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=CHECKS),
        )
