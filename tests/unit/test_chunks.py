"""Long texts in pieces: none too long, nothing lost, cut where a reader would."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.sync.chunks import OVERLAP, SIZE, chunked

shapes = st.text(alphabet=st.sampled_from("xxxx .\n\u2003"), max_size=300)


@given(shape=shapes, size=st.integers(5, 60), data=st.data())
def test_no_piece_is_too_long_and_no_character_is_lost(shape: str, size: int, data: st.DataObject) -> None:
    text = "".join(chr(0x4E00 + at) if each == "x" else each for at, each in enumerate(shape))  # None of them twice.
    pieces = chunked(text, size, data.draw(st.integers(1, (size - 1) // 2)))
    for piece in pieces:
        assert 0 < len(piece) <= size
        assert piece == piece.strip()
        assert piece in text
    letters = [each for each in text if each > "\u4dff"]
    assert sorted({each for each in "".join(pieces) if each > "\u4dff"}) == letters
    firsts = [min(each for each in piece if each > "\u4dff") for piece in pieces if max(piece) > "\u4dff"]
    assert firsts == sorted(firsts)


def test_a_short_text_is_one_piece_and_blanks_are_none() -> None:
    assert chunked("  short\n") == ["short"]
    assert chunked("") == chunked(" \n\t") == []
    assert chunked("x" * SIZE) == ["x" * SIZE]


def test_it_is_cut_at_paragraphs_then_lines_then_words_and_neighbours_share_some_text() -> None:
    first, second = "word " * 340, "other " * 300
    assert chunked(f"{first}\n\n{second}")[0] == first.strip()
    assert chunked(f"{first}\n{second}")[0] == first.strip()
    pieces = chunked("word " * 1000)
    assert all(set(piece.split()) == {"word"} for piece in pieces)
    numbered = chunked(" ".join(map(str, range(2000))))
    for one, other in itertools.pairwise(numbered):
        shared = set(one.split()) & set(other.split())
        assert OVERLAP / 2 <= sum(len(each) + 1 for each in shared) <= OVERLAP
    assert [len(each) for each in chunked("x" * 5000)] == [2000, 2000, 1400]
