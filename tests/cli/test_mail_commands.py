"""mail: send, receive, ack and the rest, as a script and as a person use them."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

from nomad_sessions.cli.app import app

from .conftest import Cli

PAGE = (Path(__file__).parents[2] / "docs" / "mail.md").read_text(encoding="utf-8")


def received(cli: Cli, *options: str) -> dict[str, Any]:
    mail = cli("mail", "receive", "bob", *options).json
    return {"id": mail["id"], "content": mail["content"], "lease": mail["lease"]["id"]}


def test_a_lease_that_there_is_not_stops_none_of_the_others(cli: Cli) -> None:
    cli("mail", "send", "hello", "--to", "bob")
    told = cli("mail", "ack", "nope", received(cli)["lease"], code=3).err
    assert "no lease 'nope': " in told
    assert "; the others are acknowledged" in told
    assert cli("mail", "ls").json["total"] == 0


def test_a_message_is_sent_received_and_acknowledged(cli: Cli) -> None:
    sent = cli("mail", "send", "hello", "--to", "bob", "--from", "alice", "--meta", "n=1", "--meta", "t=x").id
    (listed,) = cli("mail", "ls", "bob").json["items"]
    assert (listed["id"], listed["metadata"], listed["sender"]) == (sent, {"n": 1, "t": "x"}, "alice")
    mail = received(cli, "--lease", "60")
    assert (mail["id"], mail["content"]) == (sent, "hello")
    assert cli("mail", "receive", "bob").json is None
    assert cli("mail", "extend", mail["lease"], "--seconds", "90").id == sent
    assert cli("mail", "counts", "bob").json["leased"] == 1
    assert cli("mail", "ack", mail["lease"]).out == ""
    assert "no lease" in cli("mail", "ack", mail["lease"], code=3).err
    assert cli("mail", "ls").json["total"] == 0


def test_what_a_pipe_gives_is_sent_and_json_as_what_it_stands_for(cli: Cli) -> None:
    cli("mail", "send", "--to", "bob", "-p", "urgent", stdin="from a pipe\n")
    cli("mail", "send", '{"a": [1]}', "--to", "bob", "--parse")
    assert received(cli)["content"] == "from a pipe\n"
    assert received(cli)["content"] == {"a": [1]}
    assert "no JSON" in cli("mail", "send", "{", "--to", "bob", "--parse", code=2).err


def test_what_failed_comes_again_is_dead_is_put_back_and_discarded(cli: Cli) -> None:
    sent = cli("mail", "send", "x", "--to", "bob", "--max-attempts", "2").id
    assert cli("mail", "nack", received(cli)["lease"], "--delay", "0").id == sent
    dead = cli("mail", "nack", received(cli)["lease"], "--error", "no such tool", "--json").json
    assert (dead["status"], dead["error"]) == ("dead", "no such tool")
    assert [each["id"] for each in cli("mail", "dead").json["items"]] == [sent]
    assert cli("mail", "requeue", sent).id == sent
    assert "it is queued" in cli("mail", "requeue", sent, code=3).err
    cli("mail", "nack", received(cli)["lease"], "--no-retry")
    assert cli("mail", "requeue", "--all").id == sent
    cli("mail", "discard", sent)
    nothing = {"queued": 0, "leased": 0, "dead": 0, "recipients": 0, "oldest": None, "unreadable": 0}
    assert cli("mail", "counts").json == nothing
    assert "--all" in cli("mail", "requeue", code=2).err


def test_a_message_for_several_is_one_for_each_and_none_where_a_name_is_wrong(cli: Cli) -> None:
    sent = cli("mail", "send", "x", "--to", "bob", "--to", "eve", "--to", "bob").out.split()
    listed = cli("mail", "ls").json["items"]
    assert [(mail["id"], mail["recipient"]) for mail in listed] == list(zip(sent, ["bob", "eve"], strict=True))
    assert "recipient" in cli("mail", "send", "x", "--to", "bob", "--to", "", code=2).err
    assert "priority" in cli("mail", "send", "x", "--to", "bob", "--to", "eve", "-p", "most", code=2).err
    assert cli("mail", "counts").json["queued"] == 2


def test_sending_again_with_a_key_is_harmless(cli: Cli) -> None:
    one, two = (cli("mail", "send", "x", "--to", "bob", "--key", "k", "--ttl", "60", "--drop").id for _ in range(2))
    assert one == two
    assert cli("mail", "send", "x", "--to", "bob", "--key", "k", "--json").json[0]["id"] == one


def test_rules_say_who_gets_it_and_why(cli: Cli, tmp_path: Path) -> None:
    assert "none of the 0 mail rules" in cli("mail", "send", "x", code=3).err
    rules = [{"name": "tasks", "types": ["task.*"], "to": ["ops", "log"]}, {"to": ["inbox"], "metadata": {"n": 1}}]
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    cli("mail", "rules", "--set", tmp_path / "rules.json")
    assert [rule["to"] for rule in cli("mail", "rules").json] == [["ops", "log"], ["inbox"]]
    assert len(cli("mail", "send", "x", "--type", "task.done").out.splitlines()) == 2
    assert [each["matched"] for each in cli("mail", "explain", "--meta", "n=1").json] == [False, True]
    assert "rules[0].to" in cli("mail", "rules", "--set", "-", stdin="[{}]", code=2).err
    assert "KEY=VALUE" in cli("mail", "explain", "--meta", "n", code=2).err
    cli("mail", "rules", "--set", tmp_path / "gone.json", code=3)


def test_who_waits_gets_what_another_process_sends(cli: Cli) -> None:
    cli("new")
    threading.Timer(0.3, lambda: cli.start("mail", "send", "late", "--to", "bob").wait()).start()
    began = time.monotonic()
    assert received(cli, "--wait", "30")["content"] == "late"
    assert time.monotonic() - began < 20


def test_a_person_sees_tables(cli: Cli, terminal: Callable[..., str]) -> None:
    cli("mail", "rules", "--set", "-", stdin='[{"name": "all", "to": ["bob"], "senders": ["a*"], "proceed": true}]')
    cli("mail", "send", "look \x1b[31m here", "--to", "bob", "--from", "alice")
    assert "alice" in terminal("mail", "ls")
    shown = terminal("mail", "receive", "bob")
    assert "1 of 5" in shown
    assert "\x1b[31m" not in shown
    assert "nothing waits for bob" in terminal("mail", "receive", "bob")
    assert "leased" in terminal("mail", "counts")
    assert "from a*" in terminal("mail", "rules")
    assert "sender None is none of a*" in terminal("mail", "explain")
    lease = cli("mail", "ls", "--json").json["items"][0]["lease"]["id"]
    cli("mail", "nack", lease, "--no-retry", "--error", "bad")
    assert "rejected: bad" in terminal("mail", "dead")


def test_every_command_has_help_and_is_on_the_page() -> None:
    group: Any = get_group(app)
    commands = group.get_command(None, "mail").commands
    for name, command in commands.items():
        assert command.help, name
        assert re.search(rf"`(mail )?{name}\b", PAGE), name


@pytest.mark.parametrize("arguments", [["receive", "bob", "--lease", "0"], ["send", "x", "--to", "bob", "-p", "most"]])
def test_wrong_input_is_named(cli: Cli, arguments: list[str]) -> None:
    cli("new")
    assert re.search("lease|priority", cli("mail", *arguments, code=2).err)
