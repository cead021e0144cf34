"""What is left of a foreign record once the fields that our model expresses are taken out of it.

A parser maps a foreign record to ours, and a writer maps it back. What the writer's answer lacks, or has otherwise, is
the residue, kept beside our fields under a key named after the format: nothing is stored twice, an edit of one of our
fields shows in an export, and nothing can be lost.

Invariant: `restore(derived, *subtract(source, derived)) == source` for every two mappings, by construction and not by
care in the mapping. Verified by a property in `tests/unit/test_formats.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["attach", "restore", "same", "subtract", "take_apart"]

_ABSENT = object()


def subtract(source: Mapping[str, Any], derived: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[str]]]:
    """`(rest, absent)`: what `source` has beyond or unlike `derived`, and the paths that only `derived` has."""
    rest: dict[str, Any] = {}
    absent = [[key] for key in derived if key not in source]
    inner: list[tuple[dict[str, Any], str]] = []
    # A stack of our own: foreign records may be nested deeper than Python calls.
    path: list[str] = []
    opened = [(iter(source.items()), derived, rest)]
    while opened:
        items, others, left = opened[-1]
        for key, value in items:
            other = others.get(key, _ABSENT)
            if isinstance(value, dict) and isinstance(other, dict):
                below: dict[str, Any] = {}
                left[key] = below
                inner.append((left, key))
                path.append(key)
                absent += ([*path, name] for name in other if name not in value)
                opened.append((iter(value.items()), other, below))
                break
            if other is _ABSENT or not same(value, other):
                left[key] = value
        else:
            opened.pop()
            if path:
                path.pop()
    for holder, key in reversed(inner):
        if not holder[key]:
            del holder[key]
    return rest, absent


def restore(derived: Mapping[str, Any], rest: Mapping[str, Any], absent: Iterable[Sequence[str]]) -> dict[str, Any]:
    """The inverse of `subtract`. Neither argument is changed; values of `rest` are shared with the result."""
    result = dict(derived)
    for path in absent:
        _remove(result, path)
    opened = [(result, rest)]
    while opened:
        into, more = opened.pop()
        for key, value in more.items():
            there = into.get(key)
            if isinstance(value, dict) and isinstance(there, dict):
                into[key] = made = dict(there)
                opened.append((made, value))
            else:
                into[key] = value
    return result


def attach(mapped: dict[str, Any], key: str, source: Mapping[str, Any], derived: Mapping[str, Any]) -> dict[str, Any]:
    """Keeps the residue of `source` in `mapped`, under `key` and, where it is needed at all, `<key>Absent`."""
    rest, absent = subtract(source, derived)
    if rest:
        mapped[key] = rest
    if absent:
        mapped[f"{key}Absent"] = absent
    return mapped


def take_apart(mapped: Mapping[str, Any], key: str) -> tuple[dict[str, Any], list[list[str]]]:
    """What `attach` kept: `(rest, absent)`, both empty when there is nothing, or nothing of the right kind."""
    rest = mapped.get(key)
    absent = mapped.get(f"{key}Absent")
    return (rest if isinstance(rest, dict) else {}), (absent if isinstance(absent, list) else [])


def same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: `1`, `1.0` and `true` are three values. Takes any depth."""
    stack = [(one, other)]
    while stack:
        a, b = stack.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return False
            stack.extend((value, b[key]) for key, value in a.items())
        elif isinstance(a, list):
            if len(a) != len(b):
                return False
            stack.extend(zip(a, b, strict=True))
        elif a != b:
            return False
    return True


def _remove(mapping: dict[str, Any], path: Sequence[str]) -> None:
    """Removes one path; the dicts on the way are copied, for they belong to the caller."""
    for key in path[:-1]:
        inner = mapping.get(key)
        if not isinstance(inner, dict):
            return
        mapping[key] = dict(inner)
        mapping = mapping[key]
    mapping.pop(path[-1], None)
