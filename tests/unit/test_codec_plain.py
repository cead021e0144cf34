"""JSON is the same to the byte, whoever encodes it: digests and files do not depend on the extra `fast`."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import to_json

from nomad_sessions.storage import codec
from nomad_sessions.storage.codec import encode

SCALARS = st.none() | st.booleans() | st.integers() | st.text(st.characters())
VALUES = st.recursive(
    SCALARS, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(st.characters()), each, max_size=4)
)


@pytest.fixture(autouse=True)
def _afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_dumps", to_json)


@given(value=VALUES)
@example(value="".join(map(chr, range(0xD800))))
@example(value="".join(map(chr, range(0xE000, 0x11_0000))))
@example(value="half \ud83d a character")
@example(value=[1 << 63, 1 << 64, -(1 << 63), -(1 << 64)])
@example(value={"": {"": [[], {}]}})
def test_in_a_hurry_it_encodes_the_same_bytes(value: Any) -> None:
    codec._dumps = to_json
    expected = encode(value, finite=True)
    codec.hurry()
    assert codec._dumps is orjson.dumps
    assert encode(value, finite=True) == expected


def test_what_is_nested_too_deep_for_the_quick_encoder_is_encoded_all_the_same() -> None:
    value: list[Any] = []
    for _ in range(5_000):
        value = [value]
    codec.hurry()
    assert encode(value, finite=True) == b"[" * 5_001 + b"]" * 5_001
