"""A real node process that rewrites `sessions.json` from its stale view, as NomadArch does, against our writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from tests.processes.node import NodeWriter, contents, needs_node, sound

pytestmark = [needs_node, pytest.mark.node, pytest.mark.processes]


class Story:
    """Six sessions of ten messages that node has loaded, and what we changed after that."""

    def __init__(self, data_dir: Path, retention: dict[str, Any] | None) -> None:
        self.data_dir = data_dir
        self.manager = NativeSessionManager(data_dir)
        self.sessions = [self.manager.create_session("ws", title=f"Session {n}").id for n in range(6)]
        self.messages = [
            [self.manager.add_message("ws", each, role="user", content=f"first {n}").id for n in range(10)]
            for each in self.sessions
        ]
        if retention is not None:
            self.manager.configure_workspace("ws", retention=retention)
        self.manager.checkpoint("ws")
        self.node = NodeWriter(data_dir / "ws" / "sessions.json")
        self.node("load")

    def change(self) -> None:
        ours, (_, renamed, deleted, thinned, _, _) = self.manager, self.sessions
        ours.update_session("ws", renamed, title="Renamed by us", custom={"kept": True})
        ours.update_message("ws", self.messages[1][3], content="edited by us")
        ours.delete_session("ws", deleted)
        ours.delete_message("ws", self.messages[3][5])

    def add(self, count: int, checkpoints: int) -> list[tuple[str, str]]:
        acked = []
        for number in range(count):
            session = self.sessions[(0, 1, 3)[number % 3]]
            message = self.manager.add_message("ws", session, role="user", content=f"ours {number}")
            acked.append((session, message.id))
            if (number + 1) % (count // checkpoints) == 0:
                self.manager.checkpoint("ws")
        return acked

    def verify(self, manager: NativeSessionManager, acked: list[tuple[str, str]], made: dict[str, Any]) -> None:
        for session, message in acked:
            assert manager.get_message("ws", message) is not None
            assert message in manager.get_session("ws", session).message_ids  # type: ignore[union-attr]
        for session in made["sessions"]:
            found = manager.get_session("ws", session)
            assert found is not None
            assert found.model_extra == {"custom": {"kept": [int(found.title.split()[-1])]}}
        for key, text in made["messages"].items():
            message = manager.get_message("ws", key)
            assert message is not None
            assert (message.content, message.status) == (text, "completed"), key
            assert key in manager.get_session("ws", message.session_id).message_ids  # type: ignore[union-attr]
        renamed = manager.get_session("ws", self.sessions[1])
        assert renamed is not None
        assert (renamed.title, renamed.model_extra) == ("Renamed by us", {"custom": {"kept": True}})
        assert manager.get_message("ws", self.messages[1][3]).content == "edited by us"  # type: ignore[union-attr]
        assert manager.get_session("ws", self.sessions[2]) is None
        assert manager.get_message("ws", self.messages[3][5]) is None
        assert manager.get_session("ws", self.sessions[4]) is None
        assert manager.get_message("ws", self.messages[0][7]) is None
        assert contents(manager, self.sessions[5])[:10] == [f"first {n}" for n in range(10)]


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("retention", [None, {"bytes": 0, "days": 0}], ids=["default-retention", "retention-0"])
def test_nothing_of_ours_or_of_nodes_is_lost_while_node_rewrites_200_times(
    tmp_path: Path, retention: dict[str, Any] | None
) -> None:
    story = Story(tmp_path, retention)
    with story.node as node:
        story.change()
        gone = [{"at": 50, "session": story.sessions[4]}, {"at": 60, "message": story.messages[0][7]}]
        node.send("run", count=200, sessions=[story.sessions[n] for n in (0, 1, 3, 5)], wait=6, gone=gone)
        acked = story.add(500, 20)
        made = node.answer()
        assert made["writes"] == 200
        story.verify(story.manager, acked, made)
        story.manager.checkpoint("ws")
        story.manager.close()
    manager = sound(tmp_path)
    story.verify(manager, acked, made)
    plain = json.loads((tmp_path / "ws" / "sessions.json").read_text())
    assert {message for _, message in acked} | set(made["messages"]) <= set(plain["messages"])
    manager.close()
