"""While much is written at once, folding and sealing wait; what is committed is as safe as ever, and they are made up
for at the end."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from pydantic_core import to_json

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import import_history
from nomad_sessions.formats.claude import IMPORTER as CLAUDE
from nomad_sessions.storage import codec
from nomad_sessions.workspace import folding
from tests.support.modelfs import ModelDisk

WS = "ws"
TEXT = "x" * 100_000


def segments(m: NativeSessionManager) -> list[int]:
    """The sizes of the journal's segments, the live one last."""
    return [path.stat().st_size for path in sorted((Path(m.data_dir) / WS / "journal").iterdir())]


def fill(m: NativeSessionManager, messages: int) -> None:
    session = m.create_session(WS)
    for _ in range(messages):
        m.add_message(WS, session.id, role="user", content=TEXT)


def test_segments_are_sealed_less_often_and_the_last_one_at_the_end(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "BULK_SEGMENT", 2_000_000)
    monkeypatch.setattr(folding, "FLOOR", 1 << 30)  # Nothing is folded: that seals by itself.
    with m.workspace(WS).bulk():
        fill(m, 35)
        assert [size // 100_000 for size in segments(m)] == [20, 15]
    assert [size // 100_000 for size in segments(m)] == [20, 15, 0]
    fill(m, 6)
    assert [size // 100_000 for size in segments(m)][3:] == [3, 0]
    assert m.check(WS).ok


@pytest.mark.parametrize("bigger", [1, 3])
def test_a_bulk_of_which_is_told_how_much_is_to_come_is_folded_once(
    bigger: int, m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what is told, the share of a source, grows otherwise than what is written of it."""
    monkeypatch.setattr(folding, "FLOOR", 1 << 16)
    monkeypatch.setattr(folding, "BULK_LEAST", 1 << 17)
    folded = []
    session = m.create_session(WS)
    with m.workspace(WS).bulk() as bulk:
        for number in range(40):
            bulk.share = (number + 1) / 40
            m.add_message(WS, session.id, role="user", content=TEXT * (bigger if number % 2 else 1))
            folded.append(m.workspace(WS).counters.checkpoints)
    assert m.workspace(WS).counters.checkpoints == folded[-1] == 1
    assert 0.55 < folded.count(0) / 40 < 0.7, "so that less than three quarters of it come after"
    assert m.check(WS).ok


def test_a_small_bulk_and_one_of_which_nothing_is_told_are_folded_at_the_end(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "FLOOR", 1 << 16)
    for share in (1.0, 0.0):
        before = m.workspace(WS).counters.checkpoints
        with m.workspace(WS).bulk() as bulk:
            bulk.share = share
            fill(m, 10)
            assert m.workspace(WS).counters.checkpoints == before
        assert m.workspace(WS).counters.checkpoints == before + 1


def test_who_opens_it_meanwhile_has_all_that_was_committed(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m, m.workspace(WS).bulk():
        fill(m, 5)
        with NativeSessionManager(tmp_path) as other:
            assert other.stats(WS).messages == 5
            fill(other, 4)
        fill(m, 1)
        assert m.stats(WS).messages == 10
        assert m.check(WS).ok


def test_that_the_last_segment_cannot_be_sealed_costs_nothing_that_was_committed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(folding, "FLOOR", 1 << 30)
    process = ModelDisk().process()
    m = NativeSessionManager("/data", filesystem=process)
    with m.workspace(WS).bulk():
        fill(m, 12)
        fault = process.inject(errno.ENOSPC, op="pwrite_all")
    assert fault.fired
    assert "seal" in caplog.text
    assert m.stats(WS).messages == 12
    fill(m, 1)
    assert m.stats(WS).messages == 13


def test_of_a_share_that_is_taken_back_what_is_to_come_is_not_known() -> None:
    assert folding.Bulk(10, 0.5).to_come(30) == 20
    assert folding.Bulk(10, 0.0).to_come(30) == float("inf")


def test_an_import_tells_its_share_and_is_folded_once_as_soon_as_most_is_there(
    m: NativeSessionManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "FLOOR", 1 << 12)
    monkeypatch.setattr(folding, "BULK_LEAST", 1 << 13)
    monkeypatch.setattr(codec, "_dumps", to_json)
    for number in range(10):
        lines = []
        for turn in range(10):
            said = {"type": "user", "uuid": f"{number}-{turn}", "parentUuid": f"{number}-{turn - 1}" if turn else None}
            said |= {"sessionId": f"s{number}", "timestamp": f"2026-01-01T00:0{number}:0{turn}Z"}
            lines.append(json.dumps({**said, "message": {"role": "user", "content": TEXT[:1_000]}}) + "\n")
        path = tmp_path / "claude" / "p" / f"s{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    report = import_history(m, CLAUDE, tmp_path / "claude", workspace_id=WS)
    assert report.messages.imported == 100
    assert m.workspace(WS).counters.checkpoints == 1
    folded = json.loads((Path(m.data_dir) / WS / "sessions.json").read_text(encoding="utf-8"))
    assert len(folded["sessions"]) in (6, 7), "what is left is less than three quarters of it"
    assert m.stats(WS).messages == 100
    assert codec._dumps is not to_json, "it is in a hurry; in CI the extra is there"
