"""What every place that several machines have in common has to do, asked of each: in memory, and of a real MongoDB."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from nomad_sessions import NativeSessionManager, TargetUnavailableError
from nomad_sessions.sync import Key, MemoryTarget, MongoTarget, Synchronizer, SyncTarget
from nomad_sessions.sync.two_way.memory_place import MemoryPlace
from nomad_sessions.sync.two_way.place import Numbered, Place
from nomad_sessions.sync.two_way.versions import Stamp, Stamps, Version
from tests.support.mongod import Mongod, running_mongod
from tests.support.subscribers import until

AT = Stamp(1_000, "here", 1)
ODD = ["a", "Zürich", "\ud800half", "$set", "x.y", "\U0001f600"]


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with running_mongod() as mongod:
        yield mongod


@pytest.fixture(params=["memory", "mongo"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        yield MemoryPlace()
        return
    target = made(request.getfixturevalue("mongod"))
    assert target.place is not None
    yield target.place
    target.close()


@pytest.fixture
def ws(request: pytest.FixtureRequest) -> str:
    return f"ws-{abs(hash(request.node.name)):x}"


def made(mongod: Mongod, *, two_way: bool = True, agent: str = "duck") -> MongoTarget:
    return MongoTarget(mongod.uri, two_way=two_way, agent=agent)


def version(name: str, number: int = 1, owner: str = "s", text: str = "hello", stamp: Stamp = AT) -> Version:
    body = {"id": name, "sessionId": owner, "role": "user", "content": text, "createdAt": 1, "x.$y": {"$z": [1, None]}}
    fields = {"content": stamp, "x.$y": AT, "\ud800": stamp}
    return Version(Key("message", name), number, body, owner, Stamps(AT, fields, stamp))


def gone(of: Version, stamp: Stamp) -> Version:
    return of._replace(number=of.number + 1, body=None, stamps=Stamps(stamp, {}, stamp))


def test_what_was_written_is_read_again(place: Place, ws: str) -> None:
    place.share(ws)
    told = {name: version(name) for name in ODD}
    assert place.write(ws, list(told.values())).overtaken == set()
    assert place.read(ws, "message", [*ODD, "never"]) == told
    assert place.read(ws, "session", ODD) == {}
    assert place.read("other", "message", ODD) == {}
    assert place.messages_of(ws, "s") == sorted(ODD)
    assert place.messages_of(ws, "other") == []


def test_only_the_next_version_is_taken(place: Place, ws: str) -> None:
    place.share(ws)
    mine, other = Stamp(5, "here", 2), Stamp(6, "there", 2)
    assert place.write(ws, [version("m", 1)]).overtaken == set()
    assert place.write(ws, [version("m", 1, stamp=other)]).overtaken == {Key("message", "m")}
    assert place.write(ws, [version("m", 3)]).overtaken == {Key("message", "m")}
    assert place.write(ws, [version("n", 2)]).overtaken == {Key("message", "n")}
    assert place.write(ws, [version("m", 2, text="mine", stamp=mine), version("n")]).overtaken == set()
    late = place.write(ws, [version("m", 2, text="late", stamp=other), version("o")])
    assert late.overtaken == {Key("message", "m")}
    # Two machines may join the same changes with what only one of them had.
    assert place.write(ws, [version("m", 2, text="otherwise", stamp=mine)]).overtaken == {Key("message", "m")}
    assert place.write(ws, [version("n", 1, text="otherwise")]).overtaken == {Key("message", "n")}
    found = place.read(ws, "message", ["m", "n", "o"])
    assert {name: (each.number, (each.body or {})["content"]) for name, each in found.items()} == {
        "m": (2, "mine"),
        "n": (1, "hello"),
        "o": (1, "hello"),
    }


def test_what_is_gone_stays_known(place: Place, ws: str) -> None:
    place.share(ws)
    first = version("m")
    place.write(ws, [first, version("n")])
    deleted = gone(first, Stamp(9, "there", 9))
    assert place.write(ws, [deleted]).overtaken == set()
    found = place.read(ws, "message", ["m"])["m"]
    assert (found.number, found.body, found.stamps) == (2, None, deleted.stamps)
    assert place.messages_of(ws, "s") == ["n"]
    assert place.numbers(ws, "message", None)[0] == [Numbered("m", 2, True), Numbered("n", 1, False)]
    back = version("m", 3, text="again")
    assert place.write(ws, [back]).overtaken == set()
    assert place.read(ws, "message", ["m"])["m"] == back


def test_what_changed_since_is_among_what_is_named(place: Place, ws: str) -> None:
    place.share(ws)
    place.write(ws, [version("m")])
    numbers, moment = place.numbers(ws, "message", None)
    assert numbers == [Numbered("m", 1, False)]
    place.write(ws, [version("n"), version("m", 2, text="new")])
    numbers, later = place.numbers(ws, "message", moment)
    assert {Numbered("m", 2, False), Numbered("n", 1, False)} <= set(numbers)
    assert later >= moment
    assert place.numbers(ws, "session", None) == ([], place.numbers(ws, "session", None)[1])


def test_top_level_keys_and_events(place: Place, ws: str) -> None:
    place.share(ws)
    top = Version(Key("workspace", ws), 1, {"rev": 1, "settings": {"a": 1}, "updatedAt": "x"}, None, Stamps(AT, {}, AT))
    event = {"id": "e", "type": "note", "properties": {"n": 1}, "timestamp": 7}
    noted = Version(Key("event", "e"), 1, event, None, Stamps(AT, {}, AT))
    place.write(ws, [top, noted])
    assert place.read(ws, "workspace", [ws]) == {ws: top}
    assert place.read(ws, "event", ["e"]) == {"e": noted}


def test_who_waits_is_told(place: Place, ws: str) -> None:
    identity = place.share(ws)
    assert place.share(ws) == identity
    before = place.announced([ws, "never"])
    assert before == {ws: 0}
    woken = threading.Event()

    def waiting() -> None:
        with contextlib.suppress(TargetUnavailableError):
            while not place.wait(0.2):
                pass
            woken.set()

    thread = threading.Thread(target=waiting)
    thread.start()
    end = time.monotonic() + 20
    while not woken.is_set() and time.monotonic() < end:
        place.announce(ws)
        woken.wait(0.1)
    thread.join()
    assert woken.is_set()
    assert place.announced([ws])[ws] >= 1


def test_a_copy_is_not_pushed_over_what_machines_have_in_common(mongod: Mongod, tmp_path: object, ws: str) -> None:
    with (
        contextlib.closing(made(mongod)) as common,
        contextlib.closing(made(mongod, two_way=False)) as copy,
        NativeSessionManager(str(tmp_path), durability="os") as manager,
    ):
        manager.create_session(ws, id="s")
        with Synchronizer(manager, [copy]) as sync:
            sync.push(ws)
            assert common.place is not None
            common.place.share(ws)
            manager.add_message(ws, "s", role="user", content="hello")
            with pytest.raises(TargetUnavailableError, match="two_way"):
                sync.push(ws)


def test_a_copy_becomes_common(mongod: Mongod, tmp_path: object, ws: str) -> None:
    """What a copy holds is taken as it is; the machine that made it and another one go on from there."""
    with contextlib.ExitStack() as stack:
        managers = [stack.enter_context(NativeSessionManager(f"{tmp_path}/{n}", durability="os")) for n in range(2)]
        managers[0].create_session(ws, id="s", title="first")
        managers[0].add_message(ws, "s", role="user", content="hello", id="m")
        managers[0].add_message(ws, "s", role="user", content="gone", id="n")
        with Synchronizer(managers[0], [made(mongod, two_way=False)]) as sync:
            sync.push(ws)
            managers[0].delete_message(ws, "n")
            sync.push(ws)
        targets: list[SyncTarget] = [made(mongod), made(mongod)]
        syncs = [
            stack.enter_context(Synchronizer(each, [target])) for each, target in zip(managers, targets, strict=True)
        ]
        syncs[1].push(ws)
        assert [each.content for each in managers[1].get_session_messages(ws, "s")] == ["hello"]
        managers[1].update_session(ws, "s", title="second")
        for each in (syncs[1], syncs[0]):
            each.push(ws)
        found = managers[0].get_session(ws, "s")
        assert found is not None
        assert found.title == "second"
        assert [each.verify(ws, target="mongo") for each in syncs] == [[], []]
        # Nobody knows any more that the other had seen what this one had: better named once too often.
        assert [(each.field, each.lost) for each in syncs[0].conflicts(ws)] == [("title", {"title": "first"})]


def test_memory_target_without_a_place_is_a_copy() -> None:
    assert MemoryTarget().place is None


def test_in_the_background_while_the_server_is_killed_and_comes_back(tmp_path: object) -> None:
    """Two machines write all the time; the server is killed in the middle. In the end both have everything."""
    ws = "ws"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(running_mongod())
        managers = [stack.enter_context(NativeSessionManager(f"{tmp_path}/{n}", durability="os")) for n in range(2)]
        managers[0].create_session(ws, id="s")
        syncs = [each.start_sync(MongoTarget(server.uri, two_way=True, connect_timeout=0.5)) for each in managers]
        until(lambda: ws in managers[0].list_workspaces() and syncs[0].status(ws)[0].behind == 0)
        syncs[1].pull(ws)
        for n in range(10):
            for each in managers:
                each.add_message(ws, "s", role="user", content=f"{n}")
            if n == 3:
                server.kill()
            elif n == 6:
                server.start()

        def said(manager: NativeSessionManager) -> list[str]:
            return [each.id for each in manager.get_session_messages(ws, "s")]

        until(lambda: len(said(managers[0])) == len(said(managers[1])) == 20)
        until(lambda: said(managers[0]) == said(managers[1]))
        assert [each.verify(ws, target="mongo") for each in syncs] == [[], []]
        assert [each.conflicts() for each in syncs] == [[], []]
