"""Files that Codex has compressed (`.jsonl.zst`), read without unpacking them to anywhere. Needs the package zstandard.

Invariant: a file that was cut off gives what is left of it and then an `OSError`, never a mere end: what is missing is
in the report. Verified by `tests/unit/test_codex_files.py`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["PACKED", "can_unpack", "opened"]

PACKED = ".zst"
_CHUNK = 4096
"""Bytes unpacked at a time: they may stand for thirty thousand times as many."""


def can_unpack() -> bool:
    """Whether the package is here."""
    return importlib.util.find_spec("zstandard") is not None


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file for reading, unpacked where it is compressed; raises `OSError`, also when read."""
    with path.open("rb") as file:
        if path.suffix != PACKED:
            yield file
            return
        zstandard = importlib.import_module("zstandard")
        with io.BufferedReader(_Unpacked(file, zstandard)) as unpacked:
            yield unpacked


class _Unpacked(io.RawIOBase):
    """The bytes that a compressed file stands for: those of its frames, one after the other."""

    def __init__(self, file: BinaryIO, zstandard: Any) -> None:
        self._file = file
        self._zstandard = zstandard
        self._frame: Any = None
        self._next = b""  # Read, and not yet unpacked.
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """That it is read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fills a buffer as far as the bytes that are unpacked go, 0 at the end."""
        while not self._ready:
            raw = self._next or self._file.read(_CHUNK)
            if not raw:
                if self._frame is not None:
                    raise OSError(None, "a compressed file that is cut off")
                return 0
            self._ready = memoryview(self._unpack(raw))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self, raw: bytes) -> bytes:
        if self._frame is None:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            unpacked: bytes = self._frame.decompress(raw)
        except self._zstandard.ZstdError as error:
            raise OSError(None, f"not what zstandard can unpack: {error}") from error
        self._next = b""
        if self._frame.eof:
            self._next, self._frame = self._frame.unused_data, None
        return unpacked
