"""Codex's files: imported once, again where they grew, known by content, compressed, damaged."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import zstandard

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import Computer, ImportReport, Tally, import_history, importer_of
from nomad_sessions.formats.codex import IMPORTER
from tests.support.rollouts import (
    FIRST,
    FIX,
    GEN1,
    GEN2,
    GEN3,
    GEN4,
    GEN4_FORK,
    SAMPLES,
    SECOND,
    TEST,
    Rollout,
    one,
    read,
    said,
    times,
)


def test_the_last_name_of_a_thread_is_its_title_and_a_new_one_comes_in(tmp_path: Path) -> None:
    home = Path(shutil.copytree(SAMPLES / "sessions", tmp_path / "home" / "sessions")).parent
    shutil.copy(SAMPLES / "session_index.jsonl", home)
    with NativeSessionManager(tmp_path / "data") as m:
        first, fork = import_history(m, IMPORTER, home, workspace_id="ws").session_ids
        titles = [session.title for each in (first, fork) if (session := m.get_session("ws", each))]
        assert titles == ["Slug fix (renamed)", "The slugify test fails. Can you fix it?"]
        with (home / "session_index.jsonl").open("a") as file:
            file.write(json.dumps({"id": SECOND, "thread_name": "A fork"}) + "\n")
        report = import_history(m, IMPORTER, home, workspace_id="ws")
        assert (report.sessions.updated, report.sessions.unchanged, report.messages.unchanged) == (1, 1, 15)
        renamed = m.get_session("ws", fork)
        assert renamed is not None
        assert renamed.title == "A fork"


def test_twice_is_as_once_and_a_fork_is_read_again_when_its_origin_changes(tmp_path: Path) -> None:
    source = Path(shutil.copytree(SAMPLES / "paginated", tmp_path / "source"))
    with NativeSessionManager(tmp_path / "data") as m:
        first = import_history(m, IMPORTER, source, workspace_id="ws")
        assert (first.sessions, first.messages) == (Tally(read=2, imported=2), Tally(read=14, imported=14))
        seq = m.status("ws").seq
        again = import_history(m, IMPORTER, source, workspace_id="ws")
        assert (again.sessions.unchanged, again.messages.unchanged, m.status("ws").seq) == (2, 14, seq)
        stamps = {found.id: found.stamp for found in IMPORTER.sessions(source, ImportReport())}
        with next(source.rglob(GEN4.name)).open("a") as file:
            payload = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "More"}]}
            file.write(
                json.dumps(
                    {"timestamp": "2026-01-01T11:00:00Z", "ordinal": 14, "type": "response_item", "payload": payload}
                )
                + "\n"
            )
        assert all(found.stamp != stamps[found.id] for found in IMPORTER.sessions(source, ImportReport()))
        third = import_history(m, IMPORTER, source, workspace_id="ws")
        assert (third.messages.imported, third.messages.updated, third.messages.unchanged) == (1, 0, 14)
        assert [each.content for each in m.get_session_messages("ws", first.session_ids[1])][-1] == TEST[1][1]
        assert m.check("ws").ok


def test_an_answer_that_has_grown_is_brought_up_to_date(tmp_path: Path) -> None:
    w = Rollout(tmp_path / "source")
    w.user("Go")
    w.answer("One.")
    with NativeSessionManager(tmp_path / "data") as m:
        (session_id,) = import_history(m, IMPORTER, w.save(), workspace_id="ws").session_ids
        w.item("function_call", name="exec_command", arguments="{}", call_id="c")
        w.item("function_call_output", call_id="c", output="ok")
        report = import_history(m, IMPORTER, w.save(), workspace_id="ws")
        assert (report.messages.imported, report.messages.updated, report.messages.unchanged) == (1, 1, 1)
        page = m.get_session_messages("ws", session_id)
        assert [(each.role, len(each.tool_calls)) for each in page] == [("user", 0), ("assistant", 1), ("tool", 0)]


def test_a_thread_that_was_archived_stays_one_session(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "sessions" / "2026").mkdir(parents=True)
    (home / "archived_sessions").mkdir()
    path = Path(shutil.copy(GEN2, home / "sessions" / "2026"))
    with NativeSessionManager(tmp_path / "data") as m:
        import_history(m, IMPORTER, home, workspace_id="ws")
        shutil.copy(path, home / "archived_sessions")
        report = import_history(m, IMPORTER, home, workspace_id="ws")
        assert report.ignored["another rollout of the same thread"] == 1
        path.unlink()
        report = import_history(m, IMPORTER, home, workspace_id="ws")
        assert (report.messages.imported, report.messages.unchanged, m.list_sessions("ws").total) == (0, 6, 1)


def test_a_rollout_that_lies_beside_the_sessions_comes_in_and_codex_s_own_files_do_not(tmp_path: Path) -> None:
    home = Path(shutil.copytree(SAMPLES / "sessions", tmp_path / "home" / "sessions")).parent
    shutil.copy(SAMPLES / "session_index.jsonl", home)
    (home / "history.jsonl").write_text('{"session_id": "x", "ts": 1767261600, "text": "typed"}\n')
    moved = next((home / "sessions").rglob(f"*{SECOND}.jsonl"))
    moved.rename(home / moved.name)
    torn = home / "rollout-2026-01-01T00-00-00-torn.jsonl"
    torn.write_text("{")
    with NativeSessionManager(tmp_path / "data") as m:
        report = import_history(m, IMPORTER, home, workspace_id="ws")
        assert report.sessions.imported == 2
    assert report.skipped == {"no record of a Codex session": 1}
    assert str(torn) in report.warnings[0]


def test_damage_in_the_middle_is_counted_and_what_follows_is_read(tmp_path: Path) -> None:
    w = Rollout(tmp_path)
    for number in range(6):
        w.user(f"prompt {number}")
    lines = [json.dumps(record).encode() for record in w.records]
    damaged = [
        *(lines[0], lines[1], lines[2][:60] + lines[3], b"\0" * 300 + lines[4], lines[5] + lines[6], b"\xff\xfe{"),
        *(b"[1]", b"", lines[6][:70]),
    ]
    w.path.write_bytes(b"\n".join(damaged))
    (parsed,), report = read(w.path)
    assert [text for _, text in said(parsed)] == [f"prompt {number}" for number in (0, 2, 3, 4, 5)]
    assert report.skipped == {
        "records spliced into one line": 2,
        "NUL bytes": 1,
        "invalid UTF-8": 1,
        "not JSON": 1,
        "a torn line": 1,
    }
    assert all(f"{w.path} at byte " in warning for warning in report.warnings)


def test_a_fork_whose_first_line_is_torn_is_not_taken_for_its_origin(tmp_path: Path) -> None:
    for path in (GEN2, GEN3):
        (tmp_path / path.name).write_bytes(path.read_bytes()[9 if path is GEN3 else 0 :])
    (origin, fork), report = read(tmp_path)
    assert [each.session["imported"]["sessionId"] for each in (origin, fork)] == [FIRST, SECOND]
    assert fork.session["imported"]["parentSourceId"] == FIRST
    assert times(fork)[:6] == times(origin)
    assert report.skipped == {"not JSON": 1}


def test_a_number_that_no_float_holds_stops_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path / "origin", tmp_path):
        w = Rollout(folder, SECOND if folder == tmp_path else FIRST, forked_from_id=FIRST)
        w.item("local_shell_call", call_id="c", action={"timeout": "HUGE"})
        w.user("Go", {"type": "future", "x": ["HUGE"]})
        path = w.save()
        path.write_text(path.read_text().replace('"HUGE"', "1e999"))
    shutil.move(next((tmp_path / "origin").iterdir()), tmp_path)
    with NativeSessionManager(tmp_path / "data") as m:
        report = import_history(m, IMPORTER, tmp_path, workspace_id="ws")
        assert (report.messages.imported, report.complete) == (4, True)
        answer, prompt = m.get_session_messages("ws", report.session_ids[0])
        assert answer.tool_calls[0].function.arguments == '{"timeout":"inf"}'
        assert (prompt.parts[1].model_extra or {})["codex"] == {"type": "future", "x": ["inf"]}


@pytest.mark.parametrize("content", ["", "\n\n", "null\n", "{}\n", '{"type": "session_meta"}\n', "[]\n", "\0" * 5000])
def test_a_file_without_a_conversation_gives_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / GEN2.name
    path.write_text(content)
    assert read(path)[0] == []
    assert not IMPORTER.sniff(path)
    path.write_text(GEN2.read_text().splitlines()[0])
    parsed, report = read(path)
    assert parsed == []
    assert report.ignored == {"a thread in which nothing was said": 1}


def test_its_files_are_known_by_content_and_others_are_not(tmp_path: Path) -> None:
    for path in (GEN1, GEN2, GEN3, GEN4, GEN4_FORK, SAMPLES, SAMPLES / "gen1", SAMPLES / "paginated"):
        assert importer_of(path) is IMPORTER
    others = [path for path in SAMPLES.parent.iterdir() if path != SAMPLES]
    assert len(others) > 5
    for path in [*others, tmp_path, tmp_path / "none.jsonl", SAMPLES / "session_index.jsonl"]:
        assert not IMPORTER.sniff(path), path


def test_the_place_is_the_home_folder_s_or_what_the_environment_says(tmp_path: Path) -> None:
    assert IMPORTER.locate(Computer(tmp_path, {}, "linux")) == [tmp_path / ".codex"]
    assert IMPORTER.locate(Computer(tmp_path, {"CODEX_HOME": "/elsewhere"}, "linux")) == [Path("/elsewhere")]


def test_a_compressed_rollout_without_the_package_is_in_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / (GEN2.name + ".zst")
    path.write_bytes(b"\x28\xb5\x2f\xfd")
    assert IMPORTER.sniff(tmp_path)
    parsed, report = read(tmp_path)
    assert parsed == []
    assert report.warnings == [f"{path}: left out, a compressed rollout: it needs the package zstandard"]
    shutil.copy(GEN2, tmp_path)
    (parsed_,), report = read(tmp_path)
    assert said(parsed_) == FIX
    assert report.complete
    assert report.ignored["a compressed copy of a rollout that is there as it was"] == 1


def test_compressed_rollouts_are_read_whole_and_as_far_as_they_go(tmp_path: Path) -> None:
    for path in (GEN4, GEN4_FORK):
        packed = tmp_path / (path.name + ".zst")
        packed.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    (origin, fork), report = read(tmp_path)
    assert (said(origin), said(fork)) == (FIX, [*FIX, *TEST])
    assert report.complete
    assert [each["id"] for each in origin.messages] == [each["id"] for each in one(GEN4).messages]
    assert said(one(packed)) == [*FIX, *TEST], "the compressed origin is found beside it"
    whole = zstandard.ZstdCompressor().compress(GEN4.read_bytes() * 2_000)
    packed = tmp_path / "rollout-x.jsonl.zst"
    for content in (whole[: len(whole) // 2], whole[:40] + b"\0" * 40 + whole[80:], b"no such frame", b""):
        packed.write_bytes(content)
        _, report = read(packed)
        assert bool(content) == bool(report.skipped)
