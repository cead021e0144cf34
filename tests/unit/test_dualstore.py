"""The dual store's entries: what is put under a key is one record of the store, and comes back under it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import AlreadyExistsError, InvalidInputError, NativeSessionManager, SessionNotFoundError
from nomad_sessions.dualstore import DualStoreManager, Entry
from tests.support.there import there

WS = "ws"
T0 = 1_760_748_071_727
INFO = {
    "id": "ses_60b3",
    "title": "Fix kanban",
    "agent": "code-reviewer",
    "description": "the WIP limits",
    "projectID": "p1",
    "time": {"created": T0, "updated": T0 + 5},
}


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


@pytest.fixture
def store(m: NativeSessionManager) -> Iterator[DualStoreManager]:
    with DualStoreManager(m, WS) as store:
        yield store


def put_session(store: DualStoreManager, **changes: Any) -> None:
    store.insert({"id": "session:ses_60b3", "text": json.dumps({**INFO, **changes}), "timestamp": T0})


def test_a_session_is_one_record_under_its_key(store: DualStoreManager, m: NativeSessionManager) -> None:
    put_session(store)
    put_session(store, title="Fix it now", time={"created": T0, "updated": T0 + 9})
    session = there(m.get_session(WS, "ses_60b3"))
    assert (session.title, session.agent, session.description) == ("Fix it now", "code-reviewer", "the WIP limits")
    assert (session.created_at, session.updated_at) == (T0, T0 + 9)
    assert m.list_sessions(WS).total == 1
    entry = there(store.get("session:ses_60b3"))
    assert json.loads(entry.text) == {**INFO, "title": "Fix it now", "time": {"created": T0, "updated": T0 + 9}}
    assert entry.timestamp == T0 + 9
    assert entry.metadata["sessionId"] == "ses_60b3"


def test_the_messages_of_a_session_are_a_list_under_its_key(store: DualStoreManager, m: NativeSessionManager) -> None:
    put_session(store)
    tool = {"id": "prt_2", "type": "tool", "tool": "bash", "callID": "c", "state": {"status": "pending", "input": {}}}
    part = {"id": "prt_1", "type": "text", "text": "hello"}
    ids = {"sessionID": "ses_60b3", "messageID": "msg_1"}
    info = {"id": "msg_1", "sessionID": "ses_60b3", "role": "user", "time": {"created": T0 + 1}}
    one = {"info": info, "parts": [{**part, **ids}, {**tool, **ids}]}
    flat = {"id": "msg-2", "sessionId": "ses_60b3", "content": "flat", "role": "assistant", "timestamp": T0 + 2}
    for _ in range(2):
        store.insert({"id": "session:ses_60b3:messages", "text": json.dumps([one, flat])})
    found = json.loads(there(store.get("session:ses_60b3:messages")).text)
    assert found[0] == one
    assert [each["info"]["id"] for each in found] == ["msg_1", "msg-2"]
    assert [each.role for each in m.get_session_messages(WS, "ses_60b3")] == ["user", "assistant"]
    one["parts"][0]["text"] = "changed"  # type: ignore[index]
    store.insert({"id": "session:ses_60b3:messages", "text": json.dumps([one])})
    assert there(store.get("msg_1")).text == "changed"
    assert m.get_session_messages(WS, "ses_60b3").total == 2


@pytest.mark.parametrize("spelling", ["sessionId", "sessionID", "session_id"])
def test_a_message_row_is_read_in_each_spelling_and_comes_out_canonical(
    store: DualStoreManager, m: NativeSessionManager, spelling: str
) -> None:
    put_session(store)
    metadata = {spelling: "ses_60b3", "messageID": "msg_9", "type": "text", "timestamp": T0 + 3}
    store.insert({"id": "msg_9", "text": "what it says", "timestamp": T0 + 3, "metadata": metadata})
    entry = there(store.get("msg_9"))
    assert (entry.text, entry.timestamp, entry.metadata["sessionId"]) == ("what it says", T0 + 3, "ses_60b3")
    assert [each.id for each in m.get_session_messages(WS, "ses_60b3")] == ["msg_9"]


def test_an_event_is_recorded_once_under_its_key(store: DualStoreManager, m: NativeSessionManager) -> None:
    raw = json.dumps({"type": "session.idle", "properties": {"sessionID": "ses_60b3"}})
    metadata = {"eventType": "session.idle", "sessionId": "ses_60b3", "rawEvent": raw}
    entry = {"id": "event:session.idle_1_iv7q4d", "text": "…", "timestamp": T0, "metadata": metadata}
    for _ in range(2):
        store.insert(entry)
    (event,) = m.events(WS, recorded=True)
    assert (event.id, event.type, event.session_id) == ("session.idle_1_iv7q4d", "session.idle", "ses_60b3")
    found = there(store.get("event:session.idle_1_iv7q4d"))
    assert json.loads(found.text) == json.loads(raw)
    other = {**metadata, "rawEvent": json.dumps({"type": "session.idle", "properties": {}})}
    with pytest.raises(InvalidInputError, match="another event"):
        store.insert({**entry, "metadata": other})
    with pytest.raises(InvalidInputError, match="no type"):
        store.insert({"id": "event:e", "text": "nothing"})


def test_an_entry_of_no_session_is_kept_in_one_of_the_collection(
    store: DualStoreManager, m: NativeSessionManager
) -> None:
    moment = datetime(2025, 10, 18, tzinfo=UTC)
    key = store.insert({"text": "a thought", "createdAt": moment, "metadata": {"role": "narrator", "mood": "calm"}})
    entry = there(store.get(key))
    assert (entry.text, entry.timestamp) == ("a thought", int(moment.timestamp() * 1000))
    assert entry.metadata["mood"] == "calm"
    assert entry.metadata["sessionId"] == "duck_session_messages"
    store.insert({"id": key, "text": "another thought"})
    assert there(store.get(key)).text == "another thought"
    assert [each.id for each in m.list_sessions(WS)] == ["duck_session_messages"]


def test_what_is_not_there_is_none_and_bad_input_is_named(store: DualStoreManager) -> None:
    for key in ("x", "session:x", "session:x:messages", "event:x"):
        assert store.get(key) is None
    put_session(store)
    store.insert({"id": "msg_1", "text": "x", "metadata": {"sessionId": "ses_60b3"}})
    for entry, named in (
        ("text", "entry"),
        ({"text": None}, "text"),
        ({"text": "x", "id": ""}, "id"),
        ({"text": "x", "metadata": 3}, "metadata"),
        ({"text": "x", "timestamp": "yesterday"}, "timestamp"),
        ({"id": "session:s", "text": "Session: abc123"}, "text"),
        ({"id": "session:s", "text": '{"id": "other"}'}, "text"),
        ({"id": "session:ses_60b3:messages", "text": "{}"}, "text"),
        ({"id": "session:ses_60b3:messages", "text": '[{"content": "x"}]'}, "id"),
        ({"id": "session:ses_60b3:messages", "text": "[3]"}, "text"),
    ):
        with pytest.raises(InvalidInputError, match=f"^{named}: "):
            store.insert(entry)  # type: ignore[arg-type]
    with pytest.raises(SessionNotFoundError):
        store.insert({"text": "x", "metadata": {"sessionId": "none"}})
    with pytest.raises(AlreadyExistsError):
        store.insert({"id": "msg_1", "text": "x", "metadata": {"sessionId": "duck_session_messages"}})
    with pytest.raises(InvalidInputError, match="must be a key"):
        store.get("")


def test_the_most_recent_are_all_looked_at_and_exactly_as_many(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s", title="T")
    rows = [{"role": "user", "content": f"m{n}", "createdAt": T0 + (n * 7) % 40} for n in range(40)]
    m.add_messages(WS, "s", [*rows, {"role": "user", "content": "  ", "createdAt": T0 + 99}])
    with DualStoreManager(m, WS) as store:
        times = [each.timestamp - T0 for each in store.get_most_recent(5)]
        assert times == [39, 38, 37, 36, 35]
        assert len(store.get_most_recent(100)) == 40
        assert len(store.get_most_recent(100, {})) == 41
        found = store.get_most_recent(3, {"text": {"$regex": "^m1"}}, {"text": 1})
        assert [each.text for each in found] == ["m1", "m10", "m11"]
        for wrong in (0, -1, True, "3"):
            with pytest.raises(InvalidInputError, match="limit"):
                store.get_most_recent(wrong)  # type: ignore[arg-type]
    with DualStoreManager(m, WS, collection="sessions") as store:
        assert [each.id for each in store.get_most_recent(5)] == ["session:s"]
    m.record_event(WS, "noted", {"a": 1})
    with DualStoreManager(m, WS, collection="opencode_events") as store:
        assert [each.metadata["eventType"] for each in store.get_most_recent(5)] == ["noted"]
    with pytest.raises(InvalidInputError, match="collection"):
        DualStoreManager(m, WS, collection="cats")  # type: ignore[arg-type]


def test_relevance_without_vectors_is_by_words_and_says_so(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    for n, text in enumerate(["reset my password", "password password", "the cat sleeps", "yes", "yes"]):
        m.add_message(WS, "s", id=f"m{n}", role="user", content=text)
    with DualStoreManager(m, WS) as store:
        found = store.get_most_relevant(["password", "reset password"], 10)
        assert found.by == "lexical"
        assert {each.entry.id for each in found.hits} == {"m0", "m1"}
        assert [each.score for each in found.hits] == sorted((each.score for each in found.hits), reverse=True)
        assert len(store.get_most_relevant(["yes"], 10).hits) == 2
        assert [each.entry.id for each in store.get_most_relevant(["password"], 5, {"id": "m0"}).hits] == ["m0"]
        assert len(store.get_most_relevant(["password"], 1).hits) == 1
        assert store.get_most_relevant([], 5).hits == []
        with pytest.raises(InvalidInputError, match="queries"):
            store.get_most_relevant("password", 5)
    assert isinstance(found.hits[0].entry, Entry)
