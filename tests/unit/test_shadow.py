"""What a store knows of a common place: kept by record, made anew when it is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from nomad_sessions import CorruptionError
from nomad_sessions.storage._os import REAL
from nomad_sessions.sync import Key
from nomad_sessions.sync.two_way.identity import machine_of
from nomad_sessions.sync.two_way.shadow import OTHERWISE, Known, Shadow, open_shadow
from nomad_sessions.sync.two_way.versions import Stamp, Stamps

BASE, LATER = Stamp(1, "here", 2), Stamp(3, "there", 4)
STAMPS = Stamps(BASE, {"title": LATER, "x.$y": BASE}, LATER)
ODD = ["a", "Zürich", "\ud800", "", "\0", "x" * 500]


def test_what_is_noted_is_known(tmp_path: Path) -> None:
    rows = {Key("message", name): Known(n, n, False, STAMPS) for n, name in enumerate(ODD)}
    rows[Key("message", "gone")] = Known(7, OTHERWISE, True, None)
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        shadow.note(rows)
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        found = shadow.known("message", [*ODD, "gone", "never"])
        assert {Key("message", name): each for name, each in found.items()} == rows
        assert shadow.known("session", ODD) == {}
        assert shadow.numbers("message")["gone"] == (7, OTHERWISE, True)
        shadow.forget([Key("message", "a")])
        assert shadow.known("message", ["a"]) == {}


def test_more_than_sqlite_takes_at_once(tmp_path: Path) -> None:
    names = [str(n) for n in range(1_234)]
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        shadow.note({Key("task", name): Known(1, 1, False, None) for name in names})
        assert len(shadow.known("task", names)) == len(names)


def locked(path: Path) -> str:
    path.touch()
    return str(path)


def test_a_backup_that_is_put_back_into_the_same_files_is_another_machine(tmp_path: Path) -> None:
    """As `cp` and `rsync --inplace` do: the numbers of the files, their times and what is in them are as they were."""
    lock = locked(tmp_path / "lock")
    facts = os.stat(lock)
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        name = machine_of(shadow, lock)
        time.sleep(0.02)  # The clock of a file system may move on by 10 ms at a time.
        shutil.copy2(shutil.copy2(lock, tmp_path / "backup"), lock)
        assert (os.stat(lock).st_ino, os.stat(lock).st_mtime_ns) == (facts.st_ino, facts.st_mtime_ns)
        other = machine_of(shadow, lock)
        assert other != name
        assert machine_of(shadow, lock) == other


def test_clearing_keeps_the_machine_s_name_and_its_clock(tmp_path: Path) -> None:
    lock = locked(tmp_path / "lock")
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        name = machine_of(shadow, lock)
        assert machine_of(shadow, lock) == name
        for key in ("floor", "place", "since-message"):
            shadow.tell(key, "5")
        shadow.note({Key("session", "s"): Known(1, 1, False, STAMPS)})
        shadow.clear()
        assert shadow.numbers("session") == {}
        assert [shadow.told(key) for key in ("floor", "place", "since-message")] == ["5", None, None]
        assert machine_of(shadow, lock) == name


def test_two_stores_have_two_names(tmp_path: Path) -> None:
    names = set()
    for n in range(3):
        with contextlib.closing(Shadow(f"{tmp_path}/{n}.sqlite")) as shadow:
            names.add(machine_of(shadow, locked(tmp_path / "lock")))
    assert len(names) == 3


def test_one_of_another_version_is_emptied(tmp_path: Path) -> None:
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        shadow.note({Key("session", "s"): Known(1, 1, False, STAMPS)})
        shadow.tell("version", "0")
    with contextlib.closing(Shadow(f"{tmp_path}/it.sqlite")) as shadow:
        assert shadow.numbers("session") == {}


@pytest.mark.parametrize("what", [b"no database" * 100, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_damaged_one_is_made_anew(tmp_path: Path, what: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(open_shadow(REAL, str(tmp_path), "it")) as shadow:
        shadow.tell("place", "x")
    (tmp_path / "sync" / "it-two-way.sqlite").write_bytes(what)
    with (
        caplog.at_level(logging.WARNING, "nomad_sessions"),
        contextlib.closing(open_shadow(REAL, str(tmp_path), "it")) as shadow,
    ):
        assert shadow.told("place") is None
        shadow.tell("place", "y")
    assert "made anew" in caplog.text


def test_one_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "sync" / "it-two-way.sqlite"
    with contextlib.closing(open_shadow(REAL, str(tmp_path), "it")) as shadow:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("DROP TABLE record")
        other.close()
        with pytest.raises(CorruptionError, match="two-way"):
            shadow.known("message", ["m"])
    path.unlink()
    path.mkdir()
    with pytest.raises(CorruptionError, match="two-way"):
        open_shadow(REAL, str(tmp_path), "it")
