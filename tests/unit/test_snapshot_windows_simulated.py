"""Where an open file cannot be replaced (Windows), no reader holds the snapshot: simulated on this system."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage import snapshot
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage._os_posix import PosixFileSystem
from nomad_sessions.storage.snapshot import Snapshot, SnapshotChanged


class HoldsFiles(PosixFileSystem):
    """Says of itself what Windows would."""

    replaces_open = False

    def exchange(self, a: str, b: str, /) -> bool:
        return False


def _held(path: Path) -> list[str]:
    folder = Path("/proc/self/fd")
    links = (os.readlink(each) for each in folder.iterdir() if os.path.islink(each))
    return [link for link in links if link == str(path)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc/self/fd")
def test_simulated_windows_reads_hold_no_descriptor_of_the_snapshot_and_see_every_checkpoint(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, filesystem=HoldsFiles()) as one:
        session = one.create_session("w", title="first")
        for number in range(200):
            one.add_message("w", session.id, role="user", content=f"{number}")
        one.checkpoint("w")
        for number in range(5):
            with NativeSessionManager(tmp_path) as other:
                other.update_session("w", session.id, title=f"title {number}")
                other.checkpoint("w")
            found = one.get_session("w", session.id)
            assert found is not None
            assert found.title == f"title {number}"
            assert len(one.get_session_messages("w", session.id)) == 200
            assert not _held(tmp_path / "w" / "sessions.json")
        one.add_message("w", session.id, role="user", content="last")
        one.checkpoint("w")
        assert one.get_session_messages("w", session.id, last=1)[0].content == "last"
        assert one.check("w").ok


def test_simulated_windows_a_snapshot_that_was_replaced_between_two_reads_is_noticed(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        session = manager.create_session("w", title="first")
        manager.checkpoint("w")
        path = str(tmp_path / "w" / "sessions.json")
        old = Snapshot.open(HoldsFiles(), path)
        assert old is not None
        assert old.group(session.id) is not None
        manager.update_session("w", session.id, title="second")
        manager.checkpoint("w")
    with pytest.raises(SnapshotChanged):
        old.group(session.id)
    assert Snapshot.open(REAL, path) is not None
    assert snapshot.TRAILER_LENGTH > 80
