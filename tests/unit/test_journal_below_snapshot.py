"""What the snapshot has folded, the journal once had: bytes that are no records any more are damage, not a tail."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    """A data folder written by five short processes' worth of managers, each of which folds when it closes."""
    with NativeSessionManager(tmp_path) as m:
        m.create_session("ws", id="s")
    for number in range(4):
        with NativeSessionManager(tmp_path) as m:
            m.add_message("ws", "s", id=f"m{number}", role="user", content=f"message {number}")
    return tmp_path


def damage(folder: Path) -> None:
    (segment,) = (folder / "ws" / "journal").glob("*.jsonl")
    content = segment.read_bytes()
    assert content.count(b"message 1") == 1
    segment.write_bytes(content.replace(b"message 1", b"mesSage 1"))


def test_check_finds_it_before_anybody_writes_and_repair_mends_it(
    folded: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folded)
    with NativeSessionManager(folded) as m:
        report = m.check("ws")
        assert [problem.kind for problem in report.problems] == ["journal-damaged"]
        assert "snapshot has changes up to seq 5" in report.problems[0].detail
        assert m.repair("ws").after.ok
    caplog.clear()
    with caplog.at_level(logging.WARNING), NativeSessionManager(folded) as m:
        assert m.check("ws").ok
        assert [each.content for each in m.get_session_messages("ws", "s")] == [f"message {n}" for n in range(4)]
        m.add_message("ws", "s", role="user", content="later")
        assert m.check("ws").ok
    assert caplog.records == []


def test_without_damage_there_is_nothing_to_find(folded: Path) -> None:
    with NativeSessionManager(folded) as m:
        assert m.check("ws").ok
        assert m.repair("ws").actions == []
