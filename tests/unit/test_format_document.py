"""FORMAT.md's example is read by the code that it describes, and is what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage import snapshot
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.segment import Segment
from nomad_sessions.storage.snapshot import Snapshot
from nomad_sessions.workspace.archive_file import build, parse

DOCUMENT = Path(snapshot.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")


def _block(language: str) -> bytes:
    match = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert match is not None
    return match[1].encode()


def test_the_example_journal_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "0000000000000001.jsonl").write_bytes(_block("jsonl"))
    scan = Segment.open(REAL, str(tmp_path), 1, writable=False).scan()
    assert [entry.record.get("type") for entry in scan.entries] == ["session.created", "message.added", None]
    assert scan.entries[2].record["text"] == " there"
    assert (scan.torn, scan.end) == (0, len(_block("jsonl")))


def test_the_example_of_recorded_events_is_what_is_read_and_written() -> None:
    found = parse("events/0000000000000001.jsonl", 1, _block("events"))
    (entry,) = found.intact()
    assert (entry.record["seq"], entry.record["event"]["type"]) == (4, "session.idle")
    assert build(1, [found.line(entry)]) == _block("events")


def test_the_example_snapshot_is_intact_and_every_byte_of_it_is_covered(tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_bytes(_block("json"))
    found = Snapshot.open(REAL, str(path))
    assert found is not None
    found.verify()
    assert found.seq == 3
    assert [row.id for row in found.groups()] == [row.group for row in found.items()]


def test_the_two_examples_make_a_workspace_that_says_the_same_with_and_without_the_snapshot(tmp_path: Path) -> None:
    workspace = tmp_path / "demo"
    (workspace / "journal").mkdir(parents=True)
    (workspace / "journal" / "0000000000000001.jsonl").write_bytes(_block("jsonl"))
    with NativeSessionManager(tmp_path) as manager:
        session = manager.list_sessions("demo")[0]
        messages = list(manager.get_session_messages("demo", session.id))
    assert [message.content for message in messages] == ["hi there"]
    (workspace / "sessions.json").write_bytes(_block("json"))
    with NativeSessionManager(tmp_path) as manager:
        assert manager.list_sessions("demo") == [session]
        assert manager.get_session_messages("demo", session.id) == messages
        assert manager.check("demo").ok


def test_the_document_is_short_enough_to_be_read() -> None:
    assert len(DOCUMENT.splitlines()) <= 160
