"""What every importer gives: the sessions of one source, found without being read, each then read whole.

An importer never writes to its source, and never raises for what it finds in it: a record that cannot be kept is in the
report, with its place. Adding one: a module with an `IMPORTER`, and a line in `registry.py`.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nomad_sessions.formats.report import ImportReport, ParsedSession

__all__ = ["Computer", "Found", "Importer", "Original", "files_below", "stamp_of"]


@dataclass(frozen=True)
class Computer:
    """Where tools keep their histories: a home folder, environment variables, `platform` as `sys.platform` has it, and
    the current folder, None where there is none."""

    home: Path
    env: Mapping[str, str]
    platform: str
    current: Path | None = None

    @classmethod
    def here(cls) -> Computer:
        """This computer, for this user."""
        try:
            current = Path.cwd()
        except FileNotFoundError:  # Somebody has removed it.
            current = None
        return cls(Path.home(), os.environ, sys.platform, current)

    def folder(self, variable: str, *default: str) -> Path:
        """The folder that an environment variable names where it is set, else one below the home folder."""
        chosen = self.env.get(variable)
        return Path(chosen).expanduser() if chosen else self.home.joinpath(*default)

    def nearest(self, *name: str) -> list[Path]:
        """What has this name in the current folder, or in the nearest one above it; nothing where none has."""
        above = () if self.current is None else (self.current, *self.current.parents)
        return [each.joinpath(*name) for each in above if each.joinpath(*name).exists()][:1]

    def data_home(self) -> Path:
        """`XDG_DATA_HOME`, or what stands for it."""
        return self.folder("XDG_DATA_HOME", ".local", "share")


@dataclass(frozen=True)
class Original:
    """What a session is read from, to be kept as it is: what to call it, and its bytes, in pieces of any size.

    `read` begins anew at each call; what it gives raises `OSError`. An empty piece says that what follows changes more
    often than what was before.
    """

    name: str
    read: Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Found:
    """One session of a source, before it is read.

    `id` is the session's id here; `directory` the project folder it belongs to, None where the source does not say.
    `stamp` changes whenever what the session is read from changes: an import that finds it again reads nothing. `size`
    is in bytes, for progress. `read` gives the session, or None where nothing can be kept of it (then the report says
    why); the counts of what it read go to the report. `original` is None where what is stored says all that the source
    does. Not `alone` is one of which the source has another with this id.
    """

    id: str
    directory: str | None
    stamp: str
    size: int
    place: str
    read: Callable[[ImportReport], ParsedSession | None]
    original: Original | None = None
    alone: bool = True


@dataclass(frozen=True)
class Importer:
    """One tool's histories.

    `locate` names the places where the tool keeps them on a computer, whether they exist or not. `sniff` says whether
    a file or folder is one of the tool's; it reads little and never raises. `sessions` finds all sessions in such a
    place; what it skips goes to the report. `lacks` says in a sentence what the importer does not take.
    """

    name: str
    label: str
    locate: Callable[[Computer], list[Path]]
    sniff: Callable[[Path], bool]
    sessions: Callable[[Path, ImportReport], Iterator[Found]]
    lacks: str = ""


def files_below(folder: Path, pattern: str, report: ImportReport | None = None) -> list[Path]:
    """The files below a folder whose names match, sorted. With a report, which gets the folders that cannot be read,
    also those behind links that stand right in it, as a project may; further down no link is followed."""
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()

    def refused(error: OSError) -> None:
        if report is not None:
            report.skip(str(error.filename), f"the folder cannot be read: {error.strerror}")

    def walk(root: Path) -> None:
        for place, folders, files in os.walk(root, onerror=refused):
            here = _identity(place)
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            found.extend(Path(place, name) for name in fnmatch.filter(files, pattern))
            if report is not None and place == str(folder):
                links.extend(each for name in folders if (each := Path(place, name)).is_symlink())

    links: list[Path] = []
    walk(folder)
    for link in sorted(links):
        walk(link)
    return sorted(path for path in found if path.is_file())


def _identity(folder: str) -> tuple[int, int]:
    try:
        stat = os.stat(folder)
    except OSError:  # It is gone; what was in it says so when it is read.
        return 0, 0
    return stat.st_dev, stat.st_ino


def stamp_of(*paths: Path) -> str:
    """What changes when one of these files does: sizes and times of change. A file that is gone counts as empty."""
    parts = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{stat.st_size}.{stat.st_mtime_ns}")
    return " ".join(parts)
