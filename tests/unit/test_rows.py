"""Rows beside the sessions: they live in the journal and in `sessions.json`, and survive other programs' rewrites."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from nomad_sessions.operations.reading import Looking, Stamping
from nomad_sessions.workspace.rows import rows_in
from nomad_sessions.workspace.state import WORKSPACE, Body

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    manager = NativeSessionManager(tmp_path / "data", durability="os")
    manager.create_session(WS, id="s")
    return manager


def change(m: NativeSessionManager, kind: str, row_id: str, **fields: Any) -> None:
    body = {"type": kind, "sessionId": WORKSPACE, "rowId": row_id, "about": "s", **fields}

    def operation(view: Looking, stamp: Stamping) -> tuple[list[Body], Callable[[Looking], None]]:
        return [body], lambda after: None

    m._commit(WS, operation)


def tasks(m: NativeSessionManager) -> dict[str, Any]:
    def look(view: Looking) -> dict[str, Any]:
        state = view.session(WORKSPACE)
        return dict(rows_in(state.fields if state else {}, "tasks") or {})

    return m._read(WS, look)


@pytest.fixture
def three(m: NativeSessionManager) -> NativeSessionManager:
    for each in "abc":
        change(m, "task.created", each, row={"id": each, "n": 1})
    change(m, "task.updated", "b", set={"n": 2}, unset=["none"])
    change(m, "task.updated", "c", set={"m": 3}, unset=["n"])
    change(m, "task.updated", "nobody", set={"n": 9})
    change(m, "task.deleted", "a")
    return m


MAIL = {"id": "m", "recipient": "r", "status": "queued", "priority": "low", "position": 1}
MAIL |= {"attempts": 0, "maxAttempts": 5, "backoff": 0}
EXPECTED = {"b": {"id": "b", "n": 2, "rev": 5}, "c": {"id": "c", "m": 3, "rev": 6}}


def test_created_updated_deleted_through_folds_and_reopening(three: NativeSessionManager) -> None:
    assert tasks(three) == EXPECTED
    for fold in (False, True, True):
        if fold:
            three.checkpoint(WS)
            change(three, "mail.created", "m", row=MAIL)
        with NativeSessionManager(three.data_dir) as other:
            assert tasks(other) == EXPECTED
            assert other.check(WS).ok
    stored = json.loads((Path(three.data_dir) / WS / "sessions.json").read_text())
    assert stored["tasks"] == EXPECTED
    assert list(stored["mailbox"]) == ["m"]


def test_who_has_a_row_keeps_what_it_saw(three: NativeSessionManager) -> None:
    before = tasks(three)["b"]
    change(three, "task.updated", "b", set={"n": 7})
    assert before["n"] == 2
    assert tasks(three)["b"]["n"] == 7


def test_a_transaction_that_fails_leaves_them_alone(three: NativeSessionManager) -> None:
    deleted = {"type": "task.deleted", "sessionId": WORKSPACE, "rowId": "b"}

    def fail() -> None:
        with three.transaction(WS) as tx:
            tx._commit(WS, lambda view, stamp: ([deleted], lambda after: None))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert tasks(three) == EXPECTED


def rewrite(m: NativeSessionManager, edit: Callable[[Body], None]) -> None:
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value, indent=2))


def test_a_program_that_gives_back_what_it_once_read_undoes_nothing(three: NativeSessionManager) -> None:
    three.checkpoint(WS)
    path = Path(three.data_dir) / WS / "sessions.json"
    read_once = json.loads(path.read_text())
    change(three, "task.updated", "b", set={"n": 50})
    change(three, "task.created", "d", row={"id": "d"})
    change(three, "task.deleted", "c")
    read_once["sessions"]["s"]["title"] = "theirs"
    path.write_text(json.dumps(read_once, indent=2))
    assert {key: row.get("n") for key, row in tasks(three).items()} == {"b": 50, "d": None}
    session = three.get_session(WS, "s")
    assert session is not None
    assert session.title == "theirs"


def test_a_row_that_another_program_wrote_comes_in(three: NativeSessionManager) -> None:
    three.checkpoint(WS)

    def edit(value: Body) -> None:
        value["tasks"]["b"]["n"] = 80
        value["tasks"]["new"] = {"id": "new"}

    change(three, "task.updated", "c", set={"m": 4})
    rewrite(three, edit)
    found = tasks(three)
    assert (found["b"]["n"], found["c"]["m"], found["new"]["id"]) == (80, 4, "new")
    three.checkpoint(WS)
    assert tasks(three) == found
    assert three.check(WS).ok


def test_what_both_changed_stays_ours_and_theirs_is_kept_aside(three: NativeSessionManager) -> None:
    three.checkpoint(WS)
    change(three, "task.updated", "b", set={"n": 3})
    rewrite(three, lambda value: value["tasks"]["b"].update(n=4))
    assert tasks(three)["b"]["n"] == 3
    three.checkpoint(WS)
    kept = [path.read_text() for path in (Path(three.data_dir) / WS / "quarantine").rglob("*") if path.is_file()]
    assert any('"n":4' in text.replace(" ", "") for text in kept)


def test_something_else_under_the_key_stays_as_it_is(m: NativeSessionManager) -> None:
    m.checkpoint(WS)
    rewrite(m, lambda value: value.update(tasks=["theirs"]))
    change(m, "task.created", "a", row={"id": "a"})
    m.checkpoint(WS)
    stored = json.loads((Path(m.data_dir) / WS / "sessions.json").read_text())
    assert stored["tasks"] == ["theirs"]


def test_events_name_the_row_and_the_session_it_is_about(three: NativeSessionManager) -> None:
    events = [(event.type, event.session_id, event.properties) for event in three.events(WS, types="task.*")]
    assert events[0] == ("task.created", "s", {"id": "a", "info": {"id": "a", "n": 1}})
    assert events[3] == ("task.updated", "s", {"id": "b", "set": {"n": 2}, "unset": ["none"]})
    assert events[-1] == ("task.deleted", "s", {"id": "a"})


@pytest.mark.parametrize("theirs", [None, [], 5, "x", {}, {"zz": None}])
def test_a_table_with_rows_stays_one_whatever_another_program_makes_of_it(
    three: NativeSessionManager, theirs: object
) -> None:
    three.checkpoint(WS)
    rewrite(three, lambda value: value.update(tasks=theirs))
    three.create_session(WS)
    three.checkpoint(WS)
    assert tasks(three) == EXPECTED
    assert three.check(WS).ok


def test_what_is_no_row_disturbs_no_row(m: NativeSessionManager) -> None:
    m.checkpoint(WS)
    rewrite(m, lambda value: value.update(tasks={"zz": None}, mailbox={"zz": None}))
    m.create_task(WS, "s", id="t")
    m.send(WS, "bob", "precious")
    with pytest.raises(InvalidInputError, match="zz"):
        m.create_task(WS, "s", id="zz")
    m.checkpoint(WS)
    mail = m.receive(WS, "bob")
    assert mail is not None
    assert mail.content == "precious"
    assert [task.id for task in m.list_tasks(WS)] == ["t"]
    stored = json.loads((Path(m.data_dir) / WS / "sessions.json").read_text())
    assert (stored["tasks"]["zz"], stored["mailbox"]["zz"]) == (None, None), "it stays"
