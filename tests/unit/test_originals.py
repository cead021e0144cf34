"""What a session was imported from is kept as it was: once, in pieces, for as long as the session is there."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AttachmentMissingError,
    DiskFullError,
    ManualClock,
    NativeSessionManager,
    OriginalNotFoundError,
    Session,
    SessionNotFoundError,
)
from nomad_sessions.formats import (
    Found,
    Importer,
    ImportReport,
    ParsedSession,
    import_file,
    import_history,
    importer_of,
    keeping,
    original_of,
    verbatim,
)
from nomad_sessions.formats.exporting import export_session
from nomad_sessions.formats.keeping import CHUNK_BYTES
from nomad_sessions.formats.source import Original
from nomad_sessions.models import dump
from tests.support.samples import make_llm_logs, share_of
from tests.support.there import there

FIXTURES = Path(__file__).parents[1] / "fixtures"
WS = "ws"
SESSION = "01KDWM1QG0AAAAAAAAAAAAAAAA"
FILES = {
    "claude/projects": "*/*.jsonl */*/subagents/*.jsonl",
    "claude/torn": "*.jsonl",
    "codex/sessions": "**/*.jsonl",
    "codex/paginated": "**/*.jsonl",
    "pi/agent": "**/*.jsonl",
    "gemini/tmp/demo": "**/session-*.json*",
    "gemini/tmp/c6604f1ed37b2f8d96e8e55765a4a09cbc48bd090f4d5eae9b7959006114510f": "**/session-*.json*",
}


def brought(m: NativeSessionManager, path: Path, **how: Any) -> ImportReport:
    return import_history(m, there(importer_of(path)), path, workspace_id=WS, **how)


def original(m: NativeSessionManager, session_id: str) -> bytes:
    return b"".join(original_of(m, WS, session_id))


def mark(session: Session | None) -> dict[str, Any]:
    found: dict[str, Any] = there(there(session).model_extra)["imported"]
    return found


def records(data: bytes) -> list[Any]:
    return [json.loads(line) for line in data.splitlines()]


def pack_zstandard(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").compress(data)
    return packed


@pytest.mark.parametrize("place", FILES)
def test_a_file_is_given_back_byte_for_byte(m: NativeSessionManager, place: str) -> None:
    ids = brought(m, FIXTURES / place).session_ids
    kept = sorted(original(m, each) for each in dict.fromkeys(ids))
    files = {path for pattern in FILES[place].split() for path in (FIXTURES / place).glob(pattern)}
    assert kept == sorted(path.read_bytes() for path in files)
    assert m.check(WS).ok


def test_a_compressed_rollout_stays_compressed(m: NativeSessionManager, tmp_path: Path) -> None:
    path = next((FIXTURES / "codex" / "sessions").rglob("*.jsonl"))
    packed = tmp_path / f"{path.name}.zst"
    packed.write_bytes(pack_zstandard(path.read_bytes()))
    (session,) = brought(m, packed).session_ids
    assert original(m, session) == packed.read_bytes()
    assert mark(m.get_session(WS, session))["original"]["name"] == packed.name


@pytest.mark.parametrize(
    ("place", "messages", "sessions", "column"),
    [
        ("goose/sessions.db", "messages", "sessions", "session_id"),
        ("crush/.crush/crush.db", "messages", "sessions", "session_id"),
        ("openai-agents/sessions.db", "agent_messages", "agent_sessions", "session_id"),
    ],
)
def test_of_a_database_every_row_of_a_session_is_kept(
    m: NativeSessionManager, place: str, messages: str, sessions: str, column: str
) -> None:
    ids = brought(m, FIXTURES / place).session_ids
    with closing(sqlite3.connect(FIXTURES / place)) as database:
        database.row_factory = sqlite3.Row
        for session_id in ids:
            *rows, head = records(original(m, session_id))
            name = mark(m.get_session(WS, session_id))["sessionId"]
            assert {row["table"] for row in rows} == {messages}
            query = f"SELECT * FROM {messages} WHERE {column} = ?"
            key = repr
            assert sorted((row["row"] for row in rows), key=key) == sorted(
                (dict(row) for row in database.execute(query, (name,))), key=key
            )
            assert head["table"] == sessions
            assert name in head["row"].values()


def test_of_both_generations_of_llm_every_row_is_kept(m: NativeSessionManager, tmp_path: Path) -> None:
    ids = brought(m, make_llm_logs(tmp_path / "logs.db")).session_ids
    tables = [[record["table"] for record in records(original(m, each))] for each in ids]
    assert tables == [
        ["responses", "tool_calls", "responses", "tool_results", "conversations"],
        ["messages", "parts", "messages", "parts", "parts", "messages", "parts", "threads"],
    ]


def test_the_files_of_strands_are_lines_with_their_names(m: NativeSessionManager) -> None:
    folder = FIXTURES / "strands" / "session_demo"
    (session,) = brought(m, folder.parent).session_ids
    found = {record["file"]: record["object"] for record in records(original(m, session))}
    assert found == {
        path.relative_to(folder).as_posix(): json.loads(path.read_text()) for path in folder.rglob("*.json")
    }


def test_of_aider_each_session_has_its_part_of_the_file(m: NativeSessionManager) -> None:
    path = FIXTURES / "aider" / ".aider.chat.history.md"
    whole = path.read_bytes()
    kept = [original(m, each) for each in brought(m, path).session_ids]
    assert whole.endswith(b"".join(kept))
    assert all(each.startswith(b"# aider chat started at") for each in kept)


@pytest.mark.parametrize("sample", ["opencode-1.18.db", "opencode-1.2.db", "data"])
def test_what_came_from_opencode_is_given_back_as_an_export(
    m: NativeSessionManager, sample: str, tmp_path: Path
) -> None:
    source = FIXTURES / "opencode" / "samples" / sample
    for session in brought(m, source).session_ids:
        assert original(m, session) == export_session(m, WS, session, "opencode")
        assert "original" not in mark(m.get_session(WS, session))
    export = FIXTURES / "opencode" / "samples" / "export.json"
    (session,) = import_file(m, "file", export).session_ids
    assert json.loads(b"".join(original_of(m, "file", session))) == json.loads(export.read_text())
    assert m.status(WS).seq > 0
    assert not (tmp_path / "data" / WS / "attachments").exists()


def test_what_came_from_nomadarch_is_given_back_as_its_file(m: NativeSessionManager, tmp_path: Path) -> None:
    message = {"id": "m", "sessionId": "s", "role": "boss", "content": "Hi", "createdAt": 5, "updatedAt": 5}
    session = {"id": "s", "title": "T", "parentId": None, "createdAt": 5, "updatedAt": 6, "messageIds": ["m"]}
    path = tmp_path / "sessions.json"
    path.write_text(json.dumps({"sessions": {"s": session}, "messages": {"m": message}}))
    import_file(m, WS, path)
    found = json.loads(original(m, "s"))
    assert found["sessions"]["s"].items() >= session.items()
    assert found["messages"]["m"].items() >= message.items()
    assert not {"imported", "rev"} & {*found["sessions"]["s"], *found["messages"]["m"]}


def test_what_is_not_kept_is_an_error_that_says_why(m: NativeSessionManager, tmp_path: Path) -> None:
    with pytest.raises(SessionNotFoundError):
        original_of(m, WS, "nobody")
    m.create_session(WS, id="own")
    with pytest.raises(OriginalNotFoundError, match="not imported"):
        original_of(m, WS, "own")
    share = tmp_path / "share.json"
    share.write_text(json.dumps(share_of(json.loads((FIXTURES / "opencode/samples/export.json").read_text()))))
    (session,) = import_file(m, WS, share).session_ids
    with pytest.raises(OriginalNotFoundError, match="share"):
        original_of(m, WS, session)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """One file of Claude Code's."""
    source = next((FIXTURES / "claude" / "projects").glob("*/5f2b*.jsonl"))
    return Path(shutil.copy(source, tmp_path))


def grown(path: Path, text: str = "More", number: int = 0) -> None:
    record = next(each for each in reversed(records(path.read_bytes())) if "uuid" in each)
    record |= {"uuid": f"new {text} {number}", "parentUuid": record["uuid"]}
    record |= {"type": "user", "message": {"role": "user", "content": text}}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_a_second_import_writes_nothing(m: NativeSessionManager, history: Path, tmp_path: Path) -> None:
    brought(m, history)

    def everything() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}

    before = everything()
    brought(m, history)
    assert everything() == before


def test_what_a_source_has_grown_by_becomes_a_chunk_and_the_rest_stays(m: NativeSessionManager, history: Path) -> None:
    (session,) = brought(m, history).session_ids
    (first,) = mark(m.get_session(WS, session))["original"]["chunks"]
    grown(history)
    brought(m, history)
    found = mark(m.get_session(WS, session))["original"]
    assert found["chunks"][0] == first
    assert len(found["chunks"]) == 2
    assert found["size"] == history.stat().st_size
    assert original(m, session) == history.read_bytes()


def test_many_small_chunks_are_put_together(m: NativeSessionManager, history: Path, tmp_path: Path) -> None:
    (session,) = brought(m, history).session_ids
    for number in range(60):
        grown(history, number=number)
        brought(m, history)
        assert original(m, session) == history.read_bytes()
        assert len(mark(m.get_session(WS, session))["original"]["chunks"]) <= 9
    kept = sum(path.stat().st_size for path in (tmp_path / "data" / WS / "attachments").iterdir())
    assert kept < 4 * history.stat().st_size


def rewritten(path: Path) -> None:
    path.write_text(path.read_text().replace("slugify", "sluggify"))


def shortened(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("change", [rewritten, shortened])
def test_a_source_that_was_rewritten_or_cut_is_kept_as_it_is_now(
    m: NativeSessionManager, history: Path, change: Callable[[Path], None]
) -> None:
    (session,) = brought(m, history).session_ids
    grown(history)
    brought(m, history)
    change(history)
    brought(m, history)
    assert original(m, session) == history.read_bytes()
    assert m.check(WS).ok


def test_an_import_without_originals_keeps_none_and_the_next_one_does(
    m: NativeSessionManager, history: Path, clock: ManualClock
) -> None:
    (session,) = brought(m, history, originals=False).session_ids
    before = there(m.get_session(WS, session))
    with pytest.raises(OriginalNotFoundError, match=r"imported from .*5f2b.*again") as caught:
        original_of(m, WS, session)
    assert caught.value.session_id == session
    clock.advance(1 << 40)  # Years: the session is older than this change of it.
    report = brought(m, history)
    assert report.sessions.unchanged == 1
    assert original(m, session) == history.read_bytes()
    after = there(m.get_session(WS, session))
    assert (after.updated_at, after.title) == (before.updated_at, before.title)
    seq = m.status(WS).seq
    brought(m, history)
    assert m.status(WS).seq == seq


def test_an_import_without_originals_leaves_the_one_that_is_kept(m: NativeSessionManager, history: Path) -> None:
    (session,) = brought(m, history).session_ids
    before = history.read_bytes()
    grown(history)
    brought(m, history, originals=False)
    assert original(m, session) == before
    assert keeping.is_outdated(there(m.get_session(WS, session)))
    brought(m, history)
    assert original(m, session) == history.read_bytes()
    assert not keeping.is_outdated(there(m.get_session(WS, session)))


def test_a_sub_agent_inside_of_a_file_has_the_file(m: NativeSessionManager, history: Path) -> None:
    record = json.loads(history.read_text().splitlines()[0])
    record |= {"uuid": "side", "parentUuid": None, "isSidechain": True}
    with history.open("a") as file:
        file.write(json.dumps(record) + "\n")
    session, inner = brought(m, history, originals=False).session_ids
    brought(m, history)
    assert original(m, session) == original(m, inner) == history.read_bytes()
    other = "other"
    import_history(m, there(importer_of(history)), history, workspace_id=other)
    assert [b"".join(original_of(m, other, each)) for each in (session, inner)] == [history.read_bytes()] * 2


def test_local_edits_and_another_older_source_change_no_original(
    m: NativeSessionManager, history: Path, tmp_path: Path
) -> None:
    (session,) = brought(m, history).session_ids
    kept = original(m, session)
    m.update_session(WS, session, title="Mine")
    attached = len(list((Path(m.data_dir) / WS / "attachments").iterdir()))
    copy = Path(shutil.copy(history, tmp_path / "data" / history.name))
    shortened(copy)
    brought(m, copy)
    assert len(list((Path(m.data_dir) / WS / "attachments").iterdir())) == attached
    assert original(m, session) == kept
    assert there(m.get_session(WS, session)).title == "Mine"


def test_a_source_that_cannot_be_read_again_is_a_warning(m: NativeSessionManager, history: Path) -> None:
    made = there(importer_of(history))

    def gone() -> Iterator[bytes]:
        raise PermissionError(13, "Permission denied")

    def sessions(path: Path, report: ImportReport) -> Iterator[Found]:
        for found in made.sessions(path, report):
            yield Found(**{**vars(found), "original": Original("x", gone)})

    importer = Importer("claude-code", "", made.locate, made.sniff, sessions)
    report = import_history(m, importer, history, workspace_id=WS)
    (session,) = report.session_ids
    assert report.complete
    assert report.warnings == [f"{history}: its original is not kept: Permission denied"]
    assert m.get_session_messages(WS, session).total > 0
    brought(m, history)
    assert original(m, session) == history.read_bytes()


def test_an_error_of_the_store_is_not_taken_for_one_of_the_source(
    m: NativeSessionManager, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(workspace_id: str, data: bytes) -> str:
        raise DiskFullError(path="attachments")

    monkeypatch.setattr(m, "_attach", full)
    with pytest.raises(DiskFullError):
        brought(m, history)
    monkeypatch.undo()
    assert m.list_sessions(WS).total == 0
    (session,) = brought(m, history).session_ids
    assert original(m, session) == history.read_bytes()


def test_an_import_that_was_stopped_before_its_commit_is_completed_by_repeating_it(
    m: NativeSessionManager, history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(m, "_commit", stopped)
    with pytest.raises(KeyboardInterrupt):
        brought(m, history)
    monkeypatch.undo()
    attached = list((Path(m.data_dir) / WS / "attachments").iterdir())
    (session,) = brought(m, history).session_ids
    assert list((Path(m.data_dir) / WS / "attachments").iterdir()) == attached
    assert original(m, session) == history.read_bytes()


def one(path: Path, stamp: str) -> Importer:
    """An importer of a single file, as one session with nothing in it."""

    def read(report: ImportReport) -> ParsedSession:
        return ParsedSession({"id": SESSION, "createdAt": 5, "updatedAt": 5}, [], [], 0)

    found = Found(SESSION, None, stamp, path.stat().st_size, str(path), read, verbatim.of_file(path))
    return Importer("made", "", lambda _: [], lambda _: True, lambda *_: iter([found]))


def test_a_large_file_is_kept_in_chunks_of_which_one_is_in_memory(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    lines = random.Random(5)
    with path.open("wb") as file:
        while file.tell() < 40 << 20:
            file.write(lines.randbytes(96).hex().encode() * 2 + b"\n")
    size = path.stat().st_size
    tracemalloc.start()
    import_history(m, one(path, "1"), path, workspace_id=WS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    with path.open("rb") as file:
        assert all(piece == file.read(len(piece)) for piece in original_of(m, WS, SESSION))
        assert not file.read()
    given_back = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * CHUNK_BYTES
    assert given_back < 5 * CHUNK_BYTES
    chunks = mark(m.get_session(WS, SESSION))["original"]["chunks"]
    assert [chunk[1] for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, size - 2 * CHUNK_BYTES]
    with path.open("r+b") as file:  # What is rewritten at the end leaves the chunks before it.
        file.seek(size - 5)
        file.write(b"-----")
    import_history(m, one(path, "2"), path, workspace_id=WS)
    again = mark(m.get_session(WS, SESSION))["original"]["chunks"]
    assert again[:2] == chunks[:2]
    assert again[2] != chunks[2]


def test_an_empty_source_is_kept_too(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    import_history(m, one(path, "1"), path, workspace_id=WS)
    assert original(m, SESSION) == b""


def test_what_changes_with_every_message_has_a_chunk_of_its_own(m: NativeSessionManager, tmp_path: Path) -> None:
    pieces = [b"message\n" * 20_000]

    def read(report: ImportReport) -> ParsedSession:
        return ParsedSession({"id": SESSION, "createdAt": 5, "updatedAt": 5}, [], [], 0)

    def whole() -> list[bytes]:
        return [*pieces, b"", b"%d messages\n" % len(pieces)]

    def bring() -> list[Any]:
        source = Original("rows", lambda: iter(whole()))
        found = Found(SESSION, None, str(len(pieces)), 5, "here", read, source)
        importer = Importer("made", "", lambda _: [], lambda _: True, lambda *_: iter([found]))
        import_history(m, importer, tmp_path, workspace_id=WS)
        assert original(m, SESSION) == b"".join(whole())
        return list(mark(m.get_session(WS, SESSION))["original"]["chunks"])

    first = bring()
    assert len(first) == 2
    pieces.append(b"another\n")
    assert bring()[0] == first[0]


@pytest.fixture
def imported(m: NativeSessionManager, history: Path) -> str:
    (session,) = brought(m, history).session_ids
    return session


def chunk_of(m: NativeSessionManager, session: str) -> Path:
    name: str = mark(m.get_session(WS, session))["original"]["chunks"][0][0]
    return Path(m.data_dir) / WS / "attachments" / name


def test_a_chunk_that_is_gone_or_is_not_what_it_was_is_an_error(m: NativeSessionManager, imported: str) -> None:
    path = chunk_of(m, imported)
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(AttachmentMissingError):
        original(m, imported)
    path.unlink()
    with pytest.raises(AttachmentMissingError):
        original(m, imported)
    (problem,) = m.check(WS).problems
    assert problem.kind == "attachment-missing"
    assert imported in problem.detail
    path.write_bytes(data)
    assert m.check(WS).ok


def test_a_mark_that_names_something_else_is_found_out(m: NativeSessionManager, imported: str) -> None:
    known = mark(m.get_session(WS, imported))
    for data in (b"something else", b""):
        digest = m._attach(WS, data)
        chunk = [digest, *known["original"]["chunks"][0][1:]]
        m.update_session(WS, imported, imported={**known, "original": {**known["original"], "chunks": [chunk]}})
        with pytest.raises(AttachmentMissingError, match="no chunk"):
            original(m, imported)


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": 5},
        {"chunks": [5]},
        {"chunks": []},
        {"size": 1},
        {"sha256": "x"},
        {"chunks": [["a", 1 << 60, "b"]], "size": 1 << 60, "sha256": "b"},
    ],
)
def test_a_mark_of_another_shape_keeps_nothing_and_the_next_import_does(
    m: NativeSessionManager, imported: str, history: Path, change: dict[str, Any]
) -> None:
    known = mark(m.get_session(WS, imported))
    m.update_session(WS, imported, imported={**known, "original": {**known["original"], **change}})
    with pytest.raises(OriginalNotFoundError):
        original_of(m, WS, imported)
    brought(m, history)
    assert original(m, imported) == history.read_bytes()


def test_a_session_that_moves_takes_its_original_along(m: NativeSessionManager, imported: str, history: Path) -> None:
    m.move_session(WS, imported, to_workspace="other")
    shutil.rmtree(Path(m.data_dir) / WS / "attachments")
    assert b"".join(original_of(m, "other", imported)) == history.read_bytes()
    assert m.check("other").ok
    grown(history)
    report = import_history(m, there(importer_of(history)), history)
    assert report.workspaces == {"other": 1}
    assert b"".join(original_of(m, "other", imported)) == history.read_bytes()


def test_a_fork_claims_no_original(m: NativeSessionManager, imported: str) -> None:
    fork = m.fork_session(WS, imported)
    with pytest.raises(OriginalNotFoundError, match="not imported"):
        original_of(m, WS, fork.id)


def test_a_file_of_ours_brings_no_claim_to_an_original_that_is_elsewhere(
    m: NativeSessionManager, imported: str, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.json"
    path.write_bytes(export_session(m, WS, imported, "nomadarch"))
    import_file(m, "other", path)
    assert m.check("other").ok
    brought_over = mark(m.get_session("other", imported))
    assert "original" not in brought_over
    assert brought_over["path"] == mark(m.get_session(WS, imported))["path"]
    session = there(m.get_session(WS, imported))
    changed = json.loads(path.read_text())
    changed["sessions"][imported]["updatedAt"] = session.updated_at + 1000
    path.write_text(json.dumps(changed))
    kept = original(m, imported)
    import_file(m, WS, path)
    assert original(m, imported) == kept


def test_the_original_is_in_no_digest(m: NativeSessionManager, history: Path) -> None:
    (session,) = brought(m, history).session_ids
    other = NativeSessionManager(Path(m.data_dir).parent / "second")
    with other:
        brought(other, history, originals=False)
        assert mark(other.get_session(WS, session))["digest"] == mark(m.get_session(WS, session))["digest"]
    assert "imported" in dump(there(m.get_session(WS, session)))


def test_every_importer_but_opencode_keeps_originals(tmp_path: Path) -> None:
    make_llm_logs(tmp_path / "logs.db")
    places = [*(FIXTURES / each for each in FILES), FIXTURES / "goose/sessions.db", tmp_path / "logs.db"]
    for path in places:
        importer = there(importer_of(path))
        assert all(each.original is not None for each in importer.sessions(path, ImportReport())), path
    data = FIXTURES / "opencode" / "samples" / "data"
    assert all(each.original is None for each in there(importer_of(data)).sessions(data, ImportReport()))
