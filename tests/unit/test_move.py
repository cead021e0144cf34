"""Moving a session: whole, with its ids; never lost, whenever the process dies; finished by calling again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    AlreadyExistsError,
    ManualClock,
    NativeSessionManager,
    NotFoundError,
    SessionNotFoundError,
)
from nomad_sessions.models import dump
from tests.support.modelfs import Killed, ModelDisk, at_random
from tests.support.there import there

A, B = "from", "to"


def fill(m: NativeSessionManager) -> None:
    m.create_session(A, id="s", title="talk", metadata={"k": [1]}, mine={"x": None})
    m.add_messages(A, "s", [{"id": f"m{n}", "role": "user", "content": f"text {n}"} for n in range(4)])
    m.append_to_message(A, "m1", "!")
    m.revert(A, "s", "m2", reason="because")
    m.create_task(A, "s", id="t", status="running", input_data={"k": [1]})


def whole(m: NativeSessionManager, ws: str) -> Any:
    session = m.get_session(ws, "s")
    if session is None:
        return None
    messages = m.get_session_messages(ws, "s", include_reverted=True)
    cut = ("rev", "workspaceId", "movedFrom")
    records = (session, *messages, *m.list_tasks(ws, session_id="s"))
    return [{k: v for k, v in dump(each).items() if k not in cut} for each in records]


def test_a_session_moves_whole_with_ids_times_and_what_is_hidden(tmp_path: Path) -> None:
    clock = ManualClock(1_750_000_000_000)
    with NativeSessionManager(tmp_path, clock=clock) as m:
        fill(m)
        before = whole(m, A)
        clock.advance(5000)
        moved = m.move_session(A, "s", to_workspace=B)
        assert moved.workspace_id == B
        assert (whole(m, B), whole(m, A)) == (before, None)
        m.unrevert(B, "s")
        assert m.get_session_messages(B, "s").total == 4
        assert m.get_message(A, "m1") is None
        m.move_session(B, "s", to_workspace=A, directory="/there")
        assert there(m.get_session(A, "s")).directory == "/there"
        for ws in (A, B):
            m.checkpoint(ws)
            assert m.check(ws).ok
    with NativeSessionManager(tmp_path) as m:
        assert m.get_session_messages(A, "s").total == 4
        assert m.list_sessions(B).total == 0


def test_a_move_that_had_finished_may_be_repeated(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        fill(m)
        moved = m.move_session(A, "s", to_workspace=B)
        assert m.move_session(A, "s", to_workspace=B) == moved
        assert m.move_session(A, "s", to_workspace=B, directory="/d").directory == "/d"
        with pytest.raises(SessionNotFoundError):
            m.move_session(A, "nobody", to_workspace=B)


def test_within_a_workspace_only_the_directory_changes(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        fill(m)
        assert m.move_session(A, "s", directory="/d").directory == "/d"
        session = m.get_session(A, "s")
        assert m.move_session(A, "s", to_workspace=A) == session
        assert m.move_session(A, "s", to_workspace=A, directory="/e").directory == "/e"
        with pytest.raises(NotFoundError):
            m.move_session(A, "nobody", to_workspace=A)


def test_a_crash_at_any_call_leaves_it_in_one_place_or_both_and_repeating_finishes_it() -> None:
    reached = 0
    for nth in range(1, 500):
        disk = ModelDisk()
        with NativeSessionManager("/data", filesystem=disk.process(), clock=ManualClock(1_750_000_000_000)) as m:
            fill(m)
            m.create_session(B, id="other")
            before = whole(m, A)
        fs = disk.process()
        fs.die_at(nth)
        try:
            m = NativeSessionManager("/data", filesystem=fs, clock=ManualClock(1_750_000_000_000))
            m.move_session(A, "s", to_workspace=B)
        except Killed:
            reached = nth
        else:
            break
        after = disk.crash(at_random(nth)) if nth % 2 else disk
        m = NativeSessionManager("/data", filesystem=after.process(), clock=ManualClock(1_750_000_000_000))
        assert before in (whole(m, A), whole(m, B))
        m.move_session(A, "s", to_workspace=B)
        assert (whole(m, B), whole(m, A)) == (before, None)
        assert m.check(A).ok
        assert m.check(B).ok
    assert 10 < reached < 499


def test_what_is_added_between_a_crash_and_the_next_attempt_comes_along(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, clock=ManualClock(1_750_000_000_000)) as m:
        fill(m)
        _half(m)
        m.append_to_message(A, "m0", " and more")
        m.add_message(A, "s", id="late", role="user", content="late")
        m.delete_message(A, "m2")
        m.update_session(A, "s", title="renamed")
        before = whole(m, A)
        m.move_session(A, "s", to_workspace=B)
        assert (whole(m, B), whole(m, A)) == (before, None)


def test_another_session_or_a_changed_copy_is_not_overwritten(tmp_path: Path) -> None:
    clock = ManualClock(1_750_000_000_000)
    with NativeSessionManager(tmp_path, clock=clock) as m:
        fill(m)
        m.create_session(B, id="s", title="another", created_at=5)
        for _ in range(2):
            before = whole(m, A), whole(m, B)
            with pytest.raises(AlreadyExistsError) as caught:
                m.move_session(A, "s", to_workspace=B)
            assert caught.value.current == m.get_session(B, "s")
            assert (whole(m, A), whole(m, B)) == before
            m.delete_session(B, "s")
            _half(m)
            clock.advance(1)
            m.add_message(B, "s", role="user", content="written there")
        m.delete_session(B, "s")
        m.create_session(B, id="third")
        m.add_message(B, "third", id="m0", role="user")
        with pytest.raises(AlreadyExistsError, match="m0"):
            m.move_session(A, "s", to_workspace=B)


def _half(m: NativeSessionManager) -> None:
    """As a move leaves it that dies between its two commits."""
    from nomad_sessions.operations import movement

    m._commit(B, movement.arrive(A, B, m._read(A, movement.pack("s")), None))
