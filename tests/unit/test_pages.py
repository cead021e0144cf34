"""Lists: everything unless less is asked for, true totals, filters, and cursors that stay while rows change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nomad_sessions import InvalidCursorError, InvalidInputError, ManualClock, NativeSessionManager, Page

WS = "ws"


def talk(m: NativeSessionManager, count: int, **fields: Any) -> str:
    session = m.create_session(WS, **fields).id
    m.add_messages(WS, session, [{"role": "user", "content": str(n)} for n in range(count)])
    return session


def contents(page: Any) -> list[str]:
    return [each.content for each in page]


def walk(m: NativeSessionManager, session: str, limit: int, between: Callable[[Page[Any]], None]) -> list[str]:
    """Every page, with something happening between them."""
    found: list[str] = []
    cursor = None
    while True:
        page = m.get_session_messages(WS, session, limit=limit, cursor=cursor)
        found += contents(page)
        cursor = page.next_cursor
        if cursor is None:
            return found
        between(page)


def test_lists_return_everything_unless_asked_for_less(m: NativeSessionManager) -> None:
    session = talk(m, 120)
    page = m.get_session_messages(WS, session)
    assert (len(page), page.total, page.next_cursor) == (120, 120, None)
    for limit, expected in ((1, 1), (119, 119), (120, 120), (500, 120)):
        page = m.get_session_messages(WS, session, limit=limit)
        assert (len(page), page.total) == (expected, 120)
        assert (page.next_cursor is None) == (limit >= 120)


def test_the_last_messages_are_given_in_order(m: NativeSessionManager) -> None:
    session = talk(m, 10)
    page = m.get_session_messages(WS, session, last=3)
    assert (contents(page), page.total, page.next_cursor) == (["7", "8", "9"], 10, None)
    assert len(m.get_session_messages(WS, session, last=50)) == 10
    m.revert(WS, session, m.get_session_messages(WS, session)[4].id)
    assert contents(m.get_session_messages(WS, session, last=2)) == ["3", "4"]
    hidden = m.get_session_messages(WS, session, last=2, include_reverted=True)
    assert (contents(hidden), hidden.total) == (["8", "9"], 10)


@pytest.mark.parametrize("limit", [1, 3, 10, 11])
@pytest.mark.parametrize("folded", [False, True])
def test_pages_of_messages_give_each_once(m: NativeSessionManager, limit: int, folded: bool) -> None:
    session = talk(m, 10)
    if folded:
        m.checkpoint(WS)
    assert walk(m, session, limit, lambda page: None) == [str(n) for n in range(10)]
    m.revert(WS, session, m.get_session_messages(WS, session)[4].id)
    assert walk(m, session, limit, lambda page: None) == ["0", "1", "2", "3", "4"]


def test_messages_that_are_added_or_changed_between_pages_disturb_nothing(m: NativeSessionManager) -> None:
    session = talk(m, 10)
    added: list[str] = []

    def between(page: Page[Any]) -> None:
        added.append(m.add_message(WS, session, role="user", content=f"new {len(added)}").content)
        m.update_message(WS, page[0].id, agent="a")
        m.checkpoint(WS)
        if len(added) == 8:
            raise AssertionError("it never ends")

    found = walk(m, session, 4, between)
    assert found == [*(str(n) for n in range(10)), *added[: len(found) - 10]]


def test_a_caller_may_delete_each_page_before_it_asks_for_the_next(m: NativeSessionManager) -> None:
    session = talk(m, 20)

    def delete(page: Page[Any]) -> None:
        for each in page:
            m.delete_message(WS, each.id)

    found = walk(m, session, 6, delete)
    assert found == [str(n) for n in range(20)]
    assert contents(m.get_session_messages(WS, session)) == ["18", "19"]


@pytest.mark.parametrize("ids", [None, "z{:03d}", "unsorted"])
def test_the_page_and_what_would_follow_may_go_together(m: NativeSessionManager, ids: str | None) -> None:
    session = m.create_session(WS).id
    names = [(ids.format(n) if ids and "{" in ids else f"{n * 7919 % 1000}-x") if ids else None for n in range(20)]
    m.add_messages(WS, session, [{"id": name, "role": "user", "content": str(n)} for n, name in enumerate(names)])
    page = m.get_session_messages(WS, session, limit=5)
    everything = m.get_session_messages(WS, session)
    for each in everything[4:7]:
        m.delete_message(WS, each.id)
    following = m.get_session_messages(WS, session, limit=5, cursor=page.next_cursor)
    assert following.total == 17
    if ids != "unsorted":
        assert contents(following) == ["7", "8", "9", "10", "11"]
    else:  # Nothing tells where it was, but the number: no error, and no row twice.
        assert not set(contents(following)) & set(contents(page))


def test_sessions_come_newest_first_and_ties_by_their_last_change(m: NativeSessionManager, clock: ManualClock) -> None:
    first, second, third = (m.create_session(WS, title=str(n)).id for n in range(3))
    assert [each.id for each in m.list_sessions(WS)] == [third, second, first]
    m.update_session(WS, first, title="again")
    assert [each.id for each in m.list_sessions(WS)] == [first, third, second]
    clock.advance(1)
    m.add_message(WS, second, role="user", content="x")
    assert [each.id for each in m.list_sessions(WS)] == [second, first, third]


def test_pages_of_sessions_give_those_that_stay_once(m: NativeSessionManager, clock: ManualClock) -> None:
    ids = []
    for _ in range(20):
        clock.advance(1)
        ids.append(m.create_session(WS).id)
    page = m.list_sessions(WS, limit=6)
    assert (page.total, [each.id for each in page]) == (20, ids[:13:-1])
    clock.advance(1)
    m.update_session(WS, ids[3], title="moved to the front")
    m.delete_session(WS, page[-1].id)
    m.delete_session(WS, page[-2].id)
    m.create_session(WS)
    m.checkpoint(WS)
    rest: list[str] = []
    cursor = page.next_cursor
    while cursor is not None:
        page = m.list_sessions(WS, limit=6, cursor=cursor)
        assert page.total == 19
        rest += [each.id for each in page]
        cursor = page.next_cursor
    assert rest == [each for each in reversed(ids[:14]) if each != ids[3]]


def test_filters_and_their_totals_are_true(m: NativeSessionManager, clock: ManualClock) -> None:
    roots = [m.create_session(WS, title=f"root {n}").id for n in range(5)]
    children = [m.create_session(WS, parent_id=roots[0]).id for _ in range(3)]
    m.archive_session(WS, roots[1])
    clock.advance(100)
    since = clock.now()
    m.update_session(WS, roots[2], title="new")

    def found(**query: Any) -> tuple[set[str], int]:
        page = m.list_sessions(WS, **query)
        return {each.id for each in page}, page.total

    for fold in (False, True):
        if fold:
            m.checkpoint(WS)
        assert found(archived=True) == ({roots[1]}, 1)
        assert found(archived=False)[1] == 7
        assert found(parent_id=roots[0]) == (set(children), 3)
        assert found(parent_id=None) == (set(roots), 5)
        assert found(updated_since=since) == ({roots[2]}, 1)
        assert found(archived=False, parent_id=None) == (set(roots) - {roots[1]}, 4)
        page = m.list_sessions(WS, parent_id=None, limit=2)
        assert (len(page), page.total) == (2, 5)


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "3", []])
def test_a_count_that_is_none_is_refused_by_name(m: NativeSessionManager, bad: Any) -> None:
    session = talk(m, 2)
    calls: dict[str, list[Callable[[], Any]]] = {
        "limit": [
            lambda: m.list_sessions(WS, limit=bad),
            lambda: m.get_session_messages(WS, session, limit=bad),
            lambda: m.get_session_messages(WS, "nobody", limit=bad),
        ],
        "last": [lambda: m.get_session_messages(WS, session, last=bad)],
    }
    for field, each in calls.items():
        for call in each:
            with pytest.raises(InvalidInputError) as caught:
                call()
            assert caught.value.field == field


def test_last_goes_with_neither_limit_nor_cursor(m: NativeSessionManager) -> None:
    session = talk(m, 5)
    cursor = m.get_session_messages(WS, session, limit=1).next_cursor
    for options in ({"limit": 1}, {"cursor": cursor}):
        with pytest.raises(InvalidInputError, match="neither"):
            m.get_session_messages(WS, session, last=1, **options)


def test_a_cursor_of_another_list_or_of_nobody_is_refused(m: NativeSessionManager) -> None:
    session, other = talk(m, 5), talk(m, 5)
    of_messages = m.get_session_messages(WS, session, limit=1).next_cursor
    of_sessions = m.list_sessions(WS, limit=1).next_cursor
    assert of_messages
    assert of_sessions
    for bad in (of_sessions, "", "x", "é", "AAAA", of_messages[:-5], 5, b"x", ["x"]):
        with pytest.raises(InvalidCursorError) as caught:
            m.get_session_messages(WS, session, cursor=bad)  # type: ignore[arg-type]
        assert caught.value.cursor == bad
    with pytest.raises(InvalidCursorError):
        m.get_session_messages(WS, other, cursor=of_messages)
    for bad in (of_messages, "", 5):
        with pytest.raises(InvalidCursorError):
            m.list_sessions(WS, cursor=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"archived": "yes"}, {"parent_id": 5}, {"updated_since": "now"}])
def test_a_filter_of_the_wrong_type_is_refused(m: NativeSessionManager, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        m.list_sessions(WS, **options)
    assert caught.value.field in options


def test_unknown_sessions_and_workspaces_give_empty_pages(m: NativeSessionManager) -> None:
    for page in (m.get_session_messages(WS, "nobody"), m.get_session_messages(WS, ""), m.list_sessions("nowhere")):
        assert (len(page), page.total, page.next_cursor) == (0, 0, None)
    assert m.list_workspaces() == []
