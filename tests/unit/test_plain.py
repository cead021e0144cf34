"""What callers hand in becomes JSON of the store's own, or an error that names the field."""

from __future__ import annotations

import datetime
import enum
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import ModelRef
from nomad_sessions.operations.plain import MAX_DEPTH, plain, same, text_of
from nomad_sessions.storage.codec import decode, encode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ANY_TEXT = st.text(st.characters(exclude_categories=()))
JSON = st.recursive(SCALARS | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=20)


class Colour(enum.StrEnum):
    RED = "red"


def depth(levels: int) -> Any:
    value: Any = "bottom"
    for _ in range(levels):
        value = {"in": value}
    return value


@given(value=JSON)
def test_what_is_copied_is_written_and_read_back_equal(value: Any) -> None:
    copied = plain({"v": value})
    assert same(decode(encode(copied)), copied)


class Number(enum.IntEnum):
    ONE = 1


def test_a_copy_shares_nothing_with_what_was_given() -> None:
    given_ = {"metadata": {"list": [{"deep": [1]}]}}
    copied = plain(given_)
    given_["metadata"]["list"][0]["deep"].append(2)
    assert copied == {"metadata": {"list": [{"deep": [1]}]}}


def test_tuples_models_and_subclasses_become_what_json_would_make_of_them() -> None:
    given_ = {"a": (1, (2,)), "b": ModelRef(provider_id="p"), "c": [Colour.RED], "d": Number.ONE}
    copied = plain(given_)
    assert copied == {"a": [1, [2]], "b": {"providerId": "p"}, "c": ["red"], "d": 1}
    assert [type(copied["c"][0]), type(copied["d"])] == [str, int]


def test_the_order_of_keys_stays() -> None:
    given_ = {"v": {"z": [1], "a": 1, "m": {}}}
    assert list(plain(given_)["v"]) == ["z", "a", "m"]


@pytest.mark.parametrize(
    "value",
    [object(), b"x", {1, 2}, datetime.datetime.now(), math.nan, -math.inf, {1: 2}, {None: 1}, [{"a": object()}]],
)
def test_what_json_cannot_hold_is_refused_by_the_name_of_the_field(value: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        plain({"metadata": value})
    assert caught.value.field == "metadata"


def test_what_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = [loop, loop]
    with pytest.raises(InvalidInputError, match="deep"):
        plain({"metadata": loop})


def test_nesting_of_thousands_is_copied() -> None:
    copied = plain({"v": depth(MAX_DEPTH - 1)})
    assert encode(copied) == encode({"v": depth(MAX_DEPTH - 1)})
    with pytest.raises(InvalidInputError):
        plain({"v": depth(MAX_DEPTH + 1)})


def test_two_halves_of_a_pair_that_meet_are_one_character_and_a_lone_one_stays() -> None:
    assert text_of("a\ud83d\ude00b\ud83d") == "a😀b\ud83d"
    assert plain({"\x7fé": {"\ud83d\ude00": "\udc00"}}) == {"\x7fé": {"😀": "\udc00"}}


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), ({"a": 1}, {"a": True}), ([1], [1.0]), (0, None), ("", None)]
)
def test_values_that_are_written_differently_are_not_the_same(one: Any, other: Any) -> None:
    assert not same(one, other)
    assert same(one, one)
    assert same(depth(1000), depth(1000))
