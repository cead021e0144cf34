"""A session too large to be held in memory comes in as any other does, in one group, and in bounded memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import ImportReport, claude, holding, import_history, importer_of, pi
from nomad_sessions.models import dump
from nomad_sessions.operations import whole
from nomad_sessions.storage._os import REAL
from nomad_sessions.workspace import lines
from tests.unit.test_claude import Writer

SAMPLES = Path(__file__).parents[1] / "fixtures"
SOURCES = [SAMPLES / "claude" / "projects", SAMPLES / "pi" / "agent" / "sessions", SAMPLES / "gemini" / "tmp"]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the samples were large."""
    for module in (holding, claude, pi):
        monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(holding, "_KEPT", 100)
    monkeypatch.setattr(lines, "PIECE_BYTES", 500)


def contents(m: NativeSessionManager, source: Path) -> tuple[dict[str, Any], list[Any]]:
    importer = importer_of(source)
    assert importer is not None
    report = import_history(m, importer, source, workspace_id="ws")
    assert m.check("ws").ok
    m.checkpoint("ws")
    sessions = m.list_sessions("ws")
    found = [[dump(each), *map(dump, m.get_session_messages("ws", each.id))] for each in sessions]
    return report.as_dict(), found


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.parent.name)
def test_it_says_the_same_as_one_that_is_held_in_memory(
    source: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with NativeSessionManager(tmp_path / "one", durability="os") as m:
        small = contents(m, source)
    request.getfixturevalue("tiny")
    with NativeSessionManager(tmp_path / "two", durability="os") as m:
        large = contents(m, source)
        again = contents(m, source)
    assert large == small
    assert again[0]["messages"]["imported"] == again[0]["messages"]["updated"] == 0


@pytest.mark.usefixtures("tiny")
def test_the_sessions_inside_of_one_are_held_in_the_same_file(
    m: NativeSessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[holding._File] = []
    begin = holding._File.__init__

    def counted(file: holding._File) -> None:
        made.append(file)
        begin(file)

    writer = Writer(tmp_path / "s.jsonl")
    writer.user("hello")
    for number in range(10):
        writer.user(f"sub-agent {number}", parentUuid=None, isSidechain=True)
        writer.user("go on", isSidechain=True)
    source = writer.save()
    monkeypatch.setattr(holding._File, "__init__", counted)
    (found,) = claude.IMPORTER.sessions(source, ImportReport())
    parsed = found.read(ImportReport())
    assert parsed is not None
    assert len(parsed.inner) == 10
    assert len(made) == 1
    for each in parsed.inner:
        each.messages = holding.like(each.messages, each.messages)
    assert [len(each.messages) for each in parsed.inner] == [2] * 10
    assert len(made) == 1


@pytest.mark.usefixtures("tiny")
def test_an_id_that_another_session_has_costs_that_message_alone(m: NativeSessionManager, tmp_path: Path) -> None:
    shutil.copytree(SOURCES[1], tmp_path / "s")
    (first, *_) = (each for each in (tmp_path / "s").rglob("2026*.jsonl"))
    parsed = next(iter(pi.IMPORTER.sessions(first, ImportReport()))).read(ImportReport())
    assert parsed is not None
    assert isinstance(parsed.messages, holding.Held)
    assert [each["id"] for each in parsed.messages[:2]] == [parsed.messages[0]["id"], parsed.messages[1]["id"]]
    m.create_session("ws", id="other")
    m.add_message("ws", "other", id=parsed.messages[1]["id"], role="user", content="mine")
    report = import_history(m, pi.IMPORTER, first, workspace_id="ws")
    assert report.skipped == {"another session here has a message of that id": 1}
    assert len(m.get_session_messages("ws", parsed.session["id"])) == len(parsed.messages) - 1


class _Writes:
    """Counts what is written to the journal, and may have something else happen at a write."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int = 0, then: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        original = type(REAL).pwrite_all

        def pwrite_all(fs: Any, fd: int, data: bytes, offset: int) -> None:
            if b'"message.added"' in data[:2000]:
                self.count += 1
                if self.count == at:
                    then()
            original(fs, fd, data, offset)

        patch.setattr(type(REAL), "pwrite_all", pwrite_all)


def bodies(count: int) -> list[dict[str, Any]]:
    return [{"id": f"m{n}", "role": "user", "content": "x" * 200, "createdAt": 1, "updatedAt": 1} for n in range(count)]


@pytest.mark.usefixtures("tiny")
def test_a_group_is_written_in_pieces_and_nothing_of_it_stays_when_one_cannot_be(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    m.create_session("ws", id="s")
    before = m.status("ws").seq
    writes = _Writes(monkeypatch)
    wrong = [*bodies(9), {**bodies(10)[9], "odd": float("inf")}]
    fields = {"id": "big", "workspaceId": "ws", "createdAt": 1, "updatedAt": 1}
    with pytest.raises(InvalidInputError):
        m._commit("ws", whole.place(fields, wrong, 10))
    assert writes.count > 1, "it had begun"
    assert m.status("ws").seq == before
    assert m.get_session("ws", "big") is None
    assert m._commit("ws", whole.place(fields, bodies(10), 10))
    with NativeSessionManager(m.data_dir) as other:
        assert [each.id for each in other.get_session_messages("ws", "big")] == [f"m{n}" for n in range(10)]
        assert other.check("ws").ok


@pytest.mark.usefixtures("tiny")
def test_a_reader_sees_all_of_a_group_or_nothing_while_its_pieces_are_written(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    m.create_session("ws", id="s")
    seen: list[tuple[bool, int]] = []

    def look() -> None:
        with NativeSessionManager(m.data_dir) as other:
            seen.append((other.get_session("ws", "big") is None, other.list_sessions("ws").total))

    writes = _Writes(monkeypatch, 3, look)
    fields = {"id": "big", "workspaceId": "ws", "createdAt": 1, "updatedAt": 1}
    assert m._commit("ws", whole.place(fields, bodies(20), 20))
    assert writes.count > 3
    assert seen == [(True, 1)]


_PEAK = """
import pathlib, resource, sys
from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import import_history, importer_of
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
begin, source = peak(), pathlib.Path(sys.argv[1])
with NativeSessionManager(sys.argv[2], durability="os") as m:
    report = import_history(m, importer_of(source), source)
print(peak() - begin, report.messages.imported)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is counted otherwise")
def test_the_memory_that_a_large_session_takes_is_bounded(tmp_path: Path) -> None:
    size, count = 48 << 20, 0
    path = tmp_path / "s" / "2026-01-01T00-00-00-000Z_x.jsonl"
    path.parent.mkdir()
    with path.open("w") as file:
        header = {"type": "session", "version": 3, "id": "x", "timestamp": "2026-01-01T00:00:00Z", "cwd": "/home/dev"}
        file.write(json.dumps(header) + "\n")
        while file.tell() < size:
            message = {"role": "user", "content": f"{count} " * 800}
            parent = f"e{count - 1}" if count else None
            file.write(
                json.dumps({"type": "message", "id": f"e{count}", "parentId": parent, "message": message}) + "\n"
            )
            count += 1
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PEAK, str(path.parent), str(tmp_path / "data")]
    printed = subprocess.run(command, env=environment, capture_output=True, check=True).stdout
    grown, imported = map(int, printed.split())
    assert imported == count
    assert grown < 1.5 * size, f"{grown >> 20} MiB for a session of {size >> 20}"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
