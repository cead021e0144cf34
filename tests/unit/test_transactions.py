"""Several calls as one: they read themselves, commit as one group, roll back whole, and own what they were given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import (
    ConflictError,
    InvalidInputError,
    ManualClock,
    MessageNotFoundError,
    NativeSessionManager,
    SessionNotFoundError,
    StoreClosedError,
    Transaction,
    TransactionError,
)
from tests.support.there import there

WS = "ws"


def fresh(m: NativeSessionManager) -> NativeSessionManager:
    return NativeSessionManager(m.data_dir)


def test_it_reads_its_own_writes_and_nobody_else_does_before_the_end(m: NativeSessionManager) -> None:
    m.create_session(WS, id="old", title="old")
    with m.transaction(WS) as tx:
        session = tx.create_session(WS, title="new")
        message = tx.add_message(WS, session.id, role="user", content="a")
        tx.append_to_message(WS, message.id, "b")
        tx.update_message(WS, message.id, agent="x")
        fork = tx.fork_session(WS, session.id)
        tx.update_message(WS, tx.get_session_messages(WS, fork.id)[0].id, content="fork")
        tx.delete_session(WS, "old")
        assert there(tx.get_message(WS, message.id)).content == "ab"
        assert [each.id for each in tx.list_sessions(WS)] == [fork.id, session.id]
        assert tx.children(WS, session.id).total == 1
        for other in (m, fresh(m)):
            assert [each.id for each in other.list_sessions(WS)] == ["old"]
    for other in (m, fresh(m)):
        assert {each.id for each in other.list_sessions(WS)} == {fork.id, session.id}
        assert [each.content for each in other.get_session_messages(WS, session.id)] == ["ab"]
        assert [each.content for each in other.get_session_messages(WS, fork.id)] == ["fork"]


def test_what_it_returned_is_what_is_found_afterwards(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        session = tx.create_session(WS, metadata={"k": [1]})
        messages = tx.add_messages(WS, session.id, [{"role": "user", "content": str(n)} for n in range(3)])
        session = tx.update_session(WS, session.id, title="t")
    assert fresh(m).get_session(WS, session.id) == session
    assert list(fresh(m).get_session_messages(WS, session.id)) == messages


def test_it_is_one_atomic_group_in_the_journal(m: NativeSessionManager) -> None:
    m.create_session(WS)
    before = m.status(WS)
    with m.transaction(WS) as tx:
        session = tx.create_session(WS).id
        tx.add_messages(WS, session, [{"role": "user"}] * 5)
        tx.revert(WS, session)
    after = m.status(WS)
    assert after.seq - before.seq == 7
    assert after.journal_bytes > before.journal_bytes


class Oops(BaseException):
    """Not even an Exception."""


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, Oops])
def test_an_exception_writes_nothing(m: NativeSessionManager, kind: type[BaseException]) -> None:
    m.create_session(WS, id="s")
    seq = m.status(WS).seq
    with pytest.raises(kind), m.transaction(WS) as tx:  # noqa: PT012
        tx.add_message(WS, "s", role="user", content="lost")
        tx.delete_session(WS, "s")
        raise kind
    assert m.status(WS).seq == seq
    assert not m.get_session_messages(WS, "s")
    with m.transaction(WS):
        pass
    assert m.status(WS).seq == seq


def test_nesting_raises_and_leaves_the_outer_one_as_it_was(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        tx.create_session(WS, id="outer")
        for name in (WS, "other"):
            with pytest.raises(TransactionError, match="nest"), m.transaction(name):
                pass
    assert m.get_session(WS, "outer") is not None
    with m.transaction(WS) as again:
        again.create_session(WS, id="after")


def test_an_ended_one_and_another_workspace_are_refused(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        tx.create_session(WS, id="s")
        with pytest.raises(TransactionError, match="other"):
            tx.create_session("other")
    calls: list[Callable[[], object]] = [lambda: tx.create_session(WS), lambda: tx.get_session(WS, "s"), tx.commit]
    for call in calls:
        with pytest.raises(TransactionError, match="ended"):
            call()
    assert m.list_sessions(WS).total == 1


def test_what_another_thread_or_manager_writes_meanwhile_stays(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    with m.transaction(WS) as tx:
        tx.add_message(WS, "s", role="user", content="mine")
        other = threading.Thread(target=m.add_message, args=(WS, "s", {"role": "user", "content": "thread"}))
        other.start()
        other.join()
        with fresh(m) as second:
            second.add_message(WS, "s", role="user", content="process")
            second.checkpoint(WS)
        tx.add_message(WS, "s", role="user", content="mine too")
    expected = ["thread", "process", "mine", "mine too"]
    assert [each.content for each in m.get_session_messages(WS, "s")] == expected
    assert [each.content for each in fresh(m).get_session_messages(WS, "s")] == expected


def test_a_call_that_no_longer_fits_at_the_end_takes_all_with_it(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    session = m.create_session(WS, id="kept")
    with pytest.raises(SessionNotFoundError), m.transaction(WS) as tx:  # noqa: PT012
        tx.create_session(WS, id="new")
        tx.add_message(WS, "s", role="user", content="x")
        fresh(m).delete_session(WS, "s")
    assert m.get_session(WS, "new") is None
    with pytest.raises(ConflictError), m.transaction(WS) as tx:  # noqa: PT012
        tx.create_session(WS, id="new")
        tx.update_session(WS, "kept", title="mine", if_rev=session.rev)
        fresh(m).update_session(WS, "kept", title="theirs")
    assert m.get_session(WS, "new") is None
    assert there(m.get_session(WS, "kept")).title == "theirs"


def test_an_error_inside_that_is_caught_costs_only_its_own_call(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        tx.create_session(WS, id="s")
        with pytest.raises(InvalidInputError):
            tx.add_message(WS, "s", role="boss")
        with pytest.raises(InvalidInputError):
            tx.add_message(WS, "s", role="user", metadata={"x": object()})
        with pytest.raises(MessageNotFoundError):
            tx.delete_message(WS, "nobody")
        tx.add_message(WS, "s", role="user", content="kept")
    assert [each.content for each in fresh(m).get_session_messages(WS, "s")] == ["kept"]


def test_given_ids_are_idempotent_inside_and_across(m: NativeSessionManager) -> None:
    for _ in range(2):
        with m.transaction(WS) as tx:
            for _ in range(2):
                tx.create_session(WS, id="s", title="first")
                tx.add_message(WS, "s", id="m1", role="user", content="first")
    assert [each.content for each in m.get_session_messages(WS, "s")] == ["first"]
    with m.transaction(WS) as tx:
        tx.delete_session(WS, "s")
        assert tx.get_session(WS, "s") is None
        assert tx.create_session(WS, id="s", title="second").title == "second"
        tx.add_message(WS, "s", id="m1", role="user", content="second")
    for _ in range(2):
        assert [each.content for each in fresh(m).get_session_messages(WS, "s")] == ["second"]
        m.checkpoint(WS)


def test_what_was_passed_in_or_returned_may_be_changed_before_the_commit(m: NativeSessionManager) -> None:
    given: dict[str, Any] = {"l": [1]}
    with m.transaction(WS) as tx:
        session = tx.create_session(WS, metadata=given)
        message = tx.add_message(WS, session.id, role="user", metadata=given, parts=[{"type": "text", "x": given}])
        changed = tx.update_session(WS, session.id, metadata=given, title="t")
        tx.update_message(WS, message.id, extra=given)
        given["l"].append(2)
        for model in (session, message, changed):
            model.metadata["l"].append(3)
        assert message.parts[0].model_extra is not None
        message.parts[0].model_extra["x"]["l"].append(4)
        assert there(tx.get_session(WS, session.id)).metadata == {"l": [1]}
    assert there(m.get_session(WS, session.id)).metadata == {"l": [1]}
    found = m.get_message(WS, message.id)
    assert found is not None
    assert (found.metadata, found.model_extra) == ({"l": [1]}, {"extra": {"l": [1]}})
    assert found.parts[0].model_extra == {"x": {"l": [1]}}


def test_each_call_has_its_own_time(m: NativeSessionManager, clock: ManualClock) -> None:
    with m.transaction(WS) as tx:
        session = tx.create_session(WS)
        clock.advance(50)
        message = tx.add_message(WS, session.id, role="user", content="later")
    assert message.created_at == session.created_at + 50
    assert m.get_message(WS, message.id) == message


def test_an_attachment_of_a_transaction_is_there_after_it(m: NativeSessionManager) -> None:
    data = bytes(100_000)
    with m.transaction("brand-new") as tx:
        session = tx.create_session("brand-new").id
        message = tx.add_message("brand-new", session, role="user", parts=[{"type": "file", "file": {"data": data}}])
    file = message.parts[0].file
    assert file is not None
    assert m.read_attachment("brand-new", str(file.sha256)) == data


def test_a_transaction_reads_on_while_others_checkpoint_and_prune(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
    for number in range(30):
        m.create_session(WS, id=f"s{number}")
        m.add_message(WS, f"s{number}", role="user", content="x" * 2000)
    with m.transaction(WS) as tx:
        tx.create_session(WS, id="mine")
        for _ in range(3):
            with fresh(m) as other:
                other.add_message(WS, "s0", role="user", content="more")
                other.checkpoint(WS)
        for number in range(1, 30):
            assert tx.get_session_messages(WS, f"s{number}")[0].content == "x" * 2000
    assert m.get_session(WS, "mine") is not None


def test_a_closed_manager_begins_none_and_ends_none(m: NativeSessionManager) -> None:
    other = fresh(m)
    with pytest.raises(StoreClosedError), other.transaction(WS) as tx:  # noqa: PT012
        tx.create_session(WS, id="lost")
        other.close()
    assert m.get_session(WS, "lost") is None
    with pytest.raises(StoreClosedError), other.transaction(WS):
        pass
    assert isinstance(tx, Transaction)


def test_its_ids_are_not_those_that_another_process_draws_meanwhile(m: NativeSessionManager) -> None:
    """Within one millisecond, or after the clock was set back, the next id is the last one plus one, for everybody."""
    clock = ManualClock(1_750_000_000_000)
    with NativeSessionManager(m.data_dir, clock=clock) as ours, NativeSessionManager(m.data_dir, clock=clock) as theirs:
        ours.create_session(WS, id="s")
        clock.advance(-3_600_000)
        with ours.transaction(WS) as tx:
            made = [tx.add_message(WS, "s", role="user", content="ours").id for _ in range(3)]
            session = tx.create_session(WS, title="ours").id
            task = tx.create_task(WS, "s", title="ours").id
            others = [theirs.add_message(WS, "s", role="user", content="theirs").id for _ in range(12)]
            sessions = [theirs.create_session(WS, title="theirs").id for _ in range(3)]
            tasks = [theirs.create_task(WS, "s", title="theirs").id for _ in range(3)]
        assert sorted(each.id for each in ours.list_tasks(WS)) == sorted([task, *tasks])
        assert sorted(each.id for each in ours.list_sessions(WS)) == sorted(["s", session, *sessions])
        found = [(each.id, each.content) for each in ours.get_session_messages(WS, "s")]
        assert found == [*((each, "theirs") for each in others), *((each, "ours") for each in made)]
