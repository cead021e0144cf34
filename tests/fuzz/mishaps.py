"""What may befall a file: to its bytes, or to the values of its JSON. Pure, and the same for the same draw."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["RAW", "altered", "struck"]

RAW = [
    b"1e400",
    b"-1e400",
    b"NaN",
    b"7" * 5_000,
    b"[" * 1_500 + b"]" * 1_500,
    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"' + b"k" * 100_000 + b'":1}',
    b'{"a":1,"a":2}',
    b'"\xff\xfe"',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"' + b"x" * 50_000 + b'"',
]
"""Values that Python's JSON would not write; a placeholder stands for them until then."""
_PLAIN: list[Any] = [None, True, False, -1, 0, 1.5, -0.0, 2**63, 2**70, 10**18, "", " ", "\n", "..", "/", [], {}, [[]]]
_PLAIN += [[{}], [None], {"": None}, "id", "text", "user", "assistant", "tool", "message", "2026-01-01T10:00:00Z"]
_PLAIN += [
    "\ud800",
    "/a\0b",
    f"/{'x' * 5_000}",
    "/dev/null/x",
    "9999-12-31T23:59:59.999999-23:59",
    "0001-01-01T00:00:00+14:00",
    "1e400",
    "data:image/png;base64,AAAA",
]
_KEYS = [
    "id",
    "ID",
    "",
    "\ud800",
    "k" * 1_000,
    "rev",
    "session_id",
    "workspace_id",
    "message_ids",
    "created_at",
    "imported",
]
_TWICE = "again "
_Place = tuple[Any, Any]


def struck(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Bytes with one to five mishaps; some of them take what they put there from the `other` bytes."""
    for _ in range(chance.randint(1, 5)):
        at, length = chance.randrange(len(data) + 1), chance.choice([1, 1, 3, 40, 400])
        data = chance.choice(_MISHAPS)(data, other, at, length, chance)
    return data


def _put(data: bytes, other: bytes, at: int, length: int, chance: random.Random) -> bytes:
    new = chance.choice([b"\0" * length, chance.randbytes(length), b"}{", b"\n", b'"', b"null", b"[" * length, b"\xc3"])
    return data[:at] + new + data[at + chance.choice([0, len(new)]) :]


def _flip(data: bytes, other: bytes, at: int, length: int, chance: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :] if at < len(data) else data


def _double(data: bytes, other: bytes, at: int, length: int, chance: random.Random) -> bytes:
    return data[: at + length] + data[at:]


def _splice(data: bytes, other: bytes, at: int, length: int, chance: random.Random) -> bytes:
    return data[:at] + other[chance.randrange(len(other) + 1) :]


def _exchange(data: bytes, other: bytes, at: int, length: int, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"\n".join(lines)


_MISHAPS: list[Callable[[bytes, bytes, int, int, random.Random], bytes]] = [
    _put,
    _put,
    _flip,
    _double,
    _splice,
    _exchange,
    lambda data, other, at, length, chance: data[:at] + data[at + length :],
    lambda data, other, at, length, chance: data[:at],
]


def altered(data: bytes, chance: random.Random) -> bytes | None:
    """JSON, or lines of it, with one to five values changed; None for what is neither."""
    try:
        records, between = [json.loads(data)], b""
    except (ValueError, RecursionError):
        try:
            records, between = [json.loads(line) for line in data.splitlines() if line.strip()], b"\n"
        except (ValueError, RecursionError):
            return None
    for _ in range(chance.randint(1, 5)):
        chance.choice(_CHANGES)(records, chance)
    whole = between.join(json.dumps(each).encode() for each in records) + between
    for number, raw in enumerate(RAW):
        whole = whole.replace(f'"raw {number}"'.encode(), raw)
    return whole.replace(f'"{_TWICE}'.encode(), b'"')


def _places(value: Any) -> Iterator[_Place]:
    """Every place of a JSON value, as a container and a key or an index."""
    open_ = [value]
    while open_:
        holder = open_.pop()
        for key, each in holder.items() if isinstance(holder, dict) else enumerate(holder):
            yield holder, key
            if isinstance(each, dict | list):
                open_.append(each)


def _odd(chance: random.Random) -> Any:
    if chance.random() < 0.4:
        return f"raw {chance.randrange(len(RAW))}"
    odd = chance.choice(_PLAIN)
    return odd.copy() if isinstance(odd, dict | list) else odd


def _somewhere(records: list[Any], chance: random.Random, *kinds: type) -> _Place | None:
    """Any place, or one in these kinds of containers."""
    found = [place for place in _places(records) if not kinds or isinstance(place[0], kinds)]
    return chance.choice(found) if found else None


def _replace(records: list[Any], chance: random.Random) -> None:
    if place := _somewhere(records, chance):
        place[0][place[1]] = _odd(chance)


def _delete(records: list[Any], chance: random.Random) -> None:
    if place := _somewhere(records, chance):
        del place[0][place[1]]


def _repeat(records: list[Any], chance: random.Random) -> None:
    """An object with a key twice, a list with an item twice."""
    if place := _somewhere(records, chance):
        holder, key = place
        if isinstance(holder, dict):
            holder[_TWICE + key] = chance.choice([holder[key], _odd(chance)])
        else:
            holder.insert(chance.randrange(len(holder) + 1), holder[key])


def _rename(records: list[Any], chance: random.Random) -> None:
    place, other = _somewhere(records, chance, dict), _somewhere(records, chance, dict)
    if place and other:
        place[0][chance.choice([other[1], chance.choice(_KEYS)])] = place[0].pop(place[1])


def _move_ids(records: list[Any], chance: random.Random) -> None:
    """Ids of each other, so that things are their own parents, or each other's, or twice there."""
    ids = [place for place in _places(records) if isinstance(place[0], dict) and _is_id(*place)]
    if len(ids) > 1:
        (holder, key), (other, name) = chance.sample(ids, k=2)
        kept, holder[key] = holder[key], other[name]
        if chance.random() < 0.5:
            other[name] = kept


def _is_id(holder: Any, key: str) -> bool:
    return isinstance(holder[key], str) and key.lower().endswith(("id", "uuid", "parent", "hash"))


def _graft(records: list[Any], chance: random.Random) -> None:
    """The value of another place: whole trees where a text was expected, and the reverse."""
    place, other = _somewhere(records, chance), _somewhere(records, chance)
    if place and other:
        place[0][place[1]] = json.loads(json.dumps(other[0][other[1]]))


_CHANGES = [_replace, _replace, _replace, _delete, _repeat, _rename, _move_ids, _move_ids, _graft]
