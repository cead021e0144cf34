"""workspaces, relink, move, archive, close and tree, as a script and as a person use them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager

from .conftest import COMMAND, Cli


def run(cli: Cli, folder: Path, *args: str) -> Any:
    """In a project's folder, without naming a workspace."""
    env = os.environ | {"NOMAD_SESSIONS_DIR": str(cli.data_dir)}
    done = subprocess.run([*COMMAND, *args], cwd=folder, env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_workspaces_are_listed_with_their_folders(cli: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    run(cli, project, "new", "in a project")
    cli("new", "elsewhere")
    rows = json.loads(run(cli, tmp_path, "workspaces"))
    assert [(row["folder"], row["sessions"]) for row in rows] == [(str(project), 1), (None, 1)]
    assert all(row["updatedAt"] > 0 for row in rows)


def test_a_project_that_moved_is_found_again_after_relink(cli: Cli, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    run(cli, before, "new", "mine")
    (row,) = json.loads(run(cli, tmp_path, "workspaces"))
    before.rename(after)
    assert json.loads(run(cli, after, "ls"))["total"] == 0
    assert run(cli, after, "relink", row["id"]) == row["id"]
    assert json.loads(run(cli, after, "ls"))["items"][0]["title"] == "mine"


def test_relink_names_what_is_not_there(cli: Cli, tmp_path: Path) -> None:
    cli("new")
    base = [*COMMAND, "relink", "--data-dir", str(cli.data_dir)]
    for arguments, word in ((["none"], "none"), (["ws", str(tmp_path / "gone")], "gone")):
        done = subprocess.run([*base, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode in (3, 5)
        assert word in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_an_archived_session_leaves_the_list_and_comes_back(cli: Cli) -> None:
    session = cli("new", "old").id
    assert cli("archive", session).id == session
    assert cli("ls").json["total"] == 0
    assert cli("ls", "--archived").json["total"] == 1
    cli("unarchive", session)
    assert cli("ls").json["total"] == 1


def test_a_session_is_closed_and_opened_again(cli: Cli) -> None:
    session = cli("new").id
    assert cli("close", session, "--json").json["closedAt"] > 0
    assert cli("reopen", session, "--json").json.get("closedAt") is None


def test_a_session_moves_with_its_messages(cli: Cli) -> None:
    session = cli("new", "moving").id
    cli("add", session, "hello")
    assert "other" in cli("move", session, "other", code=3).err
    cli("move", session, "other", "--create")
    assert cli("ls").json["total"] == 0
    with NativeSessionManager(cli.data_dir) as manager:
        assert [message.content for message in manager.get_session_messages("other", session)] == ["hello"]


def test_the_tree_shows_what_came_from_what(cli: Cli, terminal: Callable[..., str]) -> None:
    root = cli("new", "root", "--id", "root").id
    cli("add", root, "hello")
    cli("new", "child", "--id", "child", "--parent", root)
    cli("new", "grandchild", "--id", "grandchild", "--parent", "child")
    cli("new", "alone", "--id", "alone")
    found = cli("tree").json
    assert [(each["title"], len(each["children"])) for each in found] == [("root", 1), ("alone", 0)]
    assert found[0]["children"][0]["children"][0]["title"] == "grandchild"
    shown = terminal("tree")
    assert shown.index("root") < shown.index("child") < shown.index("grandchild")
    assert "4 sessions" in shown


def test_a_circle_of_parents_is_shown_once_and_comes_to_an_end(cli: Cli) -> None:
    store = {
        "sessions": {
            key: {"id": key, "title": key, "parentId": parent, "messageIds": [], "createdAt": 1, "updatedAt": 1}
            for key, parent in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("e", "e"))
        },
        "messages": {},
    }
    folder = cli.data_dir / "ws"
    folder.mkdir(parents=True)
    (folder / "sessions.json").write_text(json.dumps(store))
    found = json.dumps(cli("tree").json)
    assert {each: found.count(f'"id": "{each}"') for each in "abcde"} == dict.fromkeys("abcde", 1)


def test_a_session_moves_to_the_workspace_of_a_folder(cli: Cli, tmp_path: Path) -> None:
    session = cli("new", "moving").id
    project = tmp_path / "project"
    project.mkdir()
    cli("move", session, project)
    assert json.loads(run(cli, project, "ls"))["items"][0]["id"] == session


def test_relink_takes_no_folder_from_another_workspace_unless_told(cli: Cli, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        run(cli, folder, "new", folder.name)
    rows = {row["folder"]: row["id"] for row in json.loads(run(cli, tmp_path, "workspaces"))}
    env = os.environ | {"NOMAD_SESSIONS_DIR": str(cli.data_dir)}
    command = [*COMMAND, "relink", rows[str(two)]]
    done = subprocess.run(command, cwd=one, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert rows[str(one)] in done.stderr
    run(cli, one, "relink", rows[str(two)], "--force")
    assert json.loads(run(cli, one, "ls"))["items"][0]["title"] == "two"


def test_move_makes_a_workspace_for_a_folder_that_is_not_there_also_below_another_s(cli: Cli, tmp_path: Path) -> None:
    above, below = tmp_path / "above", tmp_path / "above" / "below"
    above.mkdir()
    session = run(cli, above, "new", "one")
    command = [*COMMAND, "move", session, str(below), "--data-dir", str(cli.data_dir)]
    refused = subprocess.run(command, cwd=above, capture_output=True, text=True, check=False)
    assert (refused.returncode, "--create" in refused.stderr) == (3, True)
    run(cli, above, "move", session, str(below), "--create")
    rows = {row["folder"]: row["sessions"] for row in json.loads(run(cli, above, "workspaces"))}
    assert rows == {str(above): 0, str(below): 1}


def test_relink_takes_a_folder_below_another_s_without_being_forced(cli: Cli, tmp_path: Path) -> None:
    above, below = tmp_path / "above", tmp_path / "above" / "below"
    below.mkdir(parents=True)
    run(cli, above, "new", "one")
    cli("new", "two")
    run(cli, below, "relink", "ws")
    rows = {row["folder"]: row["id"] for row in json.loads(run(cli, above, "workspaces"))}
    assert rows[str(below)] == "ws"
    assert rows[str(above)].startswith("above-")


@pytest.mark.parametrize(
    "command",
    [
        ["import", "notes.md"],
        ["import", "session-lines", "notes.md"],
        ["new", "x", "--parent", "nope"],
        ["new", "x", "--id", "y" * 600],
        ["record", "x", "[1]"],
        ["mail", "send", "hi"],
    ],
    ids=" ".join,
)
def test_a_command_that_fails_makes_no_project_of_its_folder(cli: Cli, tmp_path: Path, command: list[str]) -> None:
    home = tmp_path / "home"
    (home / "project").mkdir(parents=True)
    (home / "notes.md").write_text("# no JSON")
    line = [*COMMAND, *command, "--data-dir", str(cli.data_dir)]
    assert subprocess.run(line, cwd=home, capture_output=True, check=False).returncode in (2, 3)
    run(cli, home / "project", "new", "hello")
    (row,) = json.loads(run(cli, home, "workspaces"))
    assert row["folder"] == str(home / "project")
