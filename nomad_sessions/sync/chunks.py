"""A long text in pieces that a model takes, cut where a reader would cut it. Pure.

Invariant: no piece is longer than the size, each character that is no blank is in a piece, and neighbours have some
text in common, so that what stands at a cut is found as well. Verified by `tests/unit/test_chunks.py`.
"""

from __future__ import annotations

import re

__all__ = ["OVERLAP", "SIZE", "chunked"]

SIZE = 2_000
"""Characters: some 500 tokens of English, which every common model takes."""
OVERLAP = 200
_BREAKS = ("\n\n", "\n", ". ", " ")
_WORD = re.compile(r"\S+")


def chunked(text: str, size: int = SIZE, overlap: int = OVERLAP) -> list[str]:
    """The pieces of a text, in order; none for one of blanks. `overlap` is below half of `size`."""
    pieces = []
    start = 0
    while start < len(text):
        end = _end(text, start, size)
        piece = text[start:end].strip()
        if piece:
            pieces.append(piece)
        if end >= len(text):
            break
        start = _begin(text, end - overlap, end)
    return pieces


def _end(text: str, start: int, size: int) -> int:
    """Where a piece that begins at `start` ends: behind a paragraph, a line, a sentence, or a word, the first of these
    that ends in the last third of it; in the middle of a word where there is none."""
    if len(text) - start <= size:
        return len(text)
    for each in _BREAKS:
        at = text.rfind(each, start + size * 2 // 3, start + size)
        if at >= 0:
            return at + len(each)
    return start + size


def _begin(text: str, earliest: int, end: int) -> int:
    """Where the next piece begins: with a word, at or after `earliest`, not after `end`."""
    if not text[earliest - 1].isspace():
        space = next((at for at in range(earliest, end) if text[at].isspace()), None)
        if space is None:  # One long word.
            return earliest
        earliest = space
    found = _WORD.search(text, earliest, end)
    return found.start() if found else end
