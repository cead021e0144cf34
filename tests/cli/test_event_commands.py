"""events, record and watch, as a script and as a person see them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import COMMAND, Cli


@pytest.fixture
def session(cli: Cli) -> str:
    session = cli("new", "a title").id
    cli("add", session, "hello there")
    assert cli("record", "tool.ran", '{"tool": "bash", "ms": 5}', "--session", session).out == "3\n"
    return session


def test_events_are_listed_newest_first_with_their_total(cli: Cli, session: str) -> None:
    listed = cli("events").json
    assert [event["type"] for event in listed["items"]] == ["tool.ran", "message.updated", "session.created"]
    assert (listed["total"], listed["nextOffset"]) == (3, None)
    assert listed["items"][0]["properties"] == {"tool": "bash", "ms": 5}
    page = cli("events", "-n", "1", "--offset", "1").json
    assert ([event["seq"] for event in page["items"]], page["nextOffset"]) == ([2], 2)


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--type", "session.*"], [1]),
        (["-t", "tool.*", "-t", "message.*"], [3, 2]),
        (["--recorded"], [3]),
        (["--changes"], [2, 1]),
        (["--tool"], [3]),
        (["--no-tool"], [2, 1]),
        (["--task"], []),
        (["--session", "@last"], [3, 2, 1]),
        (["--since", "1h"], [3, 2, 1]),
        (["--until", "1h"], []),
        (["hello"], [2]),
        (["bash", "OR", "hello"], [3, 2]),
        (["--after", "1"], [2, 3]),
        (["--after", "0", "--type", "message.*"], [2]),
    ],
)
def test_filters(cli: Cli, session: str, options: list[str], seqs: list[int]) -> None:
    out = cli("events", *options)
    replay = "--after" in options
    items = [json.loads(line) for line in out.out.splitlines()] if replay else out.json["items"]
    assert [event["seq"] for event in items] == seqs


def test_a_replay_has_a_limit_too_and_a_session_may_be_another_tool_s(cli: Cli, session: str) -> None:
    assert len(cli("events", "--after", "0", "--limit", "2").out.splitlines()) == 2
    assert len(cli("events", "--after", "0", "--follow", "--limit", "2").out.splitlines()) == 2
    cli("record", "tool.ran", "--session", "theirs")
    assert cli("events", "--session", "theirs").json["total"] == 1
    assert cli("events", "--session", "theirs", "--type", "other").json["total"] == 0
    assert cli("events", "--session", "theirs", "--after", "4").out == ""


@pytest.mark.parametrize("options", [[], ["--after", "0"]])
def test_a_session_of_which_nothing_is_told_is_named(cli: Cli, session: str, options: list[str]) -> None:
    assert "nobodys" in cli("events", "--session", "nobodys", *options, code=3).err
    cli("rm", session, "--yes")
    assert len(cli("events", "--session", session, "--after", "0").out.splitlines()) == 4


def test_what_is_wrong_is_said(cli: Cli, session: str) -> None:
    assert "query" in cli("events", "word", "--follow", code=2).err
    assert "offset" in cli("events", "--after", "1", "--offset", "2", code=2).err
    assert "properties" in cli("record", "x", "{", code=2).err
    assert "properties" in cli("record", "x", "[]", code=2).err
    assert "type" in cli("record", "a b", code=2).err
    assert cli("record", "x", "--json").json["seq"] == 4


@contextmanager
def following(cli: Cli, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *args, "--data-dir", str(cli.data_dir), "--workspace", "ws"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130


@pytest.mark.parametrize("command", [("events", "--follow", "--after", "0"), ("events", "-f"), ("watch",)])
def test_what_another_process_does_is_followed(cli: Cli, session: str, command: tuple[str, ...]) -> None:
    with following(cli, *command) as process:
        assert process.stdout is not None
        if "--after" in command:
            assert [json.loads(process.stdout.readline())["seq"] for _ in range(3)] == [1, 2, 3]
        else:
            _until_it_listens(process.pid)
        cli("record", "one")
        cli("record", "two")
        assert [json.loads(process.stdout.readline())["type"] for _ in range(2)] == ["one", "two"]


def test_who_follows_a_session_of_which_nothing_is_told_yet_is_warned(cli: Cli, session: str) -> None:
    with following(cli, "events", "--follow", "--session", "later") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "later" in process.stderr.readline()
        _until_it_listens(process.pid)
        cli("record", "other")
        cli("record", "told", "--session", "later")
        assert json.loads(process.stdout.readline())["type"] == "told"


def _until_it_listens(pid: int) -> None:
    """Waits until the process has the thread that reads events on."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if len(os.listdir(f"/proc/{pid}/task")) > 1:
            time.sleep(0.2)
            return
        time.sleep(0.02)
    pytest.fail("it never began to listen")


def test_a_person_sees_lines(cli: Cli, session: str, terminal: Callable[..., str]) -> None:
    cli("new", "esc \x1b]0;owned\x07")
    shown = terminal("events")
    assert "4 of 4 events" in shown
    assert "user: hello there" in shown
    assert '{"tool":"bash","ms":5}' in shown
    assert "\x1b]0;" not in shown
    assert "--offset 1" in terminal("events", "-n", "1")


def test_events_of_the_original_come_in_by_import(cli: Cli, tmp_path: Path) -> None:
    document = {
        "id": "e1",
        "timestamp": 1_760_759_652_099,
        "metadata": {"eventType": "session.idle", "rawEvent": '{"type":"session.idle","properties":{"sessionID":"s"}}'},
    }
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(document) + "\n")
    (report,) = cli("import", path).json
    assert report["events"]["imported"] == 1
    assert cli("events", "--recorded").json["items"][0]["sessionId"] == "s"
