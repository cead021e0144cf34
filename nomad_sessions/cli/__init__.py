"""The command `nomad-sessions`. Importing this loads neither typer nor rich; `main` says so where they are missing."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """The entry point of the console script. Exits with the codes of `exits.Exit`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # It was closed by who started this: nothing is read, what is printed goes nowhere.
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # Until the process ends.
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A terminal may not have every letter.
    try:
        _run()
    except KeyboardInterrupt:  # While the command was being loaded: later, `exits.guarded` says so.
        print("nomad-sessions: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        # All is closed. What drivers tidy up when the interpreter ends would show a traceback, and exit with 0.
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run() -> None:
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"nomad-sessions: the command line needs {' and '.join(missing)}: pip install 'nomad-sessions[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from nomad_sessions.cli.app import app

    # What it says of files that go away while it is being stopped is nothing for people.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    app(prog_name="nomad-sessions")
