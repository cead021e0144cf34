"""`nomad-sessions import`: what is on this computer, a tool's history, a file."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions.cli.sources import tools_to_complete
from tests.support.damage import long_damaged

from .conftest import COMMAND, EXAMPLES, Cli

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
    assert "projects: not taken, 12 records that are no part of a conversation: " in shown.replace("\n", " ")


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
    assert "no .json or .jsonl files" in cli("import", tmp_path / "empty", code=2).err


def test_of_several_named_documents_one_that_is_none_stops_no_other(cli: Cli, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("no JSON")
    one, two = sorted((EXAMPLES / "opencode").glob("*.json"))[:2]
    for form in ([], ["opencode"]):
        reports = cli("import", *form, one, bad, two, code=1).json
        assert [each["sessions"]["read"] for each in reports] == [1, 0, 1]
        assert "bad.json" in reports[1]["warnings"][0]
        assert "neither { nor [" in cli("import", *form, bad, code=2).err


def test_what_was_exported_to_a_folder_comes_in_from_it(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for number, ending in enumerate(("jsonl", "json")):
        session = cli("new", f"title {number}").id
        cli("add", session, "hello")
        cli("export", session, "-o", folder / f"{number}.{ending}")
        cli("rm", session, "--yes")
    (folder / "notes.jsonl").write_text("no JSON\n")
    reports = cli("import", folder, code=1).json
    assert [each["messages"]["imported"] for each in reports] == [1, 1, 0]
    assert "notes.jsonl" in reports[2]["warnings"][0]


def test_a_folder_with_what_several_tools_wrote_is_not_taken_for_one_s(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(SAMPLES, tmp_path / "backup" / "claude")
    shutil.copytree(SAMPLES.parent / "codex", tmp_path / "backup" / "codex")
    assert "(claude-code, codex): import each with its name" in cli("import", tmp_path / "backup", code=2).err
    (report,) = cli("import", tmp_path / "backup" / "codex").json
    assert (report["format"], report["sessions"]["imported"] > 0) == ("codex", True)


def test_a_tool_s_name_before_another_s_files_is_an_error_that_says_so(cli: Cli) -> None:
    assert "Claude Code's" in cli("import", "gemini-cli", SAMPLES / "projects", code=2).err


def test_auto_with_nothing_there_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli("import", "auto").json == []


def test_a_form_of_documents_is_named_as_a_tool_is(cli: Cli) -> None:
    export, native = EXAMPLES / "opencode" / "fix-lost-cent.json", EXAMPLES / "nomadarch" / "sessions.json"
    assert cli("import", "opencode", export).json[0]["sessions"]["imported"] == 1
    assert cli("import", "nomadarch", native).json[0]["format"] == "nomadarch"
    assert cli("import", "nomadarch", native.parent).json[0]["sessions"]["unchanged"] > 0
    assert "holds nothing of the format opencode-share" in cli("import", "opencode-share", export, code=2).err
    assert "say which file" in cli("import", "nomadarch", code=2).err
    assert "nowhere.json" in cli("import", "nomadarch", "nowhere.json", code=3).err


@pytest.mark.parametrize(
    ("name", "meant"), [("claude", "claude-code"), ("Claude-Code", "claude-code"), ("gosse", "goose"), ("zzz", "")]
)
def test_a_name_that_is_no_tool_s_is_said_to_be_none(cli: Cli, name: str, meant: str) -> None:
    told = cli("import", name, code=3).err
    assert "no tool (auto, opencode, claude-code, codex" in told
    assert told.endswith(f"of that name; {meant} is one\n" if meant else "of that name\n")


def test_what_auto_and_tools_without_a_place_need_is_said(cli: Cli) -> None:
    assert "auto takes no path" in cli("import", "auto", "extra", code=2).err
    assert "has no usual place" in cli("import", "openai-agents", code=2).err
    assert "not with --dry-run" in cli("import", "auto", "--follow", "--dry-run", code=2).err


def test_a_database_is_found_in_the_folder_that_is_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data" / "sessions").mkdir(parents=True)
    shutil.copy(SAMPLES.parent / "goose" / "sessions.db", tmp_path / "data" / "sessions")
    assert cli("import", "goose", tmp_path / "data").json[0]["messages"]["imported"] == 4
    shutil.copy(SAMPLES.parent / "openai-agents" / "sessions.db", tmp_path / "data" / "agents.sqlite")
    assert cli("import", "openai-agents", tmp_path / "data").json[0]["sessions"]["imported"] == 1


def test_a_document_comes_from_stdin_too(cli: Cli) -> None:
    export = (EXAMPLES / "opencode" / "fix-lost-cent.json").read_bytes()
    assert cli("import", "-", stdin=export).json[0]["sessions"]["imported"] == 1
    assert cli("import", "opencode", "-", stdin=export, code=3).err
    assert cli("import", "-", stdin=export).json[0]["sessions"]["unchanged"] == 1
    assert "not a whole JSON file: it is empty" in cli("import", "-", code=2).err


def test_what_is_no_document_of_a_folder_is_left_out_and_the_others_come_in(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for name, content in (("a", '{"a": 1}'), ("c", "{"), ("d", "no JSON"), ("e", "")):
        (tmp_path / "s" / f"{name}.json").write_text(content)
    shutil.copy(EXAMPLES / "opencode" / "fix-lost-cent.json", tmp_path / "s" / "b.json")
    reports = cli("import", tmp_path / "s", code=1).json
    assert [sum(report["skipped"].values()) for report in reports] == [1, 0, 1, 1, 1]
    assert reports[1]["sessions"]["imported"] == 1
    assert "none of the formats" in next(iter(reports[0]["skipped"]))
    assert "none of the formats" in cli("import", tmp_path / "s" / "a.json", code=2).err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_devices_and_pipes_are_refused_before_they_are_read(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (Path("/dev/zero"), tmp_path / "pipe.jsonl"):
        assert "no regular file" in cli("import", path, code=2).err
        assert cli("import", "claude-code", path, code=2).err
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(1 << 40)  # A file with a hole: reading all of it would take more memory than there is.
    assert "it begins with neither" in cli("import", large, code=2).err


def test_a_workspace_that_is_damaged_stops_no_other(cli: Cli, home: Path) -> None:
    shutil.copytree(SAMPLES.parent / "pi" / "agent" / "sessions", home / ".pi" / "agent" / "sessions")
    everywhere = ["--data-dir", str(cli.data_dir)]
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    assert run([*COMMAND, "import", "claude-code", *everywhere]).returncode == 0
    (damaged,) = (each for each in cli.data_dir.iterdir() if each.is_dir())
    long_damaged(*(damaged / name for name in ("sessions.json", "sessions.json.prev")))
    shutil.rmtree(damaged / "journal")
    (home / ".pi" / "agent" / "sessions" / "--home-other--").mkdir()
    other = home / ".pi" / "agent" / "sessions" / "--home-other--" / "2026-01-05T10-00-00-000Z_o.jsonl"
    header = {"type": "session", "version": 3, "id": "o", "timestamp": "2026-01-05T10:00:00Z", "cwd": "/home/other"}
    prompt = {"type": "message", "id": "a", "parentId": None, "message": {"role": "user", "content": "elsewhere"}}
    other.write_text(f"{json.dumps(header)}\n{json.dumps(prompt)}\n")

    looked = run([*COMMAND, "import", "auto", "--dry-run", *everywhere])
    assert looked.returncode == 5
    assert {row["tool"] for row in json.loads(looked.stdout)} == {"claude-code", "pi"}
    done = run([*COMMAND, "import", "auto", *everywhere])
    assert done.returncode == 5, done.stderr
    assert f"workspace {damaged.name}: " in done.stderr
    reports = {report["format"]: report for report in json.loads(done.stdout)}
    assert list(reports["claude-code"]["failed"]) == [damaged.name]
    assert reports["claude-code"]["sessions"]["skipped"] == reports["claude-code"]["sessions"]["read"] == 3
    assert list(reports["pi"]["failed"]) == [damaged.name]
    assert reports["pi"]["sessions"]["imported"] == 1
    assert [name for name in reports["pi"]["workspaces"] if name.startswith("other-")]


def test_the_shell_completes_names_of_tools_and_forms() -> None:
    assert tools_to_complete("cl") == ["claude-code"]
    assert tools_to_complete("openc") == ["opencode", "opencode-share"]
    assert {"auto", "nomadarch", "pi"} <= set(tools_to_complete(""))


def test_a_tool_s_name_is_not_taken_for_a_file_that_is_called_so(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aider").mkdir()
    (tmp_path / "goose").write_text("")
    for tool in ("aider", "goose"):
        (report,) = cli("import", tool, SAMPLES.parent / tool).json
        assert report["messages"]["imported"]
        cli("import", f"./{tool}", code=2)


def test_the_files_of_a_folder_of_workspaces_come_in_and_exports_with_their_tool_s_name(
    cli: Cli, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / "old" / name).mkdir(parents=True)
        shutil.copy(EXAMPLES / "nomadarch" / "sessions.json", tmp_path / "old" / name)
    reports = cli("import", "nomadarch", tmp_path / "old").json
    assert [each["sessions"]["read"] for each in reports] == [1, 1]
    count = len(list((EXAMPLES / "opencode").glob("*.json")))
    assert len(cli("import", "opencode", EXAMPLES / "opencode").json) == count
