"""new, ls, edit, fork, revert, unrevert, rm, add and show, as a script uses them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import COMMAND, Cli


def add(cli: Cli, session: str, *texts: str) -> list[str]:
    return [cli("add", session, text).id for text in texts]


def shown(cli: Cli, session: str, *options: str) -> list[str]:
    return [message["content"] for message in cli("show", session, *options).json["messages"]["items"]]


def test_new_prints_the_id_and_with_json_the_session(cli: Cli) -> None:
    session = cli("new", "Title", "--agent", "build", "--model", "local/coder/large").id
    found = cli("show", session).json["session"]
    assert (found["title"], found["agent"]) == ("Title", "build")
    assert found["model"] == {"providerId": "local", "modelId": "coder/large"}
    assert cli("new", "Other", "--json").json["title"] == "Other"


def test_beside_others_a_workspace_that_comes_into_being_is_named(cli: Cli) -> None:
    assert cli("new").err == ""
    with_typo = [*COMMAND, "new", "--data-dir", str(cli.data_dir), "-w", "sw"]
    assert subprocess.run(with_typo, capture_output=True, check=True).stderr.decode() == "sw is a new workspace\n"
    assert subprocess.run(with_typo, capture_output=True, check=True).stderr == b""
    assert cli("new").err == ""
    history = Path(__file__).parents[1] / "fixtures" / "claude" / "projects"
    importing = [*COMMAND, "import", "claude-code", str(history), "--data-dir", str(cli.data_dir), "-w", "wsw"]
    assert "wsw is a new workspace" in subprocess.run(importing, capture_output=True, check=True).stderr.decode()
    assert "is a new workspace" not in subprocess.run(importing, capture_output=True, check=True).stderr.decode()


def test_new_with_an_id_of_ones_own_can_be_repeated(cli: Cli) -> None:
    assert cli("new", "--id", "mine").id == cli("new", "--id", "mine").id == "mine"
    assert cli("ls").json["total"] == 1
    assert cli("add", "mine", "x", "--id", "m1").id == cli("add", "mine", "x", "--id", "m1").id == "m1"
    assert shown(cli, "mine") == ["x"]


def test_another_text_under_an_id_that_is_taken_is_not_dropped_without_a_word(cli: Cli) -> None:
    cli("new", "one", "--id", "mine")
    cli("add", "mine", "x", "--id", "m1")
    assert "exists already with other content" in cli("new", "two", "--id", "mine", code=4).err
    assert "exists already with other content" in cli("add", "mine", "y", "--id", "m1", code=4).err
    assert "exists already with other content" in cli("add", "mine", "x", "--id", "m1", "-r", "system", code=4).err
    assert shown(cli, "mine") == ["x"]


def test_text_from_stdin_is_stored_exactly(cli: Cli) -> None:
    session = cli("new").id
    text = "line\r\n\x00 \u2028 🛒 trailing \n"
    cli("add", session, stdin=text.encode())
    cli("add", session, "-", "--role", "assistant", stdin="second")
    assert shown(cli, session) == [text, "second"]


def test_stdin_that_is_not_text_is_refused(cli: Cli) -> None:
    session = cli("new").id
    assert "not UTF-8" in cli("add", session, stdin=b"\xff\xfe", code=2).err
    assert shown(cli, session) == []


def test_ls_gives_the_newest_first_in_pages(cli: Cli) -> None:
    sessions = [cli("new", str(number)).id for number in range(5)]
    add(cli, sessions[0], "newest change")
    first = cli("ls", "--limit", "2").json
    assert (first["total"], len(first["items"])) == (5, 2)
    rest = cli("ls", "--limit", "9", "--cursor", first["nextCursor"]).json
    assert first["items"][0]["id"] == sessions[0]
    assert [session["id"] for session in first["items"] + rest["items"]] == [sessions[0], *reversed(sessions[1:])]
    assert rest["nextCursor"] is None


def test_archived_sessions_are_listed_when_asked_for(cli: Cli) -> None:
    session = cli("new").id
    cli("edit", session, "--archive")
    assert cli("ls").json["total"] == 0
    assert cli("ls", "--archived").json["total"] == cli("ls", "--all").json["total"] == 1
    cli("edit", session, "--unarchive")
    assert cli("ls").json["total"] == 1


def test_children_are_listed_by_their_parent(cli: Cli) -> None:
    parent = cli("new").id
    child = cli("new", "--parent", parent).id
    assert [session["id"] for session in cli("ls", "--parent", parent).json["items"]] == [child]


def test_a_session_can_be_named_by_the_end_of_its_id_or_as_last(cli: Cli) -> None:
    first, second = cli("new", "--id", "ses_one_Abcd").id, cli("new", "--id", "ses_two_Xbcd").id
    assert cli("show", "_Abcd").json["session"]["id"] == first
    assert cli("show", "last").json["session"]["id"] == cli("show").json["session"]["id"] == second
    assert "_Abcd" in cli("edit", "one_Abcd", "--title", "x").id
    cli("show", "bcd", code=3)  # three characters name nothing
    cli("new", "--id", "ses_three_Abcd")
    assert "2 sessions begin or end so" in cli("show", "_Abcd", code=2).err


def test_show_pages_through_the_messages(cli: Cli) -> None:
    session = cli("new").id
    add(cli, session, *"abcde")
    assert shown(cli, session, "--last", "2") == ["d", "e"]
    assert shown(cli, session, "--all") == list("abcde")
    page = cli("show", session, "--last", "2").json["messages"]
    assert page["total"] == 5


def test_edit_changes_sessions_and_messages(cli: Cli) -> None:
    session = cli("new", "old").id
    (message,) = add(cli, session, "old text")
    cli("edit", session, "--title", "new", "--description", "what it is about")
    cli("edit", message, "--text", "new text")
    assert cli("show", session).json["session"]["title"] == "new"
    assert shown(cli, session) == ["new text"]
    cli("edit", message, "--text", "-", stdin="from stdin")
    assert shown(cli, session) == ["from stdin"]


def test_the_text_of_an_imported_message_is_edited_in_its_part(cli: Cli) -> None:
    cli("import", Path(__file__).parents[2] / "examples" / "opencode" / "slow-page-subagent.json")
    message = cli("show", "last").json["messages"]["items"][0]
    cli("edit", message["id"], "--text", "edited")
    after = cli("show", "last").json["messages"]["items"][0]
    assert (after["content"], after["parts"][0]["content"]) == ("edited", "edited")
    assert after["parts"][0]["id"] == message["parts"][0]["id"]


@pytest.mark.parametrize(
    "arguments", [["--title", "x"], ["--archive"], ["--text", "x"], []], ids=["title", "archive", "text", "nothing"]
)
def test_edit_refuses_what_does_not_fit(cli: Cli, arguments: list[str]) -> None:
    session = cli("new").id
    (message,) = add(cli, session, "text")
    cli("edit", session if arguments[:1] == ["--text"] else message, *arguments, code=2)


def test_a_stale_edit_is_a_conflict_and_changes_nothing(cli: Cli) -> None:
    session = cli("new", "title").id
    assert "read it again" in cli("edit", session, "--title", "x", "--if-rev", "99", code=4).err
    cli("edit", session, "--archive", "--if-rev", "99", code=4)
    found = cli("show", session).json["session"]
    assert (found["title"], found.get("archivedAt")) == ("title", None)


def test_fork_revert_and_unrevert(cli: Cli) -> None:
    session = cli("new", "title").id
    messages = add(cli, session, *"abcd")
    fork = cli("fork", session, "--at", messages[2]).id
    assert shown(cli, fork) == ["a", "b", "c"]
    cli("revert", session, messages[1], "--reason", "wrong turn")
    assert shown(cli, session) == ["a", "b"]
    assert shown(cli, session, "--reverted") == ["a", "b", "c", "d"]
    assert shown(cli, fork) == ["a", "b", "c"]
    cli("unrevert", session)
    assert shown(cli, session) == ["a", "b", "c", "d"]
    cli("revert", session)
    assert shown(cli, session) == ["a", "b", "c"]


def test_rm_deletes_sessions_and_messages_all_or_none(cli: Cli) -> None:
    one, two = cli("new").id, cli("new").id
    first, second = add(cli, two, "a", "b")
    cli("rm", one, "nothing", code=3)
    assert cli("ls").json["total"] == 2
    assert cli("rm", one, first).out.split() == [one, first]
    assert shown(cli, two) == ["b"]
    assert cli("rm", two, "--json").json == {"deleted": [two]}
    assert cli("ls").json["total"] == 0
    cli("rm", second, code=3)


def test_without_a_workspace_option_the_folder_decides(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    from .conftest import COMMAND

    def run(*arguments: str, folder: Path) -> str:
        environment = {**os.environ, "NOMAD_SESSIONS_DIR": str(cli.data_dir)}
        done = subprocess.run([*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, check=True)
        return done.stdout.decode()

    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    (project / "src" / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    assert '"total": 0' in run("ls", folder=project)
    assert not cli.data_dir.exists()
    run("new", "Made at the root", folder=project)
    assert "Made at the root" in run("ls", folder=project / "src" / "deep")
    assert '"total": 0' in run("ls", folder=elsewhere)


def test_last_is_the_first_that_ls_shows(cli: Cli) -> None:
    first, second = cli("new", "A").id, cli("new", "B").id
    cli("archive", "@last")
    assert cli("show", "@last").json["session"]["id"] == first != second


def test_ids_that_no_command_could_name_are_refused(cli: Cli) -> None:
    session = cli("new").id
    for wrong in ("@last", "a\nb"):
        cli("new", "--id", wrong, code=2)
        cli("add", session, "x", "--id", wrong, code=2)


def test_nothing_to_add_is_an_error(cli: Cli) -> None:
    session = cli("new").id
    cli("add", session, stdin="", code=2)
    cli("add", session, "   ", code=2)
    assert cli("show", session).json["messages"]["total"] == 0


def test_a_session_of_another_workspace_is_named_as_such(cli: Cli, tmp_path: Path) -> None:
    session = cli("new").id
    cli("move", session, "other", "--create")
    assert "add -w other" in cli("add", session, "x", code=3).err
    assert "4 characters" in cli("show", "abc", code=3).err
