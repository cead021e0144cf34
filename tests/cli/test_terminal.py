"""What a person sees: tables in a terminal, text that cannot command it, questions before deleting."""

from __future__ import annotations

import sys
from collections.abc import Callable

from nomad_sessions.cli.output import plain, size, when

from .conftest import EXAMPLES, Cli, in_terminal

Terminal = Callable[..., str]


def test_a_terminal_gets_tables_and_json_only_when_asked(cli: Cli, terminal: Terminal) -> None:
    cli("import", *sorted((EXAMPLES / "opencode").glob("*.json")))
    listed = terminal("ls")
    assert listed.splitlines()[0].split() == ["id", "title", "messages", "updated"]
    assert "ses_46328704fffeh9UDkyYzKqT7v5  Fix lost cent in mixed VAT carts" in listed
    assert "reverted" in listed
    assert terminal("ls", "--json").startswith("{")
    shown = terminal("show", "YzKqT7v5", "--last", "3")
    assert shown.startswith("Fix lost cent in mixed VAT carts\n")
    assert "→ bash" in shown
    assert "3 of 18 messages" in shown
    assert terminal("check").startswith("ok: 5 sessions, 47 messages")
    assert "sessions.json" in terminal("status")
    assert "47 (34 assistant, 13 user)" in terminal("stats")
    assert "fix-lost-cent.json" in terminal("import", EXAMPLES / "opencode" / "fix-lost-cent.json")


def test_an_empty_workspace_says_how_to_begin(cli: Cli, terminal: Terminal) -> None:
    cli("rm", cli("new").id)
    assert "nomad-sessions new" in terminal("ls")


def test_stored_text_cannot_command_the_terminal(cli: Cli, terminal: Terminal) -> None:
    session = cli("new", "title \x1b]0;owned\x07").id
    cli("add", session, stdin="red \x1b[31m, back\rover, bell\x07, c1 \x9b31m")
    output = terminal("show", session) + terminal("ls")
    assert "\x1b]0;" not in output
    assert "red ␛[31m, back␍over, bell␇" in output
    assert "\x9b" not in output


def test_rm_asks_a_person_first(cli: Cli, terminal: Terminal) -> None:
    session = cli("new", "dear").id
    assert "Delete the session 'dear'?" in terminal("rm", session, typed=b"n\n", code=130)
    assert cli("ls").json["total"] == 1
    terminal("rm", session, typed=b"y\n")
    assert cli("ls").json["total"] == 0


def test_where_all_are_archived_the_list_says_so(cli: Cli, terminal: Terminal) -> None:
    session = cli("new").id
    assert "1 session, is not archived: `ls`" in terminal("ls", "--archived")
    cli("archive", session)
    assert "1 session, is archived: `ls --archived`" in terminal("ls")


def test_one_is_said_in_the_singular(cli: Cli, terminal: Terminal) -> None:
    cli("add", cli("new", "x").id, "hello")
    assert terminal("check").startswith("ok: 1 session, 1 message, 2 changes")


def test_printable_text_is_left_as_it_is() -> None:
    assert plain("tab\tnewline\n é 🛒 שלום") == "tab\tnewline\n é 🛒 שלום"
    assert plain("half \ud83d, nul \x00") == "half ?, nul ␀"


def test_sizes_and_times_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 5 * 1024**2, 3 * 1024**4)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "5.0 MiB",
        "3072.0 GiB",
    ]
    assert when(0) == "-"
    assert when(10**18) == str(10**18)


def test_what_takes_over_a_second_shows_progress_and_what_does_not_shows_nothing() -> None:
    code = "import time; from nomad_sessions.cli.progress import working\n"
    code += "with working('Importing x.json') as progress: progress(3, 7); time.sleep({seconds})"
    for seconds, shown in ((1.6, True), (0.1, False)):
        ended, output = in_terminal([sys.executable, "-c", code.format(seconds=seconds)], TERM="xterm")
        assert ended == 0, output
        assert ("Importing x.json" in output and "3/7" in output) is shown
        assert shown or output == ""
