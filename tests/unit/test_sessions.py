"""Sessions as a caller sees them: creating, changing, marking, deleting, and the lists of them (see test_pages)."""

from __future__ import annotations

from typing import Any

import pytest

from nomad_sessions import (
    ConflictError,
    InvalidInputError,
    ManualClock,
    NativeSessionManager,
    ProtectedFieldError,
    SessionNotFoundError,
)
from nomad_sessions.models import dump
from tests.support.stored import stored_session
from tests.support.there import there

from .conftest import START

WS = "ws"


def test_a_new_session_has_the_shape_that_nomadarch_gives_it(m: NativeSessionManager) -> None:
    session = m.create_session(WS)
    assert dump(session) == {
        "id": session.id,
        "workspaceId": WS,
        "title": "New Session",
        "parentId": None,
        "createdAt": START,
        "updatedAt": START,
        "messageIds": [],
        "rev": 1,
    }
    assert stored_session(m, session.id) == session


def test_either_spelling_and_keywords_are_taken_and_unknown_fields_are_kept(m: NativeSessionManager) -> None:
    parent = m.create_session(WS, {"title": "p"})
    session = m.create_session(WS, {"parentId": parent.id, "myField": {"a": None}}, agent="build", forked_from=None)
    assert (session.parent_id, session.agent) == (parent.id, "build")
    assert session.model_extra == {"myField": {"a": None}}
    with pytest.raises(InvalidInputError, match="given twice"):
        m.create_session(WS, {"parentId": "x"}, parent_id="y")


def test_none_for_what_the_store_fills_in_is_as_if_it_were_left_out(m: NativeSessionManager) -> None:
    session = m.create_session(WS, id=None, title=None, created_at=None)
    assert (session.title, session.created_at) == ("New Session", START)


def test_a_given_id_makes_creation_idempotent(m: NativeSessionManager, clock: ManualClock) -> None:
    first = m.create_session(WS, id="ses_1", title="one", created_at=5)
    seq = m.status(WS).seq
    clock.advance(10)
    assert m.create_session(WS, id="ses_1", title="two") == first
    assert m.status(WS).seq == seq
    assert (first.created_at, first.updated_at) == (5, 5)


def test_an_id_can_be_used_again_after_the_deletion_of_its_session(m: NativeSessionManager) -> None:
    m.create_session(WS, id="ses_1", title="one")
    m.add_message(WS, "ses_1", role="user", content="old", id="msg_1")
    m.checkpoint(WS)
    m.delete_session(WS, "ses_1")
    again = m.create_session(WS, id="ses_1", title="two")
    assert (again.title, again.message_ids) == ("two", [])
    assert m.get_message(WS, "msg_1") is None
    m.add_message(WS, "ses_1", role="user", content="new", id="msg_1")
    for _ in range(2):
        found = NativeSessionManager(m.data_dir).get_session_messages(WS, "ses_1")
        assert [each.content for each in found] == ["new"]
        m.checkpoint(WS)
    assert m.check(WS).ok


def test_a_returned_model_is_a_snapshot(m: NativeSessionManager) -> None:
    given: dict[str, Any] = {"title": "t", "metadata": {"list": [1]}, "extra": {"list": [1]}}
    session = m.create_session(WS, given)
    given["metadata"]["list"].append(2)
    session.metadata["list"].append(3)
    session.message_ids.append("x")
    session.title = "changed"
    assert session.model_extra is not None
    session.model_extra["extra"]["list"].append(4)
    found = stored_session(m, session.id)
    assert (found.title, found.metadata, found.message_ids) == ("t", {"list": [1]}, [])
    assert found.model_extra == {"extra": {"list": [1]}}
    found.metadata["list"].clear()
    for each in m.list_sessions(WS):
        each.metadata["list"].clear()
    assert stored_session(m, session.id).metadata == {"list": [1]}


def test_an_update_replaces_values_whole_and_none_removes_a_field(m: NativeSessionManager, clock: ManualClock) -> None:
    session = m.create_session(WS, title="t", metadata={"a": 1, "b": 2}, agent="x", model={"providerId": "p"})
    clock.advance(7)
    changed = m.update_session(WS, session.id, {"title": "u", "metadata": {"a": 1}}, agent=None)
    assert (changed.title, changed.metadata, changed.agent) == ("u", {"a": 1}, None)
    assert changed.updated_at == session.updated_at + 7
    assert changed.rev > session.rev
    assert "agent" not in dump(stored_session(m, session.id))
    assert m.update_session(WS, session.id, metadata=None, title=None).metadata == {}
    assert there(m.get_session(WS, session.id)).title == "New Session"


def test_an_update_that_changes_nothing_writes_nothing(m: NativeSessionManager, clock: ManualClock) -> None:
    session = m.create_session(WS, title="t", metadata={"a": [1]})
    clock.advance(7)
    assert m.update_session(WS, session.id, title="t", metadata={"a": [1]}, agent=None) == session
    assert m.update_session(WS, session.id) == session


@pytest.mark.parametrize(("before", "after"), [(1, True), (True, 1), (1, 1.0), (0, False)])
def test_values_that_python_takes_for_equal_are_still_changes(m: NativeSessionManager, before: Any, after: Any) -> None:
    session = m.create_session(WS, metadata={"v": before})
    m.update_session(WS, session.id, metadata={"v": after})
    assert type(stored_session(m, session.id).metadata["v"]) is type(after)


@pytest.mark.parametrize(
    "field", ["id", "workspaceId", "workspace_id", "createdAt", "messageIds", "message_ids", "rev"]
)
def test_protected_fields_cannot_be_changed(m: NativeSessionManager, field: str) -> None:
    session = m.create_session(WS)
    with pytest.raises(ProtectedFieldError) as caught:
        m.update_session(WS, session.id, {field: "x", "title": "lost"})
    assert caught.value.field.replace("_", "").lower() == field.replace("_", "").lower()
    assert stored_session(m, session.id) == session


def test_a_stale_rev_is_a_conflict_that_holds_the_current_session(m: NativeSessionManager) -> None:
    session = m.create_session(WS)
    newer = m.update_session(WS, session.id, title="newer", if_rev=session.rev)
    with pytest.raises(ConflictError) as caught:
        m.update_session(WS, session.id, title="late", if_rev=session.rev)
    assert caught.value.current == newer
    assert stored_session(m, session.id) == newer


def test_marks_are_set_once_and_taken_away(m: NativeSessionManager, clock: ManualClock) -> None:
    session = m.create_session(WS)
    clock.advance(1)
    archived = m.archive_session(WS, session.id)
    assert archived.archived_at == START + 1
    clock.advance(1)
    assert m.archive_session(WS, session.id) == archived
    assert m.close_session(WS, session.id).closed_at == START + 2
    assert m.get_active_session_count(WS) == m.get_active_session_count() == 0
    assert m.reopen_session(WS, session.id).closed_at is None
    assert m.unarchive_session(WS, session.id).archived_at is None
    assert stored_session(m, session.id).archived_at is None
    assert m.get_active_session_count(WS) == 1


def test_what_happens_to_messages_touches_the_session(m: NativeSessionManager, clock: ManualClock) -> None:
    session = m.create_session(WS)

    def updated() -> int:
        found = m.get_session(WS, session.id)
        assert found is not None
        return found.updated_at

    clock.advance(5)
    message = m.add_message(WS, session.id, role="user", content="hi")
    assert updated() == message.created_at == START + 5
    clock.advance(5)
    assert m.update_message(WS, message.id, content="ho").updated_at == updated() == START + 10
    clock.advance(5)
    m.add_message(WS, session.id, role="user", content="imported", created_at=7)
    assert updated() == START + 10
    clock.advance(5)
    m.delete_message(WS, message.id)
    assert updated() == START + 20
    clock.advance(-3600_000)
    m.add_message(WS, session.id, role="user", content="the clock jumped back")
    assert updated() == START + 20


def test_deleting_takes_the_messages_along_and_leaves_children_and_forks(m: NativeSessionManager) -> None:
    family = _family(m)
    assert m.delete_session(WS, family["root"]) == [family["root"]]
    assert m.get_session(WS, family["root"]) is None
    assert list(m.get_session_messages(WS, family["root"])) == []
    assert m.get_message(WS, family["message"]) is None
    left = {each.id for each in m.list_sessions(WS)}
    assert left == {family[name] for name in family if name not in ("root", "message")}
    assert [each.content for each in m.get_session_messages(WS, family["fork"])] == ["hi"]


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        ({"children": True}, {"root", "child", "grandchild", "fork of child"}),
        ({"forks": True}, {"root", "fork", "fork of fork"}),
        (
            {"children": True, "forks": True},
            {"root", "child", "grandchild", "fork", "fork of fork", "fork of child", "child of fork"},
        ),
    ],
)
def test_children_and_forks_go_when_asked_for(
    m: NativeSessionManager, options: dict[str, bool], gone: set[str]
) -> None:
    family = _family(m)
    deleted = m.delete_session(WS, family["root"], **options)
    assert {name for name in family if family[name] in deleted} == gone
    assert deleted[0] == family["root"]
    assert {each.id for each in m.list_sessions(WS)} == {
        family[name] for name in family if name not in gone and name != "message"
    }


def _family(m: NativeSessionManager) -> dict[str, str]:
    root = m.create_session(WS, title="root").id
    message = m.add_message(WS, root, role="user", content="hi").id
    child = m.create_session(WS, parent_id=root).id
    fork = m.fork_session(WS, root).id
    return {
        "root": root,
        "message": message,
        "child": child,
        "grandchild": m.create_session(WS, parent_id=child).id,
        "fork": fork,
        "fork of fork": m.fork_session(WS, fork).id,
        "fork of child": m.fork_session(WS, child).id,
        "child of fork": m.create_session(WS, parent_id=fork).id,
        "stranger": m.create_session(WS).id,
    }


def test_children_are_listed_by_their_parent(m: NativeSessionManager) -> None:
    family = _family(m)
    assert {each.id for each in m.children(WS, family["child"])} == {family["grandchild"]}
    assert list(m.children(WS, "nobody")) == []


def test_reading_what_is_not_there_gives_nothing_and_changing_it_raises(m: NativeSessionManager) -> None:
    assert m.get_session(WS, "nobody") is None
    assert m.get_session(WS, "") is None
    assert not m.list_sessions(WS)
    for call in (m.delete_session, m.fork_session, m.revert, m.unrevert, m.archive_session, m.close_session):
        for identifier in ("nobody", ""):
            with pytest.raises(SessionNotFoundError) as caught:
                call(WS, identifier)
            assert isinstance(caught.value, KeyError)
            assert caught.value.session_id == identifier
    assert m.list_workspaces() == []


def test_compacting_adds_a_summary_and_removes_nothing(m: NativeSessionManager) -> None:
    session = m.create_session(WS)
    ids = [m.add_message(WS, session.id, role="user", content=str(n)).id for n in range(4)]
    summary = m.compact_session(WS, session.id, "all of it", before=ids[2], metadata={"mine": 1}, agent="a")
    assert (summary.role, summary.content, summary.agent) == ("assistant", "all of it", "a")
    assert summary.metadata == {"mine": 1, "compaction": {"tailStart": ids[2], "messages": 2}}
    assert [each.id for each in m.get_session_messages(WS, session.id)] == [*ids, summary.id]
    whole = m.compact_session(WS, session.id, "again")
    assert whole.metadata["compaction"] == {"tailStart": None, "messages": 5}
    with pytest.raises(KeyError):
        m.compact_session(WS, session.id, "x", before="nobody")
    for bad in ("", None):
        with pytest.raises(InvalidInputError):
            m.compact_session(WS, session.id, bad)  # type: ignore[arg-type]


def test_a_time_that_an_update_gives_stays_also_where_it_is_the_same(
    m: NativeSessionManager, clock: ManualClock
) -> None:
    session = m.create_session("ws")
    clock.advance(5000)
    again = m.update_session("ws", session.id, title="new", updated_at=session.updated_at)
    assert (again.title, again.updated_at) == ("new", session.updated_at)
    assert m.update_session("ws", session.id, parent_id="x", agent=None).updated_at == session.updated_at + 5000
