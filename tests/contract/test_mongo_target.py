"""What the target of MongoDB does beside the contract, asked of a real mongod."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import ProtocolError

from nomad_sessions.errors import CorruptionError, InvalidInputError, TargetUnavailableError
from nomad_sessions.sync import KINDS, Applied, Change, Key, MongoTarget, Stored
from nomad_sessions.sync.mongo_server import MongoServer
from tests.contract.test_sync_targets import gone, message, session
from tests.support.mongod import GuardedMongod, Mongod, running_mongod

Database = pymongo.database.Database[dict[str, Any]]


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with running_mongod("--setParameter", "enableTestCommands=1") as mongod:
        yield mongod


@pytest.fixture
def database(mongod: Mongod) -> Iterator[Database]:
    """A database of one's own, as the driver alone sees it."""
    with mongod.client() as client:
        yield client[f"db-{uuid.uuid4().hex}"]


@pytest.fixture
def target(mongod: Mongod, database: Database) -> Iterator[MongoTarget]:
    with closing(MongoTarget(mongod.uri, database=database.name)) as target:
        yield target


def keys(database: Database, collection: str) -> list[list[tuple[str, int]]]:
    return sorted([list(each["key"]) for each in database[collection].index_information().values()])


def test_each_kind_has_its_collection_and_its_indexes(target: MongoTarget, database: Database) -> None:
    changes = [session("ws", "s", 1), message("ws", "m", 2)]
    changes += [Change("ws", Key(kind, "x"), 3, {"id": "x"}, None) for kind in KINDS]
    assert target.apply(changes) == Applied(len(changes))
    names = {
        *("duck_workspaces", "duck_sessions", "duck_session_messages"),
        *("duck_agent_tasks", "duck_mailbox", "duck_opencode_events"),
    }
    assert set(database.list_collection_names()) == names
    assert set(target.describe().details["collections"].values()) == names
    assert [("sessionId", 1), ("workspaceId", 1), ("timestamp", 1)] in keys(database, "duck_session_messages")
    assert [("metadata.eventType", 1), ("timestamp", -1)] in keys(database, "duck_opencode_events")
    for kind in KINDS:
        assert Stored("x", 3) in target.scan("ws", kind)
        assert target.fetch("ws", kind, ["x"])["x"] in changes


def test_who_queries_by_session_is_served_by_an_index(target: MongoTarget, database: Database) -> None:
    target.apply([message("ws", f"m{n}", n, f"s{n % 5}") for n in range(1, 50)])
    for query in ({"id": "m7"}, {"sessionId": "s1"}, {"sessionId": "s1", "workspaceId": "ws"}):
        found = database["duck_session_messages"].find(query)
        assert found.explain()["executionStats"]["totalDocsExamined"] == len(list(found.clone()))


def test_an_index_that_somebody_made_before_is_as_good(database: Database, mongod: Mongod) -> None:
    database["duck_session_messages"].create_index([("id", 1)], name="theirs")
    with closing(MongoTarget(mongod.uri, database=database.name)) as target:
        assert target.apply([message("ws", "m", 1)]) == Applied(1)


def test_an_alias_names_another_collection_and_that_of_vectors_does_not(database: Database, mongod: Mongod) -> None:
    database["collection_aliases"].insert_many(
        [
            {"_id": "owl_session_messages", "collection": "talks"},
            {"_id": "owl_sessions", "target": "owl_sessions_v2", "embed": {"driver": "ollama"}},
        ]
    )
    with closing(MongoTarget(mongod.uri, database=database.name, agent="owl")) as target:
        target.apply([message("ws", "m", 1), session("ws", "s", 2)])
        assert target.scan("ws", "message") == [Stored("m", 1)]
    assert [each["id"] for each in database["talks"].find()] == ["m"]
    assert [each["id"] for each in database["owl_sessions"].find()] == ["s"]


@pytest.mark.parametrize("other", ["duck_sessions", "a$b", "", 7])
def test_an_alias_that_can_be_none_is_named(database: Database, mongod: Mongod, other: object) -> None:
    database["collection_aliases"].insert_one({"_id": "duck_mailbox", "collection": other})
    with (
        closing(MongoTarget(mongod.uri, database=database.name)) as target,
        pytest.raises(InvalidInputError, match="collection_aliases"),
    ):
        target.scan("ws", "session")


def test_documents_of_others_are_left_alone_and_can_be_read(target: MongoTarget, database: Database) -> None:
    theirs: list[dict[str, Any]] = [
        {"id": "m", "text": "theirs", "timestamp": 1, "metadata": {"sessionID": "s"}},
        {"id": "m", "text": "theirs again", "timestamp": 2, "metadata": {"sessionID": "s"}},
        {"_id": "ws/other", "id": "other", "text": "with an _id like ours", "workspaceId": "ws", "sessionId": "s"},
    ]
    database["duck_session_messages"].insert_many(theirs)
    target.apply([message("ws", "m", 3), message("ws", "n", 4)])
    assert target.scan("ws", "message") == [Stored("m", 3), Stored("n", 4)]
    assert target.fetch("ws", "message", ["other"]) == {}
    target.apply([gone(session("ws", "s", 1), 9)])
    assert target.scan("ws", "message") == []
    assert target.workspaces() == []
    found = list(target.foreign("message"))
    assert sorted(each["text"] for each in found) == sorted(each["text"] for each in theirs)
    assert target.apply([message("ws", "m", 3)]) == Applied(1)


@pytest.mark.parametrize("force", [False, True])
def test_what_the_server_refuses_is_named_and_the_others_are_taken(
    target: MongoTarget, database: Database, force: bool
) -> None:
    target.apply([message("ws", "old", 1), message("ws", "fine", 2)])
    rule = {"$or": [{"deleted": True}, {"text": {"$not": {"$regex": "^bad"}}}]}
    database.command("collMod", "duck_session_messages", validator=rule)
    changes = [
        message("ws", "new", 3, content="bad"),
        message("ws", "old", 4, content="bad too"),
        message("ws", "fine", 5, content="better"),
        message("ws", "another", 6),
        message("ws", "large", 7, content="x" * (17 << 20)),
        session("ws", "s", 8),
    ]
    done = target.apply(changes, force=force)
    assert done.confirmed == 3
    assert {(each.key.id, each.rev) for each in done.rejected} == {("new", 3), ("old", 4), ("large", 7)}
    reasons = {each.key.id: each.reason for each in done.rejected}
    assert "failed validation" in reasons["new"]
    assert "failed validation" in reasons["old"]
    assert "16,760,832" in reasons["large"]
    assert target.scan("ws", "message") == [Stored("another", 6), Stored("fine", 5), Stored("old", 1)]
    assert target.scan("ws", "session") == [Stored("s", 8)]


def test_what_is_large_is_taken_new_and_again(target: MongoTarget) -> None:
    for rev in (1, 2):
        change = message("ws", "large", rev, content="x" * (12 << 20))
        assert target.apply([change]) == Applied(1)
        assert target.fetch("ws", "message", ["large"]) == {"large": change}


def test_an_index_of_another_program_that_forbids_a_record_is_named(target: MongoTarget, database: Database) -> None:
    database["duck_session_messages"].create_index([("text", 1)], unique=True)
    done = target.apply([message("ws", "a", 1, content="same"), message("ws", "b", 2, content="same")])
    assert done.confirmed == 1
    assert [each.key.id for each in done.rejected] == ["b"]
    assert "duplicate key" in done.rejected[0].reason


def test_of_several_that_write_the_same_records_the_highest_rev_stays(mongod: Mongod, database: Database) -> None:
    """Two hundred records at once, by four, in other orders: none reads before it writes."""
    start = threading.Barrier(4)

    def write(number: int) -> None:
        with closing(MongoTarget(mongod.uri, database=database.name)) as mine:
            mine.ping()
            start.wait()
            for rev in (number, number + 4, number + 8):
                mine.apply([message("ws", f"m{each}", rev, content=f"rev {rev}") for each in range(200)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(1, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with closing(MongoTarget(mongod.uri, database=database.name)) as target:
        stored = target.scan("ws", "message")
        assert len(stored) == 200
        assert {each.rev for each in stored} == {12}
        found = target.fetch("ws", "message", [each.id for each in stored])
    assert {each.body["content"] for each in found.values() if each.body} == {"rev 12"}


def test_a_record_that_somebody_has_spoilt_is_named(target: MongoTarget, database: Database) -> None:
    target.apply([message("ws", "m", 1), message("ws", "n", 2)])
    documents = database["duck_session_messages"]
    # A program in JavaScript writes every number as a float.
    documents.update_one({"_id": "ws/n"}, {"$set": {"rev": 2.0}})
    assert target.scan("ws", "message") == [Stored("m", 1), Stored("n", 2)]
    assert target.fetch("ws", "message", ["n"]) == {"n": message("ws", "n", 2)}
    documents.update_one({"_id": "ws/m"}, {"$set": {"record": "{"}})
    with pytest.raises(CorruptionError, match="duck_session_messages/ws/m"):
        target.fetch("ws", "message", ["m"])


def test_a_server_that_does_not_answer_is_unavailable_in_time_and_there_again_afterwards(
    mongod: Mongod, database: Database
) -> None:
    with closing(MongoTarget(mongod.uri, database=database.name, connect_timeout=0.5, timeout=0.5)) as target:
        assert target.apply([message("ws", "m", 1)]) == Applied(1)
        mongod.signal(signal.SIGSTOP)
        try:
            with pytest.raises(TargetUnavailableError):
                target.apply([message("ws", "m", 2)])
        finally:
            mongod.signal(signal.SIGCONT)
        assert retried(target, message("ws", "m", 2)) == Applied(1)
        assert target.scan("ws", "message") == [Stored("m", 2)]


def test_a_server_that_is_not_the_primary_any_more_is_unavailable(mongod: Mongod, database: Database) -> None:
    with closing(MongoTarget(mongod.uri, database=database.name, connect_timeout=0.5)) as target:
        assert target.apply([message("ws", "m", 1)]) == Applied(1)
        with mongod.client() as client:
            client.admin.command("replSetStepDown", 60, force=True)
            try:
                with pytest.raises(TargetUnavailableError):
                    target.apply([message("ws", "m", 2)])
            finally:
                client.admin.command("replSetFreeze", 0)
        assert retried(target, message("ws", "m", 2)) == Applied(1)


def test_what_the_majority_has_not_confirmed_in_time_is_not_confirmed(mongod: Mongod, database: Database) -> None:
    trouble = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    with closing(MongoTarget(mongod.uri, database=database.name)) as target, mongod.client() as client:
        for rev, command in ((1, "insert"), (2, "update")):
            data = {"failCommands": [command], "writeConcernError": trouble, "appName": "nomad-sessions"}
            client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data})
            with pytest.raises(TargetUnavailableError, match="waiting for replication"):
                target.apply([message("ws", "m", rev)])
            assert target.apply([message("ws", "m", rev)]) == Applied(1)
        assert target.scan("ws", "message") == [Stored("m", 2)]


def retried(target: MongoTarget, change: Change) -> Applied:
    """As whoever synchronises does: the same, again."""
    until = time.monotonic() + 30
    while True:
        try:
            return target.apply([change])
        except TargetUnavailableError:
            assert time.monotonic() < until


def asked(target: MongoTarget) -> Iterator[str]:
    """What each call of it says when it cannot be reached."""
    calls = (
        target.ping,
        lambda: target.apply([message("ws", "m", 1)]),
        lambda: target.scan("ws", "message"),
        lambda: target.fetch("ws", "message", ["m"]),
        target.workspaces,
        lambda: list(target.foreign("event")),
    )
    for call in calls:
        with pytest.raises(TargetUnavailableError) as caught:
            call()
        assert caught.value.target == target.name
        yield str(caught.value)


def test_a_server_that_is_not_there_is_unavailable() -> None:
    uri = "mongodb://nomad:hunter2@127.0.0.1:1/?replicaSet=rs0"
    with closing(MongoTarget(uri, name="away", connect_timeout=0.1)) as target:
        assert target.describe().place == "mongodb://127.0.0.1:1/database"
        for said in (*asked(target), repr(target), str(target.describe())):
            assert "127.0.0.1:1" in said
            assert "hunter2" not in said
            assert "Topology" not in said


def test_a_wrong_password_is_unavailable_and_named_nowhere(tmp_path: Path) -> None:
    mongod = GuardedMongod(tmp_path, "right-one")
    with mongod:
        with closing(MongoTarget(mongod.uri_with("wrong-one"), connect_timeout=0.2)) as target:
            for said in asked(target):
                assert "Authentication failed" in said
                assert "wrong-one" not in said
                assert "full error" not in said
        with closing(MongoTarget(mongod.uri_with("right-one"))) as target:
            assert target.apply([message("ws", "m", 1)]) == Applied(1)
            assert "right-one" not in f"{target!r} {target.describe()}"
        with closing(MongoTarget(mongod.uri)) as target, pytest.raises(TargetUnavailableError, match="auth"):
            target.scan("ws", "message")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("uri", {"uri": "postgres://nomad:hunter2@host"}),
        ("uri", {"uri": "mongodb://nomad:hun@ter2/x@host"}),
        ("uri", {"uri": "mongodb://nomad:hunter2@host:port"}),
        ("database", {"database": "a b"}),
        ("agent", {"agent": "a.b"}),
        ("timeout", {"timeout": 0}),
        ("connect_timeout", {"connect_timeout": "5"}),
    ],
)
def test_what_can_be_no_target_is_named_without_its_password(field: str, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        MongoTarget(**{"uri": "mongodb://127.0.0.1", **given})
    assert caught.value.field == field
    assert "hunter2" not in f"{caught.value} {caught.value.__dict__} {caught.value.__cause__}"
    assert "ter2" not in str(caught.value)


def test_an_answer_that_a_ctrl_c_had_left_half_read_is_a_target_that_is_not_there() -> None:
    """The driver says so of the connection's next answer, by an error of its own kind."""
    server = MongoServer("mongo", "mongodb://127.0.0.1:1", "database", "duck", 1.0, 1.0)
    with closing(server), pytest.raises(TargetUnavailableError, match="response id"), server.asked():
        raise ProtocolError("Got response id 1 but expected 2")


@pytest.mark.parametrize(
    ("query", "looking", "connecting", "answering"),
    [
        ("", 5.0, 5.0, 20.0),
        ("/?serverSelectionTimeoutMS=200&tls=false", 0.2, 5.0, 20.0),
        ("/database?SOCKETTIMEOUTMS=100&connectTimeoutMS=300", 5.0, 0.3, 0.1),
        ("/?tls=false;socketTimeoutMS=1e3;connectTimeoutMS=100.5", 5.0, 0.1005, 1.0),
    ],
)
def test_the_times_that_a_uri_gives_go_before_the_usual_ones(
    query: str, looking: float, connecting: float, answering: float
) -> None:
    with closing(MongoServer("mongo", f"mongodb://127.0.0.1:1{query}", "database", "duck", 5.0, 20.0)) as server:
        options = server._client.options
        assert options.server_selection_timeout == looking
        assert options.pool_options.connect_timeout == connecting
        assert options.pool_options.socket_timeout == answering
