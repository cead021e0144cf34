"""What every source has to do, asked of each; and reading through a genuine OpenCode server that is killed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import SourcesFailedError, SourceUnavailableError
from nomad_sessions.sources import LocalSource, OpenCodeClient, OpenCodeSource, Source, TargetSource, read_through
from nomad_sessions.sync import MemoryTarget, MongoTarget, Synchronizer
from tests.support.mongod import running_mongod
from tests.support.opencode import OpenCode, Server, free_port, needs_opencode
from tests.support.targets import made_target

WS = "ws"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> OpenCode:
    needs_opencode()
    return OpenCode(tmp_path_factory.mktemp("opencode"))


def post(server: Server, path: str, body: dict[str, Any]) -> Any:
    return httpx.post(server.url + path, json=body, timeout=30).raise_for_status().json()


def filled(server: Server, title: str) -> str:
    name = str(post(server, "/session", {"title": title})["id"])
    for text in ("text 0", "text 1", "text 2"):
        message = post(server, f"/session/{name}/message", {"noReply": True, "parts": [{"type": "text", "text": text}]})
    post(server, f"/session/{name}/revert", {"messageID": message["info"]["id"]})
    return name


@contextlib.contextmanager
def made(kind: str, tmp_path: Path, program: OpenCode) -> Iterator[tuple[Source, str]]:
    """A source of a session with two visible messages and a hidden one, and the id of it."""
    if kind == "opencode":
        with program.serve(free_port()) as server:
            name = filled(server, "The title")
            source = OpenCodeSource(OpenCodeClient(server.url))
            yield source, name
            source.close()
        return
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="ses_1", title="The title")
        for n in range(3):
            manager.add_message(WS, "ses_1", role="user", content=f"text {n}")
        manager.revert(WS, "ses_1")
        manager.create_task(WS, "ses_1", id="t")
        manager.record_event(WS, "noted", session_id="ses_1")
        if kind == "local":
            yield LocalSource(manager), "ses_1"
            return
        with made_target(kind) as target, Synchronizer(manager, [target]) as synchronizer:
            synchronizer.push(WS)
            yield TargetSource(target), "ses_1"


@pytest.mark.parametrize("kind", ["local", "memory", "mongo", "chroma", "opencode"])
def test_a_source_answers_in_records_of_the_store_s_shape(kind: str, tmp_path: Path, program: OpenCode) -> None:
    with made(kind, tmp_path, program) as (source, name):
        source.ping()
        session = source.get_session(WS, name)
        assert session is not None
        assert (session["id"], session["title"]) == (name, "The title")
        assert session["createdAt"] > 0
        assert name in [each["id"] for each in source.list_sessions(WS)]
        assert [each["id"] for each in source.search_sessions(WS, "THE TITLE")] == [name]
        assert source.search_sessions(WS, "nothing of that") == []
        found = source.messages(WS, name)
        assert found is not None
        assert found.session["id"] == name
        assert [each["parts"][0]["content"] if each.get("parts") else each["content"] for each in found.messages] == [
            "text 0",
            "text 1",
            "text 2",
        ]
        assert found.visible == 2
        events, tasks = source.events(WS, name), source.tasks(WS, name)
        if kind in ("opencode", "chroma"):  # Of other kinds they take nothing.
            assert (events, tasks) == (None, None)
        else:
            assert [each["type"] for each in events or ()] == ["noted"]
            assert [each["id"] for each in tasks or ()] == ["t"]
        for absent in ("ses_none", "01JB7MZ0000000000000000000", "odd/../id", "ses_ä/../\udc00?#%\n"):
            assert source.get_session(WS, absent) is None
            assert source.messages(WS, absent) is None
        assert source.place(WS)
        source.close()
        source.close()


def test_a_running_server_is_read_through_and_its_death_is_told(tmp_path: Path, program: OpenCode) -> None:
    port = free_port()
    with NativeSessionManager(tmp_path / "data", durability="os") as m:
        client = OpenCodeClient(f"http://127.0.0.1:{port}", timeout=2)
        copy = MemoryTarget()
        with read_through(m, [TargetSource(copy), OpenCodeSource(client)]) as through:
            with program.serve(port) as server:
                name = filled(server, "Through")
                client.ping()
                found = through.get_session(WS, name)
                assert (found.source, found.failed) == ("opencode-http", {})
                assert [each.content for each in m.get_session_messages(WS, name)] == ["text 0", "text 1"]
                seq = m.status(WS).seq
                through.invalidate()
                assert through.messages(WS, name).source == "opencode-http"
                assert m.status(WS).seq == seq
                other = filled(server, "Another")
                assert {name, other} <= {each.id for each in through.list_sessions(WS).value}
                assert m.get_session_messages(WS, other).total == 2
                # A change that the server tells of is asked for at once, without waiting for the ttl.
                through.follow()
                httpx.patch(f"{server.url}/session/{name}", json={"title": "New title"}, timeout=30).raise_for_status()
                end = time.monotonic() + 20
                while (session := through.get_session(WS, name).value) is None or session.title != "New title":
                    assert time.monotonic() < end
                    time.sleep(0.05)
                server.kill()
            through.invalidate()
            found = through.get_session(WS, name)
            assert (found.source, list(found.failed)) == ("local", ["opencode-http"])
            assert {name, other} <= {each.id for each in through.list_sessions(WS).value}
            answered = through.get_session(WS, "ses_never")
            assert (answered.value, list(answered.failed)) == (None, ["opencode-http"])
        dead = OpenCodeSource(OpenCodeClient(f"http://127.0.0.1:{port}", timeout=2))
        with read_through(m, [dead]) as through:
            for read in (through.get_session, through.messages, through.events, through.tasks):
                with pytest.raises(SourcesFailedError, match="opencode-http"):
                    read(WS, "ses_never")
            with pytest.raises(SourcesFailedError):
                through.list_sessions("empty")
            assert [each.id for each in through.list_sessions(WS).value]
            with pytest.raises(SourceUnavailableError):
                dead.ping()


def test_a_real_mongod_that_is_killed_is_named_and_is_read_again_when_it_is_back(tmp_path: Path) -> None:
    with running_mongod() as mongod:
        with NativeSessionManager(tmp_path / "other", durability="os") as other:
            for n in range(3):
                other.create_session(WS, id=f"s{n}", title=f"Session {n}")
                other.add_message(WS, f"s{n}", role="user", content=f"text {n}")
            with Synchronizer(other, [MongoTarget(mongod.uri)]) as synchronizer:
                synchronizer.push(WS)
        copy = MongoTarget(mongod.uri, connect_timeout=0.5, timeout=2)
        with (
            NativeSessionManager(tmp_path / "data", durability="os") as m,
            read_through(m, [TargetSource(copy), TargetSource(MemoryTarget())], ttl=0) as through,
        ):
            found = through.messages(WS, "s0")
            assert (found.source, [each.content for each in found.value]) == ("mongo", ["text 0"])
            mongod.kill()
            found = through.messages(WS, "s0")
            assert (found.source, list(found.failed), len(found.value)) == ("local", ["mongo"], 1)
            missed = through.get_session(WS, "s1")
            assert (missed.value, list(missed.failed), missed.is_certain) == (None, ["mongo"], False)
            assert [each.id for each in through.list_sessions(WS).value] == ["s0"]
            mongod.start()
            found = through.messages(WS, "s1")
            assert (found.source, found.failed, [each.content for each in found.value]) == ("mongo", {}, ["text 1"])
            assert len(through.list_sessions(WS).value) == 3
