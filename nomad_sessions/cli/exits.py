"""Exit codes, and errors as one line on stderr. Scripts may rely on the codes; the README lists them too."""

from __future__ import annotations

import contextlib
import errno
import functools
import sys
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NoReturn, ParamSpec

import typer

from nomad_sessions.errors import (
    AlreadyExistsError,
    ConflictError,
    IllegalTransitionError,
    InvalidInputError,
    LockTimeoutError,
    NomadSessionsError,
    NoRouteError,
    NotFoundError,
)

__all__ = ["EXIT_CODES", "Exit", "exit_code", "guarded", "name_unreadable"]

P = ParamSpec("P")


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    PROBLEM = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    STORAGE = 5
    LOCKED = 6
    INTERRUPTED = 130
    PIPE_CLOSED = 141


EXIT_CODES = (
    "Exit codes: 0 done; 1 check or doctor found something, or an import left records out; 2 wrong usage or input; "
    "3 not found; 4 conflict; 5 storage: damaged, full, read-only or not to be read; 6 lock timeout; 130 interrupted; "
    "141 the reader of a pipe went away."
)

_CODES: tuple[tuple[type[BaseException], Exit], ...] = (  # the first that fits
    (LockTimeoutError, Exit.LOCKED),
    (NotFoundError, Exit.NOT_FOUND),
    (NoRouteError, Exit.NOT_FOUND),
    (InvalidInputError, Exit.USAGE),
    (ConflictError, Exit.CONFLICT),
    (AlreadyExistsError, Exit.CONFLICT),
    (IllegalTransitionError, Exit.CONFLICT),
    (NomadSessionsError, Exit.STORAGE),
    (BrokenPipeError, Exit.PIPE_CLOSED),
    (FileNotFoundError, Exit.NOT_FOUND),
    (IsADirectoryError, Exit.USAGE),
    (OSError, Exit.STORAGE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)


def exit_code(error: BaseException) -> Exit:
    """The code for an error that a command ends with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.PROBLEM)


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors end it with one line on stderr and the code that fits, and no traceback.

    Only errors that name what is wrong are turned into lines: ours, the operating system's, and Ctrl-C. Anything else
    is a bug and shows its traceback.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # A reader that went away is noticed here, not while the interpreter shuts down.
        except BrokenPipeError:
            with contextlib.suppress(BrokenPipeError):
                sys.stdout.close()  # else Python flushes it once more at exit, and prints a warning about that
            raise typer.Exit(Exit.PIPE_CLOSED) from None
        except typer.Abort:  # Ctrl-C or the end of stdin at a question
            _fail(KeyboardInterrupt())
        except (NomadSessionsError, OSError, KeyboardInterrupt) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
                with contextlib.suppress(OSError):
                    sys.stdout.close()  # As above.
                error = OSError(error.errno, error.strerror, "stdout")  # Every file of the store has its name.
            _fail(error)

    return run


def name_unreadable(found: Iterable[tuple[str, str]]) -> bool:
    """Says on stderr which workspaces could not be read, and why; whether there were any. What they are in the way of
    is done for all others first."""
    lines = [f"nomad-sessions: the workspace {name} was left out: {' '.join(reason.split())}" for name, reason in found]
    print("\n".join(lines), end="\n" if lines else "", file=sys.stderr)
    return bool(lines)


def _fail(error: BaseException) -> NoReturn:
    text = "interrupted" if isinstance(error, KeyboardInterrupt) else _line(error)
    print(f"nomad-sessions: {text}", file=sys.stderr)
    raise typer.Exit(exit_code(error)) from None


def _line(error: BaseException) -> str:
    if isinstance(error, NomadSessionsError) or not isinstance(error, OSError) or error.filename is None:
        return " ".join(str(error).split())
    return f"{error.filename}: {error.strerror or 'cannot be read'}"
