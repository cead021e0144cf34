"""The work that every store is given: messages of 1 KB, appended one at a time to one conversation."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import ClassVar

MESSAGE_CHARS = 1024
# What one add of such a message puts into our journal, near enough to compare by while our side is not measured.
RECORD_BYTES = 1415

_WORDS = "the agent read the file, ran the tests again and wrote what it had found into the session; "


def text_of(number: int) -> str:
    """The text of message `number`: MESSAGE_CHARS characters of ASCII, no two alike."""
    head = f"{number:08d} "
    return (head + _WORDS * (MESSAGE_CHARS // len(_WORDS) + 1))[:MESSAGE_CHARS]


class PeerMissing(Exception):
    """A library to compare with is not installed; the report lists it so instead of leaving it out."""


def need(module: str) -> ModuleType:
    """Import a library to compare with, only when it is its turn. Raises PeerMissing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise PeerMissing(f"not installed (no module {error.name})") from error


class Appender(ABC):
    """One store, driven as its documentation says. `fill` comes before `open`, `kept` after `close`."""

    name: ClassVar[str]
    distribution: ClassVar[str] = ""
    # May be opened by several processes at once (the raw append alone is not meant to be).
    shared: ClassVar[bool] = True

    def __init__(self, folder: Path, size: int = RECORD_BYTES) -> None:
        self.folder = folder
        self.size = size

    @abstractmethod
    def fill(self, count: int) -> None:
        """Bring an empty folder to `count` messages in the cheapest way that the store has."""

    @abstractmethod
    def open(self) -> None:
        """Open for appending, creating what is missing."""

    @abstractmethod
    def append(self, text: str) -> None:
        """Append one message and return once it is as safe as this store makes it."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the handle."""

    @abstractmethod
    def kept(self) -> int:
        """How many messages a fresh reader finds."""
