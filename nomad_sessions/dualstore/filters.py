"""The filters and sort orders of the original's `getMostRecent`, MongoDB's, over entries. Pure.

Supported are equality, `$eq $ne $in $nin $gt $gte $lt $lte $exists $regex` (with `$options: "i"`), `$not`, `$and` and
`$or`; any other operator is refused by name. A path has dots (`metadata.role`), and `createdAt` is `timestamp`. As in
MongoDB, a comparison holds only between values of one kind, and `$ne` and `$nin` hold for what has no such field.
Source: https://www.mongodb.com/docs/manual/reference/operator/query/

Verified by `tests/unit/test_dualstore_filters.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from nomad_sessions.errors import InvalidInputError

__all__ = ["Filter", "Sort", "checked", "checked_sort", "is_newest_first", "matches", "ordered"]

Filter = Mapping[str, Any]
Sort = Mapping[str, int] | Sequence[tuple[str, int]]
_MISSING = object()
_ALIASES = {"createdAt": "timestamp", "created_at": "timestamp"}


def checked(wanted: Filter | None, field: str = "filter") -> Filter:
    """A filter, empty for None. Raises `InvalidInputError` for what is none, and names an operator that there is not;
    it is to be asked first, for `matches` looks only as far as it must."""
    given = {} if wanted is None else wanted
    if not isinstance(given, Mapping):
        raise InvalidInputError(field=field, value=wanted, reason="must be a mapping of paths to what they have to be")
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidInputError(field=field, value=key, reason="must have texts as paths")
        if key in ("$and", "$or"):
            if not isinstance(value, list | tuple) or not value:
                raise InvalidInputError(field=f"{field}.{key}", value=value, reason="must be a list of filters")
            for each in value:
                checked(each, f"{field}.{key}")
        elif key.startswith("$"):
            raise _unknown(f"{field}.{key}", value, "$and, $or")
        elif _is_operators(value):
            _check_operators(value, f"{field}.{key}")
    return given


def matches(entry: Mapping[str, Any], wanted: Filter) -> bool:
    """Whether an entry is what a checked filter says."""
    return all(_matches_one(entry, key, value) for key, value in wanted.items())


def checked_sort(sort: Sort | None) -> list[tuple[str, int]]:
    """The paths of an order with 1 or -1, the newest first for None. Raises `InvalidInputError`."""
    if sort is None:
        return [("timestamp", -1)]
    if not isinstance(sort, Mapping | Sequence):
        raise InvalidInputError(field="sort", value=sort, reason="must be paths with 1 or -1")
    given: list[Any] = list(sort.items()) if isinstance(sort, Mapping) else list(sort)
    for each in given:
        is_pair = isinstance(each, list | tuple) and len(each) == 2 and isinstance(each[0], str)
        if not is_pair or type(each[1]) is not int or each[1] not in (1, -1):
            raise InvalidInputError(field="sort", value=each, reason="must be a path with 1 or -1")
    return [(path, direction) for path, direction in given]


def is_newest_first(order: Sequence[tuple[str, int]]) -> bool:
    """Whether a checked order is by time alone, the newest first."""
    return [(_ALIASES.get(path, path), direction) for path, direction in order] == [("timestamp", -1)]


def ordered(entries: Iterable[Mapping[str, Any]], order: Sequence[tuple[str, int]]) -> list[Mapping[str, Any]]:
    """Entries in a checked order; equals as they came."""
    found = list(entries)
    for path, direction in reversed(order):
        found.sort(key=partial(_rank_at, path), reverse=direction < 0)
    return found


def _rank_at(path: str, entry: Mapping[str, Any]) -> tuple[int, Any]:
    return _rank(_at(entry, path))


def _rank(value: Any) -> tuple[int, Any]:
    """Values of each kind among themselves, in MongoDB's order of kinds; what is missing comes first."""
    if value is _MISSING or value is None:
        return 0, 0
    if isinstance(value, bool):
        return 3, value
    if isinstance(value, int | float):
        return 1, value
    return (2, value) if isinstance(value, str) else (4, repr(value))


def _at(entry: Mapping[str, Any], path: str) -> Any:
    value: Any = entry
    for name in _ALIASES.get(path, path).split("."):
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _matches_one(entry: Mapping[str, Any], key: str, wanted: Any) -> bool:
    if key == "$and":
        return all(matches(entry, each) for each in wanted)
    if key == "$or":
        return any(matches(entry, each) for each in wanted)
    value = _at(entry, key)
    return _holds(value, wanted) if _is_operators(wanted) else _equal(value, wanted)


def _holds(value: Any, operators: Mapping[str, Any]) -> bool:
    return all(_OPERATORS[name](value, given, operators) for name, given in operators.items())


def _equal(value: Any, wanted: Any) -> bool:
    """A list has what it has, and null is also what there is not."""
    if wanted is None:
        return value is _MISSING or value is None
    if isinstance(wanted, re.Pattern):
        return isinstance(value, str) and wanted.search(value) is not None
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_equal(each, wanted) for each in value)
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any, Mapping[str, Any]], bool]:
    def holds(value: Any, given: Any, _: Mapping[str, Any]) -> bool:
        a, b = _rank(value), _rank(given)
        return a[0] == b[0] and a[0] > 0 and compare(a[1], b[1])

    return holds


def _regex(value: Any, given: Any, operators: Mapping[str, Any]) -> bool:
    return isinstance(value, str) and _pattern(given, operators).search(value) is not None


def _pattern(given: Any, operators: Mapping[str, Any]) -> re.Pattern[str]:
    if isinstance(given, re.Pattern):
        return given
    return re.compile(given, re.IGNORECASE if operators.get("$options") == "i" else 0)


def _not(value: Any, given: Any, _: Mapping[str, Any]) -> bool:
    return not (_holds(value, given) if _is_operators(given) else _equal(value, given))


_OPERATORS: dict[str, Callable[[Any, Any, Mapping[str, Any]], bool]] = {
    "$eq": lambda value, given, _: _equal(value, given),
    "$ne": lambda value, given, _: not _equal(value, given),
    "$in": lambda value, given, _: any(_equal(value, each) for each in given),
    "$nin": lambda value, given, _: not any(_equal(value, each) for each in given),
    "$gt": _compared(lambda a, b: bool(a > b)),
    "$gte": _compared(lambda a, b: bool(a >= b)),
    "$lt": _compared(lambda a, b: bool(a < b)),
    "$lte": _compared(lambda a, b: bool(a <= b)),
    "$exists": lambda value, given, _: (value is not _MISSING) == bool(given),
    "$regex": _regex,
    "$options": lambda *_: True,
    "$not": _not,
}


def _is_operators(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(key, str) and key.startswith("$") for key in value)


def _check_operators(value: Mapping[str, Any], field: str) -> None:
    for name, given in value.items():
        if name not in _OPERATORS:
            raise _unknown(f"{field}.{name}", given, ", ".join(sorted(_OPERATORS)))
        if name in ("$in", "$nin") and not isinstance(given, list | tuple):
            raise InvalidInputError(field=f"{field}.{name}", value=given, reason="must be a list")
        if name == "$options" and ("$regex" not in value or given not in ("", "i")):
            raise InvalidInputError(field=f"{field}.{name}", value=given, reason='must be "i", beside $regex')
        if name == "$not" and not (isinstance(given, re.Pattern) or _is_operators(given)):
            raise InvalidInputError(field=f"{field}.{name}", value=given, reason="must be operators or a pattern")
        if name == "$not" and _is_operators(given):
            _check_operators(given, f"{field}.{name}")
        if name == "$regex":
            try:
                _pattern(given, value)
            except (re.error, TypeError) as error:
                raise InvalidInputError(field=f"{field}.{name}", value=given, reason=f"is none: {error}") from error


def _unknown(field: str, value: Any, there: str) -> InvalidInputError:
    return InvalidInputError(field=field, value=value, reason=f"is no operator that is supported: there are {there}")
