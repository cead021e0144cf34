"""Several sources of one OpenCode history meet in a store: its files, its database, exports of it, old and new."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import ImportReport, import_file, import_history
from nomad_sessions.formats.opencode_history import IMPORTER


def contents(m: NativeSessionManager) -> dict[str, list[Any]]:
    return {
        session.id: [each.model_dump(by_alias=True) for each in m.get_session_messages(ws, session.id)]
        for ws in m.list_workspaces()
        for session in m.list_sessions(ws)
    }


def test_database_files_and_exports_of_one_history_come_in_once(
    m: NativeSessionManager, opencode_data: Path, opencode_home: Path
) -> None:
    report = import_history(m, IMPORTER, opencode_home)
    assert (report.sessions.imported, report.messages.imported) == (20, 125)
    assert report.ignored == {"sessions that the database has as well": 10}
    assert set(m.workspace_folders().values()) == {
        "/home/dev/projects/webshop",
        "/home/dev/projects/notes-app",
        "/home/dev/scratch",
    }
    before = contents(m)
    assert import_history(m, IMPORTER, opencode_data / "json-tree").messages.imported == 0
    for path in [*(opencode_data / "export").glob("ses_*.json"), *(opencode_data / "export-1.1.65").glob("ses_*.json")]:
        report = import_file(m, "here", path, anywhere=True)
        assert (report.sessions.unchanged, report.messages.imported, report.messages.updated) == (1, 0, 0), path.name
    assert contents(m) == before
    assert import_history(m, IMPORTER, opencode_home).sessions.unchanged == 20


def test_in_the_other_order_the_database_adds_what_the_files_lack(
    m: NativeSessionManager, opencode_data: Path, opencode_home: Path
) -> None:
    import_history(m, IMPORTER, opencode_data / "json-tree")
    assert len(contents(m)) == 10
    report = import_history(m, IMPORTER, opencode_home)
    assert (report.sessions.imported, report.messages.imported) == (10, 125 - 92)
    whole = (found.read(ImportReport()) for found in IMPORTER.sessions(opencode_data / "opencode.db", ImportReport()))
    assert sum(map(len, contents(m).values())) == sum(each.visible for each in whole if each is not None)
    before = contents(m)
    import_history(m, IMPORTER, opencode_home)
    assert contents(m) == before


def test_an_export_for_a_session_that_was_moved_goes_where_it_is_now(
    m: NativeSessionManager, opencode_data: Path
) -> None:
    path = opencode_data / "export" / "ses_f06f29740ffeEJDeSHL3WZS0VO.json"
    import_file(m, "first", path)
    m.move_session("first", path.stem, to_workspace="second")
    assert import_file(m, "first", path, anywhere=True).sessions.unchanged == 1
    assert m.get_session("first", path.stem) is None
    assert import_file(m, "third", path).sessions.imported == 1


def export_and_its_beginning(data: Path, folder: Path) -> tuple[dict[str, Any], Path, Path]:
    """An export of two messages, a file that has the first of them only, and one that has both."""
    value = json.loads((data / "export" / "ses_f06f29740ffeEJDeSHL3WZS0VO.json").read_text(encoding="utf-8"))
    beginning, whole = folder / "beginning.json", folder / "whole.json"
    beginning.write_text(json.dumps({**value, "messages": value["messages"][:1]}))
    whole.write_text(json.dumps(value))
    return value, beginning, whole


def test_a_newer_export_brings_what_is_new_and_an_older_one_takes_nothing_back(
    m: NativeSessionManager, opencode_data: Path, tmp_path: Path
) -> None:
    value, older, newer = export_and_its_beginning(opencode_data, tmp_path)
    later = {**value["info"], "title": "Renamed", "time": {**value["info"]["time"], "updated": 1_800_000_000_000}}
    newer.write_text(json.dumps({**value, "info": later}))
    name = value["info"]["id"]
    import_file(m, "ws", older)
    report = import_file(m, "ws", newer)
    assert (report.sessions.updated, report.messages.imported) == (1, 1)
    report = import_file(m, "ws", older)
    assert (report.sessions.unchanged, report.messages.unchanged) == (1, 1)
    session = m.get_session("ws", name)
    assert session is not None
    assert (session.title, session.updated_at, len(session.message_ids)) == ("Renamed", 1_800_000_000_000, 2)


def test_what_an_older_source_alone_has_is_added_to_what_is_here(
    m: NativeSessionManager, opencode_data: Path, tmp_path: Path
) -> None:
    value, part, whole = export_and_its_beginning(opencode_data, tmp_path)
    import_file(m, "ws", part)
    report = import_file(m, "ws", whole)
    assert (report.sessions.unchanged, report.messages.imported, report.messages.unchanged) == (1, 1, 1)
    session = m.get_session("ws", value["info"]["id"])
    assert session is not None
    assert session.updated_at == value["info"]["time"]["updated"]


def test_of_a_sanitized_export_and_the_real_one_the_first_stays_and_the_other_is_told(
    m: NativeSessionManager, opencode_data: Path
) -> None:
    name = "ses_46328704fffeh9UDkyYzKqT7v5"
    real, sanitized = (opencode_data / "export" / f"{prefix}{name}.json" for prefix in ("", "sanitized-"))
    for workspace_id, first, other in (("one", sanitized, real), ("two", real, sanitized)):
        import_file(m, workspace_id, first)
        before = contents(m)
        report = import_file(m, workspace_id, other)
        assert contents(m) == before
        (warning,) = report.warnings
        assert f"18 messages are here otherwise, as {first} has them" in warning
        assert import_file(m, workspace_id, first).warnings == []


def test_what_a_damaged_database_could_not_give_comes_in_once_it_is_whole(
    m: NativeSessionManager, opencode_data: Path, tmp_path: Path
) -> None:
    source = tmp_path / "opencode.db"
    shutil.copy(opencode_data / "damaged" / "opencode-rows.db", source)
    first = import_history(m, IMPORTER, source, workspace_id="ws")
    again = import_history(m, IMPORTER, source, workspace_id="ws")
    assert first.skipped == again.skipped != {}
    assert (again.messages.imported, again.messages.updated, again.sessions.imported) == (0, 0, 0)
    shutil.copy(opencode_data / "opencode.db", source)
    import_history(m, IMPORTER, source, workspace_id="ws")
    import_history(m, IMPORTER, opencode_data / "opencode.db", workspace_id="whole")
    said = {name: [(each.id, each.parts) for each in m.get_session_messages("ws", name)] for name in contents(m)}
    for name, found in said.items():
        assert found == [(each.id, each.parts) for each in m.get_session_messages("whole", name)]
    report = import_history(m, IMPORTER, source, workspace_id="ws")
    assert (report.sessions.unchanged, report.skipped) == (20, {})
