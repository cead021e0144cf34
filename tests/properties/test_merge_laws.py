"""The laws of `merge`, over drawn histories: a state that both sides saw, what we did since, what they did since."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.workspace.merge import Merged, merge
from nomad_sessions.workspace.state import Body
from tests.properties.merge_worlds import ACTIONS, SEEN, World, applied, base_content, both, play, table, visible


@given(ACTIONS)
def test_a_writer_that_changed_nothing_changes_nothing(actions: list[Any]) -> None:
    base = base_content()
    merged, _ = both(base, play(base, "ours", actions), World(base, "theirs"))
    assert merged == Merged([], [])


@given(ACTIONS)
def test_where_we_changed_nothing_the_result_is_theirs(actions: list[Any]) -> None:
    base = base_content()
    theirs = play(base, "theirs", actions)
    _, result = both(base, World(base, "ours"), theirs)
    assert visible(result) == visible(theirs.content)


@given(ACTIONS, ACTIONS, st.booleans())
def test_merging_a_second_time_changes_nothing(ours: list[Any], theirs: list[Any], remembered: bool) -> None:
    base = base_content()
    mine, other = play(base, "ours", ours), play(base, "theirs", theirs)
    _, result = both(base, mine, other)
    last = other.content if remembered else None
    again = merge(base, result, other.content, seq=SEEN, deleted=mine.deleted, last=last)
    assert applied(result, again) == result
    if remembered:
        assert again == Merged([], [])


@given(ACTIONS, ACTIONS)
def test_no_id_is_lost_that_nobody_deleted(ours: list[Any], theirs: list[Any]) -> None:
    base = base_content()
    mine, other = play(base, "ours", ours), play(base, "theirs", theirs)
    merged, result = both(base, mine, other)
    displaced = {each["id"] for each in merged.displaced}
    for name in {**mine.content.messages, **other.content.messages}:
        session = mine.content.owner.get(name) or other.content.owner.get(name)
        gone = name in {**mine.deleted, **other.deleted} or session in {**mine.deleted, **other.deleted}
        assert gone or name in result.messages, name
        if name in mine.content.messages and name not in base.messages:
            assert name in result.messages, "what we added they had not seen, and so cannot have deleted"
        if name not in base.messages:
            assert name in result.messages or name in displaced, "what they added is somewhere"
    for name in {**mine.content.sessions, **other.content.sessions}:
        assert name in result.sessions or name in {**mine.deleted, **other.deleted}
    for session, order in result.order.items():
        assert len(set(order)) == len(order)
        assert set(order) == {each for each, owner in result.owner.items() if owner == session}


@given(ACTIONS, ACTIONS)
def test_deletions_of_either_side_hold_unless_the_other_added_to_what_was_deleted(
    ours: list[Any], theirs: list[Any]
) -> None:
    base = base_content()
    mine, other = play(base, "ours", ours), play(base, "theirs", theirs)
    _, result = both(base, mine, other)
    assert not set(mine.deleted) & (set(result.sessions) | set(result.messages))
    for name in other.deleted:
        grown = any(owner == name and each not in base.messages for each, owner in mine.content.owner.items())
        assert name not in result.sessions or grown
        if name in base.messages and other.content.sessions.get(base.owner[name]) is not None:
            assert name not in result.messages


@given(ACTIONS, ACTIONS)
def test_a_field_that_one_side_changed_keeps_that_change(ours: list[Any], theirs: list[Any]) -> None:
    base = base_content()
    mine, other = play(base, "ours", ours), play(base, "theirs", theirs, time=2_000)
    _, result = both(base, mine, other)
    for world, rival in ((mine, other), (other, mine)):
        for (kind, name, field), value in world.touched.items():
            record = table(result, kind).get(name)
            kept = name in table(world.content, kind) and (kind, name, field) not in rival.touched
            if record is not None and kept:
                assert record[field] == value, (kind, name, field)
                assert type(record[field]) is type(value)


@given(ACTIONS, ACTIONS, ACTIONS)
def test_a_writer_that_goes_on_changes_its_own_records_again(
    ours: list[Any], first: list[Any], second: list[Any]
) -> None:
    base = base_content()
    mine = play(base, "ours", ours)
    before = play(base, "theirs", first, time=2_000)
    _, merged = both(base, mine, before)
    after = play(before.content, "later", second, time=3_000)
    changes = merge(base, merged, after.content, seq=SEEN, deleted=mine.deleted, last=before.content)
    result = applied(merged, changes, seq=2_000)
    for (kind, name, field), value in after.touched.items():
        record = table(result, kind).get(name)
        kept = name in table(after.content, kind) and (kind, name, field) not in mine.touched
        if record is not None and kept:
            assert record[field] == value
    for (kind, name, field), value in mine.touched.items():
        record = table(result, kind).get(name)
        if record is not None and (kind, name, field) not in {**before.touched, **after.touched}:
            assert record[field] == value, "our edit survives each of their stale writes"


@given(ACTIONS, ACTIONS)
def test_without_a_base_ours_wins_and_nothing_is_lost(ours: list[Any], theirs: list[Any]) -> None:
    base = base_content()
    mine, other = play(base, "ours", ours), play(base, "theirs", theirs)
    for seq in (None, SEEN):
        merged = merge(None, mine.content, other.content, seq=seq, deleted=mine.deleted)
        result = applied(mine.content, merged)
        for (kind, name, field), value in mine.touched.items():
            record = table(result, kind).get(name)
            if record is not None:
                assert record[field] == value
        if seq is None:
            assert set(mine.content.messages) <= set(result.messages), "they never knew ours, so they deleted none"
        kept = {each["id"] for each in merged.displaced}
        assert {each for each in other.content.messages if each not in base.messages} <= set(result.messages) | kept


def test_without_a_base_a_record_that_still_has_our_rev_is_known_to_be_theirs_to_change() -> None:
    mine = World(base_content(), "ours")
    other = World(base_content(), "theirs")
    other.edit("message", "s0m1", "content", "changed")
    other.content.messages["s0m1"]["rev"] = 2
    merged = merge(None, mine.content, other.content, seq=SEEN, deleted={})
    assert applied(mine.content, merged).messages["s0m1"]["content"] == "changed"
    assert not merged.displaced


def test_of_a_field_that_both_changed_the_newer_wins_and_the_other_is_displaced() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    other.time = 5_000
    mine.edit("session", "s0", "title", "ours")
    other.edit("session", "s0", "title", "theirs")
    merged, result = both(base, mine, other)
    assert result.sessions["s0"]["title"] == "theirs"
    assert [each["record"]["title"] for each in merged.displaced] == ["ours"]
    mine.time = 9_000
    mine.edit("session", "s0", "title", "ours again")
    merged, result = both(base, mine, other)
    assert result.sessions["s0"]["title"] == "ours again"
    assert [each["record"]["title"] for each in merged.displaced] == ["theirs"]


def test_a_session_that_they_deleted_stays_whole_when_we_added_to_it_after_they_had_loaded() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    mine.add_message("s1")
    other.delete_session("s1")
    _, result = both(base, mine, other)
    assert visible(result) == visible(mine.content)


def test_a_session_that_they_wrote_to_and_then_deleted_is_deleted() -> None:
    base = base_content()
    mine, before = World(base, "ours"), World(base, "theirs")
    before.add_message("s1")
    before.edit("session", "s1", "title", "theirs")
    _, merged = both(base, mine, before)
    after = World(before.content, "later")
    after.delete_session("s1")
    changes = merge(base, merged, after.content, seq=SEEN, deleted={}, last=before.content)
    assert "s1" not in applied(merged, changes).sessions


def test_what_they_added_to_a_session_that_we_had_deleted_is_displaced_once() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    mine.delete_session("s1")
    other.add_message("s1")
    merged, result = both(base, mine, other)
    assert "s1" not in result.sessions
    assert [(each["reason"], each["id"]) for each in merged.displaced] == [
        ("added to a session that had been deleted", "m-theirs-101")
    ]
    assert merge(base, result, other.content, seq=SEEN, deleted=mine.deleted, last=other.content) == Merged([], [])


def test_both_sides_messages_are_in_order_each_and_ours_come_first_at_the_end() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    for world in (mine, other):
        world.add_message("s0")
        world.add_message("s0")
    _, result = both(base, mine, other)
    new = ["m-ours-101", "m-ours-102", "m-theirs-101", "m-theirs-102"]
    assert result.order["s0"] == [*base.order["s0"], *new]
    mine = World(result, "ours")
    other.add_message("s0")
    other.content.order["s0"].insert(1, "between")
    other.content.messages["between"] = {"id": "between", "sessionId": "s0"}
    other.content.owner["between"] = "s0"
    _, result = both(base, mine, other)
    assert result.order["s0"] == ["s0m0", "between", "s0m1", "s0m2", "s0m3", *new, "m-theirs-103"]


def test_an_older_copy_that_is_put_back_undoes_nothing() -> None:
    base = base_content()
    mine, newer = World(base, "ours"), World(base, "theirs")
    newer.edit("session", "s0", "title", "newer")
    newer.add_message("s0")
    _, merged = both(base, mine, newer)
    again = merge(base, merged, base, seq=SEEN, deleted={}, last=newer.content)
    assert visible(applied(merged, again)) == visible(merged)


def test_a_message_that_they_show_in_another_session_stays_in_ours_and_is_copied_there() -> None:
    base = base_content()
    mine, other = World(base, "ours"), World(base, "theirs")
    other.content.owner["s0m1"] = "s1"
    other.content.messages["s0m1"] = {**other.content.messages["s0m1"], "sessionId": "s1"}
    other.content.order["s0"].remove("s0m1")
    other.content.order["s1"].append("s0m1")
    _, result = both(base, mine, other)
    assert result.owner["s0m1"] == "s0"
    (copied,) = set(result.order["s1"]) - set(base.order["s1"])
    assert result.messages[copied]["originId"] == "s0m1"
    assert result.messages[copied]["content"] == "s0m1"
    again = merge(base, result, other.content, seq=SEEN, deleted={}, last=other.content)
    assert visible(applied(result, again)) == visible(result)


def test_nesting_beyond_what_python_compares_can_be_merged() -> None:
    base = base_content()
    deep: Body = {}
    for _ in range(3_000):
        deep = {"d": deep}
    base.messages["s0m1"]["y"] = deep
    text = World(base_content(), "theirs")
    text.content.messages["s0m1"]["y"] = _copied(deep)
    merged = merge(base, base_content()._replace(messages=dict(base.messages)), text.content, seq=SEEN, deleted={})
    assert merged == Merged([], [])


def _copied(deep: Body) -> Body:
    depth, inner = 0, deep
    while inner:
        depth, inner = depth + 1, inner["d"]
    made: Body = {}
    for _ in range(depth):
        made = {"d": made}
    return made
