"""`nomad-sessions import`: what is on this computer, a tool's history, a file."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import EXAMPLES, Cli

SAMPLES = Path(__file__).parents[1] / "fixtures" / "claude"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a history of Claude Code in it."""
    shutil.copytree(SAMPLES / "projects", tmp_path / "home" / ".claude" / "projects")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for variable in ("CLAUDE_CONFIG_DIR", "XDG_DATA_HOME", "CODEX_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


def test_auto_says_what_it_found_and_then_imports_it(cli: Cli, home: Path) -> None:
    rows = cli("import", "auto", "--dry-run").json
    (row,) = [row for row in rows if row["tool"] == "claude-code"]
    assert (row["sessions"], row["new"], row["path"]) == (3, 3, str(home / ".claude" / "projects"))
    cli("ls", code=3)
    (report,) = cli("import", "auto").json
    assert report["messages"]["imported"] == 18
    (row,) = cli("import", "auto", "--dry-run").json
    assert (row["new"], row["changed"]) == (0, 0)
    assert cli("ls").json["total"] == 3


def test_auto_on_a_computer_without_any_is_no_error(cli: Cli, home: Path) -> None:
    shutil.rmtree(home / ".claude")
    assert cli("import", "auto", "--dry-run").json == []


def test_a_tool_is_imported_from_its_usual_place_or_from_a_given_one(cli: Cli, home: Path) -> None:
    assert cli("import", "claude-code").json[0]["messages"]["imported"] == 18
    torn = cli("import", "claude-code", SAMPLES / "torn", code=1).json[0]
    assert torn["skipped"] == {"a torn line": 1}


@pytest.mark.usefixtures("home")
def test_a_file_is_known_by_its_content(cli: Cli) -> None:
    (file,) = (SAMPLES / "projects").rglob("5f2b*.jsonl")
    assert cli("import", file).json[0]["format"] == "claude-code"


def test_a_place_that_is_not_there_is_named(cli: Cli, home: Path) -> None:
    shutil.rmtree(home / ".claude")
    assert str(home / ".claude") in cli("import", "claude-code", code=2).err
    assert "nowhere" in cli("import", "claude-code", "nowhere", code=3).err
    assert "nowhere" in cli("import", "nowhere", code=3).err


@pytest.mark.usefixtures("home")
def test_a_person_gets_a_table(terminal: Callable[..., str]) -> None:
    shown = terminal("import", "auto", "--dry-run")
    assert shown.splitlines()[0].split() == ["tool", "path", "sessions", "new", "changed", "size"]
    shown = terminal("import", "auto")
    assert "claude-code" in shown
    assert "records that are no part of a conversation were not taken" in shown


def test_following_brings_in_what_is_written_meanwhile(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "sessions"
    shutil.copytree(SAMPLES.parent / "pi" / "agent" / "sessions", source)
    with cli.start("import", "pi", source, "--follow", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["messages"]["imported"] == 15
        (grown,) = source.rglob("2026*.jsonl")
        with grown.open("a", encoding="utf-8") as file:
            message = {"role": "user", "content": "said meanwhile", "timestamp": 1_767_261_700_000}
            file.write(json.dumps({"type": "message", "id": "z", "parentId": "0000000f", "message": message}) + "\n")
        assert json.loads(process.stdout.readline())["messages"]["imported"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert cli("search", "said meanwhile").json["total"] == 1


def test_a_single_file_cannot_be_followed(cli: Cli) -> None:
    assert "histories" in cli("import", EXAMPLES / "opencode" / "fix-lost-cent.json", "--follow", code=2).err


def test_a_folder_of_files_is_all_of_them(cli: Cli, tmp_path: Path) -> None:
    reports = cli("import", EXAMPLES / "opencode").json
    assert len(reports) == len(list((EXAMPLES / "opencode").glob("*.json")))
    assert all(report["sessions"]["imported"] == 1 for report in reports)
    assert {name for report in reports for name in report["workspaces"]} == {"ws"}
    (tmp_path / "empty").mkdir()
    assert "no .json files" in cli("import", tmp_path / "empty", code=2).err


def test_a_tool_s_name_before_another_s_files_is_an_error_that_says_so(cli: Cli) -> None:
    assert "Claude Code's" in cli("import", "gemini-cli", SAMPLES / "projects", code=2).err
    told = cli("import", "opencode", EXAMPLES / "opencode" / "fix-lost-cent.json", code=2).err
    assert "without the tool's name" in told


def test_auto_with_nothing_there_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli("import", "auto").json == []
