"""The command `nomad-sessions`. Importing this loads neither typer nor rich; `main` says so where they are missing."""

from __future__ import annotations

import importlib.util
import logging
import sys

__all__ = ["main"]

_FILES = 10_240
"""What macOS allows at most."""


def main() -> None:
    """The entry point of the console script. Exits with the codes of `exits.Exit`."""
    missing = [name for name in ("typer", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"nomad-sessions: the command line needs {' and '.join(missing)}: pip install 'nomad-sessions[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    from nomad_sessions.cli.app import app

    _allow_many_files()
    # What it says of files that go away while it is being stopped is nothing for people.
    logging.getLogger("watchdog").addHandler(logging.NullHandler())
    app(prog_name="nomad-sessions")


def _allow_many_files() -> None:
    """As many open files as this process may have: commands that are about all workspaces open each, with two files,
    and 1,024 are the usual limit until somebody asks for more."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit.
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
