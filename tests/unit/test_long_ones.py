"""Long chains, long sessions, long messages: each step costs what it does, not what has been there before it.

Work is counted, or there is so much that it would take minutes if it grew with the square; it is never timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import ImportReport, ParsedSession
from nomad_sessions.formats.importing import store_session
from nomad_sessions.models import dump
from nomad_sessions.operations import listing, messages, sessions
from nomad_sessions.workspace.bodies import join_parts
from nomad_sessions.workspace.state import MessageState, Ref, SessionState, Span
from tests.support.there import there

WS = "ws"


def test_to_delete_what_has_a_long_chain_of_forks_looks_at_each_a_few_times(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = m.create_session(WS).id
    forks = [root]
    with m.transaction(WS) as tx:
        for _ in range(200):
            forks.append(tx.fork_session(WS, forks[-1]).id)
        child = tx.create_session(WS, parent_id=root).id
    looked = 0
    origin = sessions._origin

    def counted(state: SessionState) -> str:
        nonlocal looked
        looked += 1
        return origin(state)

    monkeypatch.setattr(sessions, "_origin", counted)
    assert m.delete_session(WS, root, children=True) == [root, child]
    assert looked < 5 * len(forks)
    assert [each.id for each in m.list_sessions(WS)] == forks[:0:-1]


class Watched(list[str]):
    """A list that counts how often it was searched, or gone through."""

    searched = 0

    def __contains__(self, value: object) -> bool:
        self.searched += 1
        return super().__contains__(value)

    def __iter__(self) -> Iterator[str]:
        self.searched += 1
        return super().__iter__()

    def index(self, *value: Any) -> int:
        self.searched += 1
        return super().index(*value)


def test_pages_of_a_session_in_which_nothing_moves_search_for_no_message(m: NativeSessionManager) -> None:
    session_id = m.create_session(WS).id
    m.add_messages(WS, session_id, [{"role": "user", "content": str(number)} for number in range(200)])
    session = there(m.workspace(WS).look().view.session(session_id))
    session.order = ids = Watched(session.order)
    for include_reverted in (False, True):
        found: list[int] = []
        cursor = None
        while not found or cursor is not None:
            page = m.get_session_messages(WS, session_id, limit=3, cursor=cursor, include_reverted=include_reverted)
            found += [int(message.content) for message in page]
            cursor = page.next_cursor
        assert found == list(range(200))
    assert ids.searched == 0


def test_a_page_goes_on_behind_its_last_message_wherever_that_is_now() -> None:
    places = ("s", "b", "c", 2), ("s", "b", "c", 0), ("s", "b", "c", -3), ("s", "b", "c", 9)
    for cursor in (listing.closed("m", place) for place in places):
        assert listing._after("s", ["a", "b", "c", "d"], cursor) == 2
        assert listing._after("s", ["b", "a", "c", "d"], cursor) == 1
        assert listing._after("s", ["d", "c", "a", "b"], cursor) == 4


class Records:
    """Where the records of a message lie, by their number."""

    def __init__(self, records: list[dict[str, Any]]) -> None:
        self.records = records

    def record(self, offset: int, length: int) -> dict[str, Any]:
        return self.records[offset]

    def span(self, offset: int, length: int) -> Span | None:
        return None


@pytest.mark.parametrize("parts", [1, 2])
def test_a_message_of_many_deltas_is_put_together_at_once(parts: int) -> None:
    texts = [f"{number} ".ljust(150, ".") for number in range(40_000)]
    begun = [{"type": "tool_call", "toolCall": {"function": {"arguments": None}}} for _ in range(parts)]
    deltas = [{"text": text, "part": number % parts} for number, text in enumerate(texts)]
    source = Records([{"message": {"parts": begun}}, *deltas])
    refs = [Ref(source, number, 0) for number in range(len(source.records))]
    body = MessageState(refs[0], patches=refs[1:]).body()
    for number, part in enumerate(body["parts"]):
        assert part["toolCall"]["function"]["arguments"] == "".join(texts[number::parts])


def test_the_content_of_a_message_of_many_parts_is_joined_at_once() -> None:
    texts = [f"{number} ".ljust(400, ".") for number in range(80_000)]
    body: dict[str, Any] = {"parts": [{"type": "text", "content": text} for text in texts]}
    join_parts(body)
    assert body["content"] == "".join(texts)


def test_text_for_no_part_in_particular_finds_the_last_text_part_from_the_end() -> None:
    shape = Watched([*["text"] * 1000, "thinking", "", "tool_call"])
    assert messages._place(shape, None, None) == (999, None)
    assert shape.searched == 0
    assert messages._place(["thinking", "", "tool_call"], None, None) == (None, None)
    assert messages._place([], None, None) == (None, None)


@pytest.mark.parametrize("name", ["order", "hidden", "detached"])
def test_of_many_messages_that_are_deleted_one_by_one_each_leaves_its_list_alone(name: str) -> None:
    session = SessionState("s", {}, 1, 1)
    ids = [f"m{number}" for number in range(40_000)]
    setattr(session, name, list(ids))
    held = getattr(session, name)
    for gone in (*ids[:10_000], ids[-1], ids[15_000], "nobody"):
        session.drop([gone])
    assert held == ids, "somebody may be going through it"
    assert session.ids() == [*ids[10_000:15_000], *ids[15_001:-1]]
    assert session.changed == dict.fromkeys([*ids[:10_000], ids[-1], ids[15_000], "nobody"])
    session.drop(ids[:20_000])
    session.drop([])
    assert session.ids() == ids[20_000:-1]


def test_a_source_that_hides_all_its_messages_now_is_one_record(m: NativeSessionManager) -> None:
    session = {"id": "s", "createdAt": 1, "updatedAt": 9, "title": "all hidden"}
    places = [f"m{number}" for number in range(100)]
    bodies = [{"id": each, "role": "user", "content": "", "createdAt": 2} for each in places]
    for updated, visible in ((9, 100), (10, 0)):
        parsed = ParsedSession({**session, "updatedAt": updated}, [*bodies], [*places], visible, reason="wrong \ud83d")
        before = m.status(WS).seq if visible < 100 else 0
        store_session(m, WS, parsed, ImportReport(source="test", format="test"))
    found = there(m.get_session(WS, "s"))
    assert (found.message_ids, found.updated_at) == ([], 10)
    assert dump(found)["revert"] == {"messageID": "", "reason": "wrong \ud83d"}
    assert [each.id for each in m.get_session_messages(WS, "s", include_reverted=True)] == places
    assert m.status(WS).seq == before + 2
    assert m.unrevert(WS, "s").message_ids == places
