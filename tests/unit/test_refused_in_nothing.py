"""What is refused, and what changes nothing, makes no workspace: no folder, no lock, nothing to be listed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager, NoRouteError, NotFoundError
from nomad_sessions.workspace.store import Workspace

WS = "typo"
Call = Callable[[Any], Any]


def empty(m: NativeSessionManager) -> None:
    with m.transaction(WS) as transaction:
        assert transaction.list_sessions(WS) == []


REFUSED: dict[str, Call] = {
    "ack": lambda m: m.ack(WS, "l"),
    "nack": lambda m: m.nack(WS, "l"),
    "extend": lambda m: m.extend(WS, "l"),
    "requeue": lambda m: m.requeue(WS, "x"),
    "discard": lambda m: m.discard(WS, "x"),
    "publish": lambda m: m.publish(WS, "x"),
    "update_session": lambda m: m.update_session(WS, "s", title="x"),
    "delete_session": lambda m: m.delete_session(WS, "s"),
    "fork_session": lambda m: m.fork_session(WS, "s"),
    "revert": lambda m: m.revert(WS, "s"),
    "unrevert": lambda m: m.unrevert(WS, "s"),
    "close_session": lambda m: m.close_session(WS, "s"),
    "archive_session": lambda m: m.archive_session(WS, "s"),
    "compact_session": lambda m: m.compact_session(WS, "s", "x"),
    "add_message": lambda m: m.add_message(WS, "s", role="user"),
    "add_messages": lambda m: m.add_messages(WS, "s", []),
    "update_message": lambda m: m.update_message(WS, "m", content="x"),
    "append_to_message": lambda m: m.append_to_message(WS, "m", "x", sync=False),
    "delete_message": lambda m: m.delete_message(WS, "m"),
    "create_task": lambda m: m.create_task(WS, "s"),
    "update_task": lambda m: m.update_task(WS, "t", agent_id="a"),
    "start_task": lambda m: m.start_task(WS, "t"),
    "delete_task": lambda m: m.delete_task(WS, "t"),
    "open_session": lambda m: m.open_session(WS, "s"),
    "resume_session": lambda m: m.resume_session(WS, "s"),
    "move_session": lambda m: m.move_session(WS, "s", to_workspace="other"),
    "stream_message": lambda m: m.stream_message(WS, "s").__enter__(),
}
NOTHING: dict[str, Call] = {
    "receive": lambda m: m.receive(WS, "bob"),
    "receive for a while": lambda m: m.receive(WS, "bob", wait=0.01),
    "fail_overdue_tasks": lambda m: m.fail_overdue_tasks(WS),
    "record_events": lambda m: m.record_events(WS, []),
    "a transaction": lambda m: empty(m),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_makes_nothing(m: NativeSessionManager, name: str) -> None:
    for _ in range(2):
        with pytest.raises((NotFoundError, NoRouteError)):
            REFUSED[name](m)
    assert not Path(m.data_dir).exists()
    assert m.list_workspaces() == []


@pytest.mark.parametrize("name", NOTHING)
def test_what_changes_nothing_makes_nothing(m: NativeSessionManager, name: str) -> None:
    assert not NOTHING[name](m)
    assert not Path(m.data_dir).exists()


def test_in_a_transaction_too(m: NativeSessionManager) -> None:
    with pytest.raises(NotFoundError), m.transaction(WS) as transaction:
        transaction.update_session(WS, "s", title="x")
    assert not Path(m.data_dir).exists()


def test_what_another_made_meanwhile_is_seen(m: NativeSessionManager) -> None:
    with pytest.raises(NotFoundError):
        m.update_session(WS, "s", title="x")
    with NativeSessionManager(m.data_dir) as other:
        other.create_session(WS, id="s")
    assert m.update_session(WS, "s", title="x").title == "x"
    assert m.check(WS).ok


def test_in_a_workspace_that_is_there_an_operation_is_asked_once(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def operation(view: Any, stamp: Any) -> Any:
        nonlocal asked
        asked += 1
        return [], lambda _: None

    m.create_session(WS, id="s")
    m.clear_workspace(WS)
    workspace: Workspace = m.workspace(WS)
    workspace.commit(operation)
    workspace.commit(operation)
    assert asked == 2
