"""The failures of the original's dual store, one by one, which sessions, messages, events and search must not have.

The numbers are those of the list that we keep of them; its tasks, its mail and its connections have files of their own.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import EventFilter, InvalidInputError, ManualClock, NativeSessionManager, SessionNotFoundError
from nomad_sessions.errors import EventsPrunedError, NomadSessionsError, SnapshotUnreadableError
from nomad_sessions.formats import import_file
from nomad_sessions.models import Event
from nomad_sessions.search import Searcher
from tests.support.damage import long_damaged
from tests.support.there import there

WS = "ws"
T0 = 1_760_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def m(tmp_path: Path, clock: ManualClock) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os", clock=clock) as manager:
        yield manager


def store_file(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / WS / "sessions.json"


# 3.1 Identity and duplication


def test_dualstore_1_an_update_is_visible_and_makes_no_second_row(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s", title="first")
    for title in ("second", "third"):
        m.update_session(WS, "s", title=title)
    assert there(m.get_session(WS, "s")).title == "third"
    assert m.list_sessions(WS).total == 1
    m.checkpoint(WS)
    assert list(json.loads(store_file(m).read_text())["sessions"]) == ["s"]


def test_dualstore_2_an_id_from_a_list_can_be_asked_for(m: NativeSessionManager) -> None:
    for _ in range(3):
        m.create_session(WS)
    listed = [each.id for each in m.list_sessions(WS)]
    assert listed == [each.id for each in m.list_sessions(WS)]
    assert [there(m.get_session(WS, each)).id for each in listed] == listed


def test_dualstore_3_a_given_id_is_kept_and_a_second_sync_duplicates_nothing(m: NativeSessionManager) -> None:
    for _ in range(2):
        m.create_session(WS, id="mine")
        m.add_message(WS, "mine", id="msg", role="user", content="x")
    assert there(m.get_message(WS, "msg")).content == "x"
    assert m.get_session_messages(WS, "mine").total == 1


def test_dualstore_4_a_message_is_one_row_with_all_its_parts(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    parts = [{"type": "text", "content": "a"}, {"type": "thinking", "content": "b"}, {"type": "weird", "own": [1]}]
    m.add_message(WS, "s", id="msg", role="assistant", parts=parts)
    (message,) = m.get_session_messages(WS, "s")
    assert [part.type for part in message.parts] == ["text", "thinking", "weird"]
    assert (message.parts[2].model_extra or {})["own"] == [1]


def test_dualstore_5_a_type_with_any_letter_is_found_again(m: NativeSessionManager) -> None:
    for kind in ("session.idle", "session_idle", "a:b-c"):
        m.record_event(WS, kind)
        assert [event.type for event in m.events(WS, types=kind)] == [kind]


def test_dualstore_6_the_messages_of_a_session_are_a_list(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    ids = [m.add_message(WS, "s", role="user", content=str(n)).id for n in range(5)]
    assert [each.id for each in m.get_session_messages(WS, "s")] == ids


def test_dualstore_7_two_messages_that_say_the_same_are_two(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    for _ in range(2):
        m.add_message(WS, "s", role="user", content="yes")
    assert m.get_session_messages(WS, "s").total == 2
    with Searcher(m) as searcher:
        assert searcher.find("yes").total == 2


def test_dualstore_9_reading_events_makes_none(m: NativeSessionManager) -> None:
    m.record_event(WS, "noted")
    seq = m.status(WS).seq
    with Searcher(m) as searcher, m.subscribe(WS, since=0) as subscription:
        for _ in range(3):
            assert searcher.events(WS).total == 1
            assert len(list(m.events(WS))) == 1
        assert there(subscription.next(5)).type == "noted"
    assert m.status(WS).seq == seq


def test_dualstore_10_a_title_is_never_taken_for_an_id(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s", title="Session: other")
    m.create_session(WS, id="other", title="s")
    assert there(m.get_session(WS, "s")).title == "Session: other"
    assert there(m.get_session(WS, "other")).title == "s"


# 3.2 Reads, paging, order


def test_dualstore_12_totals_are_true_and_every_row_can_be_reached(m: NativeSessionManager) -> None:
    with m.transaction(WS) as tx:
        for number in range(1_500):
            tx.create_session(WS, id=f"s{number}", title=f"kanban {number}")
    seen: list[str] = []
    cursor = None
    while True:
        page = m.list_sessions(WS, limit=400, cursor=cursor)
        assert page.total == 1_500
        seen += [each.id for each in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert sorted(seen) == sorted(f"s{number}" for number in range(1_500))
    with Searcher(m) as searcher:
        assert searcher.find("kanban", limit=10).total == 1_500
        (hit,) = searcher.find('"kanban 1399"').hits
        assert hit.session_id == "s1399"
        assert searcher.events(WS, limit=5).total == 1_500


def test_dualstore_14_one_odd_row_fails_no_list(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.checkpoint(WS)
    value = json.loads(store_file(m).read_text())
    value["sessions"]["odd"] = {"id": "odd", "title": ["not", "text"], "createdAt": "yesterday", "messageIds": 5}
    value["messages"]["m"] = "plain text"
    store_file(m).write_text(json.dumps(value))
    assert {each.id for each in m.list_sessions(WS)} == {"s", "odd"}


def test_dualstore_15_and_16_newest_first_whatever_the_ids_say(m: NativeSessionManager, clock: ManualClock) -> None:
    ids = ["ses_60b3c94d0ffe", "ses_60a8be000000", "ses_60b69a6d3ffe", "ses_ffffffffffff", "ses_000000000000"]
    for each in ids:
        m.create_session(WS, id=each)
        clock.advance(1)
    assert [each.id for each in m.list_sessions(WS)] == ids[::-1]


def test_dualstore_17_a_message_keeps_its_own_time(m: NativeSessionManager, clock: ManualClock) -> None:
    m.create_session(WS, id="s")
    m.add_message(WS, "s", id="msg", role="user", content="x", createdAt=T0 - 600_000)
    clock.advance(90_000)
    with Searcher(m) as searcher:
        (hit,) = searcher.find("x").hits
    assert there(m.get_message(WS, "msg")).created_at == hit.created_at == T0 - 600_000


def test_dualstore_18_a_time_has_one_type(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    with pytest.raises(InvalidInputError):
        m.add_message(WS, "s", role="user", content="x", createdAt="2025-10-18T00:41:40.000Z")
    with pytest.raises(InvalidInputError):
        m.record_events(WS, [{"type": "x", "timestamp": "2025-10-18T00:41:40.000Z"}])


def test_dualstore_19_a_bad_time_is_refused_and_not_taken_for_now(m: NativeSessionManager) -> None:
    for wrong in (float("nan"), -1, True):
        with pytest.raises(InvalidInputError):
            m.record_events(WS, [{"type": "x", "timestamp": wrong}])
    assert m.status(WS).seq == 0


def test_dualstore_20_times_are_compared_as_numbers(m: NativeSessionManager) -> None:
    m.record_events(WS, [{"type": "x", "timestamp": each} for each in (9, 10, 100, 1_000)])
    assert [event.timestamp for event in m.events(WS, after=10, before=1_000)] == [10, 100]
    with Searcher(m) as searcher:
        assert searcher.events(WS, EventFilter(after=10, before=1_000)).total == 2


def test_dualstore_20_ties_stay_in_the_order_of_seq(m: NativeSessionManager) -> None:
    ids = [m.create_session(WS).id for _ in range(20)]
    assert [each.id for each in m.list_sessions(WS)] == ids[::-1]


def test_dualstore_21_a_limit_of_nothing_is_refused_and_not_all(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(InvalidInputError, match="limit"):
            m.list_sessions(WS, limit=wrong)  # type: ignore[arg-type]
    with Searcher(m) as searcher, pytest.raises(InvalidInputError, match="limit"):
        searcher.events(WS, limit=0)


def test_dualstore_24_the_query_decides_what_is_found(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.add_message(WS, "s", id="old", role="user", content="the needle")
    for number in range(50):
        m.add_message(WS, "s", role="user", content=f"hay {number}")
    with Searcher(m) as searcher:
        assert [hit.message_id for hit in searcher.find("needle", limit=5).hits] == ["old"]


# 3.3 Errors hidden


def test_dualstore_26_and_27_a_store_that_cannot_be_read_is_an_error_and_no_empty_list(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.close(checkpoint=True)
    folder = store_file(m).parent
    long_damaged(folder / "sessions.json", folder / "sessions.json.prev")
    for path in (folder / "journal").iterdir():
        path.unlink()
    with NativeSessionManager(m.data_dir) as other:
        for call in (other.list_sessions, other.stats, lambda ws: list(other.events(ws))):
            with pytest.raises(SnapshotUnreadableError):
                call(WS)
        with Searcher(other) as searcher, pytest.raises(NomadSessionsError):
            searcher.events(WS)


def test_dualstore_29_a_search_gives_what_it_found(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s", title="kanban limits")
    with Searcher(m) as searcher:
        found = searcher.find("kanban")
    assert (found.total, found.hits[0].session_id) == (1, "s")


def test_dualstore_30_close_closes_and_delete_deletes(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.close_session(WS, "s")
    with NativeSessionManager(m.data_dir) as other:
        assert there(other.get_session(WS, "s")).closed_at is not None
        other.delete_session(WS, "s")
    assert m.get_session(WS, "s") is None
    for call in (m.close_session, m.delete_session):
        with pytest.raises(SessionNotFoundError):
            call(WS, "s")


def test_dualstore_33_what_an_index_could_not_read_is_no_gap_later(m: NativeSessionManager, tmp_path: Path) -> None:
    m.create_session(WS, id="s")
    with Searcher(m) as searcher:
        assert searcher.find("word").total == 0
        journal = next((tmp_path / "data" / WS / "journal").iterdir())
        m.add_message(WS, "s", role="user", content="word one")
        whole = journal.read_bytes()
        journal.write_bytes(whole[:-30] + b"\0" * 30)
        m.clear_workspace(WS)
        assert searcher.find("word").total == 0, "a torn tail is no message"
        journal.write_bytes(whole)
        m.clear_workspace(WS)
        m.add_message(WS, "s", role="user", content="word two")
        assert searcher.find("word").total == 2


def test_dualstore_34_what_failed_once_is_tried_again(m: NativeSessionManager, tmp_path: Path) -> None:
    m.create_session(WS, id="s")
    m.checkpoint(WS)
    folder = store_file(m).parent
    aside = tmp_path / "aside"
    shutil.copytree(folder, aside)
    shutil.rmtree(folder)
    folder.mkdir()
    store_file(m).write_bytes(b"not a store")
    other = NativeSessionManager(m.data_dir)
    with pytest.raises(SnapshotUnreadableError):
        other.get_session(WS, "s")
    shutil.copytree(aside, folder, dirs_exist_ok=True)
    assert other.get_session(WS, "s") is not None


# 3.5 Events, messaging, protocol


def test_dualstore_47_a_flood_of_events_drops_none(m: NativeSessionManager) -> None:
    with m.subscribe(WS, types="flood") as slow:
        m.record_events(WS, [{"type": "flood", "properties": {"n": n}} for n in range(10_000)])
        assert [there(slow.next(10)).properties["n"] for _ in range(10_000)] == list(range(10_000))


def test_dualstore_49_each_subscriber_gets_what_its_filter_says_and_once(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    with m.subscribe(WS, types="message.*") as messages, m.subscribe(WS, session_id="other") as other:
        m.add_message(WS, "s", role="user", content="x")
        m.update_session(WS, "s", title="y")
        assert there(messages.next(5)).type == "message.updated"
        assert messages.next(0.3) is None
        assert other.next(0) is None


def test_dualstore_49_who_comes_back_gets_exactly_what_it_missed(m: NativeSessionManager) -> None:
    with m.subscribe(WS) as first:
        m.record_event(WS, "seen")
        seen = there(first.next(5)).seq
    missed = [m.record_event(WS, "missed") for _ in range(10)]
    with m.subscribe(WS, since=seen) as again:
        assert [there(again.next(5)).seq for _ in range(10)] == missed


def test_dualstore_50_what_a_text_says_completes_nothing(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    for _ in range(2):
        m.add_message(WS, "s", role="assistant", content="task is not completed yet")
    assert there(m.get_session(WS, "s")).closed_at is None
    assert [event.type for event in m.events(WS)] == ["session.created", "message.updated", "message.updated"]


def test_dualstore_53_a_listener_gets_the_types_that_it_asked_for_from_the_first_event_on(
    m: NativeSessionManager,
) -> None:
    got: list[Event] = []
    both = threading.Event()

    def listen(event: Event) -> None:
        got.append(event)
        if len(got) == 2:
            both.set()

    subscription = m.subscribe(WS, types=["session.created", "session.deleted"], callback=listen)
    m.create_session(WS, id="s", title="t")
    m.update_session(WS, "s", title="u")
    m.delete_session(WS, "s")
    assert both.wait(10)
    subscription.close()
    assert [(event.type, event.session_id) for event in got] == [("session.created", "s"), ("session.deleted", "s")]


def test_dualstore_54_from_now_on_is_from_the_next_event_and_an_unknown_place_is_said(m: NativeSessionManager) -> None:
    m.record_event(WS, "before")
    with m.subscribe(WS) as subscription:
        after = m.record_event(WS, "after")
        assert there(subscription.next(5)).seq == after
    with m.subscribe(WS, since=10_000) as nowhere, pytest.raises(EventsPrunedError):
        nowhere.next(5)


def test_dualstore_54_an_acknowledgement_out_of_order_moves_nothing_back(m: NativeSessionManager) -> None:
    with m.subscribe(WS, cursor="c") as subscription:
        seqs = [m.record_event(WS, "x") for _ in range(6)]
        events = [there(subscription.next(5)) for _ in seqs]
        shuffled = random.Random(1).sample(events[:5], 5)
        for event in shuffled:
            subscription.ack(event)
    with m.subscribe(WS, cursor="c") as again:
        assert there(again.next(5)).seq == seqs[5]


def test_dualstore_55_the_tenth_event_comes_after_the_ninth(m: NativeSessionManager) -> None:
    seqs = [m.record_event(WS, "x") for _ in range(12)]
    assert [event.seq for event in m.events(WS, since=8)] == seqs[8:]
    with NativeSessionManager(m.data_dir) as other:
        assert other.record_event(WS, "x") == 13, "a new process counts on"


def test_dualstore_import_of_one_file_twice_is_as_once(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    session = {"id": "s", "workspaceId": "w", "title": "t", "createdAt": 1, "updatedAt": 1, "messageIds": ["m"]}
    message = {"id": "m", "sessionId": "s", "role": "user", "content": "x", "createdAt": 1, "updatedAt": 1}
    path.write_text(json.dumps({"sessions": {"s": session}, "messages": {"m": message}}))
    import_file(m, WS, path)
    seq = m.status(WS).seq
    import_file(m, WS, path)
    assert (m.status(WS).seq, m.get_session_messages(WS, "s").total) == (seq, 1)
