"""`nomad-sessions export`: to stdout or a file, which is never replaced unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager

from .conftest import EXAMPLES, Cli

LIMIT = 512  # bytes of a file, as much as the disk takes
CLAUDE = Path(__file__).parents[1] / "fixtures" / "claude" / "projects"


@pytest.fixture
def session(cli: Cli) -> str:
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    return str(cli("ls").json["items"][0]["id"])


def test_markdown_goes_to_stdout(cli: Cli, session: str) -> None:
    assert cli("export", session).out.startswith("# ")
    assert cli("export", "last", "-f", "markdown").out == cli("export", session).out


def test_the_name_of_the_file_says_which_form(cli: Cli, session: str, tmp_path: Path) -> None:
    for name, begins in (("a.md", "# "), ("a.html", "<!doctype html>"), ("a.jsonl", '{"session"')):
        cli("export", session, "-o", tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


def test_a_file_that_is_there_is_only_replaced_by_force(cli: Cli, session: str, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("mine")
    assert "--force" in cli("export", session, "-o", path, code=2).err
    assert path.read_text() == "mine"
    cli("export", session, "-o", path, "--force")
    assert path.read_text(encoding="utf-8").startswith("# ")


def test_messages_for_a_model_are_json(cli: Cli, session: str) -> None:
    assert {message["role"] for message in json.loads(cli("export", session, "-f", "openai").out)} >= {"user"}


def test_wrong_forms_sessions_and_places_are_named(cli: Cli, session: str, tmp_path: Path) -> None:
    assert "docx" in cli("export", session, "-f", "docx", code=2).err
    assert "nobody" in cli("export", "nobody", code=3).err
    assert "nowhere" in cli("export", session, "-o", tmp_path / "nowhere" / "a.md", code=3).err


def test_redacting_says_what_it_took_out(cli: Cli) -> None:
    session = cli("new").id
    cli("add", session, "my password=correct-horse-battery")
    done = cli("export", session, "--redact")
    assert "password=[redacted secret]" in done.out
    assert done.err == "redacted: secret: 1\n"
    assert "correct-horse" in cli("export", session).out


def test_an_ending_that_says_nothing_is_an_error_and_a_dash_is_stdout(cli: Cli, tmp_path: Path) -> None:
    session = cli("new", "x").id
    for name in ("talk", "talk.xyz"):
        assert "--format" in cli("export", session, "-o", tmp_path / name, code=2).err
    cli("export", session, "-o", tmp_path / "talk.xyz", "-f", "openai")
    assert cli("export", session, "-o", "-").out == cli("export", session).out


@pytest.fixture
def imported(cli: Cli, tmp_path: Path) -> tuple[str, Path]:
    """A session, and the file of Claude Code's that it was imported from."""
    path = Path(shutil.copy(next(CLAUDE.glob("*/5f2b*.jsonl")), tmp_path))
    return str(cli("import", path).json[0]["sessionIds"][0]), path


def test_the_original_goes_to_a_file_or_to_stdout_byte_for_byte(
    cli: Cli, imported: tuple[str, Path], tmp_path: Path
) -> None:
    session, path = imported
    data = path.read_bytes()
    path.unlink()
    assert cli("export", session, "--original").out.encode() == data
    cli("export", session, "--original", "-o", tmp_path / "given.jsonl")
    assert (tmp_path / "given.jsonl").read_bytes() == data
    assert "--force" in cli("export", session, "--original", "-o", tmp_path / "given.jsonl", code=2).err
    cli("export", session, "--original", "-o", tmp_path / "given.jsonl", "--force")


def test_the_original_has_no_form_and_is_not_redacted(cli: Cli, imported: tuple[str, Path]) -> None:
    for option in (("--format", "html"), ("--redact",)):
        assert "--redact" in cli("export", imported[0], "--original", *option, code=2).err


def test_a_session_without_an_original_is_an_error_that_says_what_to_do(
    cli: Cli, imported: tuple[str, Path], tmp_path: Path
) -> None:
    session, path = imported
    own = cli("new", "mine").id
    assert "not imported" in cli("export", own, "--original", code=3).err
    other = Cli(tmp_path / "other")
    other("import", path, "--no-originals")
    told = other("export", session, "--original", "-o", tmp_path / "none.jsonl", code=3).err
    assert str(path) in told
    assert "import it again" in told
    assert not (tmp_path / "none.jsonl").exists()
    other("import", path)
    assert other("export", session, "--original").out == path.read_text(encoding="utf-8")


def test_of_an_original_that_is_not_whole_nothing_is_written(
    cli: Cli, imported: tuple[str, Path], tmp_path: Path
) -> None:
    (chunk,) = (cli.data_dir / "ws" / "attachments").iterdir()
    chunk.write_bytes(b"else")
    assert "restore" in cli("export", imported[0], "--original", "-o", tmp_path / "a.jsonl", code=5).err
    assert not (tmp_path / "a.jsonl").exists()


def test_an_original_of_an_earlier_import_says_so(cli: Cli, imported: tuple[str, Path]) -> None:
    session, path = imported
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n", encoding="utf-8")
    cli("import", path, "--no-originals")
    done = cli("export", session, "--original")
    assert done.out == before
    assert "without its original" in done.err


def test_json_is_the_session_whole_for_import_to_take_back(cli: Cli, session: str, tmp_path: Path) -> None:
    cli("export", session, "-o", tmp_path / "talk.json")
    other = Cli(tmp_path / "other")
    other("import", tmp_path / "talk.json")
    before, after = (
        [
            [message[key] for key in ("id", "role", "parts", "createdAt", "status")]
            for message in each("show", session, "--all").json["messages"]["items"]
        ]
        for each in (cli, other)
    )
    assert before == after


def test_a_full_disk_leaves_the_old_file_and_no_new_one(cli: Cli, session: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    old = folder / "old.md"
    old.write_text("mine")

    def export(path: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
        limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))"
        ignore = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
        code = f"{limit}; {ignore}; from nomad_sessions.cli import main; main()"
        command = [sys.executable, "-c", code, *cli.command("export", session, "-o", path, *more)[3:]]
        return subprocess.run(command, capture_output=True, check=False)

    for path, more in ((old, ["--force"]), (folder / "new.md", []), (folder / "other.md", ["--force"])):
        done = export(path, *more)
        assert done.returncode == 5, done.stderr
        assert b"Traceback" not in done.stderr
    assert [each.name for each in folder.iterdir()] == ["old.md"]
    assert old.read_text() == "mine"


def test_replacing_keeps_the_rights_and_follows_links_and_a_pipe_is_written_to(
    cli: Cli, session: str, tmp_path: Path
) -> None:
    whole = cli("export", session).out
    path, link, pipe = tmp_path / "a.md", tmp_path / "link.md", tmp_path / "pipe"
    path.write_text("mine")
    path.chmod(0o640)
    link.symlink_to(path)
    cli("export", session, "-o", link, "--force")
    assert link.is_symlink()
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == (whole, 0o640)
    os.mkfifo(pipe)
    with cli.start("export", session, "-o", pipe, "-f", "markdown") as process:
        assert pipe.read_text(encoding="utf-8") == whole
        assert process.wait(20) == 0
    assert pipe.is_fifo()


def test_what_claude_code_and_codex_call_their_files_is_said(cli: Cli, tmp_path: Path) -> None:
    session = cli("new", "x").id
    cli("add", session, "hello")
    with NativeSessionManager(cli.data_dir) as manager:
        manager.update_session("ws", session, directory="/home/x/my_proj.2")
    told = cli("export", session, "-f", "claude-code", "-o", tmp_path / "a.jsonl").err
    name = json.loads((tmp_path / "a.jsonl").read_text().splitlines()[0])["sessionId"]
    assert f"~/.claude/projects/-home-x-my-proj-2/{name}.jsonl, then: claude --resume {name}" in told
    told = cli("export", session, "-f", "codex", "-o", tmp_path / "b.jsonl").err
    name = json.loads((tmp_path / "b.jsonl").read_text().splitlines()[0])["payload"]["id"]
    assert f"-{name}.jsonl, then: codex resume {name}" in told
    assert "~/.codex/sessions/20" in told


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="there is no such device here")
def test_a_pipe_that_has_a_name_is_written_into(cli: Cli) -> None:
    session = cli("new", "a title").id
    cli("add", session, "hello")
    command = cli.command("export", session, "-f", "markdown", "-o", "/dev/stdout")
    assert b"hello" in subprocess.run(command, capture_output=True, check=True).stdout
