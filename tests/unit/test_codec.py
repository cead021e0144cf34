"""What is encoded is decoded again, whatever JSON it is; and a frame hides no flipped bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nomad_sessions.storage.codec import (
    decode,
    decode_text,
    encode,
    encode_name,
    encode_names,
    frame,
    is_framed,
    repeats_keys,
    unframe,
)

TEXT = st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=300, deadline=None)
def test_every_json_value_comes_back_on_one_line(value: Any) -> None:
    data = encode(value)
    assert b"\n" not in data
    assert decode(data) == value
    assert json.loads(data.decode("utf-8", "surrogatepass")) == value


@pytest.mark.parametrize(
    "text", ["\ud83d", "a\udc00b", "\u2028\u2029", "\0\r\n\t", "NaN", "Infinity", "\N{GRINNING FACE}", "x" * 10**6]
)
def test_text_is_kept_exactly(text: str) -> None:
    assert decode(encode({"text": text})) == {"text": text}
    assert decode(encode({text: [text]})) == {text: [text]}


@pytest.mark.parametrize("depth", [150, 250, 1_000, 5_000])
def test_depth_is_no_limit(depth: int) -> None:
    lists: Any = []
    objects: Any = {}
    for _ in range(depth):
        lists, objects = [lists, 1, "\ud83d"], {"a": objects, "b": True}
    for value in (lists, objects):
        data = encode(value)
        back = decode(data)
        for _ in range(depth):
            assert type(back) is type(value)
            assert len(back) == len(value)
            back, value = (back[0], value[0]) if isinstance(back, list) else (back["a"], value["a"])
        assert back == value
        assert encode(decode(data)) == data


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"a": [float("nan")]}])
def test_what_json_has_not_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode(value)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[1,]", '{"a"}', '{"a":}', "nul", "[1 2]", '"\n"', "NaN", "-Infinity", "[1]x", "{1:2}", "01", "'a'"],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decode(text.encode())
    with pytest.raises(ValueError, match=r".+"):
        decode_text("[1," * 3000 + text + "]" * 3000)


def test_a_frame_gives_back_its_body_with_or_without_its_newline() -> None:
    body = encode({"seq": 1, "text": "h\u00e9llo"})
    line = frame(body)
    assert line.endswith(b"\n")
    assert unframe(line) == unframe(line[:-1]) == body
    assert json.loads(line)["text"] == "h\u00e9llo"


def test_every_flipped_bit_every_cut_and_every_added_byte_in_a_frame_is_found() -> None:
    line = frame(encode({"seq": 12, "text": "some text"}))
    for at in range(len(line) - 1):
        for bit in range(8):
            damaged = bytearray(line)
            damaged[at] ^= 1 << bit
            assert unframe(bytes(damaged)) is None
        assert unframe(line[:at]) is None
        assert unframe(line[:at] + b"x" + line[at:]) is None


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(0), st.integers(0, 255))
def test_a_frame_inside_of_other_bytes_is_told_from_a_damaged_one(
    before: bytes, after: bytes, number: int, change: int
) -> None:
    line = frame(encode({"seq": 12, "text": "some text"}))[:-1]
    damaged = bytearray(line)
    damaged[number % len(line)] ^= change
    start, stop = len(before), len(before) + len(line)
    assert is_framed(b"".join((before, damaged, after)), start, stop) is (change == 0)
    assert not is_framed(before + line + after, start, start + 18)


@given(TEXT | st.from_regex("[0-9A-Za-z]{0,30}"))
@example("\x7fInfinity")
def test_a_name_is_encoded_as_any_text_is(name: str) -> None:
    assert encode_name(name) == encode(name)


@given(st.lists(TEXT | st.from_regex("[0-9A-Za-z]{0,30}"), max_size=4))
def test_names_are_encoded_as_each_is(names: list[str]) -> None:
    assert encode_names(names) == [encode(name).decode() for name in names]


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_garbage_is_never_a_frame(data: bytes) -> None:
    assert unframe(data) is None or frame(unframe(data) or b"").rstrip(b"\n") == data.rstrip(b"\n")


@given(VALUES)
@settings(deadline=None)
def test_no_value_of_ours_has_a_key_twice(value: Any) -> None:
    assert not repeats_keys(encode(value))


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":1}', '[[{"b":{"a":1,"c":2,"a":3}}]]', '\ufeff{"":1,"":2}', '{"a":1,"\\u0061":2}']
)
def test_a_key_that_stands_twice_is_found_wherever_it_stands(text: str) -> None:
    assert repeats_keys(text.encode())


def test_what_is_nested_too_deep_to_tell_may_have_a_key_twice() -> None:
    assert repeats_keys(b"[" * 100_000 + b"]" * 100_000)
    with pytest.raises(ValueError, match="Expecting"):
        repeats_keys(b'{"a":')
