"""A workspace made again from a target: what it was, ids, times, reverts and order included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import AlreadyExistsError, NativeSessionManager, TargetUnavailableError
from nomad_sessions.models import dump
from nomad_sessions.sync import Key, MemoryTarget, Synchronizer
from tests.support.troublesome import TroublesomeTarget

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        session = manager.create_session(WS, id="s", title="one", metadata={"a": 1})
        for n in range(6):
            manager.add_message(WS, "s", role="user", content=f"text {n}", parts=[{"type": "text", "content": "x"}])
        fork = manager.fork_session(WS, session.id)
        manager.revert(WS, fork.id, fork.message_ids[2])
        manager.create_session(WS, id="empty", parent_id="s")
        manager.create_task(WS, "s", {"task": "look"}, id="t")
        manager.send(WS, "inbox", type="note", content="hello")
        manager.record_event(WS, "note", {"n": 1}, session_id="s")
        manager.record_event(WS, "note", {"n": 2})
        manager.configure_workspace(WS, fold="always")
        yield manager


@pytest.fixture
def other(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "other", durability="os") as manager:
        yield manager


def told(value: Any) -> Any:
    """Without what numbers the changes of a store."""
    if isinstance(value, dict):
        return {key: told(child) for key, child in value.items() if key != "rev"}
    return [told(child) for child in value] if isinstance(value, list) else value


def whole(m: NativeSessionManager) -> dict[str, Any]:
    sessions = sorted(m.list_sessions(WS), key=lambda each: each.id)
    return {
        "sessions": [told(dump(each)) for each in sessions],
        "messages": {each.id: [told(dump(one)) for one in m.get_session_messages(WS, each.id)] for each in sessions},
        "tasks": [told(dump(each)) for each in m.list_tasks(WS)],
        "mail": [told(dump(each)) for each in m.list_mail(WS, "inbox")],
        "events": [(e.id, e.type, e.properties, e.session_id, e.timestamp) for e in m.events(WS, recorded=True)],
        "settings": m.settings(WS),
    }


def test_everything_comes_back(m: NativeSessionManager, other: NativeSessionManager) -> None:
    target = MemoryTarget()
    with Synchronizer(m, [target]) as sync:
        sync.push()
    steps: list[tuple[int, int]] = []
    with Synchronizer(other, [target]) as sync:
        done = sync.restore(WS, target="memory", progress=lambda number, of: steps.append((number, of)))
        assert done == (3, 12, 1, 1, 2, 0, [])
        assert steps == [(1, 3), (2, 3), (3, 3)]
        before = whole(other)
        assert before["sessions"] == whole(m)["sessions"]
        assert before["messages"] == whole(m)["messages"]
        assert before == whole(m) | {"events": before["events"]}
        assert [each[1:4] for each in before["events"]] == [each[1:4] for each in whole(m)["events"]]
        assert sync.restore(WS, target="memory") == (0, 0, 0, 0, 0, 3, []), "to repeat it does nothing"
        assert whole(other) == before
    assert other.check(WS).ok
    fork = next(each for each in other.list_sessions(WS) if each.id not in ("s", "empty"))
    other.unrevert(WS, fork.id)
    assert len(other.get_session_messages(WS, fork.id)) == 6


def test_one_that_was_cut_short_goes_on(m: NativeSessionManager, other: NativeSessionManager) -> None:
    class Away(TroublesomeTarget):
        asked = 0

        def fetch(self, *given: Any) -> Any:
            self.asked += 1
            if self.asked == 4:
                raise TargetUnavailableError(target=self.name, reason="it is away")
            return super().fetch(*given)

    target = Away()
    with Synchronizer(m, [target]) as sync:
        sync.push()
    with Synchronizer(other, [target]) as sync:
        with pytest.raises(TargetUnavailableError):
            sync.restore(WS, target="memory")
        assert len(other.list_sessions(WS)) == 2
        assert sync.restore(WS, target="memory").already == 2
    assert whole(other)["messages"] == whole(m)["messages"]


def test_another_workspace_of_the_name_is_not_touched(m: NativeSessionManager, other: NativeSessionManager) -> None:
    target = MemoryTarget()
    other.create_session(WS, id="mine", title="another")
    with Synchronizer(m, [target]) as sync:
        sync.push()
    with Synchronizer(other, [target]) as sync, pytest.raises(AlreadyExistsError, match="mine"):
        sync.restore(WS, target="memory")
    assert [each.id for each in other.list_sessions(WS)] == ["mine"]


def test_what_the_target_lacks_is_named(m: NativeSessionManager, other: NativeSessionManager) -> None:
    target = MemoryTarget()
    with Synchronizer(m, [target]) as sync:
        sync.push()
    lost = m.get_session_messages(WS, "s")[2].id
    del target.records[WS, Key("message", lost)]
    with Synchronizer(other, [target]) as sync:
        assert sync.restore(WS, target="memory").incomplete == [lost]
    assert len(other.get_session_messages(WS, "s")) == 5


def test_of_a_workspace_that_nobody_has_nothing_comes(other: NativeSessionManager) -> None:
    with Synchronizer(other, [MemoryTarget()]) as sync:
        assert sync.restore("nobody", target="memory") == (0, 0, 0, 0, 0, 0, [])
    assert other.list_workspaces() == []
