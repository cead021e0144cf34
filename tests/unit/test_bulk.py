"""While much is written at once, folding and sealing wait; what is committed is as safe as ever, and they are made up
for at the end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
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
