"""`sync pull` and `sync conflicts`: two machines with one real MongoDB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.mongod import Mongod, running_mongod


@pytest.fixture(scope="module")
def mongod() -> Iterator[Mongod]:
    with running_mongod() as server:
        yield server


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mongod: Mongod) -> tuple[Cli, Cli]:
    for name in ("CHROMA_URL", "CHROMA_PATH", "EMBEDDING_DRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NOMAD_SESSIONS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MONGODB_URI", mongod.uri)
    monkeypatch.setenv("MONGODB_DATABASE", tmp_path.name)
    monkeypatch.setenv("MONGODB_TWO_WAY", "true")
    return Cli(tmp_path / "laptop"), Cli(tmp_path / "desktop")


def test_there_and_back(two: tuple[Cli, Cli]) -> None:
    laptop, desktop = two
    session = laptop("new", "from the laptop").id
    message = laptop("add", session, "hello").id
    sent = laptop("sync", "push").json["items"]
    assert [(each["sent"], each["fetched"]) for each in sent] == [(2, 0)]
    brought = desktop("sync", "pull").json["items"]
    assert [(each["workspaceId"], each["sent"], each["fetched"]) for each in brought] == [("ws", 0, 2)]
    assert message in desktop("show", session, "--json").out
    answer = desktop("add", session, "and back", "--role", "assistant").id
    desktop("sync", "push")
    laptop("sync", "pull")
    assert answer in laptop("show", session, "--json").out
    for each in two:
        assert each("sync", "verify").json["total"] == 0
        assert each("sync", "status").json["items"][0]["behind"] == 0
        assert each("sync", "conflicts").json == {"items": [], "total": 0}


def test_a_conflict_is_listed_until_somebody_has_seen_it(two: tuple[Cli, Cli]) -> None:
    laptop, desktop = two
    session = laptop("new", "first").id
    laptop("sync", "push")
    desktop("sync", "pull")
    laptop("edit", session, "--title", "at the desk")
    desktop("edit", session, "--title", "on the bus")
    desktop("sync", "push")
    assert laptop("sync", "push").json["conflicts"] == 1
    (conflict,) = laptop("sync", "conflicts").json["items"]
    assert (conflict["kind"], conflict["id"], conflict["field"]) == ("session", session, "title")
    assert {conflict["kept"]["title"], conflict["lost"]["title"]} == {"at the desk", "on the bus"}
    assert laptop("sync", "conflicts", "--forget").json["total"] == 1
    assert laptop("sync", "conflicts").json["total"] == 0
    assert desktop("sync", "conflicts").json["total"] == 0


def test_a_copy_is_not_pulled_from(two: tuple[Cli, Cli], monkeypatch: pytest.MonkeyPatch) -> None:
    laptop, desktop = two
    laptop("new", "first")
    laptop("sync", "push")
    monkeypatch.setenv("MONGODB_TWO_WAY", "false")
    assert "MONGODB_TWO_WAY" in desktop("sync", "pull", code=2).err
    desktop("new", "another")
    assert "two_way" in desktop("sync", "push", code=5).err
    monkeypatch.setenv("MONGODB_TWO_WAY", "perhaps")
    assert "true or false" in desktop("sync", "pull", code=2).err
