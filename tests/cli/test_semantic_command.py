"""search --semantic and --hybrid: by vectors where there are any, and labelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma_settings import chroma_target

from .conftest import EXAMPLES, Cli

Terminal = Callable[..., str]
SETTINGS = {"EMBEDDING_DRIVER": "hashing", "EMBEDDING_FUNCTION": "64"}


@pytest.fixture
def filled(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for name in ("CHROMA_URL", "AGENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    return cli


def push(cli: Cli) -> None:
    with (
        NativeSessionManager(cli.data_dir) as manager,
        Synchronizer(manager, [chroma_target(SETTINGS, manager.data_dir)]) as sync,
    ):
        sync.push()


def test_before_a_push_it_is_by_words_and_says_so(filled: Cli, terminal: Terminal) -> None:
    found = filled("search", "--semantic", "rounding").json
    assert found["mode"] == "lexical"
    assert "nothing was pushed to it yet" in found["note"]
    assert found["hits"] == [{**hit, "score": 0.0} for hit in filled("search", "rounding").json["hits"]]
    shown = terminal("search", "--hybrid", "rounding", "-n", "1")
    assert shown.startswith("lexical: by words: ")


def test_after_a_push_it_is_by_vectors_and_pages(filled: Cli, terminal: Terminal) -> None:
    push(filled)
    found = filled("search", "--semantic", "rounding of carts", "-n", "3").json
    assert (found["mode"], found["nextOffset"]) == ("semantic", 3)
    assert "compares words" in found["note"]
    assert 1 >= found["hits"][0]["score"] >= found["hits"][2]["score"] > 0
    both = filled("search", "--hybrid", "rounding cart", "-n", "3").json
    assert both["mode"] == "hybrid"
    assert both["hits"][0]["marks"]
    only = filled("search", "--semantic", "rounding", "--role", "user").json
    assert {hit["role"] for hit in only["hits"]} == {"user"}
    shown = terminal("search", "--semantic", "rounding", "-n", "1")
    assert shown.startswith("semantic: hashing/64 compares words")
    assert "--offset 1 for more" in shown


def test_ways_of_searching_exclude_each_other(filled: Cli) -> None:
    for options in (("--semantic", "--hybrid"), ("--semantic", "-s"), ("--hybrid", "-s")):
        assert "choose one of" in filled("search", *options, "x", code=2).err
    assert "query" in filled("search", "--semantic", code=2).err
