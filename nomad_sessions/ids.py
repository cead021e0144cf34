"""Ids: ULIDs that only ever go up, and ids derived from foreign ones.

Invariant (tests/unit/test_ids.py): each id that one `IdSource` gives is greater, as text too, than every id it gave or
followed before, whatever the clock does. The text form is canonical ULID, which ulid-py parses; it is made here because
importing ulid-py costs more than all of this package's layer 0, and encoding through it three times as much per id.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .clock import Clock

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]
_SIZES = [size.to_bytes(8, "big") for size in range(256)]
_is_canonical = re.compile(f"[0-7][{_ALPHABET}]{{25}}").fullmatch
# int(text, 32) knows the digits 0-9a-v: translating to those decodes at C speed.
_TO_BASE32 = bytes.maketrans(_ALPHABET.encode(), b"0123456789abcdefghijklmnopqrstuv")

_RANDOM_BITS = 80
_LEAP_BITS = 64
_RANDOM_MASK = (1 << _RANDOM_BITS) - 1
_MAX_MS = (1 << 48) - 1
_MAX_VALUE = (1 << 128) - 1


class IdSource:
    """Makes ids, each greater than the one before. Not for several threads at once: the store calls it under its lock.

    `last` is the greatest id known so far; it is trusted however far ahead of the clock it lies, so that ids keep going
    up after the clock was set back. "" or an id that is no ULID means none.
    """

    __slots__ = ("_clock", "_last", "_ms", "_prefix", "_value")

    def __init__(self, clock: Clock, last: str = "") -> None:
        self._clock = clock
        self._last = ""
        self._value = -1
        self._ms = -1
        self._prefix = ""
        if _is_canonical(last):
            self._raise_floor(last)

    @property
    def last(self) -> str:
        """The greatest id given or followed, "" if none was."""
        return self._last

    def next(self, now: int | None = None) -> str:
        """A new id, greater than `last`. `now` in milliseconds since the epoch saves asking the clock. About 1 us.

        A millisecond in which an id was made, or that lies before it, gives that id plus one: never twice the same.
        Raises OverflowError when the 128 bits are used up (year 10889).
        """
        ms = self._clock.now() if now is None else now
        if self._ms < ms <= _MAX_MS:
            # The module's generator, not one of our own: `random` seeds it afresh in a forked child.
            value = ms << _RANDOM_BITS | random.getrandbits(_RANDOM_BITS)
        else:
            value = self._value + 1
            if value > _MAX_VALUE:
                raise OverflowError("no ULID is greater than the last one")
        if value & 1023 and value == self._value + 1:  # One more: but for the last two digits it is the same text.
            self._value = value
            self._last = self._last[:-2] + _PAIRS[value & 1023]
            return self._last
        self._value = value
        ms = value >> _RANDOM_BITS
        if ms != self._ms:
            self._ms = ms
            self._prefix = _encode_time(ms)
        self._last = self._prefix + _encode_low(value & _RANDOM_MASK)
        return self._last

    def several(self, count: int, now: int) -> list[str]:
        """So many new ids of one moment, each the one before plus one: as `next` gives them, at 0.1 us for each."""
        made = [self.next(now)] if count > 0 else []
        while len(made) < count:
            low = self._value & 1023
            pairs = _PAIRS[low + 1 : low + 1 + count - len(made)]
            if not pairs:
                made.append(self.next(self._ms))
                continue
            same = self._last[:-2]
            made += [same + pair for pair in pairs]
            self._value += len(pairs)
            self._last = made[-1]
        return made

    def leap(self) -> None:
        """Goes on somewhere in the 2**64 ids above the last one: for ids that are drawn without the lock, while another
        process that has seen the same last one may draw those that follow it."""
        if self._value >= 0:
            value = min(self._value + random.getrandbits(_LEAP_BITS), _MAX_VALUE)
            self._raise_floor(_encode_time(value >> _RANDOM_BITS) + _encode_low(value & _RANDOM_MASK))

    def follow(self, id: str) -> None:
        """Raise the floor to `id`, the last one that the store itself gave: trusted however far ahead of the clock it
        lies, so that ids go on upwards after the clock was set back. Under 0.1 us when it is not above the floor."""
        if id > self._last and _is_canonical(id):
            self._raise_floor(id)

    def _raise_floor(self, id: str) -> None:
        self._value = _decode(id)
        self._ms = self._value >> _RANDOM_BITS
        self._prefix = id[:10]
        self._last = id


def derive_id(ms: int, *parts: str) -> str:
    """The ULID that always stands for `parts`: time `ms` (milliseconds since the epoch), the rest from their SHA-256.

    For things whose own id cannot be used. ("a", "bc") and ("ab", "c") give different ids. About 2 us. Raises
    ValueError when `ms` does not fit into 48 bits.
    """
    if not 0 <= ms <= _MAX_MS:
        raise ValueError(f"time {ms} does not fit into a ULID")
    told = b""
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        size = len(data)
        told += (_SIZES[size] if size < 256 else size.to_bytes(8, "big")) + data
    digest = hashlib.sha256(told).digest()
    return _encode_time(ms) + _encode_low(int.from_bytes(digest[:10], "big"))


def is_ulid(s: str) -> bool:
    """Whether `s` is a ULID in canonical form: 26 upper-case Crockford base-32 digits, at most 128 bits."""
    return _is_canonical(s) is not None


def ulid_time(s: str) -> int:
    """Milliseconds since the epoch at which the ULID `s` was made. Raises ValueError when it is none."""
    if not is_ulid(s):
        raise ValueError(f"not a ULID: {s!r}")
    return _decode(s) >> _RANDOM_BITS


def _decode(ulid: str) -> int:
    return int(ulid.encode().translate(_TO_BASE32), 32)


def _encode_time(ms: int) -> str:
    return _encode_second(ms >> 10) + _PAIRS[ms & 1023]


@lru_cache(maxsize=4)
def _encode_second(upper: int) -> str:
    # Changes once in 1,024 ms: not worth encoding again for each id.
    return f"{_PAIRS[upper >> 30]}{_PAIRS[upper >> 20 & 1023]}{_PAIRS[upper >> 10 & 1023]}{_PAIRS[upper & 1023]}"


def _encode_low(low: int) -> str:
    p, upper, lower = _PAIRS, low >> 40, low & 0xFF_FFFF_FFFF
    return (
        f"{p[upper >> 30]}{p[upper >> 20 & 1023]}{p[upper >> 10 & 1023]}{p[upper & 1023]}"
        f"{p[lower >> 30]}{p[lower >> 20 & 1023]}{p[lower >> 10 & 1023]}{p[lower & 1023]}"
    )
