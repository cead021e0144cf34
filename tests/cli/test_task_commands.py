"""`tasks …` and `info`, as a script and as a person use them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from nomad_sessions import NativeSessionManager

from .conftest import Cli

Terminal = Callable[..., str]


@pytest.fixture
def made(cli: Cli) -> Cli:
    """With a session `parser` and its task `task-1`."""
    cli("new", "Fix the parser", "--id", "parser")
    options = ("--type", "review", "--agent", "duck", "--input", '{"pr": 7}', "--id", "task-1")
    assert cli("tasks", "add", "parser", *options).id == "task-1"
    return cli


def test_the_life_of_a_task(made: Cli) -> None:
    task = made("tasks", "show", "task-1").json
    assert (task["status"], task["taskType"], task["agentId"], task["inputData"]) == (
        "pending",
        "review",
        "duck",
        {"pr": 7},
    )
    assert made("tasks", "start", "task-1").id == "task-1"
    assert made("tasks", "progress", "task-1", "40", "--json").json["progress"] == 40
    assert made("tasks", "progress", "task-1", "40.5", "--json").json["progress"] == 40.5
    rev = made("tasks", "show", "task-1").json["rev"]
    assert made("tasks", "touch", "task-1", "--json").json["rev"] == rev + 1
    done = made("tasks", "done", "task-1", "--output", '"fine"', "--json").json
    assert (done["status"], done["progress"], done["outputData"]) == ("completed", 100, "fine")
    assert made("tasks", "rm", "task-1").id == "task-1"
    assert made("tasks", "list").json == {"items": [], "total": 0, "nextCursor": None}


def test_adding_with_an_id_again_is_harmless(made: Cli) -> None:
    assert made("tasks", "add", "@last", "--id", "task-1", "--start").id == "task-1"
    assert made("tasks", "list").json["total"] == 1
    assert made("tasks", "add", "parser", "--start", "--json").json["status"] == "running"


def test_a_step_that_a_task_cannot_take_is_a_conflict_in_one_line(made: Cli) -> None:
    said = made("tasks", "done", "task-1", code=4).err
    assert "'task-1' cannot go from pending to completed" in said
    made("tasks", "fail", "task-1", "no agent")
    assert made("tasks", "show", "task-1").json["errorMessage"] == "no agent"
    for step in (["start"], ["touch"], ["done"], ["fail"], ["progress"]):
        more = {"fail": ["why"], "progress": ["5"]}.get(step[0], [])
        assert "from failed to" in made("tasks", *step, "task-1", *more, code=4).err


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["show", "nobody"], 3, "no task 'nobody'"),
        (["start", "ab"], 3, "no task"),
        (["add", "nobody"], 3, "no session"),
        (["add", "parser", "--input", "{"], 2, "input"),
        (["add", "parser", "--id", "@x"], 2, "@"),
        (["progress", "task-1", "101"], 2, "progress"),
        (["progress", "task-1", "nan"], 2, "progress"),
        (["list", "--status", "done"], 2, "status"),
        (["list", "--cursor", "x"], 2, "cursor"),
        (["list", "nobody"], 3, "no session"),
        (["overdue", "--idle", "soon"], 2, "30s"),
        (["overdue", "--idle", "0m"], 2, "idle"),
        (["monitor", "--every", "often"], 2, "every"),
    ],
    ids=str,
)
def test_what_is_wrong_is_named(made: Cli, arguments: list[str], code: int, word: str) -> None:
    if arguments[0] == "progress":
        made("tasks", "start", "task-1")
    assert word in made("tasks", *arguments, code=code).err


def test_a_task_is_named_by_a_piece_of_an_id_that_was_made_for_it(made: Cli) -> None:
    other = made("tasks", "add", "parser").id
    assert made("tasks", "start", other[-6:]).id == other
    made("tasks", "add", "parser")
    assert "2 tasks begin or end so" in made("tasks", "show", other[:4], code=2).err


def test_a_piece_of_an_id_that_somebody_chose_is_another_one(made: Cli) -> None:
    made("tasks", "add", "parser", "--id", "task-1x")
    made("tasks", "rm", "task-1")
    for command in ("rm", "start", "show"):
        assert "task-1" in made("tasks", command, "task-1", code=3).err
    assert made("tasks", "show", "task-1x").json["status"] == "pending"


def test_lists_are_filtered_and_go_on_where_they_ended(made: Cli) -> None:
    made("new", "other", "--id", "other")
    for number in range(4):
        made("tasks", "add", "other", "--id", f"task-other-{number}", "--agent", "fox", "--type", "x")
    made("tasks", "start", "task-other-2")

    def ids(*options: str) -> list[str]:
        return [each["id"] for each in made("tasks", "list", *options).json["items"]]

    assert ids("parser") == ["task-1"]
    assert ids("--agent", "fox", "--status", "running") == ["task-other-2"]
    assert ids("--type", "review") == ["task-1"]
    first = made("tasks", "list", "--limit", "2").json
    rest = made("tasks", "list", "--cursor", first["nextCursor"]).json
    assert first["total"] == rest["total"] == 5
    assert {each["id"] for each in first["items"]}.isdisjoint(each["id"] for each in rest["items"])
    assert len(rest["items"]) == 3
    assert made("tasks", "orphans").json["total"] == 0
    made("rm", "other", "--yes")
    assert made("tasks", "orphans", "--limit", "1").json["total"] == 4


def test_overdue_tasks_are_listed_and_given_up_only_when_asked(made: Cli) -> None:
    with NativeSessionManager(made.data_dir) as manager:
        manager.create_task("ws", "parser", id="dead", status="running", last_activity=1)
        manager.create_task("ws", "parser", id="alive", status="running")
    for options in ([], ["--idle", "24h"]):
        assert [each["id"] for each in made("tasks", "overdue", *options).json["items"]] == ["dead"]
    (failed,) = made("tasks", "overdue", "--fail").json["items"]
    assert (failed["id"], failed["status"]) == ("dead", "failed")
    assert made("tasks", "overdue", "--fail").json["items"] == []
    assert made("tasks", "show", "alive").json["status"] == "running"


def test_a_person_gets_tables(made: Cli, terminal: Terminal) -> None:
    made("tasks", "start", "task-1")
    made("tasks", "progress", "task-1", "40")
    listed = terminal("tasks", "list")
    assert all(word in listed for word in ("task-1", "running", "40 %", "duck", "parser"))
    shown = terminal("tasks", "show", "task-1")
    assert '{"pr":7}' in shown
    assert "lastActivity" in shown
    info = terminal("info")
    assert all(word in info for word in ("Fix the parser", "active", "running", "1 of 1; in all 1 active"))
    assert "Every task here has its session" in terminal("tasks", "orphans")


def test_info_prints_the_envelope(made: Cli) -> None:
    made("new", "other", "--id", "other")
    page = made("info", "--limit", "1", "--offset", "1").json
    assert [each["id"] for each in page["sessions"]] == ["parser"]
    assert page["pagination"] == {"limit": 1, "offset": 1, "hasMore": False, "currentPage": 2, "totalPages": 2}
    assert page["summary"] == {"active": 2, "waiting_for_input": 0, "idle": 0, "agentTasks": 1}
    assert [each["id"] for each in made("info", "--agent-tasks").json["sessions"]] == ["parser"]
    assert made("info", "--status", "idle").json["totalCount"] == 0
    assert made("info", "pars").json["agentTaskStatus"] == "pending"
    made("info", "--status", "busy", code=2)
    made("info", "nobody", code=3)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_a_monitor_prints_what_it_gives_up_until_ctrl_c(made: Cli) -> None:
    made("tasks", "start", "task-1")
    options = ("--idle", "1s", "--every", "1s")
    with made.start("tasks", "monitor", *options, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert b'"monitoring":"ws"' in process.stdout.readline()
        made("tasks", "add", "parser", "--id", "task-2", "--start")
        made("tasks", "fail", "task-2", "by its own agent")
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert b'"id":"task-1"' in line
    assert b"timed out: no activity for 1 s" in line
    assert (process.returncode, errors) == (130, b"nomad-sessions: interrupted\n")
