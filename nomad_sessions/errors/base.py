"""The base of every error, and how they name things."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["NomadSessionsError", "at", "plain", "short"]

_Error = TypeVar("_Error", bound="NomadSessionsError")


def _make_short() -> reprlib.Repr:
    cut = reprlib.Repr()
    cut.maxstring = cut.maxother = 80
    return cut


# reprlib cuts before it formats: a 10 MB text or a value nested 1,000 deep must not cost, or break, its own error.
short = _make_short().repr


class NomadSessionsError(Exception):
    """Base of every error of this package. `message` is the one line that `str()` gives."""

    def __init__(self, *, message: str) -> None:
        self.message = " ".join(message.splitlines())
        super().__init__(self.message)

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, and OSError prefixes the number: neither is a sentence.
        return self.message

    def __reduce__(self) -> tuple[Callable[..., NomadSessionsError], tuple[Any, ...], dict[str, Any]]:
        state = dict(self.__dict__)
        if isinstance(self, OSError):
            state.update(errno=self.errno, strerror=self.strerror, filename=self.filename)
        return _blank, (type(self), self.args), state


def _blank(cls: type[_Error], args: tuple[Any, ...]) -> _Error:
    """An instance without its fields: pickle puts them in. The default calls `cls(*args)`, but these take keywords."""
    error = cls.__new__(cls)
    error.args = args
    return error


def plain(text: str) -> str:
    """A path or name for a message: as it is, except that what a terminal cannot print is escaped."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")


def at(path: str) -> str:
    """Where, for a message; nothing for no path."""
    return f" at {plain(path)}" if path else ""
