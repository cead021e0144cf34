"""OpenCode's own store comes in whole, from files and from a database: as the genuine programs answered.

The data was written by OpenCode 1.1.65 and 1.18.34; `expected.json` holds what their servers said of it, with a digest
of each message and part.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import (
    Computer,
    ImportReport,
    ParsedSession,
    import_file,
    import_history,
    importer_of,
    survey_history,
)
from nomad_sessions.formats.opencode import to_export
from nomad_sessions.formats.opencode_history import IMPORTER
from tests.support.samples import share_of

FIXTURES = Path(__file__).parents[1] / "fixtures" / "opencode"
SAMPLES = FIXTURES / "samples"


def read(path: Path) -> tuple[dict[str, ParsedSession], ImportReport]:
    report = ImportReport()
    parsed = (each.read(report) for each in IMPORTER.sessions(path, report))
    return {each.session["id"]: each for each in parsed if each is not None}, report


def digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def exported(parsed: ParsedSession) -> dict[str, Any]:
    return to_export(parsed.session, parsed.messages, visible=parsed.visible)


@pytest.mark.parametrize(("source", "truth"), [("json-tree", "jsonTree"), ("opencode.db", "db")])
def test_every_session_message_and_part_equals_what_the_program_answered(
    opencode_data: Path, source: str, truth: str
) -> None:
    expected = json.loads((opencode_data / "expected.json").read_text(encoding="utf-8"))[truth]
    found, report = read(opencode_data / source)
    assert set(found) == set(expected["sessions"])
    for name, wanted in expected["sessions"].items():
        session, out = found[name].session, exported(found[name])
        assert session["title"] == wanted["title"]
        assert session.get("parentId") == wanted["parent"]
        assert (session["createdAt"], session["updatedAt"]) == (wanted["created"], wanted["updated"])
        assert session.get("archivedAt") == wanted["archived"]
        assert session["directory"] == wanted["directory"]
        assert session.get("opencodeTodos", []) == wanted["todos"]
        assert out["info"].get("revert") == wanted["revert"]
        assert {**out["info"], "projectID": wanted["projectID"]} == {**wanted["info"], "projectID": wanted["projectID"]}
        for message, theirs in zip(out["messages"], wanted["messages"], strict=True):
            assert (message["info"]["id"], message["info"]["role"]) == (theirs["id"], theirs["role"])
            assert message["info"]["time"]["created"] == theirs["created"]
            assert digest(message["info"]) == theirs["sha256"], name
            assert [(part["id"], digest(part)) for part in message["parts"]] == [
                (part["id"], part["sha256"]) for part in theirs["parts"]
            ]
    assert sum(len(each.messages) for each in found.values()) == expected["counts"]["messages"] == report.messages.read
    assert sum(len(m["parts"]) for each in found.values() for m in each.messages) == expected["counts"]["parts"]


def test_what_the_program_itself_left_behind_is_in_the_report(opencode_data: Path) -> None:
    _, report = read(opencode_data / "json-tree")
    assert report.skipped == {"a part of a message that is not there": 1}
    assert "prt_c2032a19e002aKjXSG5OdS3KPd.json" in report.warnings[0]
    assert read(opencode_data / "opencode.db")[1].complete


def test_an_export_of_what_came_from_the_database_is_the_program_s_own_export(opencode_data: Path) -> None:
    found, _ = read(opencode_data / "opencode.db")
    files = list((opencode_data / "export").glob("ses_*.json"))
    assert len(files) == 20
    for path in files:
        assert exported(found[path.stem]) == json.loads(path.read_text(encoding="utf-8")), path.name


def test_damaged_files_cost_what_they_hold_and_nothing_else(opencode_data: Path) -> None:
    whole, _ = read(opencode_data / "json-tree")
    found, report = read(opencode_data / "damaged" / "json-tree")
    truth = json.loads((opencode_data / "damaged" / "expected-damage.json").read_text(encoding="utf-8"))
    messages, parts = truth["messageFiles"], truth["partFiles"]
    rebuilt = {"ses_4434d14a9ffeAxtBT0L8jGUvhe", "ses_43f4bb395ffeyCxQDXYb0mEEGz"}
    intact = [message for name, each in found.items() if name not in rebuilt for message in each.messages]
    assert len(intact) == messages["readableInReadableSession"] == 67
    assert sum(len(each["parts"]) for each in intact) == parts["readableInReadableMessageAndSession"] == 208
    assert [len(found[name].messages) for name in sorted(rebuilt)] == [13, 10]
    assert sum(len(each["parts"]) for name in rebuilt for each in found[name].messages) == 36 + 52
    assert report.messages.read == messages["total"]
    assert report.messages.skipped == messages["unreadable"] == 1
    assert report.skipped == {
        "NUL bytes": 1,
        "a part of a message that cannot be read": parts["readableButMessageUnreadable"],
        "a part of a message that is not there": parts["readableButMessageMissing"],
        "an empty file": 1,
        "invalid UTF-8": 1,
    }
    assert report.ignored == {"stray files": truth["strayFiles"]}
    for message in intact:
        origin = next(each for each in whole[session_of(whole, message["id"])].messages if each["id"] == message["id"])
        assert all(part in origin["parts"] for part in message["parts"])


def session_of(found: dict[str, ParsedSession], message_id: str) -> str:
    return next(name for name, each in found.items() if any(m["id"] == message_id for m in each.messages))


def test_a_session_whose_own_file_is_lost_is_rebuilt_from_its_messages(opencode_data: Path) -> None:
    found, report = read(opencode_data / "damaged" / "json-tree")
    for name, title in (
        (
            "ses_43f4bb395ffeyCxQDXYb0mEEGz",
            "The order confirmation for #10482 shows a total of €59.98 but the invoice says",
        ),
        ("ses_4434d14a9ffeAxtBT0L8jGUvhe", "The category page takes 1.8 s for 4,000 products."),
    ):
        session = found[name].session
        assert session["title"].startswith(title)
        assert session["directory"] == "/home/dev/projects/webshop"
        assert session["createdAt"] == found[name].messages[0]["createdAt"]
        assert any(name in warning and "rebuilt" in warning for warning in report.warnings)


def test_damaged_rows_cost_what_they_hold_and_nothing_else(opencode_data: Path) -> None:
    whole, _ = read(opencode_data / "opencode.db")
    found, report = read(opencode_data / "damaged" / "opencode-rows.db")
    assert set(found) == set(whole)
    hurt = {"ses_46328704fffeh9UDkyYzKqT7v5": 17, "ses_418ec1609ffe2VtPtNPy06ykuf": 7}
    for name, parsed in found.items():
        assert len(parsed.messages) == hurt.get(name, len(whole[name].messages))
        if name not in hurt:
            assert parsed.messages == whole[name].messages
    assert (report.messages.read, report.messages.skipped) == (124, 1)
    assert report.skipped == {
        "its data is no JSON object": 2,
        "a part of a message that cannot be read": 5,
        "a part of a message that is not there": 1,
    }
    kinds = [part["type"] for each in found.values() for message in each.messages for part in message["parts"]]
    assert kinds.count("hologram") == 1  # A part of a type that nobody knows is a part all the same.
    assert len(kinds) == 386 - 1 - 5 - 1


def test_of_a_database_that_was_cut_off_comes_in_what_is_left(opencode_data: Path) -> None:
    """OpenCode does not even start with it."""
    whole, _ = read(opencode_data / "opencode.db")
    source = opencode_data / "damaged" / "opencode-truncated.db"
    assert importer_of(source) is IMPORTER
    found, report = read(source)
    messages = {message["id"]: message for each in whole.values() for message in each.messages}
    rescued = [message for each in found.values() for message in each.messages]
    assert len(rescued) == 33
    assert all(message["createdAt"] == messages[message["id"]]["createdAt"] for message in rescued)
    assert sum(len(message["parts"]) for message in rescued) == 126
    assert any("malformed" in reason for reason in report.skipped)


def test_a_child_is_linked_to_its_parent_as_a_sub_agent(m: NativeSessionManager, opencode_home: Path) -> None:
    import_history(m, IMPORTER, opencode_home, workspace_id="ws")
    child = m.get_session("ws", "ses_4434cefb9ffepd19Zif3am151h")
    assert child is not None
    assert child.parent_id == "ses_4434d14a9ffeAxtBT0L8jGUvhe"
    assert (child.model_extra or {})["imported"]["relation"] == "subagent"
    assert [each.id for each in m.children("ws", "ses_4434d14a9ffeAxtBT0L8jGUvhe")] == [child.id]


def test_a_reverted_tail_is_there_and_hidden(m: NativeSessionManager, opencode_data: Path) -> None:
    import_history(m, IMPORTER, opencode_data / "opencode.db", workspace_id="ws")
    name = "ses_418ec1609ffe2VtPtNPy06ykuf"
    assert m.get_session_messages("ws", name).total == read(opencode_data / "opencode.db")[0][name].visible == 4
    assert m.get_session_messages("ws", name, include_reverted=True).total == 8


def test_the_program_s_log_is_read_while_it_is_writing_and_nothing_is_made(
    m: NativeSessionManager, opencode_data: Path, tmp_path: Path
) -> None:
    database = tmp_path / "opencode.db"
    shutil.copy(opencode_data / "opencode.db", database)
    report = import_history(m, IMPORTER, database, workspace_id="ws")
    assert report.messages.imported == 125
    assert [path.name for path in tmp_path.glob("opencode*")] == ["opencode.db"]
    with sqlite3.connect(database) as running:
        running.execute("PRAGMA wal_autocheckpoint = 0")
        running.execute(
            "INSERT INTO message SELECT 'msg_new', session_id, time_created + 1000000, time_updated + 1, data "
            "FROM message WHERE session_id = 'ses_f06f29740ffeEJDeSHL3WZS0VO' LIMIT 1"
        )
        running.execute(
            "UPDATE session SET time_updated = time_updated + 1 WHERE id = 'ses_f06f29740ffeEJDeSHL3WZS0VO'"
        )
        running.commit()
        assert (tmp_path / "opencode.db-wal").stat().st_size
        report = import_history(m, IMPORTER, database, workspace_id="ws")
        assert (report.sessions.unchanged, report.messages.imported) == (19, 1)
        copy = tmp_path / "copy"
        copy.mkdir()
        for name in ("opencode.db", "opencode.db-wal"):
            shutil.copy(tmp_path / name, copy)
        assert sum(len(each.messages) for each in read(copy / "opencode.db")[0].values()) == 126
        assert sorted(path.name for path in copy.iterdir()) == ["opencode.db", "opencode.db-wal"]
    running.close()


def test_the_older_layout_of_the_files_is_read_too(opencode_data: Path, tmp_path: Path) -> None:
    whole, _ = read(opencode_data / "json-tree")
    name = "ses_4434d14a9ffeAxtBT0L8jGUvhe"
    storage, old = (
        opencode_data / "json-tree" / "storage",
        tmp_path / "opencode" / "project" / "webshop" / "storage" / "session",
    )
    (old / "info").mkdir(parents=True)
    info = json.loads(next(storage.glob(f"session/*/{name}.json")).read_text(encoding="utf-8"))
    del info["directory"]
    (old / "info" / f"{name}.json").write_text(json.dumps(info))
    shutil.copytree(storage / "message" / name, old / "message" / name)
    for message in (old / "message" / name).iterdir():
        if (storage / "part" / message.stem).exists():
            shutil.copytree(storage / "part" / message.stem, old / "part" / name / message.stem)
    lost = old / "part" / name / "msg_gone" / "prt_1.json"
    lost.parent.mkdir()
    lost.write_text("{}")
    found, report = read(tmp_path / "opencode")
    assert found[name].messages == whole[name].messages
    assert [each.directory for each in IMPORTER.sessions(tmp_path / "opencode", ImportReport())] == [
        "/home/dev/projects/webshop"
    ]
    assert report.skipped == {"a part of a message that is not there": 1}


def test_a_session_outside_of_any_project_and_without_a_folder_has_none(tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "data", tmp_path / "opencode")
    (file,) = (tmp_path / "opencode").glob("storage/session/*/*.json")
    info = json.loads(file.read_text(encoding="utf-8"))
    del info["directory"]
    file.write_text(json.dumps(info))
    (found,) = IMPORTER.sessions(tmp_path / "opencode", ImportReport())
    assert found.directory == "/home/dev/demo"  # From the project's file.
    for project in (tmp_path / "opencode").glob("storage/project/*.json"):
        project.write_text('{"worktree": "/"}')
    for message in (tmp_path / "opencode").glob("storage/message/*/*.json"):
        message.write_text(json.dumps({**json.loads(message.read_text(encoding="utf-8")), "path": None}))
    (found,) = IMPORTER.sessions(tmp_path / "opencode", ImportReport())
    assert found.directory is None


@pytest.mark.parametrize("name", ["opencode-1.2.db", "opencode-1.18.db"])
def test_databases_of_all_versions_are_read(name: str) -> None:
    found, report = read(SAMPLES / name)
    (parsed,) = found.values()
    assert report.complete
    assert (len(parsed.messages), parsed.visible) == (4, 3)
    assert ("cost" in exported(parsed)["info"]) == (name == "opencode-1.18.db")


def test_messages_in_the_next_generation_s_tables_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "opencode-1.18.db", tmp_path / "opencode.db")
    with sqlite3.connect(tmp_path / "opencode.db") as database:
        database.execute("INSERT INTO session_message VALUES ('m', 's', 'user', 1, 1, 1, '{}')")
    database.close()
    _, report = read(tmp_path)
    assert report.skipped == {"messages in the tables of OpenCode's next generation": 1}


def test_the_survey_of_a_data_folder_counts_each_session_once(m: NativeSessionManager, opencode_home: Path) -> None:
    found = survey_history(m, IMPORTER, opencode_home)
    assert (found.sessions, found.new, found.changed) == (20, 20, 0)
    assert found.bytes > 500_000


def test_a_message_file_that_changed_is_brought_over(m: NativeSessionManager, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES / "data", tmp_path / "opencode")
    import_history(m, IMPORTER, tmp_path / "opencode", workspace_id="ws")
    part = next((tmp_path / "opencode").glob("storage/part/*/prt_b78fffce8001SynthPartId001.json"))
    part.write_text(part.read_text(encoding="utf-8").replace("slugify", "SLUGIFY"))
    report = import_history(m, IMPORTER, tmp_path / "opencode", workspace_id="ws")
    assert (report.messages.updated, report.messages.unchanged) == (1, 2)
    (session,) = m.list_sessions("ws")
    assert "SLUGIFY" in m.get_session_messages("ws", session.id)[0].parts[0].content


def test_it_is_looked_for_where_the_program_keeps_it(tmp_path: Path) -> None:
    here = Computer(tmp_path, {}, "linux")
    assert IMPORTER.locate(here) == [tmp_path / ".local" / "share" / "opencode"]
    assert IMPORTER.locate(Computer(tmp_path, {"XDG_DATA_HOME": str(tmp_path / "x")}, "darwin")) == [
        tmp_path / "x" / "opencode"
    ]
    other = tmp_path / "other.db"
    assert IMPORTER.locate(Computer(tmp_path, {"OPENCODE_DB": str(other)}, "linux"))[1:] == [other]


def test_the_database_that_the_environment_names_is_found_wherever_it_lies(tmp_path: Path) -> None:
    home = tmp_path / ".local" / "share" / "opencode"
    home.mkdir(parents=True)
    shutil.copy(SAMPLES / "opencode-1.2.db", home / "work.db")
    for named in ("work.db", str(home / "work.db")):
        (place,) = IMPORTER.locate(Computer(tmp_path, {"OPENCODE_DB": named}, "linux"))
        assert len(read(place)[0]) == 1
    shutil.copy(SAMPLES / "opencode-1.2.db", home / "work.sqlite")
    (home / "work.db").unlink()
    places = IMPORTER.locate(Computer(tmp_path, {"OPENCODE_DB": "work.sqlite"}, "linux"))
    assert [len(read(place)[0]) for place in places if IMPORTER.sniff(place)] == [1]


def test_a_place_that_holds_neither_is_said_to(tmp_path: Path) -> None:
    assert not IMPORTER.sniff(tmp_path)
    assert list(read(tmp_path)[1].skipped) == ["neither a database of OpenCode's nor its files"]


def test_a_share_says_what_the_export_says(m: NativeSessionManager, opencode_data: Path, tmp_path: Path) -> None:
    path = opencode_data / "export" / "ses_46328704fffeh9UDkyYzKqT7v5.json"
    records = share_of(json.loads(path.read_text(encoding="utf-8")))
    flat = tmp_path / "share.json"
    stray = [
        {"type": "message", "data": {"id": "msg_x", "sessionID": "ses_other"}},
        {"type": "part", "data": {"id": "prt_x", "messageID": "msg_other"}},
        {"type": "part", "data": 3},
    ]
    flat.write_text(json.dumps(records + stray))
    import_file(m, "exported", path)
    report = import_file(m, "shared", flat)
    assert report.format == "opencode-share"
    assert report.ignored == {"model": 1}
    assert report.skipped == {
        "a message of a session that is not there": 1,
        "a part of a message that is not there": 1,
        "the record is not an object": 1,
    }

    def plain(ws: str) -> list[Any]:
        return [(each.id, [part.content for part in each.parts]) for each in m.get_session_messages(ws, path.stem)]

    assert plain("shared") == plain("exported")
