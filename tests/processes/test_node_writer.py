"""A real node process that rewrites `sessions.json` from its stale view, as NomadArch does, against our writers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from tests.processes.node import NodeWriter, contents, needs_node, sound
from tests.support.there import there

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
        ours, renamed, deleted = self.manager, self.sessions[1], self.sessions[2]
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
        for session, added in acked:
            assert manager.get_message("ws", added) is not None
            assert added in there(manager.get_session("ws", session)).message_ids
        for session in made["sessions"]:
            found = manager.get_session("ws", session)
            assert found is not None
            assert found.model_extra == {"custom": {"kept": [int(found.title.split()[-1])]}}
        for key, text in made["messages"].items():
            message = there(manager.get_message("ws", key))
            assert (message.content, message.status) == (text, "completed"), key
            assert key in there(manager.get_session("ws", message.session_id)).message_ids
        renamed = manager.get_session("ws", self.sessions[1])
        assert renamed is not None
        assert (renamed.title, renamed.model_extra) == ("Renamed by us", {"custom": {"kept": True}})
        assert there(manager.get_message("ws", self.messages[1][3])).content == "edited by us"
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


class Pair:
    """A workspace of ours with one session of three messages, folded and loaded by node."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.manager = NativeSessionManager(data_dir)
        self.session = self.manager.create_session("ws", id="s1", title="Ours").id
        self.manager.create_session("ws", id="s2")
        for number in range(3):
            self.manager.add_message("ws", "s1", id=f"m{number}", role="user", content=f"m{number}")
        if settings:
            self.manager.configure_workspace("ws", **settings)
        self.manager.checkpoint("ws")
        self.node = NodeWriter(data_dir / "ws" / "sessions.json")
        self.node("load")

    def __enter__(self) -> tuple[NativeSessionManager, NodeWriter]:
        return self.manager, self.node

    def __exit__(self, *_: object) -> None:
        self.node.process.kill()
        self.node.process.communicate()
        self.manager.close()


def test_with_fold_always_node_reads_each_write_of_ours(tmp_path: Path) -> None:
    with Pair(tmp_path, fold="always") as (manager, node):
        for number in range(5):
            made = manager.add_message("ws", "s1", role="user", content=f"ours {number}")
            node("load")
            view = node("view")
            assert view["messages"][made.id]["content"] == f"ours {number}"
            assert view["sessions"]["s1"]["messageIds"][-1] == made.id
            added = node("add", session="s1", fields={"content": f"node {number}"})
            node("write")
            assert contents(manager, "s1")[-2:] == [f"ours {number}", f"node {number}"]
            manager.update_session("ws", "s1", title=f"Title {number}")
            node("load")
            view = node("view")
            assert view["sessions"]["s1"]["title"] == f"Title {number}"
            assert added in view["messages"]
        assert not (tmp_path / "ws" / "journal").exists() or manager.status("ws").unfolded_records == 0


def test_what_node_deleted_having_seen_it_is_deleted_and_kept_in_quarantine(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, node):
        node("deleteMessage", key="m1")
        node("deleteSession", key="s2")
        node("write")
        assert contents(manager, "s1") == ["m0", "m2"]
        manager.add_message("ws", "s1", role="user", content="ours")
        manager.checkpoint("ws")
        assert manager.get_session("ws", "s2") is None
        assert manager.get_message("ws", "m1") is None
        taken = [json.loads(each.read_bytes()) for each in (tmp_path / "ws" / "quarantine").glob("merge-*.json")]
        assert {record["id"] for records in taken for record in records} == {"m1", "s2"}


def test_a_session_that_node_deleted_stays_when_we_added_to_it_after_node_had_loaded(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, node):
        manager.add_message("ws", "s1", role="user", content="after")
        node("deleteSession", key="s1")
        for _ in range(3):
            node("write")
            manager.checkpoint("ws")
            assert contents(manager, "s1") == ["m0", "m1", "m2", "after"]


def test_a_session_that_node_wrote_to_and_then_deleted_is_deleted(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, node):
        node("add", session="s1")
        node("write")
        manager.checkpoint("ws")
        node("deleteSession", key="s1")
        node("write")
        manager.checkpoint("ws")
        assert manager.get_session("ws", "s1") is None


def test_a_message_that_node_streams_grows_and_completes_though_we_fold_in_between(tmp_path: Path) -> None:
    with Pair(tmp_path, retention={"bytes": 0, "days": 0}) as (manager, node):
        key = node("add", session="s1", fields={"content": "a", "status": "streaming"})
        for text in ("ab", "abc", "abcd"):
            node("update", kind="messages", key=key, fields={"content": text})
            node("update", kind="sessions", key="s1", fields={"title": f"Node {text}"})
            node("write")
            manager.update_session("ws", "s1", agent=text)
            manager.checkpoint("ws")
            found = manager.get_session("ws", "s1")
            assert found is not None
            assert (found.title, found.agent) == (f"Node {text}", text)
            assert contents(manager, "s1")[-1] == text
        node("update", kind="messages", key=key, fields={"status": "completed"})
        node("write")
        assert there(manager.get_message("ws", key)).status == "completed"


def test_two_stale_node_writers_overwrite_each_other_but_nothing_in_the_store(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, one), NodeWriter(tmp_path / "ws" / "sessions.json") as two:
        two("load")
        made = []
        for number in range(6):
            writer = (one, two)[number % 2]
            made.append(writer("add", session="s1", fields={"content": f"node {number}"}))
            writer("write")
            manager.update_session("ws", "s1", title=f"Ours {number}")
            assert there(manager.get_session("ws", "s1")).title == f"Ours {number}"
        manager.checkpoint("ws")
        assert set(made) <= set(there(manager.get_session("ws", "s1")).message_ids)
        assert manager.check("ws").ok


def test_a_file_that_node_left_half_written_delays_no_append_and_is_merged_once_it_is_whole(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, node):
        first = node("add", session="s1", fields={"content": "first"})
        node("write")
        assert contents(manager, "s1")[-1] == "first"
        second = node("add", session="s1", fields={"content": "second"})
        node("half")
        assert contents(manager, "s1")[-1] == "first", "a handle never goes back in time"
        manager.add_message("ws", "s1", role="user", content="ours")
        assert {"first", "ours"} <= set(contents(manager, "s1"))
        node("write")
        manager.checkpoint("ws")
        assert {first, second} <= set(there(manager.get_session("ws", "s1")).message_ids)


@pytest.mark.slow
def test_a_polling_reader_never_goes_back_in_time_while_node_writes(tmp_path: Path) -> None:
    with Pair(tmp_path) as (manager, node), NativeSessionManager(tmp_path) as reader:
        for _ in range(300):  # Large enough to be found half written.
            manager.add_message("ws", "s2", role="user", content="x" * 1_500)
        manager.checkpoint("ws")
        node("load")
        node.send("run", count=100, sessions=["s1", "s2"], wait=2)
        seen: set[str] = set()
        for poll in range(400):
            ids = {each for session in reader.list_sessions("ws") for each in session.message_ids}
            assert seen <= ids, "a reader went back in time"
            seen = ids
            if poll % 20 == 0:
                manager.add_message("ws", "s1", role="user", content=f"ours {poll}")
        made = node.answer()
        ids = {each for session in reader.list_sessions("ws") for each in session.message_ids}
        assert set(made["messages"]) <= ids
        assert len([text for text in contents(reader, "s1") if text.startswith("ours")]) == 20
