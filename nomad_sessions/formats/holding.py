"""Messages of a session so large that it is not held in memory: as JSON in a file of the system's temporary folder.

The file is this process's alone, and nothing of it stays. Verified by `tests/unit/test_large_import.py`.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from typing import Any, overload

from nomad_sessions.formats.values import finite
from nomad_sessions.storage.codec import decode, encode
from nomad_sessions.workspace.lines import Written
from nomad_sessions.workspace.state import Body

__all__ = ["LARGE", "Bodies", "Held", "holder", "like"]

LARGE = 32 << 20
"""Bytes of a source from which on its messages are not held in memory."""
_KEPT = 16 << 20


class _File:
    """Bytes out of memory; closed when nobody refers to it any more."""

    def __init__(self) -> None:
        file = tempfile.TemporaryFile(prefix="nomad-sessions-")  # noqa: SIM115  # It is closed below.
        weakref.finalize(self, file.close)
        self._file = file
        self._end = 0

    def add(self, data: bytes) -> int:
        """Adds bytes; the offset of the first."""
        start = self._end
        self._file.seek(start)
        self._file.write(data)
        self._end += len(data)
        return start

    def read(self, offset: int, size: int) -> bytes:
        """Bytes that were added."""
        self._file.seek(offset)
        return self._file.read(size)


class Held(Sequence[dict[str, Any]]):
    """Messages that are decoded anew each time one is asked for. One that is added must not be changed afterwards.
    Those of a session and of all that is inside of it can be in one file: `beside`."""

    def __init__(self, beside: Held | None = None) -> None:
        self._file: _File = beside._file if beside is not None else _File()
        self._places: list[tuple[int, int]] = []

    def append(self, message: dict[str, Any]) -> None:
        """Adds a message."""
        try:
            data = encode(message)
        except ValueError:
            data = encode(finite(message))
        self._places.append((self._file.add(data), len(data)))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._read(place) for place in self._places[index]]
        return self._read(self._places[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._read, self._places)

    def _read(self, place: tuple[int, int]) -> dict[str, Any]:
        message: dict[str, Any] = decode(self._file.read(*place))
        return message


def holder(size: int, beside: Sequence[dict[str, Any]] = ()) -> MutableSequence[dict[str, Any]] | Held:
    """What to add the messages of a session to, whose source has so many bytes; `beside` are those of another session
    of that source."""
    return Held(beside if isinstance(beside, Held) else None) if size >= LARGE else []


def like(held: Sequence[dict[str, Any]], messages: Iterable[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Other messages, held as these are."""
    if not isinstance(held, Held):
        return list(messages)
    made = Held(held)
    for message in messages:
        made.append(message)
    return made


class _Apart(Written):
    """A message whose JSON is in a file."""

    __slots__ = ("_at", "_file", "_size")

    def __init__(self, body: Written, file: _File) -> None:
        super().__init__(body, b"", b"")
        data = b"".join(body.json())
        self._file = file
        self._at = file.add(data)
        self._size = len(data)

    @property
    def size(self) -> int:
        """The bytes of its JSON."""
        return self._size

    def json(self) -> tuple[bytes, bytes]:
        """Its JSON."""
        return self._file.read(self._at, self._size), b""


class Bodies:
    """Messages to be stored, in order: in memory up to some size of all together, those that follow in a file."""

    def __init__(self) -> None:
        self.all: list[Body] = []
        self._size = 0
        self._file: _File | None = None

    def append(self, body: Body) -> None:
        """Adds a message."""
        if isinstance(body, Written):
            self._size += body.size
            if self._size > _KEPT:
                self._file = self._file or _File()
                body = _Apart(body, self._file)
        self.all.append(body)
