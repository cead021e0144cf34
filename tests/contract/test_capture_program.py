"""Capture from the genuine OpenCode: in the end the store has what the server has, whatever happened on the way."""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import LockTimeoutError
from nomad_sessions.sources import Capture, Mirrored, OpenCodeClient
from tests.support.opencode import OpenCode, free_port, needs_opencode
from tests.support.opencode_api import WS, Api, change, the_same, until
from tests.support.scripted_model import scripted_model


@pytest.fixture
def program(tmp_path: Path) -> OpenCode:
    needs_opencode()
    return OpenCode(tmp_path)


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


@contextlib.contextmanager
def capturing(m: NativeSessionManager, client: OpenCodeClient, **options: Any) -> Iterator[list[Mirrored]]:
    """Captures on a thread; the list has each look at the whole."""
    connected: list[Mirrored] = []
    with Capture(m, client, workspace_id=WS, on_connect=connected.append, **options) as capture:
        thread = threading.Thread(target=capture.run)
        thread.start()
        try:
            yield connected
        finally:
            capture.stop()
            thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def serving(program: OpenCode, port: int) -> Iterator[Api]:
    with program.serve(port) as server:
        api = Api(server.url)
        try:
            yield api
        finally:
            api.close()


def test_dualstore_42_43_44_store_and_server_have_the_same_after_changes_and_interruptions(
    m: NativeSessionManager, program: OpenCode
) -> None:
    drawn = random.Random(5)
    port = free_port()
    with OpenCodeClient(f"http://127.0.0.1:{port}", directory=str(program.project), timeout=1) as client:
        with capturing(m, client) as connected:
            for _ in range(3):  # It was killed in between; what it does before we are there again is found, too.
                before = len(connected)
                with serving(program, port) as api:
                    for _ in range(8):
                        change(api, drawn)
                    until(lambda before=before: len(connected) > before)  # type: ignore[misc]
                    for _ in range(15):
                        change(api, drawn)
                    the_same(m, api)
        with serving(program, port) as api:
            seq = m.status(WS).seq
            with Capture(m, client, workspace_id=WS) as once:
                found = once.once()
            assert (found.new, found.changed_messages, found.deleted) == (0, 0, 0)
            assert found.sessions == len(api.whole())
            assert m.status(WS).seq == seq
    assert m.check(WS).ok


def ask(api: Api) -> str:
    """Has the model answer; the session."""
    name = api.session("answered")
    api.ask_for_answer(name)
    return name


def texts(m: NativeSessionManager, session: str) -> str:
    page = m.get_session_messages(WS, session)
    return "".join(part.content or "" for each in page if each.role == "assistant" for part in each.parts)


def test_what_a_model_writes_comes_as_it_is_written(m: NativeSessionManager, program: OpenCode) -> None:
    with scripted_model() as model:
        model.configure(program.project)
        with serving(program, free_port()) as api, OpenCodeClient(str(api._http.base_url)) as client:
            with capturing(m, client) as connected:
                until(lambda: len(connected) >= 1)
                name = ask(api)
                # The program itself keeps none of it before the end; the next piece comes with the one after it.
                until(lambda: "word3 " in texts(m, name))
                assert "word3" not in json.dumps(api.whole())
                model.go_on.set()
                until(lambda: bool(list(m.events(WS, types="session.idle"))))
                the_same(m, api)
                assert texts(m, name) == "".join(model.words)
            (idle,) = m.events(WS, types="session.idle")
            assert idle.session_id == name
            assert len({each.id for each in m.events(WS, recorded=True)}) == len(list(m.events(WS, recorded=True)))


def test_killed_in_the_middle_of_an_answer_it_is_the_same_when_it_is_back(
    m: NativeSessionManager, program: OpenCode
) -> None:
    port = free_port()
    with scripted_model() as model, OpenCodeClient(f"http://127.0.0.1:{port}", timeout=1) as client:
        model.configure(program.project)
        with contextlib.ExitStack() as stack:
            with serving(program, port) as api:
                connected = stack.enter_context(capturing(m, client))
                until(lambda: len(connected) >= 1)
                name = ask(api)
                until(lambda: "word3 " in texts(m, name))
            assert "word3 " in texts(m, name)  # Nothing is taken away while it is not there.
            with serving(program, port) as api:
                until(lambda: len(connected) >= 2)
                the_same(m, api)


def test_what_is_deleted_there_goes_unless_it_is_to_be_kept_and_what_was_added_here_stays(
    m: NativeSessionManager, program: OpenCode
) -> None:
    with serving(program, free_port()) as api, OpenCodeClient(str(api._http.base_url)) as client:
        first, second, third = (api.session(f"session {n}") for n in range(3))
        for name in (first, second):
            api.say(name, "hello")
        with Capture(m, client, workspace_id=WS) as capture:
            assert capture.once() == (3, 3, 0, 0, 0)
            m.create_session(WS, id="ours")
            m.add_message(WS, first, id="ours-too", role="user", content="a note of ours")
            api.ask("DELETE", f"/session/{second}")
            assert capture.once() == (2, 0, 0, 1, 0)
            assert {each.id for each in m.list_sessions(WS)} == {first, third, "ours"}
            assert [each.content for each in m.get_session_messages(WS, first)] == ["hello", "a note of ours"]
        with capturing(m, client, keep_deleted=True) as connected:
            until(lambda: len(connected) >= 1)
            api.ask("DELETE", f"/session/{third}")
            api.session("last")
            until(lambda: m.list_sessions(WS).total == 4)
        assert m.get_session(WS, third) is not None


def test_a_server_that_has_lost_everything_takes_nothing_away(
    m: NativeSessionManager, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    needs_opencode()
    names = set()
    for home in ("first", "second"):
        (tmp_path / home).mkdir()
        program = OpenCode(tmp_path / home)
        program.project = tmp_path / "first" / "project"  # The same folder, and a home without a database.
        with serving(program, free_port()) as api, OpenCodeClient(str(api._http.base_url)) as client:
            names.add(api.session(home))
            with Capture(m, client, workspace_id=WS) as capture:
                found = capture.once()
    assert found == (1, 1, 0, 0, 1)
    assert {each.id for each in m.list_sessions(WS)} == names
    assert "has none of the 1 sessions" in caplog.text


def test_one_process_at_a_time_captures_into_a_workspace(m: NativeSessionManager, program: OpenCode) -> None:
    with serving(program, free_port()) as api, OpenCodeClient(str(api._http.base_url)) as client:
        with Capture(m, client, workspace_id=WS), pytest.raises(LockTimeoutError):
            Capture(m, client, workspace_id=WS)
        with OpenCodeClient(client.url, directory=f"{program.project}/.") as spelt:  # Events name it otherwise.
            assert spelt.where() == spelt.directory == str(program.project)
        with Capture(m, client) as capture:
            assert m.workspace_folders()[capture.workspace_id] == str(program.project)
