"""search, and ids of sessions as people give them: a piece of one, @last, of any workspace."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.cli.times import moment, span
from nomad_sessions.errors import InvalidInputError

from .conftest import COMMAND, EXAMPLES, Cli

Terminal = Callable[..., str]
CENT = "ses_46328704fffeh9UDkyYzKqT7v5"


@pytest.fixture
def filled(cli: Cli) -> Cli:
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    return cli


def test_a_search_gives_hits_with_their_places(filled: Cli) -> None:
    found = filled("search", "rounding", "cart").json
    assert found["total"] == len(found["hits"]) > 0
    hit = found["hits"][0]
    assert hit["sessionId"] == CENT
    assert {hit["snippet"][start:end].lower() for start, end in hit["marks"]} <= {"rounding", "cart"}


def test_its_options_filter_and_page(filled: Cli) -> None:
    everything = filled("search", "the").json
    assert filled("search", "the", "--role", "user").json["total"] < everything["total"]
    assert filled("search", "the", "--session", CENT).json["total"] < everything["total"]
    assert filled("search", "--tool", "bash").json["total"] > 0
    assert filled("search", "-s", "artTota").json["total"] > 0
    assert filled("search", "artTota").json["total"] == 0
    assert filled("search", "the", "--until", "2026-01-01").json["total"] == 0
    assert filled("search", "the", "--since", "2026-01-01").json["total"] == everything["total"]
    page = filled("search", "the", "-n", "2", "--offset", "2").json
    assert page["hits"] == everything["hits"][2:4]
    assert page["nextOffset"] == 4
    assert filled("search", "the -cart").json["total"] < everything["total"]


def test_a_person_sees_the_words_marked(filled: Cli, terminal: Terminal) -> None:
    shown = terminal("search", "rounding cart", "-n", "1")
    assert "Fix lost cent in mixed VAT carts  assistant" in shown
    assert "for more" in shown
    assert terminal("search", "unheard-of").strip() == "nothing found"


def test_without_a_workspace_all_are_searched_and_ids_are_found_in_any(filled: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    env = os.environ | {"NOMAD_SESSIONS_DIR": str(filled.data_dir)}

    def run(*args: str) -> Any:
        done = subprocess.run([*COMMAND, *args], cwd=project, env=env, check=True, capture_output=True, text=True)
        return done.stdout

    mine = run("new", "about rounding").strip()
    hits = json.loads(run("search", "rounding"))["hits"]
    assert {hit["workspaceId"] for hit in hits} > {"ws"}
    assert json.loads(run("show", CENT))["session"]["id"] == CENT
    assert json.loads(run("show", CENT[:9]))["session"]["id"] == CENT
    assert run("export", CENT[-8:], "-f", "markdown").startswith("# Fix lost cent")
    assert json.loads(run("show", "@last"))["session"]["id"] == mine


def test_wrong_questions_are_usage_errors(filled: Cli) -> None:
    filled("search", " -only", code=2)
    filled("search", "x", "--since", "yesterday", code=2)
    for command in (["search", "x"], ["events"]):
        assert "--since" in filled(*command, "--since", "2026-01-05", "--until", "2026-01-01", code=2).err
    filled("search", "x", "--session", "ses_nowhere", code=3)
    assert "one of assistant, system, tool, user" in filled("search", "x", "--role", "asistant", code=2).err
    assert filled("search", "zebras", "--role", "system").json["total"] == 0
    run = subprocess.run(
        [*COMMAND, "search", "x", "-w", "nowhere", "--data-dir", str(filled.data_dir)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, "nowhere" in run.stderr) == (3, True)


def test_a_piece_of_an_id_has_to_be_of_one_session(filled: Cli) -> None:
    assert filled("show", "ses_4632").json["session"]["id"] == CENT
    assert "begin or end so" in filled("show", "ses_", code=2).err
    filled("show", "ses", code=3)


def test_raw_shows_what_is_stored_a_line_each(filled: Cli) -> None:
    lines = filled("show", CENT, "--raw", "--tail", "3").out.splitlines()
    stored = filled("show", CENT, "--tail", "3").json["messages"]["items"]
    assert [json.loads(line) for line in lines] == stored


def test_following_shows_what_is_added_until_it_is_stopped(cli: Cli) -> None:
    session = cli("new", "watched").id
    cli("add", session, "before")
    with cli.start("show", session, "--follow", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["content"] == "before"
        cli("add", session, "added later")
        assert json.loads(process.stdout.readline())["content"] == "added later"
        cli("rm", session)  # Nothing more can come: it ends.
        assert process.wait(20) == 0


def test_times_are_days_moments_and_spans() -> None:
    now = 1_000_000_000
    assert moment("since", None, now) is None
    assert moment("since", "90m", now) == now - 90 * 60_000
    assert moment("since", "2w", now) == now - 14 * 86_400_000
    assert moment("since", "1970-01-02T00:00:00+00:00", now) == 86_400_000
    assert moment("since", "2026-11-20", now) == round(time.mktime((2026, 11, 20, 0, 0, 0, 0, 0, -1)) * 1000)
    for wrong in ("", "7", "7y", "2026-13-01", "d"):
        with pytest.raises(InvalidInputError):
            moment("since", wrong, now)
    with pytest.raises(InvalidInputError):
        span("age", "2026-11-20")


def test_the_shell_completes_ids(filled: Cli, tmp_path: Path) -> None:
    where = ["--data-dir", str(filled.data_dir), "-w", "ws"]
    env = os.environ | {
        "_NOMAD_SESSIONS_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["nomad-sessions", "show", *where, "ses_4632"]),
        "COMP_CWORD": "6",
    }
    program = "from nomad_sessions.cli import main; main()"
    done = subprocess.run([COMMAND[0], "-c", program], env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [CENT]


def test_nothing_to_find_is_an_error_and_not_nothing_found(cli: Cli) -> None:
    cli("add", cli("new").id, "a needle")
    for query in ([], [""], ["-s"]):
        assert "say what to find" in cli("search", *query, code=2).err
    assert cli("search", "--role", "user").json["total"] == 1
