"""Clients in several processes: one alone, one that dies, one that stops, one that forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager, SessionInUseError, SessionReplica
from tests.processes.children import ROOT, Child
from tests.support.there import there

pytestmark = pytest.mark.processes


def test_a_second_process_is_told_who_is_alone_with_the_session(data_dir: Path) -> None:
    with Child("connect", data_dir, "exclusive") as holder, NativeSessionManager(data_dir) as manager:
        pid = holder.process.pid
        with pytest.raises(SessionInUseError, match=f"'a child' \\(pid {pid} on ") as told:
            manager.open_session("ws", "shared")
        (info,) = told.value.holders
        assert (info.id, info.pid, info.exclusive, info.session_id) == (holder.first, pid, True, "shared")
        assert [each.id for each in manager.connections("ws")] == [holder.first]


def test_a_holder_killed_with_9_is_gone_at_once(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager:
        for _ in range(3):
            with Child("connect", data_dir, "exclusive") as holder:
                with pytest.raises(SessionInUseError):
                    manager.open_session("ws", "shared")
                holder.kill()
                assert manager.connections("ws") == []
                manager.open_session("ws", "shared", exclusive=True).close()
        left = os.listdir(data_dir / "ws" / "connections")
        assert left == ["lock"], "what it left behind is gone too"


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the platform cannot stop a process")
def test_a_holder_that_is_stopped_is_robbed_only_if_it_promised_a_heartbeat(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager:
        with Child("connect", data_dir, "exclusive") as silent:
            silent.signal(signal.SIGSTOP)
            time.sleep(0.1)
            with pytest.raises(SessionInUseError):
                manager.open_session("ws", "shared")
        with Child("connect", data_dir, "exclusive", "0.2") as promised:
            promised.go()
            assert promised.hear() == "beat"
            promised.signal(signal.SIGSTOP)
            while not manager.connections("ws")[0].expired:
                time.sleep(0.01)
            with manager.open_session("ws", "shared", client="next", exclusive=True):
                promised.signal(signal.SIGCONT)
                promised.go()
                assert "lost" in promised.hear()
                assert [each.client for each in manager.connections("ws")] == ["next"]


def test_four_processes_that_want_to_be_alone_never_are_two(data_dir: Path) -> None:
    children = [Child("race", data_dir, 15) for _ in range(4)]
    for child in children:
        child.go()
    times = sorted(tuple(each) for child in children for each in child.hear())
    for child in children:
        assert child.process.wait(30) == 0
        child.process.communicate()
    assert len(times) == 60
    assert all(end <= begin for (_, end), (begin, _) in pairwise(times))
    with NativeSessionManager(data_dir) as manager:
        assert manager.connections("ws") == []
        assert there(manager.get_session("ws", "shared")).rev == 1, "not one record of the journal"


FORKED = """
import os, sys, time
from nomad_sessions import ConnectionClosedError, NativeSessionManager
manager = NativeSessionManager(sys.argv[1])
connection = manager.open_session("ws", "shared", exclusive=True)
with connection.busy():
    pid = os.fork()
if not pid:
    status = 1
    try:
        assert connection.state == "closed"
        try:
            connection.heartbeat()
        except ConnectionClosedError:
            connection.close()
            manager.close()
            status = 0
    finally:
        os.write(1, b"%d\\n" % status)  # in one piece: the parent writes into the same pipe
        time.sleep(60)
        os._exit(status)
os.write(1, b"%d\\n" % pid)
sys.stdin.readline()
connection.heartbeat()
print("still mine", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_no_part_in_its_parents_connection_nor_keeps_it_alive(data_dir: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", FORKED, str(data_dir)], stdin=-1, stdout=-1, text=True, cwd=ROOT
        ) as parent,
        NativeSessionManager(data_dir) as manager,
    ):
        assert parent.stdin is not None
        assert parent.stdout is not None
        said = sorted(int(parent.stdout.readline()) for _ in range(2))
        child = said[1]
        try:
            assert said[0] == 0
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "still mine\n"
            assert [each.pid for each in manager.connections("ws")] == [parent.pid]
            parent.kill()
            parent.wait()
            os.kill(child, 0)
            assert manager.connections("ws") == [], "the child lives, and holds nothing"
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_late_joiner_in_another_process_has_the_whole_and_then_every_change(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager, Child("add", data_dir, "w", 150, 40) as writer:
        writer.go()
        time.sleep(0.05)
        replica = SessionReplica()
        subscription = manager.follow_session("ws", "shared")
        acked = writer.hear()
        while replica.seq < acked[-1][0]:
            replica.apply(there(subscription.next(10)))
        assert [each.id for each in replica.messages] == [identifier for _, identifier in acked]
        assert replica.messages == list(manager.get_session_messages("ws", "shared"))
        assert replica.session == manager.get_session("ws", "shared")


def test_the_entry_of_a_client_is_readable_by_anything(data_dir: Path) -> None:
    with Child("connect", data_dir, "shared", "30") as client:
        entry = json.loads((data_dir / "ws" / "connections" / f"{client.first}.json").read_bytes())
    assert entry["sessionId"] == "shared"
    assert entry["workspaceId"] == "ws"
    assert (entry["client"], entry["mode"], entry["expiresAfter"]) == ("a child", "shared", 30)
    assert {"pid", "machine", "since", "heartbeat"} <= set(entry)
