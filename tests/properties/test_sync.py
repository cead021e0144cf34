"""Whatever is done to a store, and whenever it is pushed, through however bad a line: in the end the target is the
store."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions import NativeSessionManager, NomadSessionsError, TargetUnavailableError
from nomad_sessions.models import dump
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.changes import everything
from nomad_sessions.sync.target import KINDS
from nomad_sessions.workspace import store
from tests.support.there import there
from tests.support.troublesome import TroublesomeTarget

WS = "ws"
Step = tuple[str, int, int]
IDS = ["a", "b", "c"]


def _session(m: NativeSessionManager, which: int, n: int) -> str:
    """One of three that the history names, or a fork that it made."""
    forks = sorted(each.id for each in m.list_sessions(WS) if each.id not in IDS)
    return forks[n % len(forks)] if which == 3 and forks else IDS[which % 3]


def _message(m: NativeSessionManager, which: int) -> str:
    ids = [each for session in m.list_sessions(WS) for each in session.message_ids]
    return ids[which % len(ids)] if ids else "nobody"


def _delete_and_make(m: NativeSessionManager, name: str) -> None:
    m.delete_session(WS, name)
    m.create_session(WS, id=name)


ACTIONS: dict[str, Callable[[NativeSessionManager, str, int], Any]] = {
    "create": lambda m, name, n: m.create_session(WS, id=name, title=f"title {n}"),
    "again": lambda m, name, n: _delete_and_make(m, name),
    "update": lambda m, name, n: m.update_session(WS, name, title=f"new {n}"),
    "delete": lambda m, name, n: m.delete_session(WS, name),
    "fork": lambda m, name, n: m.fork_session(WS, name),
    "add": lambda m, name, n: m.add_message(WS, name, role="user", content=f"text {n}"),
    "append": lambda m, name, n: m.append_to_message(WS, _message(m, n), f" and {n}"),
    "edit": lambda m, name, n: m.update_message(WS, _message(m, n), content=f"edited {n}"),
    "remove": lambda m, name, n: m.delete_message(WS, _message(m, n)),
    "revert": lambda m, name, n: m.revert(WS, name, there(m.get_session(WS, name)).message_ids[n % 3]),
    "revert and go on": lambda m, name, n: [ACTIONS[each](m, name, n) for each in ("revert", "add")],
    "unrevert": lambda m, name, n: m.unrevert(WS, name),
    "task": lambda m, name, n: m.create_task(WS, name, {"task": "do"}, id=f"t{n % 4}"),
    "task on": lambda m, name, n: m.update_task(WS, f"t{n % 4}", status="running"),
    "task gone": lambda m, name, n: m.delete_task(WS, f"t{n % 4}"),
    "mail": lambda m, name, n: m.send(WS, "inbox", type="note", content=str(n)),
    "taken": lambda m, name, n: m.ack(WS, there(there(m.receive(WS, "inbox")).lease).id),
    "event": lambda m, name, n: m.record_event(WS, "note", {"n": n}),
    "fold": lambda m, name, n: m.checkpoint(WS),
    "prune": lambda m, name, n: m.configure_workspace(WS, retention={"bytes": 0}),
    "settings": lambda m, name, n: m.configure_workspace(WS, fold="auto"),
}
STEPS = st.tuples(
    st.sampled_from([*ACTIONS, "push", "push", "away", "lost", "half", "twice"]), st.integers(0, 3), st.integers(0, 40)
)


def play(m: NativeSessionManager, target: TroublesomeTarget, history: list[Step]) -> None:
    trouble = [""]
    target.trouble = lambda _: trouble[0]
    with Synchronizer(m, [target]) as sync:
        for what, which, n in history:
            if what in ACTIONS:
                with contextlib.suppress(NomadSessionsError, AssertionError, IndexError):
                    ACTIONS[what](m, _session(m, which, n), n)
                continue
            trouble[0] = "" if what == "push" else what
            with contextlib.suppress(TargetUnavailableError):
                sync.push(WS)
        trouble[0] = ""
        sync.push(WS)
        assert sync.verify(WS, target=target.name) == []


@settings(max_examples=150, deadline=None)
@given(history=st.lists(STEPS, min_size=8, max_size=80))
def test_in_the_end_the_target_is_the_store(history: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(store, "SEGMENT_BYTES", 600)
        target = TroublesomeTarget()
        with NativeSessionManager(folder, durability="os") as m:
            for name in IDS[:2]:
                m.create_session(WS, id=name)
                for n in range(3):
                    m.add_message(WS, name, role="user", content=str(n))
            play(m, target, history)
            for kind in KINDS:
                if kind == "event":
                    theirs = {each.id: each.rev for each in target.scan(WS, kind)}
                    assert sorted(theirs.values()) == [event.seq for event in m.events(WS, recorded=True)]
                    continue
                ours = m._read(WS, lambda view, kind=kind: list(everything(view, WS, kind)))  # type: ignore[misc]
                there_are = target.fetch(WS, kind, [each.key.id for each in ours])
                assert there_are == {each.key.id: each for each in ours}
                assert len(target.scan(WS, kind)) == len(ours)
            sessions = {each.id: each for each in m.list_sessions(WS)}
            told = target.fetch(WS, "session", sessions)
            assert {name: there(each.body)["title"] for name, each in told.items()} == {
                name: dump(each)["title"] for name, each in sessions.items()
            }
