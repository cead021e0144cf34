"""The source of a session as it is: one state of it, to the byte, or an error."""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from nomad_sessions.formats import verbatim
from nomad_sessions.formats.source import Original

LARGE = 3 << 20


def whole(source: Original) -> bytes:
    return b"".join(source.read())


@pytest.fixture(params=["at once", "in blocks"])
def path(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "in blocks":
        monkeypatch.setattr(verbatim, "_WHOLE", LARGE - 1)
    made = tmp_path / "source.jsonl"
    made.write_bytes(os.urandom(LARGE))
    os.utime(made, (5, 5))
    return made


def test_a_file_is_read_to_the_byte_each_time_anew(path: Path) -> None:
    source = verbatim.of_file(path)
    assert whole(source) == whole(source) == path.read_bytes()
    assert source.name == "source.jsonl"
    assert whole(pickle.loads(pickle.dumps(source))) == path.read_bytes()


def test_a_file_that_grows_while_it_is_read_is_given_as_it_began(path: Path) -> None:
    before = path.read_bytes()
    pieces = verbatim.of_file(path).read()
    read = next(pieces)
    with path.open("ab") as file:
        file.write(b"more")
    assert read + b"".join(pieces) == before


def rewritten(path: Path) -> None:
    path.write_bytes(os.urandom(LARGE))


def shortened(path: Path) -> None:
    os.truncate(path, LARGE // 2)


@pytest.mark.parametrize(("change", "told"), [(rewritten, "rewritten"), (shortened, "cut off")])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    path: Path, change: Callable[[Path], None], told: str
) -> None:
    pieces = verbatim.of_file(path).read()
    next(pieces)
    change(path)
    with pytest.raises(OSError, match=told):
        list(pieces)


@pytest.mark.parametrize("change", [None, rewritten, shortened])
def test_the_bytes_to_be_parsed_and_kept_are_one_state_of_a_file_that_is_not_large(
    tmp_path: Path, change: Callable[[Path], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "source.jsonl"
    rewritten(path)
    os.utime(path, (5, 5))
    before, stat, asked = path.read_bytes(), os.fstat, list[int]()

    def changing(fd: int) -> os.stat_result:
        asked.append(fd)
        if len(asked) == 2 and change is not None:
            change(path)
        return stat(fd)

    monkeypatch.setattr(os, "fstat", changing)
    assert verbatim.at_once(path) == (before if change is None else None)
    monkeypatch.undo()
    monkeypatch.setattr(verbatim, "_WHOLE", LARGE // 4)
    assert verbatim.at_once(path) is None
    with pytest.raises(FileNotFoundError):
        verbatim.at_once(tmp_path / "no")


def test_what_is_not_there_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    rows = verbatim.select(("t", "session", "rowid"), name="a")
    for source in (
        verbatim.of_file(tmp_path / "no"),
        verbatim.of_files(tmp_path, "x", [tmp_path / "no"], []),
        verbatim.of_rows(tmp_path / "no", "x", rows),
    ):
        with pytest.raises(OSError, match="no"):
            whole(source)


def test_rows_are_lines_that_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (session TEXT, value)")
        database.execute("CREATE TABLE s (id TEXT, title TEXT)")
        values = [1, 0.5, None, "é", b"\0\xff", float("inf"), "x" * 10]
        database.executemany("INSERT INTO t VALUES ('a', ?)", [(value,) for value in values])
        database.execute("INSERT INTO t VALUES ('a', CAST(x'ff41' AS TEXT)), ('b', 'of another')")
        database.execute("INSERT INTO s VALUES ('a', 'T')")
    source = verbatim.of_rows(path, "a", verbatim.select(("t", "session", "rowid"), ("s", "id", "rowid"), name="a"))
    assert source.name == "some.db a.jsonl"
    lines = [json.loads(line) for line in whole(source).splitlines()]
    assert {line["table"] for line in lines[:-1]} == {"t"}
    told = [line["row"]["value"] for line in lines[:-1]]
    assert told == [1, 0.5, None, "é", {"base64": "AP8="}, "inf", "x" * 10, {"base64": "/0E="}]
    assert lines[-1] == {"table": "s", "row": {"id": "a", "title": "T"}}
    pieces = list(source.read())
    assert pieces[-2] == b""


def test_a_table_that_is_gone_is_an_error_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE t (session TEXT)")
    with pytest.raises(OSError, match="no such table"):
        whole(verbatim.of_rows(path, "a", verbatim.select(("gone", "session", "rowid"), name="a")))


def test_files_are_lines_with_their_names_also_where_they_are_no_json(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.json").write_text('{"a": 1}')
    (tmp_path / "b.json").write_bytes(b"\xff{")
    source = verbatim.of_files(tmp_path, "x y", [tmp_path / "inner" / "a.json"], [tmp_path / "b.json"])
    assert [json.loads(line) for line in whole(source).splitlines()] == [
        {"file": "inner/a.json", "object": {"a": 1}},
        {"file": "b.json", "base64": "/3s="},
    ]
