"""import, check, repair, checkpoint, status and stats, as a script uses them."""

from __future__ import annotations

import json

from .conftest import EXAMPLES, Cli

EXPORTS = sorted((EXAMPLES / "opencode").glob("*.json"))


def test_import_reports_each_file_and_is_harmless_when_repeated(cli: Cli) -> None:
    first = cli("import", *EXPORTS).json
    second = cli("import", *EXPORTS).json
    assert [report["format"] for report in first] == ["opencode"] * len(EXPORTS)
    assert sum(report["messages"]["imported"] for report in first) == 51
    assert sum(report["messages"]["unchanged"] for report in second) == 51
    assert cli("ls").json["total"] == len(EXPORTS)


def test_checkpoint_puts_everything_into_the_file_that_others_read(cli: Cli) -> None:
    session = cli("new").id
    cli("add", session, "hello")
    cli("checkpoint")
    store = json.loads((cli.data_dir / "ws" / "sessions.json").read_bytes())
    assert [message["content"] for message in store["messages"].values()] == ["hello"]
    assert cli("checkpoint", "--json").json == {"folded": False}


def test_status_and_stats_say_what_is_there(cli: Cli) -> None:
    cli("import", *EXPORTS)
    stats = cli("stats").json
    assert (stats["sessions"], stats["messages"], stats["revertedMessages"]) == (5, 47, 4)
    assert stats["roles"] == {"user": 13, "assistant": 34}
    status = cli("status").json
    assert status["workspaceId"] == "ws"
    assert status["unfoldedRecords"] == status["seq"] - status["snapshotSeq"]


def test_repair_mends_a_damaged_snapshot_from_the_journal(cli: Cli) -> None:
    session = cli("new").id
    cli("add", session, "hello")
    cli("checkpoint")
    path = cli.data_dir / "ws" / "sessions.json"
    path.write_bytes(path.read_bytes()[:100])
    cli("check", code=1)
    report = cli("repair").json
    assert report["actions"]
    assert (report["before"]["ok"], report["after"]["ok"]) == (False, True)
    assert [message["content"] for message in cli("show", session).json["messages"]["items"]] == ["hello"]
    assert cli("repair").json["after"]["ok"] is True
