"""How originals are kept: once, in pieces, as long as the session is there, whatever happens to source and session."""

from __future__ import annotations

import json
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AttachmentMissingError,
    DiskFullError,
    ManualClock,
    NativeSessionManager,
    OriginalNotFoundError,
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
from tests.support.originals import WS, brought, claude_session, grown, mark, original
from tests.support.there import there

SESSION = "01KDWM1QG0AAAAAAAAAAAAAAAA"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return claude_session(tmp_path)


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

    def read(found: Found, report: ImportReport) -> ParsedSession | None:
        parsed = found.read(report)
        return None if parsed is None else replace(parsed, read_from=None)

    def sessions(path: Path, report: ImportReport) -> Iterator[Found]:
        for found in made.sessions(path, report):
            yield Found(**{**vars(found), "read": partial(read, found), "original": Original("x", gone)})

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
    def full(workspace_id: str, data: bytes, digest: str) -> str:
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
