"""The list of conflicts: each once, in order, until somebody has looked at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import CorruptionError
from nomad_sessions.storage._os import REAL
from nomad_sessions.sync import Key
from nomad_sessions.sync.two_way.conflicts import Conflict, Conflicts
from nomad_sessions.sync.two_way.joining import Loss
from nomad_sessions.sync.two_way.versions import Stamp

THERE = Stamp(7, "there", 1)
TITLE = Key("session", "s"), Loss("title", {"title": "a"}, {"title": "b"}, THERE)
GONE = Key("message", "\ud800"), Loss("", None, {"content": "\ud800"}, THERE)


def test_each_is_there_once_and_stays(tmp_path: Path) -> None:
    assert Conflicts(REAL, str(tmp_path), "it").all() == []
    Conflicts(REAL, str(tmp_path), "it").note([TITLE, GONE], 10)
    Conflicts(REAL, str(tmp_path), "it").note([GONE, TITLE], 20)
    assert Conflicts(REAL, str(tmp_path), "it").all() == [
        Conflict(TITLE[0], "title", {"title": "a"}, {"title": "b"}, "there", 7, 10),
        Conflict(GONE[0], "", None, {"content": "\ud800"}, "there", 7, 10),
    ]
    assert Conflicts(REAL, str(tmp_path), "other").all() == []


def test_they_are_forgotten(tmp_path: Path) -> None:
    conflicts = Conflicts(REAL, str(tmp_path), "it")
    assert conflicts.forget_all() == 0
    conflicts.note([TITLE, GONE], 10)
    assert conflicts.forget_all() == 2
    assert Conflicts(REAL, str(tmp_path), "it").all() == []


def test_nothing_to_note_writes_nothing(tmp_path: Path) -> None:
    Conflicts(REAL, str(tmp_path), "it").note([], 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["", "{}", '{"conflicts": [["message"]]}', '{"conflicts": 3}'])
def test_a_file_that_holds_none_is_named(tmp_path: Path, what: str) -> None:
    (tmp_path / "sync").mkdir()
    (tmp_path / "sync" / "it-conflicts.json").write_text(what)
    with pytest.raises(CorruptionError, match="it-conflicts"):
        Conflicts(REAL, str(tmp_path), "it").all()
