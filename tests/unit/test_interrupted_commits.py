"""A thread that gets a Ctrl-C while it commits for others: each of them is told what its own commit did, and nothing
else."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.group_sync import Position
from tests.support.together import together

WS = "ws"


def interrupt_after_writing(mark: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C right after this was written, once, before the one who wrote it knows."""
    real, marks = type(REAL).pwrite_all, [mark]

    def pwrite_all(fs: Any, fd: int, data: Any, offset: int) -> None:
        real(fs, fd, data, offset)
        if marks and marks[0] in bytes(data):
            marks.clear()
            raise KeyboardInterrupt

    monkeypatch.setattr(type(REAL), "pwrite_all", pwrite_all)


def interrupted_once(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, calls: list[Any], *, written: bytes = b""
) -> list[Any]:
    """Makes these calls, each in a thread of its own, in one batch whose worker is interrupted between its write and
    its sync, or right after it wrote what has these bytes: what each returned, or the class of what it raised."""
    workspace = m.workspace(WS)
    settle, combiner = workspace._settle, workspace._commits
    batches: list[int] = []
    held = threading.Event()

    def interrupting(goal: Position, lazy: bool) -> None:
        batches.append(goal.offset)
        if len(batches) == 1:
            held.set()
            while len(combiner._waiting) < len(calls):
                time.sleep(0.001)
        elif len(batches) == 2 and not written:
            raise KeyboardInterrupt
        settle(goal, lazy)

    monkeypatch.setattr(workspace, "_settle", interrupting)
    if written:
        interrupt_after_writing(written, monkeypatch)
    results: list[Any] = [None] * len(calls)

    def run(number: int) -> None:
        assert held.wait(30)
        try:
            results[number] = calls[number]()
        except KeyboardInterrupt as error:
            results[number] = type(error)

    together(partial(m.record_event, WS, "first"), *(partial(run, number) for number in range(len(calls))))
    assert len(batches) >= (2 if written else 3)
    assert results.count(KeyboardInterrupt) == 1, "the one that worked for all"
    return results


def test_recorded_events_get_the_seqs_of_their_own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.record_event(WS, "before")
        calls = [partial(m.record_events, WS, [{"type": f"of.{n}"}] * (n + 1)) for n in range(4)]
        results = interrupted_once(m, monkeypatch, calls)
        real = {n: [event.seq for event in m.events(WS, types=f"of.{n}")] for n in range(4)}
        for n, result in enumerate(results):
            assert len(real[n]) == n + 1, "written once"
            assert result in (real[n], KeyboardInterrupt)


def test_a_message_is_given_as_this_change_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", id="m", role="user", content="")
        calls = [partial(m.update_message, WS, "m", content=str(n)) for n in range(4)]
        for n, result in enumerate(interrupted_once(m, monkeypatch, calls)):
            assert result is KeyboardInterrupt or result.content == str(n)


def test_what_others_may_have_read_stays_when_its_writer_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NativeSessionManager(tmp_path) as m, NativeSessionManager(tmp_path) as other:
        m.create_session(WS, id="s")
        interrupt_after_writing(b"the second", monkeypatch)
        m.add_message(WS, "s", role="user", content="the first")
        with pytest.raises(KeyboardInterrupt):
            m.add_message(WS, "s", role="user", content="the second")
        seen = [event.seq for event in other.events(WS)]
        m.add_message(WS, "s", role="user", content="the third")
        for each in (m, other):
            assert [one.content for one in each.get_session_messages(WS, "s")] == [
                "the first",
                "the second",
                "the third",
            ]
        assert [event.seq for event in other.events(WS)][: len(seen)] == seen
        assert m.check(WS).ok


def test_what_was_written_for_another_thread_by_one_that_is_interrupted_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        calls = [partial(m.add_message, WS, "s", role="user", content=f"of {number}") for number in range(4)]
        results = interrupted_once(m, monkeypatch, calls, written=b"of 2")
        for number, result in enumerate(results):
            assert result is KeyboardInterrupt or result.content == f"of {number}"
        contents = [each.content for each in m.get_session_messages(WS, "s")]
        told = [result.content for result in results if result is not KeyboardInterrupt]
        assert sorted(set(contents)) == sorted(contents), "written once"
        assert set(told) <= set(contents)
        assert "of 2" in contents
