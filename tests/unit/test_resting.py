"""More workspaces than a process may have open: those not asked for lately rest, and nothing is lost by it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL, FileSystem
from nomad_sessions.workspace.options import Durability
from nomad_sessions.workspace.resting import AWAKE, Awake
from nomad_sessions.workspace.store import Workspace
from tests.support.modelfs import ModelDisk

FILES = "/proc/self/fd"


class _Sleeper:
    def __init__(self, *, rests: bool = True, fs: FileSystem = REAL) -> None:
        self.fs = fs
        self.used, self._rests, self.asked = False, rests, 0

    def rest(self) -> bool:
        self.asked += 1
        return self._rests


def test_the_one_that_was_not_asked_for_rests() -> None:
    awake, all_ = Awake(lambda: 3), [_Sleeper() for _ in range(4)]
    for each in all_[:3]:
        awake.came(each)
    assert [each.asked for each in all_] == [0, 0, 0, 0]
    all_[0].used = all_[2].used = True
    awake.came(all_[3])
    assert [each.asked for each in all_] == [0, 1, 0, 0]
    assert not all_[0].used


def test_one_that_must_stay_stays_and_the_next_goes_and_the_newest_never_does() -> None:
    awake, stays, goes, newest = Awake(lambda: 2), _Sleeper(rests=False), _Sleeper(), _Sleeper()
    for each in (stays, goes, newest):
        awake.came(each)
    assert (stays.asked, goes.asked, newest.asked) == (1, 1, 0)
    alone = Awake(lambda: 0)
    alone.came(newest)
    assert newest.asked == 0


def test_where_all_must_stay_all_stay() -> None:
    awake, all_ = Awake(lambda: 2), [_Sleeper(rests=False) for _ in range(5)]
    for each in all_:
        awake.came(each)
    extra = _Sleeper()
    awake.came(extra)
    assert all(each.asked for each in all_)
    assert extra.asked == 0


def test_one_whose_rest_is_interrupted_is_still_known_and_none_is_known_twice() -> None:
    class Interrupted(_Sleeper):
        def rest(self) -> bool:
            raise KeyboardInterrupt

    awake, first, newest = Awake(lambda: 1), Interrupted(), _Sleeper()
    awake.came(first)
    awake.came(first)
    assert len(awake) == 1
    with pytest.raises(KeyboardInterrupt):
        awake.came(newest)
    assert len(awake) == 2


def test_one_that_goes_to_rest_may_open_another() -> None:
    class Logging(_Sleeper):
        def rest(self) -> bool:
            awake.came(logged_to)
            return True

    awake, logged_to, first = Awake(lambda: 1), _Sleeper(rests=False), Logging()
    awake.came(first)
    awake.came(_Sleeper())
    assert len(awake) <= 3


def test_one_of_another_file_system_is_left_alone() -> None:
    awake, other = Awake(lambda: 1), _Sleeper(fs=ModelDisk().process())
    awake.came(other)
    awake.came(_Sleeper())
    assert other.asked == 0


def test_those_that_are_gone_are_forgotten_also_where_there_is_no_limit() -> None:
    awake = Awake(lambda: sys.maxsize)
    for _ in range(1000):
        awake.came(_Sleeper())
    assert len(awake) < 50


def awake(m: NativeSessionManager, name: str) -> bool:
    return m.workspace(name).opened is not None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AWAKE, "_most", lambda: 4)
    AWAKE.forget()


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("durability", ["full", "batch", "os"])
def test_many_workspaces_are_written_and_read_in_turn(tmp_path: Path, durability: Durability) -> None:
    names = [f"w{number}" for number in range(12)]
    with NativeSessionManager(tmp_path, durability=durability, batch_interval=0.001) as m:
        for name in names:
            m.create_session(name, id="s")
        for turn in range(3):
            for name in names:
                m.add_message(name, "s", role="user", content=str(turn))
        m.flush()
        assert sum(awake(m, name) for name in names) < len(names)
        for name in names:
            assert [each.content for each in m.get_session_messages(name, "s")] == ["0", "1", "2"]
            assert [each.rev for each in m.get_session_messages(name, "s")] == [2, 3, 4]
        assert m.metrics().workspaces["w0"].counters.commits == 4
    for name in names:
        assert (tmp_path / name / "sessions.json").is_file(), "a small workspace is folded at the end, at rest or not"
        assert (tmp_path / name / "lock").stat().st_size == 0


@pytest.mark.usefixtures("few")
def test_what_holds_on_stays_open(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        for name in ("bulk", "locked", "stream"):
            m.create_session(name, id="s")
        with (
            m.workspace("bulk").bulk(),
            m.workspace("locked").locked(),
            m.stream_message("stream", "s") as stream,
        ):
            for number in range(8):
                m.create_session(f"w{number}")
            assert awake(m, "bulk")
            assert awake(m, "locked")
            stream.text("goes on")
            assert not m.workspace("w0").used
        assert [each.content for each in m.get_session_messages("stream", "s")] == ["goes on"]
        assert m.interrupted_messages("stream") == []


@pytest.mark.usefixtures("few")
def test_a_lease_on_mail_outlives_the_rest_of_its_workspace(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.send("post", "agent", "work")
        mail = m.receive("post", "agent")
        assert mail is not None
        assert mail.lease is not None
        for number in range(8):
            m.create_session(f"w{number}")
        assert not awake(m, "post")
        assert m.receive("post", "agent") is None
        m.ack("post", mail.lease.id)
        assert m.get_mail("post", mail.id) is None


def test_one_whose_sync_failed_does_not_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NativeSessionManager(tmp_path, durability="os") as m:
        m.create_session("w", id="s")
        workspace = m.workspace("w")

        def failing(goal: object) -> None:
            raise OSError(5, "no")

        assert workspace.rest()
        m.create_session("w", id="t")
        monkeypatch.setattr(workspace.fs.__class__, "datasync", staticmethod(failing))
        assert not workspace.rest()
        assert workspace.opened is not None
        monkeypatch.undo()
        assert not workspace.rest()


def test_a_closed_one_has_no_files_and_one_at_rest_may_be_closed(tmp_path: Path) -> None:
    m = NativeSessionManager(tmp_path)
    m.create_session("w", id="s")
    workspace: Workspace = m.workspace("w")
    assert workspace.rest()
    assert workspace.rest()
    assert workspace.opened is None
    m.close()
    assert workspace.rest()
    with NativeSessionManager(tmp_path) as again:
        assert again.get_session("w", "s") is not None
        assert again.check("w").ok


@pytest.mark.skipif(not os.path.isdir(FILES), reason="needs /proc to count open files")
def test_a_process_that_may_open_few_files_uses_many_workspaces(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import os, resource, threading
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        from nomad_sessions import NativeSessionManager
        with NativeSessionManager({str(tmp_path)!r}, durability="os") as m:
            def work(part):
                for turn in range(2):
                    for number in range(part, 300, 4):
                        ws = f"w{{number}}"
                        if turn == 0:
                            m.create_session(ws, id="s")
                        m.add_message(ws, "s", role="user", content=str(turn))
            threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
            [each.start() for each in threads]
            [each.join() for each in threads]
            assert len(os.listdir({FILES!r})) < 120
            print(sum(m.get_session_messages(f"w{{number}}", "s").total for number in range(300)))
        """
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout.strip(), done.stderr) == ("600", "")
