"""Bad input is refused by name, and writes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import InvalidCursorError, InvalidInputError, NativeSessionManager, ProtectedFieldError
from nomad_sessions.models import PROTECTED_TASK, dump

WS = "ws"


@pytest.fixture
def s(m: NativeSessionManager) -> NativeSessionManager:
    m.create_session(WS, id="s")
    return m


def seq(m: NativeSessionManager) -> int:
    return m.status(WS).seq


BAD: dict[str, Any] = {
    "status": ["done", None, 5, ["running"], ""],
    "progress": [-1, 100.5, True, "50", float("nan"), float("inf"), None, [1]],
    "createdAt": ["2025-01-01", -1, 1.5, True, float("nan"), 1 << 60],
    "startTime": ["yesterday", -1],
    "lastActivity": [1.0, {}],
    "id": ["", "x" * 513, "\ud800", 5],
    "sessionId": ["other", 5],
    "agentId": [5, ["a"]],
    "errorMessage": [b"bytes", 7],
    "inputData": [object(), {1: 2}, float("nan")],
    "outputData": [{"deep": {"set": {1}}}],
    "rev": [7],
    "own": [object()],
    "\ud800": [1],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in BAD.items() for value in values])
def test_bad_input_is_named_and_writes_nothing(s: NativeSessionManager, field: str, value: Any) -> None:
    task = s.create_task(WS, "s", id="t", status="running")
    before = seq(s)
    if value is not None:  # Left out, or a field that is not there.
        with pytest.raises(InvalidInputError) as raised:
            s.create_task(WS, "s", {field: value})
        assert raised.value.field in (field, "data")
    with pytest.raises(InvalidInputError) as refused:
        s.update_task(WS, "t", {field: value})
    assert refused.value.field in (field, "data")
    assert (seq(s), s.get_task(WS, "t")) == (before, task)


def test_calls_with_a_wrong_value_name_it(s: NativeSessionManager) -> None:
    s.create_task(WS, "s", id="t", status="running")
    before = seq(s)
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("progress", lambda: s.progress_task(WS, "t", 101)),
        ("errorMessage", lambda: s.fail_task(WS, "t", None)),  # type: ignore[arg-type]
        ("outputData", lambda: s.complete_task(WS, "t", object())),
        ("session_id", lambda: s.create_task(WS, None)),  # type: ignore[arg-type]
        ("task_id", lambda: s.get_task(WS, 5)),  # type: ignore[arg-type]
        ("task_id", lambda: s.touch_task(WS, None)),  # type: ignore[arg-type]
        ("if_rev", lambda: s.update_task(WS, "t", agent_id="a", if_rev="1")),  # type: ignore[arg-type]
        ("data", lambda: s.create_task(WS, "s", [1])),  # type: ignore[arg-type]
        ("limit", lambda: s.list_tasks(WS, limit=0)),
        ("status", lambda: s.list_tasks(WS, status="done")),
        ("agent_id", lambda: s.list_tasks(WS, agent_id=5)),  # type: ignore[arg-type]
        ("updated_since", lambda: s.list_tasks(WS, updated_since="now")),  # type: ignore[arg-type]
        ("orphaned", lambda: s.list_tasks(WS, orphaned=1)),  # type: ignore[arg-type]
        ("idle_ms", lambda: s.overdue_tasks(WS, idle_ms=0)),
        ("idle_ms", lambda: s.fail_overdue_tasks(WS, idle_ms=1.5)),  # type: ignore[arg-type]
    ]
    for field, call in wrong:
        with pytest.raises(InvalidInputError) as raised:
            call()
        assert raised.value.field == field
    for cursor in ("x", s_cursor(s)):
        with pytest.raises(InvalidCursorError):
            s.list_tasks(WS, cursor=cursor)
    assert seq(s) == before


def s_cursor(m: NativeSessionManager) -> str:
    m.create_session("two", id="a")
    m.create_session("two", id="b")
    cursor = m.list_sessions("two", limit=1).next_cursor
    assert cursor is not None
    return cursor


@pytest.mark.parametrize("field", sorted(PROTECTED_TASK))
def test_a_field_of_the_store_s_is_not_changed_by_an_update(s: NativeSessionManager, field: str) -> None:
    task = s.create_task(WS, "s", status="running")
    with pytest.raises(ProtectedFieldError) as raised:
        s.update_task(WS, task.id, {field: dump(task).get(field)})
    assert raised.value.field == field
    assert s.get_task(WS, task.id) == task
