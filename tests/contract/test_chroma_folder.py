"""One folder of Chroma's, and several who use it. Two targets in one process have two Chromas, as two processes do."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nomad_sessions.embedders import HashingEmbedder
from nomad_sessions.errors import TargetUnavailableError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock
from nomad_sessions.sync import chroma_connection
from nomad_sessions.sync.chroma_folder import LOCK
from tests.support.chroma_cases import Known, contents, message, opened

AT_ONCE = 1_100  # Chroma writes its index to the disk after 1,000.


def text(ws: str, number: int) -> str:
    return f"{ws} says {number} and {number * 7919 % 10_007}"


def test_two_that_write_in_turns_lose_no_vector(tmp_path: Path) -> None:
    with opened(tmp_path, HashingEmbedder(32)) as one, opened(tmp_path, HashingEmbedder(32)) as two:
        for begin in (0, AT_ONCE):
            for target, ws in ((one, "one"), (two, "two")):
                some = range(begin, begin + AT_ONCE)
                target.apply([message(f"m{n}", n + 1, text(ws, n), ws=ws) for n in some])
    with opened(tmp_path, HashingEmbedder(32)) as target:
        for ws in ("one", "two"):
            assert len(contents(target, ws)) == 2 * AT_ONCE
            for number in range(0, 2 * AT_ONCE, 50):
                (best,) = target.most_relevant([text(ws, number)], 1)
                assert best.workspace_id == ws
                assert best.score > 1 - 1e-5


def test_one_that_is_open_sees_what_another_has_written_since(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as one, opened(tmp_path, Known()) as two:
        for rev, (writer, reader) in enumerate(((one, two), (two, one), (one, two)), 1):
            writer.apply([message(f"m{rev}", rev, "abc")])
            assert len(reader.most_relevant(["abc"])) == rev
            assert len(writer.most_relevant(["abc"])) == rev


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_child_is_refused_and_its_parent_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path, Known()) as target:
        target.apply([message("m1", 1, "abc")])
        pid = os.fork()
        if pid == 0:
            faulthandler.dump_traceback_later(10, exit=True)  # It would hang, and with it the tests.
            with contextlib.suppress(TargetUnavailableError):
                target.apply([message("m2", 2, "abc")])
                os._exit(1)
            target.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert len(target.most_relevant(["abc"])) == 1


def test_who_asks_while_somebody_writes_is_told_so_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroma_connection, "_PATIENCE", 0.05)
    with opened(tmp_path, Known()) as target:
        target.apply([message("m", 1, "abc")])
        writer = StoreLock(REAL, str(tmp_path / LOCK))
        with writer, pytest.raises(TargetUnavailableError, match="another program is writing"):
            target.most_relevant(["abc"])
        writer.close()
        assert len(target.most_relevant(["abc"])) == 1


def test_threads_take_turns(tmp_path: Path) -> None:
    class Slow(Known):
        def __init__(self) -> None:
            super().__init__()
            self.at_once = threading.Semaphore()

        def _vectors(self, texts: list[str]) -> list[list[float]]:  # type: ignore[override]
            assert self.at_once.acquire(blocking=False)
            try:
                return [list(each) for each in super()._vectors(texts)]
            finally:
                self.at_once.release()

    with opened(tmp_path, Slow()) as target, ThreadPoolExecutor(4) as pool:

        def use(number: int) -> int:
            target.apply([message(f"m{number}", number, "abc")])
            return len(target.most_relevant(["abc"], 100))

        assert max(pool.map(use, range(1, 30))) == 29
