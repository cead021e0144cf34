"""Two orders of some ids brought into one. Pure.

Invariant: nothing of the skeleton is lost or moved, and each fresh id is there once. Verified by
`tests/properties/test_merge_laws.py` and `tests/unit/test_arrangement.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["interleaved"]


def interleaved(skeleton: list[str], fresh: Iterable[str], other: list[str]) -> list[str]:
    """`skeleton` with each of `fresh` after the id that it follows in `other`; what stands at the end there comes after
    everything: a chat goes on after what was added meanwhile."""
    present, wanted = set(skeleton), set(fresh)
    followers: dict[str | None, list[str]] = {}
    anchor: str | None = None
    for each in other:
        if each in present:
            anchor = each
        elif each in wanted:
            followers.setdefault(anchor, []).append(each)
    tail = followers.pop(anchor, [])
    result = followers.pop(None, [])
    for each in skeleton:
        result.append(each)
        result += followers.get(each, ())
    return result + tail
