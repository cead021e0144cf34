"""Commands that look into all workspaces: a damaged one is named and hides no other; sessions are found in any."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from nomad_sessions import NativeSessionManager
from tests.support.damage import long_damaged

from .conftest import COMMAND, Cli, in_terminal


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(cli: Cli, tmp_path: Path) -> Run:
    """Runs a command in a folder that is no project, without naming a workspace."""
    env = os.environ | {"NOMAD_SESSIONS_DIR": str(cli.data_dir)}

    def run(*args: str, folder: Path = tmp_path) -> Done:
        done = subprocess.run([*COMMAND, *args], cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def session(cli: Cli) -> str:
    """One that can be read, beside a workspace `bad` that cannot."""
    with NativeSessionManager(cli.data_dir) as manager:
        manager.create_session("bad", title="lost")
        manager.checkpoint("bad")
    folder = cli.data_dir / "bad"
    long_damaged(folder / "sessions.json")
    (folder / "sessions.json.prev").unlink(missing_ok=True)
    shutil.rmtree(folder / "journal")
    session = cli("new", "a needle").id
    cli("add", session, "in a haystack")
    return session


def test_a_search_of_all_gives_what_it_can_and_says_what_it_cannot(run: Run, session: str) -> None:
    done = run("search", "needle")
    found = json.loads(done.out)
    assert (done.code, [hit["sessionId"] for hit in found["hits"]]) == (5, [session])
    assert [each["workspaceId"] for each in found["unreadable"]] == ["bad"]
    assert "workspace bad was left out" in done.err
    assert len(done.err.splitlines()) == 1
    assert run("search", "needle", "-w", "ws").code == 0
    assert run("search", "needle", "-w", "bad").code == 5


def test_workspaces_lists_one_that_cannot_be_read(run: Run, session: str, cli: Cli) -> None:
    done = run("workspaces")
    bad, ws = json.loads(done.out)
    assert (done.code, bad["id"], bad["sessions"], "sessions.json" in bad["error"]) == (5, "bad", None, True)
    assert (ws["id"], ws["sessions"], "error" in ws) == ("ws", 1, False)
    assert "bad" in done.err
    code, shown = in_terminal([*COMMAND, "workspaces", "--data-dir", str(cli.data_dir)])
    assert code == 5
    assert "unreadable" in shown


def test_a_session_is_shown_whatever_other_workspaces_are_like(run: Run, session: str) -> None:
    for name in (session, session[-8:]):
        done = run("show", name)
        assert (done.code, json.loads(done.out)["session"]["id"]) == (0, session)
        assert "workspace bad was left out" in done.err
    done = run("show", "nowhere-to-be-found")
    assert (done.code, done.out) == (5, "")
    assert "bad" in done.err


def test_the_current_workspace_may_be_the_one_that_cannot_be_read(
    run: Run, session: str, cli: Cli, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    with NativeSessionManager(cli.data_dir) as manager:
        manager.link_workspace("bad", project)
    assert run("show", session, folder=project).code == 0
    assert run("show", "@last", folder=project).code == 5
    assert run("search", "needle", "--session", session, folder=project).code == 0


def test_last_of_a_search_outside_of_a_project_is_the_newest_of_all(run: Run, session: str, tmp_path: Path) -> None:
    done = run("search", "haystack", "--session", "@last")
    assert (done.code, json.loads(done.out)["total"]) == (0, 1)
    assert json.loads(run("search", "haystack", "--session", session[:-2]).out)["total"] == 1
    project = tmp_path / "project"
    project.mkdir()
    assert run("new", "of the project", folder=project).code == 0
    assert json.loads(run("search", "haystack", "--session", "@last", folder=project).out)["total"] == 0


def test_a_session_of_another_workspace_is_moved_and_named_by_others(cli: Cli, run: Run, tmp_path: Path) -> None:
    session = cli("new", "mine").id
    done = run("add", session[-8:], "text")
    assert (done.code, "add -w ws" in done.err) == (3, True)
    assert run("move", session[-8:], "other", "--create").out.strip() == session
    assert cli("ls").json["total"] == 0
    assert run("move", session, "ws", "-w", "nowhere").code == 3


def test_a_session_is_moved_to_no_folder_that_is_not_there(cli: Cli, run: Run, tmp_path: Path) -> None:
    session = cli("new", "mine").id
    typo, gone = tmp_path / "typo", tmp_path / "gone"
    before = json.loads(run("workspaces").out)
    done = run("move", session, str(typo))
    assert (done.code, str(typo) in done.err) == (3, True)
    assert json.loads(run("workspaces").out) == before
    gone.mkdir()
    assert run("new", "there", folder=gone).code == 0
    gone.rmdir()
    assert run("move", session, f"{gone}/typo").code == 3
    assert run("move", session, str(gone)).code == 0  # A project that was moved is known all the same.
    assert run("move", session, str(typo), "--create").code == 0


def test_numbers_that_are_too_large_are_usage_errors(run: Run, session: str) -> None:
    for option in ("-n", "--offset"):
        done = run("search", "needle", option, "9" * 22)
        assert (done.code, len(done.err.splitlines())) == (2, 1)


def test_prune_shows_titles_in_a_narrow_terminal(cli: Cli) -> None:
    cli("new", "A title of some length to be read")
    code, shown = in_terminal(cli.command("prune", "--keep", "0"), COLUMNS="80")
    assert code == 0
    assert "A title of some length to be read" in shown
    assert "number" in shown


def test_the_package_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "nomad_sessions", "--version"], capture_output=True, check=True)
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["show", "-w"], ["ws"]),
        (["search", "x", "-w", "w"], ["ws"]),
        (["doctor", "-w"], ["ws"]),
        (["relink"], ["ws"]),
        (["move", "x"], ["ws"]),
        (["move", "x", "nothing"], []),
        (["export", "x", "-f", "c"], ["claude-code", "codex"]),
        (["show", "-w", "ws", "ses"], ["session-1"]),
        (["show", "-w", "ws", "@"], ["@last"]),
        (["search", "-w", "ws", "--session"], ["@last", "session-1"]),
    ],
)
def test_the_shell_completes_workspaces_forms_and_sessions(cli: Cli, words: list[str], offered: list[str]) -> None:
    cli("new", "--id", "session-1")
    whole = ["nomad-sessions", words[0], "--data-dir", str(cli.data_dir), *words[1:]]
    begun = words[-1] in ("w", "c", "ses", "@", "nothing")
    env = os.environ | {"_NOMAD_SESSIONS_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(whole)}
    env["COMP_CWORD"] = str(len(whole) - begun)
    done = subprocess.run(
        [sys.executable, "-c", "from nomad_sessions.cli import main; main()"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (sorted(done.stdout.split()), done.stderr) == (offered, "")
