"""A tool's history comes into the workspaces of its projects: once, again where it grew, to the end after a stop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import IMPORTERS, ImportReport, Tally, import_history, importer_of, survey_history
from nomad_sessions.formats.claude import IMPORTER as CLAUDE
from tests.support.there import there

SAMPLES = Path(__file__).parents[1] / "fixtures" / "claude" / "projects"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES, tmp_path / "projects"))


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    return NativeSessionManager(tmp_path / "data")


def contents(m: NativeSessionManager, report: ImportReport, ws: str) -> dict[str, list[str]]:
    return {each: [message.content for message in m.get_session_messages(ws, each)] for each in report.session_ids}


def test_each_project_folder_gets_its_workspace(m: NativeSessionManager, history: Path) -> None:
    report = import_history(m, CLAUDE, history)
    assert (report.sessions, report.messages) == (Tally(read=3, imported=3), Tally(read=18, imported=18))
    assert report.complete
    ws = m.workspace_for("/home/dev/demo", create=False)
    assert m.list_workspaces() == [ws]
    assert [session.title for session in m.list_sessions(ws)] == [
        "Find callers",
        "Fix slugify and add a test",
        "Slug fix",
    ]
    for session_id in report.session_ids:
        session = there(m.get_session(ws, session_id))
        assert session.directory == "/home/dev/demo"
        assert session.updated_at == max(each.updated_at for each in m.get_session_messages(ws, session_id))
    assert m.check(ws).ok


def test_a_workspace_can_be_named(m: NativeSessionManager, history: Path) -> None:
    import_history(m, CLAUDE, history, workspace_id="all")
    assert m.list_workspaces() == ["all"]
    assert m.list_sessions("all").total == 3


def test_a_second_import_reads_nothing_and_changes_nothing(m: NativeSessionManager, history: Path) -> None:
    first = import_history(m, CLAUDE, history)
    (ws,) = m.list_workspaces()
    before, seq = contents(m, first, ws), m.status(ws).seq
    second = import_history(m, CLAUDE, history)
    assert (second.sessions, second.messages) == (Tally(read=3, unchanged=3), Tally(read=18, unchanged=18))
    assert (m.status(ws).seq, contents(m, second, ws)) == (seq, before)


def test_a_file_that_was_only_touched_gives_no_message_again(m: NativeSessionManager, history: Path) -> None:
    first = import_history(m, CLAUDE, history)
    (ws,) = m.list_workspaces()
    before = contents(m, first, ws)
    for path in history.rglob("*.jsonl"):
        path.touch()
    again = import_history(m, CLAUDE, history)
    assert again.messages == Tally(read=18, unchanged=18)
    assert contents(m, again, ws) == before


def test_what_a_history_has_grown_by_is_added_and_local_edits_stay(m: NativeSessionManager, history: Path) -> None:
    path = next(history.glob("*/5f2b*.jsonl"))
    first = import_history(m, CLAUDE, path)
    (ws,) = m.list_workspaces()
    (session_id,) = first.session_ids
    edited = m.get_session_messages(ws, session_id)[0]
    m.update_message(ws, edited.id, metadata={"starred": True})
    record = json.loads(path.read_text().splitlines()[0])
    record |= {"uuid": "new", "parentUuid": "00000000-0000-4000-8000-000000000008"}
    record |= {"timestamp": "2026-01-01T11:00:00.000Z", "message": {"role": "user", "content": "One more thing"}}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")
    second = import_history(m, CLAUDE, path)
    assert second.messages == Tally(read=6, imported=1, unchanged=5)
    page = m.get_session_messages(ws, session_id)
    assert [each.content for each in page][-1] == "One more thing"
    assert page[0].metadata == {"starred": True}
    assert import_history(m, CLAUDE, path).messages.unchanged == 6


def test_an_import_that_is_interrupted_is_completed_by_repeating_it(m: NativeSessionManager, history: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_history(m, CLAUDE, history, progress=stop)
    (ws,) = m.list_workspaces()
    assert 0 < m.list_sessions(ws).total < 3
    report = import_history(m, CLAUDE, history)
    assert report.sessions.imported + report.sessions.unchanged == 3
    assert sum(len(each) for each in contents(m, report, ws).values()) == 18


def test_progress_goes_from_the_first_byte_to_the_last(m: NativeSessionManager, history: Path) -> None:
    seen: list[tuple[int, int]] = []
    import_history(m, CLAUDE, history, progress=lambda done, total: seen.append((done, total)))
    size = sum(path.stat().st_size for path in history.rglob("*.jsonl"))
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_a_survey_counts_and_changes_nothing(m: NativeSessionManager, history: Path, tmp_path: Path) -> None:
    found = survey_history(m, CLAUDE, history)
    assert (found.sessions, found.new, found.changed) == (3, 3, 0)
    assert not (tmp_path / "data").exists()
    import_history(m, CLAUDE, history)
    next(history.glob("*/5f2b*.jsonl")).touch()
    found = survey_history(m, CLAUDE, history)
    assert (found.sessions, found.new, found.changed) == (3, 0, 1)


def test_a_session_of_another_systems_folder_has_a_workspace_too(m: NativeSessionManager, history: Path) -> None:
    path = next(history.glob("*/5f2b*.jsonl"))
    path.write_text(path.read_text().replace('"/home/dev/demo"', '"C:\\\\work\\\\demo"'))
    import_history(m, CLAUDE, path)
    (ws,) = m.list_workspaces()
    assert there(m.list_sessions(ws)[0].directory) == "C:\\work\\demo"


def test_a_session_that_says_no_folder_goes_to_the_tool_s_own_workspace(m: NativeSessionManager, history: Path) -> None:
    path = next(history.glob("*/5f2b*.jsonl"))
    path.write_text(path.read_text().replace('"cwd":"/home/dev/demo",', ""))
    import_history(m, CLAUDE, path)
    assert m.list_workspaces() == ["claude-code"]


def test_every_importer_is_found_by_content(history: Path, tmp_path: Path) -> None:
    assert importer_of(history) is CLAUDE
    assert importer_of(next(history.rglob("*.jsonl"))) is CLAUDE
    assert importer_of(tmp_path / "nothing") is None
    assert len({importer.name for importer in IMPORTERS}) == len(IMPORTERS)


def test_a_place_that_is_not_there_is_an_error_and_no_empty_history(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as m:
        for importer in IMPORTERS:
            try:
                told = str(import_history(m, importer, tmp_path / "nowhere").warnings)
            except FileNotFoundError as error:
                told = str(error)
            assert "nowhere" in told, importer.name


def test_of_several_workspaces_that_have_a_session_the_project_s_is_brought_up_to_date(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    source = tmp_path / "claude" / "p" / "x.jsonl"
    source.parent.mkdir(parents=True)

    def line(name: str, parent: str | None) -> str:
        said = {"type": "user", "uuid": name, "parentUuid": parent, "message": {"role": "user", "content": name}}
        return (
            json.dumps({**said, "timestamp": "2026-01-01T10:00:00.000Z", "cwd": str(project), "sessionId": "x"}) + "\n"
        )

    source.write_text(line("one", None))
    with NativeSessionManager(tmp_path / "data") as m:
        ((own, _),) = import_history(m, CLAUDE, source.parent.parent).workspaces.items()
        for copied in ("a-copy", "z-copy"):
            import_history(m, CLAUDE, source.parent.parent, workspace_id=copied)
        source.write_text(line("one", None) + line("two", "one"))
        report = import_history(m, CLAUDE, source.parent.parent)
        assert report.workspaces == {own: 1}
        assert f"several workspaces (a-copy, {own}, z-copy)" in report.warnings[0]
        (name,) = report.session_ids
        assert [len(m.get_session_messages(each, name)) for each in ("a-copy", own, "z-copy")] == [1, 2, 1]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_chat_that_lies_twice_and_is_damaged_once_writes_nothing_the_second_time(tmp_path: Path, bad: int) -> None:
    def line(name: str, parent: str | None) -> str:
        said = {"type": "user", "uuid": name, "parentUuid": parent, "message": {"role": "user", "content": name}}
        return json.dumps({**said, "timestamp": "2026-01-01T10:00:00.000Z", "sessionId": "x"}) + "\n"

    files = [tmp_path / "claude" / project / "x.jsonl" for project in ("one", "two")]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True)
        file.write_text(line("a", None) + ("no JSON\n" if number == bad else "") + line("b", "a"))
    with NativeSessionManager(tmp_path / "data") as m:
        import_history(m, CLAUDE, tmp_path / "claude", workspace_id="ws")
        seq = m.check("ws").seq
        import_history(m, CLAUDE, tmp_path / "claude", workspace_id="ws")
        assert m.check("ws").seq == seq
