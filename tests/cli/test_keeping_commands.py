"""prune, config and what stats says of usage, as a script and as a person use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
