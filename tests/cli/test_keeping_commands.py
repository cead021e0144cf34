"""prune, config and what stats says of usage, as a script and as a person use them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager

from .conftest import EXAMPLES, Cli

Terminal = Callable[..., str]


@pytest.fixture
def filled(cli: Cli) -> Cli:
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    return cli


def test_prune_shows_first_and_removes_only_when_told(filled: Cli, terminal: Terminal) -> None:
    would = filled("prune", "--keep", "2").json
    assert [row["removed"] for row in would] == [False] * 3
    assert filled("ls").json["total"] == 5
    assert "3 sessions" in terminal("prune", "--keep", "2")
    assert "--yes" in terminal("prune", "--keep", "2")
    gone = filled("prune", "--keep", "2", "--yes").json
    assert [row["id"] for row in gone] == [row["id"] for row in would]
    assert all(row["removed"] for row in gone)
    assert filled("ls").json["total"] == 2
    assert terminal("prune", "--keep", "2").strip() == "nothing would go"


def test_prune_takes_ages_and_sizes(filled: Cli) -> None:
    assert len(filled("prune", "--older-than", "1m").json) == 5
    assert filled("prune", "--max-size", "1G").json == []
    assert len(filled("prune", "--max-size", "0").json) == 5
    assert filled("prune", "--keep", "0", "--archived").json == []
    filled("prune", code=2)
    filled("prune", "--older-than", "soon", code=2)
    filled("prune", "--max-size", "big", code=2)


def test_prune_takes_attachments_that_nothing_names_once_they_are_old(cli: Cli, terminal: Terminal) -> None:
    cli("new")
    with NativeSessionManager(cli.data_dir) as manager:
        name = manager._attach("ws", b"loose" * 1000)
    path = cli.data_dir / "ws" / "attachments" / name
    assert cli("prune", "--attachments").json == []
    assert terminal("prune", "--attachments").strip() == "nothing would go"
    day = time.time() - 86_400
    os.utime(path, (day, day))
    assert cli("prune", "--attachments").json == []
    (row,) = cli("prune", "--attachments", "--older-than", "12h").json
    assert (row["name"], row["bytes"], row["removed"]) == (name, 5000, False)
    assert "1 attachments, 4.9 KiB, would go: --yes" in terminal("prune", "--attachments", "--older-than", "12h")
    assert path.exists()
    assert cli("prune", "--attachments", "--older-than", "12h", "--yes").json[0]["removed"]
    assert not path.exists()


def test_prune_takes_attachments_by_themselves_and_none_that_are_new(cli: Cli) -> None:
    cli("new")
    for options in (("--keep", "2"), ("--max-size", "1G"), ("--archived",)):
        assert "by themselves" in cli("prune", "--attachments", *options, code=2).err
    assert "1h" in cli("prune", "--attachments", "--older-than", "5m", code=2).err


def test_config_shows_and_changes_settings(cli: Cli, terminal: Terminal) -> None:
    cli("new")
    assert cli("config").json == {}
    assert "auto" in terminal("config")
    assert cli("config", "--fold", "always").json == {"fold": "always"}
    kept = cli("config", "--retention-days", "7", "--retention-size", "64M").json["retention"]
    assert kept == {"days": 7, "bytes": 64 << 20}
    assert cli("config", "--retention-days", "1").json["retention"] == {"days": 1, "bytes": 64 << 20}
    assert "1 days, 64.0 MiB" in terminal("config")
    assert "fold" in cli("config", "--fold", "never", code=2).err


def test_stats_say_what_it_took(filled: Cli, terminal: Terminal) -> None:
    usage = filled("stats").json["usage"]
    assert usage["total"]["messages"] == sum(each["messages"] for each in usage["days"].values()) == 47
    assert usage["tools"]["bash"] > 0
    shown = terminal("stats")
    for word in ("tokens", "cost", "model", "agent", "day", "bash"):
        assert word in shown


@pytest.mark.parametrize(("ending", "begin"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_a_picture_is_drawn(filled: Cli, tmp_path: Path, ending: str, begin: bytes) -> None:
    filled("stats", "--plot", tmp_path / f"days.{ending}")
    assert (tmp_path / f"days.{ending}").read_bytes().startswith(begin)


def test_a_picture_needs_an_ending_and_something_to_show(cli: Cli, filled: Cli, tmp_path: Path) -> None:
    assert "end in" in filled("stats", "--plot", tmp_path / "days.txt", code=2).err
    empty = Cli(tmp_path / "empty")
    empty("new")
    assert "no messages" in empty("stats", "--plot", tmp_path / "days.png", code=2).err
