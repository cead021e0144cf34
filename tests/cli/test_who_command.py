"""who: which clients are connected to which sessions."""

from __future__ import annotations

from collections.abc import Callable

from nomad_sessions import NativeSessionManager

from .conftest import Cli


def test_who_is_connected_is_listed_by_session(cli: Cli) -> None:
    cli("new", "one", "--id", "ses_one")
    cli("new", "two", "--id", "ses_two")
    assert cli("who").json == []
    with NativeSessionManager(cli.data_dir) as manager:
        manager.open_session("ws", "ses_two", client="alone", exclusive=True, expires_after=0.001)
        manager.open_session("ws", "ses_one", client="window")
        one, two = cli("who").json
        assert (one["sessionId"], one["client"], one["mode"], one["expired"]) == ("ses_one", "window", "shared", False)
        assert (two["sessionId"], two["client"], two["mode"], two["expired"]) == ("ses_two", "alone", "exclusive", True)
        assert (two["expiresAfter"], one["expiresAfter"]) == (0.001, None)
        assert [each["client"] for each in cli("who", "ses_one").json] == ["window"]
        cli("who", "ses_none", code=3)
    assert cli("who").json == []


def test_who_prints_a_table_in_a_terminal(cli: Cli, terminal: Callable[..., str]) -> None:
    cli("new", "Fix the parser", "--id", "parser")
    assert "nobody is connected" in terminal("who")
    with NativeSessionManager(cli.data_dir) as manager, manager.open_session("ws", "parser", client="my app"):
        heads, row = terminal("who").splitlines()
    assert heads.split() == ["session", "title", "client", "mode", "pid", "machine", "since"]
    assert "Fix the parser" in row
    assert "my app  shared" in row
