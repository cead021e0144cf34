"""`sync`: against a real mongod, and without any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from tests.cli.conftest import Cli
from tests.support.mongod import Mongod, running_mongod


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with running_mongod() as server:
        yield server


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MONGODB_URI", "CHROMA_URL", "CHROMA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOMAD_SESSIONS_CONFIG", str(tmp_path / "config.toml"))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mongod: Mongod) -> str:
    """The settings name the server, and a database of the test's own."""
    monkeypatch.setenv("MONGODB_URI", mongod.uri)
    monkeypatch.setenv("MONGODB_DATABASE", tmp_path.name)
    return tmp_path.name


def test_without_a_target_it_says_how_to_have_one(cli: Cli, tmp_path: Path) -> None:
    cli("new", "one")
    said = cli("sync", "push", code=2).err
    assert "MONGODB_URI" in said
    assert str(tmp_path / "config.toml") in said.replace("\n", "")


def test_push_status_verify_and_restore(cli: Cli, there: str, mongod: Mongod, tmp_path: Path) -> None:
    session = cli("new", "one").id
    message = cli("add", session, "hello").id
    other = Cli(tmp_path / "other")
    assert "mongo has nothing of it" in other("sync", "restore", "mongo", code=3).err
    assert not (other.data_dir / "ws").exists()
    behind = cli("sync", "status").json
    assert [(each["target"], each["workspaceId"], each["behind"]) for each in behind["items"]] == [("mongo", "ws", 2)]
    assert behind["targets"][0]["error"] is None
    pushed = cli("sync", "push").json["items"]
    assert [(each["sent"], each["refused"], each["why"]) for each in pushed] == [(2, 0, "it is new")]
    assert cli("sync", "status").json["items"][0]["behind"] == 0
    assert cli("sync", "verify").json == {"items": [], "total": 0, "repaired": False}
    with mongod.client() as client:
        client[there]["duck_session_messages"].delete_many({})
    assert cli("sync", "verify", code=1).json["items"][0]["problem"] == "missing"
    assert cli("sync", "verify", "--repair").json["repaired"]
    assert cli("sync", "verify").json["total"] == 0
    assert cli("sync", "reset", "mongo").out == "mongo: the next push compares ws as a whole\n"
    assert cli("sync", "push").json["items"][0]["why"] == "it is new"
    assert other("sync", "restore", "mongo").json["messages"] == 1
    assert message in other("show", session, "--json").out
    assert other("sync", "restore", "mongo").json["already"] == 1
    assert cli("sync", "dead").json == {"items": [], "total": 0}
    assert cli("sync", "retry").json == {"sent": 0, "refused": 0}


def test_one_that_is_not_there_is_named_without_its_password(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://me:secret@127.0.0.1:9/?serverSelectionTimeoutMS=200")
    cli("new", "one")
    said = cli("sync", "push", code=5).err
    assert "mongo" in said
    assert "secret" not in said
    status = cli("sync", "status")
    assert "not available" in status.json["targets"][0]["error"]
    assert "secret" not in status.out


def test_another_program_s_push_is_left_to_it(cli: Cli, there: str) -> None:
    from nomad_sessions.sync import MemoryTarget
    from nomad_sessions.sync.outbox import Outbox

    cli("new", "one")
    with NativeSessionManager(cli.data_dir) as manager:
        outbox = Outbox(manager, "ws", MemoryTarget("mongo"))
        assert cli("sync", "push").json["busy"] == [{"target": "mongo", "workspaceId": "ws"}]
        outbox.close()
    assert cli("sync", "push").json["busy"] == []


def test_a_wrong_name_is_said(cli: Cli, there: str) -> None:
    cli("new", "one")
    assert "nobody" in cli("sync", "push", "--target", "nobody", code=2).err
    assert "nobody" in cli("sync", "restore", "nobody", code=2).err


def test_a_wrong_setting_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[sync.mongo]\nurl = 'x'")
    cli("new", "one")
    assert "sync.mongo.url" in cli("sync", "push", code=2).err
