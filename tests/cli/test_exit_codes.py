"""Each documented exit code, and one line on stderr that says what to do."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nomad_sessions.cli.exits import Exit, exit_code
from nomad_sessions.errors import LockTimeoutError

from .conftest import COMMAND, EXAMPLES, Cli, in_terminal


def damage(cli: Cli) -> None:
    """Flips a byte of a stored message in the snapshot and in each segment of the journal."""
    folder = cli.data_dir / "ws"
    for path in [folder / "sessions.json", *sorted((folder / "journal").glob("*.jsonl"))]:
        data = path.read_bytes()
        assert b"precious" in data
        path.write_bytes(data.replace(b"precious", b"preciouS"))


def test_0_when_all_is_well(cli: Cli) -> None:
    cli("new")
    assert cli("check").json["ok"] is True


def test_1_when_check_finds_a_problem(cli: Cli) -> None:
    cli("add", cli("new").id, "precious")
    cli("checkpoint")
    damage(cli)
    report = cli("check", code=1).json
    assert report["ok"] is False
    assert {"kind", "path", "offset", "length", "detail"} == set(report["problems"][0])


def test_1_when_an_import_leaves_records_out(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "sessions.json"
    file.write_text('{"sessions": {"s": {"messageIds": ["gone"]}}, "messages": {}}')
    (report,) = cli("import", file, code=1).json
    assert report["skipped"] == {"the message is not in the file": 1}


def test_2_for_wrong_usage_and_input(cli: Cli, tmp_path: Path) -> None:
    cli("nonsense", code=2)
    cli("ls", "--limit", "0", code=2)
    session = cli("new").id
    assert "must be one of" in cli("add", session, "x", "--role", "robot", code=2).err
    assert "provider/model" in cli("new", "--model", "x", code=2).err
    (tmp_path / "x.json").write_text("{}")
    assert "none of the formats" in cli("import", tmp_path / "x.json", code=2).err
    assert "cursor" in cli("ls", "--cursor", "x", code=2).err


def test_3_for_what_does_not_exist(cli: Cli, tmp_path: Path) -> None:
    cli.data_dir.mkdir()
    assert "no workspace 'ws'" in cli("ls", code=3).err
    cli("new")
    assert "no session 'nope'" in cli("show", "nope", code=3).err
    cli("fork", "last", "--at", "nope", code=3)
    assert "missing.json: No such file" in cli("import", tmp_path / "missing.json", code=3).err


@pytest.mark.parametrize("command", ["ls", "search x", "show last", "stats", "check", "doctor", "tasks list"])
def test_3_for_a_data_folder_that_was_named_and_is_not_there(cli: Cli, command: str) -> None:
    told = cli(*command.split(), code=3).err
    assert f"no data folder {str(cli.data_dir)!r}" in told
    assert not cli.data_dir.exists()


def test_4_for_a_conflict(cli: Cli) -> None:
    one, two = cli("new").id, cli("new").id
    cli("add", one, "x", "--id", "m1")
    assert "exists already" in cli("add", two, "x", "--id", "m1", code=4).err


def test_5_when_the_files_cannot_be_used(cli: Cli) -> None:
    cli.data_dir.write_text("a file")
    assert "is not a folder" in cli("new", code=5).err


def test_6_for_a_lock_that_is_held() -> None:
    assert exit_code(LockTimeoutError(path="lock", waited=10.0)) == Exit.LOCKED


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is not a signal there")
def test_130_when_interrupted(cli: Cli) -> None:
    session = cli("new").id
    ready, theirs = os.pipe()  # stdin
    with cli.start("add", session, stdin=ready, stderr=subprocess.PIPE) as process:
        os.write(theirs, b"x" * (1 << 20))  # More than a pipe holds: once it is written, the command is reading.
        time.sleep(0.5)  # And waits for more: Python does not see a signal that comes just before it waits.
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
    os.close(ready)
    os.close(theirs)
    assert (process.returncode, error) == (130, b"nomad-sessions: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is not a signal there")
def test_a_ctrl_c_before_and_after_a_command_shows_no_traceback(cli: Cli) -> None:
    """While it is being loaded, and while drivers tidy up at the end of the interpreter."""
    press = "os.kill(os.getpid(), signal.SIGINT)"
    loading = f"sys.meta_path.insert(0, type('F', (), {{'find_spec': lambda *_: {press}}}))"
    ending = f"atexit.register(lambda: {press})"
    cli.data_dir.mkdir()
    for moment, code, said in ((loading, 130, b"nomad-sessions: interrupted\n"), (ending, -signal.SIGINT, b"")):
        program = f"import atexit, os, signal, sys; from nomad_sessions.cli import main; {moment}; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, "workspaces", "--data-dir", str(cli.data_dir)],
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_through_a_pipe_is_whole(cli: Cli, unbuffered: str) -> None:
    cli("import", EXAMPLES / "opencode" / "empty-cart-label.json")
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with cli.start("show", "--all", stdout=subprocess.PIPE, env=environment) as process:
        output, _ = process.communicate()
    assert len(output) > 65536
    assert len(json.loads(output)["messages"]["items"]) == 11


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shell that closes them so")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_with_its_output_closed_a_command_does_its_work(cli: Cli, closed: str) -> None:
    session = cli("new").id
    for arguments in (["add", session, "x"], ["ls"], ["show", session]):
        command = f"{shlex.join(cli.command(*arguments))} {closed}"
        done = subprocess.run(command, shell=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert cli("show", session).json["messages"]["total"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shell that closes it so")
def test_with_its_input_closed_there_is_nothing_to_add(cli: Cli) -> None:
    session = cli("new").id
    command = f"{shlex.join(cli.command('add', session))} <&-"
    done = subprocess.run(command, shell=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_named(cli: Cli, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    for arguments in (["new"], ["ls"], ["export", cli("new").id]):
        with (
            Path("/dev/full").open("wb") as full,
            cli.start(*arguments, stdout=full, stderr=subprocess.PIPE, env=environment) as process,
        ):
            _, error = process.communicate()
        assert (process.returncode, error) == (5, b"nomad-sessions: stdout: No space left on device\n")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_the_terminal_has_not_are_escaped(cli: Cli, encoding: str) -> None:
    session = cli("new", "emoji 😀").id
    cli("add", session, "arrow →")
    for arguments in (["ls"], ["show", session], ["tree"]):
        ended, output = in_terminal(cli.command(*arguments), TERM="xterm", PYTHONIOENCODING=encoding)
        assert ended == 0
        assert "\\U0001f600" in output


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGPIPE")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", [["show", "--all"], ["export", "-f", "opencode"]], ids=["show", "export"])
def test_a_reader_that_goes_away_ends_a_command_quietly(cli: Cli, unbuffered: str, command: list[str]) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    with cli.start(*command, "Y8TEAbhE", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (141, b"")


def test_files_beside_a_bad_one_are_imported_and_reported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    files = [str(EXAMPLES / "nomadarch" / "sessions.json"), str(tmp_path / "bad.json")]
    done = subprocess.run(
        [*COMMAND, "import", *files, "-w", "ws", "--data-dir", str(cli.data_dir)], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"")
    assert b'"imported": 5' in done.stdout
    assert b"bad.json: left out" in done.stdout
    assert cli("ls").json["total"] == 1
