"""Two orders of a session's messages become one that has them all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.sync.two_way.arrangement import Arrangement, arrangement_of, combined
from nomad_sessions.workspace.ordering import interleaved


def shown(order: str, hidden: str = "", detached: str = "") -> Arrangement:
    return Arrangement(list(order), list(hidden), list(detached))


@pytest.mark.parametrize(
    ("leading", "other", "both"),
    [
        (shown("abc"), shown("abc"), shown("abc")),
        (shown(""), shown("ab"), shown("ab")),
        (shown("abx"), shown("aby"), shown("abxy")),  # Both appended: what came second stands after.
        (shown("abxz"), shown("abyw"), shown("abxzyw")),
        (shown("ab", "cd"), shown("abcde"), shown("abe", "cd")),  # Hidden here, and somebody went on there.
        (shown("abcde"), shown("ab", "cd"), shown("abcde")),  # Shown again here.
        (shown("abcd"), shown("ab", "cdx"), shown("abcdx")),
        (shown("ab", "c"), shown("ab", "cx"), shown("ab", "cx")),
        (shown("ba"), shown("abc"), shown("bac")),
        (shown("ab", detached="x"), shown("axby"), shown("aby", detached="x")),
        (shown("ab"), shown("ab", detached="x"), shown("ab", detached="x")),
    ],
)
def test_both(leading: Arrangement, other: Arrangement, both: Arrangement) -> None:
    assert combined(leading, other) == both


ids = st.lists(st.sampled_from("abcdefgh"), unique=True)


@st.composite
def arrangements(draw: st.DrawFn) -> Arrangement:
    all_of_them = draw(ids)
    first, second = sorted(draw(st.tuples(*[st.integers(0, len(all_of_them))] * 2)))
    return Arrangement(all_of_them[:first], all_of_them[first:second], all_of_them[second:])


@given(arrangements(), arrangements())
def test_nothing_is_lost_or_there_twice_and_what_leads_stays_as_it_is(one: Arrangement, other: Arrangement) -> None:
    both = combined(one, other)
    assert sorted(both.ids()) == sorted({*one.ids(), *other.ids()})
    for mine, found in zip(one, both, strict=True):
        assert [each for each in found if each in set(one.ids())] == mine
    assert combined(both, other) == both


@given(ids, ids)
def test_the_skeleton_stays(skeleton: list[str], other: list[str]) -> None:
    fresh = [each for each in other if each not in skeleton]
    found = interleaved(skeleton, fresh, other)
    assert [each for each in found if each in skeleton] == skeleton
    assert sorted(found) == sorted([*skeleton, *fresh])


@given(arrangements())
def test_a_body_says_it_again(arrangement: Arrangement) -> None:
    body = {"id": "s", "hiddenIds": ["old"]}
    arrangement.put_into(body)
    assert arrangement_of(body) == arrangement
    assert body["id"] == "s"
    assert arrangement_of({}) == shown("")
