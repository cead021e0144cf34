"""Eight threads on one manager: nothing lost, nothing mixed up, also while it is folded, cleared and read."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import ConflictError, NativeSessionManager, StoreClosedError
from nomad_sessions.workspace import folding, store
from nomad_sessions.workspace.state import SessionState
from nomad_sessions.workspace.view import View
from tests.support.there import there
from tests.support.together import together

WS = "ws"
THREADS = 8


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 5_000)
    monkeypatch.setattr(folding, "FLOOR", 20_000)


def test_adds_of_eight_threads_are_all_there_each_in_its_own_order(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")

        def add(number: int) -> None:
            for each in range(40):
                m.add_message(WS, "s", role="user", content=f"{number} {each}")

        together(*(lambda n=n: add(n) for n in range(THREADS)))
        page = m.get_session_messages(WS, "s")
        assert [message.rev for message in page] == list(range(2, 2 + THREADS * 40))
    with NativeSessionManager(tmp_path) as m:
        found = [message.content.split() for message in m.get_session_messages(WS, "s")]
        for number in range(THREADS):
            assert [int(each) for writer, each in found if int(writer) == number] == list(range(40))
        assert m.check(WS).ok


def test_different_calls_at_once_keep_what_each_did(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        first = m.add_message(WS, "s", role="user", content="").id

        def append() -> None:
            for _ in range(50):
                m.append_to_message(WS, first, "x", sync=False)

        def sessions() -> None:
            for number in range(30):
                made = m.create_session(WS, id=f"own {number}")
                m.add_message(WS, made.id, role="user", content="own")
                m.fork_session(WS, made.id)
                if number % 2:
                    m.delete_session(WS, made.id)

        def stream() -> None:
            for _ in range(3):
                with m.stream_message(WS, "s") as s:
                    for _ in range(20):
                        s.text("y")

        def transactions() -> None:
            for number in range(15):
                with m.transaction(WS) as tx:
                    made = tx.create_session(WS, id=f"tx {number}")
                    tx.add_message(WS, made.id, role="user", content="tx")

        def revs() -> None:
            done = 0
            while done < 20:
                current = m.get_session(WS, "s")
                assert current is not None
                count = current.metadata.get("count", 0)
                with contextlib.suppress(ConflictError):
                    m.update_session(WS, "s", metadata={"count": count + 1}, if_rev=current.rev)
                    done += 1

        def read() -> None:
            for _ in range(60):
                for session in m.list_sessions(WS):
                    page = m.get_session_messages(WS, session.id)
                    assert page.total == len(page)
                m.stats(WS)

        def fold() -> None:
            for _ in range(10):
                m.checkpoint(WS)
                assert m.check(WS).ok

        def clear() -> None:
            for _ in range(20):
                m.clear_workspace(WS)

        together(append, sessions, stream, transactions, revs, read, fold, clear)
    with NativeSessionManager(tmp_path) as m:
        assert there(m.get_message(WS, first)).content == "x" * 50
        session = m.get_session(WS, "s")
        assert session is not None
        assert session.metadata == {"count": 20}
        assert [each.content for each in m.get_session_messages(WS, "s")][1:] == ["y" * 20] * 3
        names = {each.id for each in m.list_sessions(WS)}
        assert {f"own {n}" for n in range(0, 30, 2)} | {f"tx {n}" for n in range(15)} < names
        assert len(names) == 1 + 15 + 30 + 15
        assert m.interrupted_messages(WS) == []
        assert m.check(WS).ok


def test_a_commit_looks_at_the_view_only_while_it_guards_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = View.session
    guarded: list[bool] = []
    with NativeSessionManager(tmp_path) as m:
        workspace = m.workspace(WS)
        mutex: Any = workspace.guarded()

        def watched(view: View, session_id: str) -> SessionState | None:
            if workspace.opened is not None and view is workspace.opened.view:
                guarded.append(mutex._is_owned())
            return session(view, session_id)

        monkeypatch.setattr(View, "session", watched)
        m.configure_workspace(WS, retention={"bytes": 0})
        m.create_session(WS, id="s")
        m.configure_workspace(WS, fold="always")
        m.add_message(WS, "s", role="user")
    assert len(guarded) > 5
    assert all(guarded)


def test_closing_while_others_write_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    m = NativeSessionManager(tmp_path)
    m.create_session(WS, id="s")
    done: list[str] = []

    def add() -> None:
        with pytest.raises(StoreClosedError):  # noqa: PT012
            while True:
                done.append(m.add_message(WS, "s", role="user").id)

    def close() -> None:
        while len(done) < 50:
            pass
        m.close()

    together(add, add, add, close)
    with NativeSessionManager(tmp_path) as other:
        assert {each.id for each in other.get_session_messages(WS, "s")} >= set(done)
        assert other.check(WS).ok


def test_one_manager_on_many_workspaces_at_once(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:

        def work(name: str) -> None:
            for number in range(10):
                made = m.create_session(name, title=str(number)).id
                m.add_message(name, made, role="user", content=name)

        together(*(lambda n=n: work(f"w{n}") for n in range(THREADS)))
        assert m.list_workspaces() == [f"w{n}" for n in range(THREADS)]
        assert m.get_active_session_count() == 80
        for number in range(THREADS):
            assert m.stats(f"w{number}").messages == 10
