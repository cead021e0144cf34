"""One case of the fuzz: a source with mishaps, imported into a store that has those of the cases before it."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, Tally, import_file, import_history
from nomad_sessions.formats.registry import Format, importer_of
from nomad_sessions.storage.codec import encode
from tests.fuzz.databases import is_database, struck_database
from tests.fuzz.mishaps import altered, struck
from tests.fuzz.seeds import TARGETS, Files, sources_of

__all__ = ["BLOCK", "run_block"]

BLOCK = 50
"""How many cases go into one store."""
_SECONDS = 5.0
_AGAIN = 20
"""One case in this many is imported a second time."""


def run_block(target: str, first: int, count: int, folder: Path) -> int:
    """Runs the cases of these numbers in one store; how many messages it has in the end."""
    data = folder / "data"
    with NativeSessionManager(data, durability="os") as m:
        for number in range(first, first + count):
            with _Named(target, first, number), _watched():
                _Case(m, target, number, folder).run()
    with _Named(target, first, first + count - 1), NativeSessionManager(data, durability="os") as m:
        return sum(_read_all(m, each) for each in m.list_workspaces())


class _Named:
    """Says of whatever goes wrong in which case it did, and how to have it once more."""

    def __init__(self, target: str, first: int, number: int) -> None:
        self.target = target
        self.first = first
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(f"case {self.number} of {self.target} alone: {self._again(self.number)}")
            print(f"with those before it in its store: {self._again(self.first)}")

    def _again(self, first: int) -> str:
        settings = f"NOMAD_SESSIONS_FUZZ_FIRST={first} NOMAD_SESSIONS_FUZZ_CASES={self.number + 1 - first}"
        return f"{settings} pytest tests/fuzz -k '[{self.target}-{first}]'"


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Fails for what takes more than five seconds of the processor's time; other processes' time does not count."""
    start = time.process_time()
    if hasattr(signal, "setitimer"):
        before = signal.signal(signal.SIGPROF, _give_up)
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    else:
        yield
    assert time.process_time() - start < _SECONDS, "the case took too long"


def _give_up(number: int, frame: FrameType | None) -> None:
    pytest.fail(f"the case hangs: it has taken {_SECONDS:g} seconds")


class _Case:
    """One case; all that is drawn for it follows from its target and number."""

    def __init__(self, manager: NativeSessionManager, target: str, number: int, folder: Path) -> None:
        self.chance = random.Random(f"{target} {number}")
        self.manager = manager
        self.target = TARGETS[target]
        self.number = number
        source = self.chance.choice(sources_of(target))
        self.folder = folder / self.chance.choice(["source", "source", "copy"])
        self.files = _mangled(source.files, self.chance)
        self.path = self.folder / source.root
        self.workspace = self.chance.choice(["ws", "ws", f"ws-{number}", f"ws-{number}", None])

    def run(self) -> None:
        """Imports the source, and holds what came of it against what was promised."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        for name, data in self.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        importer_of(self.path)
        report = self._import()
        if report is not None:
            _is_accounted_for(report)
            self._is_stored(report)
            if self.number % _AGAIN == 0:
                self._is_unchanged_by_another()
        assert _files_in(self.folder) == _without_index(self.files), "the source was changed"

    def _import(self) -> ImportReport | None:
        if not isinstance(self.target, Format):
            return import_history(self.manager, self.target, self.path, workspace_id=self.workspace)
        try:
            return import_file(self.manager, self.workspace or "ws", self.path, anywhere=self.workspace is None)
        except (InvalidInputError, FileNotFoundError):
            return None

    def _is_stored(self, report: ImportReport) -> None:
        for workspace in self.manager.list_workspaces() if report.session_ids else ():
            for session_id in report.session_ids:
                session = self.manager.get_session(workspace, session_id)
                if session is not None:
                    page = self.manager.get_session_messages(workspace, session_id)
                    assert [message.id for message in page] == session.message_ids

    def _is_unchanged_by_another(self) -> None:
        before = self._seqs()
        again = self._import()
        assert again is not None
        _is_accounted_for(again)
        assert (again.messages.imported, again.messages.updated) == (0, 0), "a second import found something new"
        assert self._seqs() == before, "a second import changed something"

    def _seqs(self) -> dict[str, int]:
        return {each: self.manager.status(each).seq for each in self.manager.list_workspaces()}


def _mangled(files: Files, chance: random.Random) -> Files:
    """Files with something wrong with one or two of them, or with which there are."""
    files = dict(files)
    for _ in range(chance.choice([1, 1, 1, 2])):
        if not files:
            break
        name, other = chance.choice(list(files)), chance.choice(list(files))
        draw = chance.random()
        if draw < 0.08:
            files[name] = chance.randbytes(chance.randint(0, 3_000))
        elif draw < 0.12:
            files[name] = files[other]
        elif draw < 0.14:
            del files[name]
        elif is_database(files[name]):
            files |= struck_database(name, files[name], chance)
        else:
            changed = altered(files[name], chance) if draw < 0.7 else None
            files[name] = struck(files[name], files[other], chance) if changed is None else changed
    return files


def _files_in(folder: Path) -> Files:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return _without_index(files)


def _without_index(files: Files) -> Files:
    """Files but for the index of a log, in which whoever reads a database says that he does."""
    return {name: data for name, data in files.items() if not name.endswith("-shm")}


def _is_accounted_for(report: ImportReport) -> None:
    for tally in (report.sessions, report.messages):
        assert tally.read == _told(tally), report
    encode(report.as_dict())


def _told(tally: Tally) -> int:
    return tally.imported + tally.updated + tally.unchanged + tally.skipped


def _read_all(m: NativeSessionManager, workspace: str) -> int:
    """Reads a workspace whole, before and after its journal is folded; how many messages it has."""
    counts = []
    for _ in range(2):
        pages = [
            m.get_session_messages(workspace, each.id, include_reverted=True) for each in m.list_sessions(workspace)
        ]
        counts.append(sum(map(len, pages)))
        assert m.check(workspace).ok, m.check(workspace).problems
        m.checkpoint(workspace)
    assert counts[0] == counts[1]
    return counts[0]
