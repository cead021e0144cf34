"""`nomad-sessions export`: to stdout or a file, which is never replaced unasked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from .conftest import EXAMPLES, Cli

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
