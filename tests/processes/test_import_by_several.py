"""An import by several processes brings in what one would, and what stops one of them loses nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import DataDirError, LockTimeoutError
from nomad_sessions.formats import IMPORTERS, Found, Importer, ImportReport, histories, import_history
from nomad_sessions.formats.claude import IMPORTER as CLAUDE
from nomad_sessions.formats.workers import Job, import_by_several
from nomad_sessions.models import dump
from tests.fuzz.seeds import sources_of

SAMPLES = Path(__file__).parents[1] / "fixtures" / "claude" / "projects"
PROJECTS = 4

pytestmark = pytest.mark.processes


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same sessions in several projects, in files of other names."""
    monkeypatch.setattr(histories, "_WORTH_SEVERAL", 1)
    (source,) = [each for each in SAMPLES.iterdir() if each.is_dir()]
    for project in range(PROJECTS):
        for file in source.glob("*.jsonl"):
            made = tmp_path / "projects" / f"p{project}" / f"{project}{file.name[1:]}"
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text(file.read_text().replace("/home/dev/demo", f"/home/dev/p{project}"))
    return tmp_path / "projects"


def contents(data: Path) -> dict[str, object]:
    with NativeSessionManager(data) as m:
        assert all(m.check(each).ok for each in m.list_workspaces())
        return {
            f"{ws}/{session.id}": [{**dump(each), "rev": 0} for each in m.get_session_messages(ws, session.id)]
            for ws in m.list_workspaces()
            for session in m.list_sessions(ws)
        }


def told(report: ImportReport) -> dict[str, object]:
    return {**report.as_dict(), "sessionIds": sorted(report.session_ids), "warnings": sorted(report.warnings)}


def test_two_processes_import_what_one_does(history: Path, tmp_path: Path) -> None:
    with (history / "p1" / "torn.jsonl").open("w") as file:
        file.write((next((history / "p1").glob("*.jsonl"))).read_text()[:-5])
    done: list[int] = []
    with NativeSessionManager(tmp_path / "one") as m:
        alone = import_history(m, CLAUDE, history)
    with NativeSessionManager(tmp_path / "two") as m:
        report = import_history(m, CLAUDE, history, processes=2, progress=lambda size, whole: done.append(whole - size))
        assert import_history(m, CLAUDE, history, processes=2).sessions.unchanged == report.sessions.read
    assert told(report) == told(alone)
    assert report.skipped
    assert report.sessions.imported > PROJECTS
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert done == sorted(done, reverse=True)
    assert done[-1] == 0


def take_or_die(manager: NativeSessionManager, found: Found, workspace_id: str, report: ImportReport) -> None:
    histories._take(manager, found, workspace_id, report)
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_error_and_the_next_import_goes_on(history: Path, tmp_path: Path) -> None:
    report = ImportReport(str(history), CLAUDE.name)
    jobs: dict[str, list[Found]] = {}
    for found in CLAUDE.sessions(history, report):
        jobs.setdefault(Path(found.directory or "").name, []).append(found)
    several = [Job(name, sessions, take_or_die) for name, sessions in jobs.items()]
    with NativeSessionManager(tmp_path / "data") as m:
        with pytest.raises(ChildProcessError, match="start it again"):
            import_by_several(m, several, 2, report, lambda size: None)
        assert sum(m.list_sessions(each).total for each in m.list_workspaces()) >= 1
        again = import_history(m, CLAUDE, history, processes=2)
        assert again.sessions.unchanged >= 1
        assert again.sessions.unchanged + again.sessions.imported == again.sessions.read
    with NativeSessionManager(tmp_path / "one") as m:
        import_history(m, CLAUDE, history)
    there = {key.split("/")[1]: value for key, value in contents(tmp_path / "data").items()}
    assert there == {key.split("/")[1]: value for key, value in contents(tmp_path / "one").items()}


def test_an_exception_here_ends_the_others_after_the_session_that_they_are_at(history: Path, tmp_path: Path) -> None:
    def interrupted(size: int, whole: int) -> None:
        raise KeyboardInterrupt

    with NativeSessionManager(tmp_path / "data") as m:
        with pytest.raises(KeyboardInterrupt):
            import_history(m, CLAUDE, history, processes=2, progress=interrupted)
        rest = import_history(m, CLAUDE, history)
        assert rest.sessions.read == rest.sessions.unchanged + rest.sessions.imported
        assert rest.sessions.unchanged >= 1
    with NativeSessionManager(tmp_path / "one") as m:
        import_history(m, CLAUDE, history)
    assert contents(tmp_path / "data") == contents(tmp_path / "one")


def test_a_process_that_cannot_begin_leaves_its_job_to_this_one(
    history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, begun = ProcessPoolExecutor.submit, []

    def submit(pool: ProcessPoolExecutor, *args: Any) -> Future[Any]:
        begun.append(args)
        if len(begun) in refused:
            raise BlockingIOError(errno.EAGAIN, "no more processes")
        return real(pool, *args)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with NativeSessionManager(tmp_path / "one") as m:
        alone = import_history(m, CLAUDE, history)
    for refused in ({1}, {2}, {1, 2, 3}):
        begun.clear()
        with NativeSessionManager(tmp_path / str(refused)) as m:
            report = import_history(m, CLAUDE, history, processes=2)
        assert begun
        assert told(report) == told(alone)
        assert contents(tmp_path / str(refused)) == contents(tmp_path / "one")
    assert "no more processes" in caplog.text


def test_what_the_progress_raises_is_no_trouble_of_a_workspace(history: Path, tmp_path: Path) -> None:
    told = []

    def refusing(size: int, whole: int) -> None:
        told.append(size)
        if len(told) == 1:
            raise LockTimeoutError(path="of the caller's", waited=1)

    with NativeSessionManager(tmp_path / "data") as m, pytest.raises(LockTimeoutError, match="caller"):
        import_history(m, CLAUDE, history, processes=2, progress=refusing)


def test_what_a_process_cannot_write_is_the_typed_error(history: Path, tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as m:
        for project in range(PROJECTS):
            folder = tmp_path / "data" / m.workspace_for(f"/home/dev/p{project}")
            shutil.rmtree(folder, ignore_errors=True)
            folder.write_text("in the way")
        with pytest.raises(DataDirError):
            import_history(m, CLAUDE, history, processes=2)


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda each: each.name)
def test_the_sessions_of_every_importer_can_be_read_in_another_process(importer: Importer, tmp_path: Path) -> None:
    source = sources_of(importer.name)[0]
    for name, data in source.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    sessions = list(importer.sessions(tmp_path / source.root, ImportReport()))
    assert sessions
    for found in sessions:
        here, there = ImportReport(), ImportReport()
        again: Found = pickle.loads(pickle.dumps(found))
        assert again.read(there) == found.read(here)
        assert there == here
