"""Messages with ids of their own: each is there once, whoever adds it when, and looking for many costs little.

Work is counted, in bytes read and in calls made, never timed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from nomad_sessions import AlreadyExistsError, ManualClock, Message, NativeSessionManager
from nomad_sessions.formats import import_bytes
from nomad_sessions.workspace import folding, recovery, store
from tests.support.modelfs import MUTATING, ModelDisk
from tests.unit.test_fork_chains import Work

WS = "w"
DATA = "/data"


@pytest.fixture(autouse=True)
def _segments() -> Iterator[None]:
    """A few dozen segments and several checkpoints, where a store as it is would make one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SEGMENT_BYTES", 16_000)
        patch.setattr(folding, "FLOOR", 150_000)
        yield


@pytest.fixture
def disk() -> ModelDisk:
    return ModelDisk()


def manager_of(disk: ModelDisk) -> NativeSessionManager:
    clock = ManualClock(1_750_000_000_000)
    return NativeSessionManager(DATA, durability="os", filesystem=disk.process(), clock=clock)


def batch(start: int, count: int, *, ids: bool = True) -> list[dict[str, Any]]:
    """Messages whose ids come in no order, as those of other programs do."""
    return [
        {"role": "user", "content": f"text {n}", **({"id": f"id{n * 7919 % 100_003:06d}"} if ids else {})}
        for n in range(start, start + count)
    ]


def add_in_batches(disk: ModelDisk, count: int, *, ids: bool) -> Work:
    manager = manager_of(disk)
    with Work(disk) as work:
        for start in range(0, count, 20):
            session = manager.create_session(WS)
            added = manager.add_messages(WS, session.id, batch(start, 20, ids=ids))
            assert len(added) == 20
    return work


def test_adding_with_ids_is_little_more_work_than_without() -> None:
    given, made = (add_in_batches(ModelDisk(), 3_000, ids=ids) for ids in (True, False))
    assert given.calls < 1.3 * made.calls
    assert given.read < 1.5 * made.read


def nomadarch(sessions: int, each: int) -> bytes:
    """A file of NomadArch's."""
    kept: dict[str, Any] = {"sessions": {}, "messages": {}}
    for number in range(sessions):
        messages = batch(number * each, each)
        session = {"id": f"s{number}", "workspaceId": WS, "title": f"t{number}", "createdAt": 1, "updatedAt": 2}
        kept["sessions"][f"s{number}"] = {**session, "messageIds": [message["id"] for message in messages]}
        for message in messages:
            kept["messages"][message["id"]] = {**message, "sessionId": f"s{number}", "createdAt": 1, "updatedAt": 2}
    return json.dumps(kept).encode()


def test_an_import_is_about_the_work_of_the_same_messages_without_ids_and_the_reading_of_the_file() -> None:
    made = add_in_batches(ModelDisk(), 3_000, ids=False)
    disk = ModelDisk()
    manager = manager_of(disk)
    data = nomadarch(150, 20)
    with Work(disk) as work:
        report = import_bytes(manager, WS, data, source="x")
    assert (report.messages.imported, report.sessions.imported, report.complete) == (3_000, 150, True)
    assert work.calls < 2 * made.calls
    assert work.read < 1.5 * made.read


def test_an_import_of_what_is_there_already_reads_each_session_once_and_writes_nothing(disk: ModelDisk) -> None:
    data = nomadarch(150, 20)
    with manager_of(disk) as manager:
        import_bytes(manager, WS, data, source="x")
        manager.checkpoint(WS)
        size = manager.status(WS).snapshot_bytes
    manager = manager_of(disk)
    with Work(disk) as work:
        report = import_bytes(manager, WS, data, source="x")
    assert (report.messages.unchanged, report.sessions.unchanged, report.complete) == (3_000, 150, True)
    assert not [call for call in disk.trace if call.op in MUTATING - {"open"}]
    assert work.read < 2 * size


def test_the_owners_of_many_are_those_of_each(disk: ModelDisk) -> None:
    manager = manager_of(disk)
    for start in range(0, 1_000, 20):
        manager.create_session(WS, id=f"s{start}")
        manager.add_messages(WS, f"s{start}", batch(start, 20))
    expected = {each["id"]: f"s{number // 20 * 20}" for number, each in enumerate(batch(0, 1_000))}
    asked = [*expected, *(each["id"] for each in batch(5_000, 300))]
    for trust in (True, False):
        view = recovery.load(disk.process(), f"{DATA}/{WS}", wait=False, trust_tables=trust).view
        assert view.owners(asked[:3]) == {each: expected[each] for each in asked[:3]}
        assert view.owners(asked) == expected
        assert {each: owner for each in asked if (owner := view.owner(each)) is not None} == expected
        assert view.owners(()) == {}


def test_an_id_that_another_process_added_since_the_decision_is_not_added_again(disk: ModelDisk) -> None:
    ours, theirs = manager_of(disk), manager_of(disk)
    ours.create_session(WS, id="s")
    with ours.transaction(WS) as tx:
        tx.add_messages(WS, "s", batch(0, 10))
        theirs.add_messages(WS, "s", [{**each, "content": "theirs"} for each in batch(5, 10)])
    page = manager_of(disk).get_session_messages(WS, "s")
    assert [each.id for each in page] == [each["id"] for each in [*batch(5, 10), *batch(0, 5)]]
    assert [each.content for each in page] == ["theirs"] * 10 + [f"text {n}" for n in range(5)]


@pytest.mark.parametrize("folded", [False, True])
def test_an_id_that_another_process_put_elsewhere_since_the_decision_refuses_all_of_it(
    disk: ModelDisk, folded: bool
) -> None:
    ours, theirs = manager_of(disk), manager_of(disk)
    ours.create_session(WS, id="s")
    before = ours.status(WS).seq

    def both() -> None:
        with ours.transaction(WS) as tx:
            tx.add_messages(WS, "s", batch(0, 10))
            theirs.create_session(WS, id="other")
            theirs.add_messages(WS, "other", batch(9, 1))
            if folded:
                theirs.checkpoint(WS)

    with pytest.raises(AlreadyExistsError) as caught:
        both()
    current = caught.value.current
    assert isinstance(current, Message)
    assert (caught.value.id, current.session_id) == (batch(9, 1)[0]["id"], "other")
    assert manager_of(disk).get_session_messages(WS, "s").total == 0
    assert ours.status(WS).seq == before + 2


def test_a_transaction_that_nobody_came_between_is_decided_once(disk: ModelDisk) -> None:
    works = []
    for others in (False, True):
        ours, theirs = manager_of(disk), manager_of(disk)
        session = ours.create_session(WS)
        with Work(disk) as work, ours.transaction(WS) as tx:
            tx.add_messages(WS, session.id, batch(0, 2_000, ids=False))
            theirs.list_sessions(WS)
            if others:
                theirs.create_session(WS)
        works.append(work.calls)
        assert manager_of(disk).get_session_messages(WS, session.id).total == 2_000
    assert works[0] + 2 * 2_000 < works[1]
