"""A program that opened `sessions.json` just before we replaced it writes into the file that we displaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage._os_posix import PosixFileSystem
from tests.processes.node import contents, sound


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s1")
        manager.add_message("ws", "s1", role="user", content="first")
        manager.checkpoint("ws")
        yield manager


def path_of(data_dir: Path) -> Path:
    return data_dir / "ws" / "sessions.json"


def theirs(data_dir: Path, text: str = "theirs") -> bytes:
    data: dict[str, Any] = json.loads(path_of(data_dir).read_bytes())
    data["messages"][text] = {"id": text, "sessionId": "s1", "role": "user", "content": text}
    data["sessions"]["s1"]["messageIds"].append(text)
    return json.dumps(data, indent=2).encode()


def overwrite(fd: int, raw: bytes) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, raw, 0)


@pytest.mark.parametrize("foreign", [False, True], ids=["our-snapshot", "a-foreign-file"])
def test_what_is_written_into_the_displaced_file_is_merged(
    tmp_path: Path, manager: NativeSessionManager, foreign: bool
) -> None:
    if foreign:
        path_of(tmp_path).write_bytes(theirs(tmp_path, "before"))
    raw = theirs(tmp_path)
    fd = os.open(path_of(tmp_path), os.O_RDWR)
    manager.add_message("ws", "s1", role="user", content="ours")
    manager.checkpoint("ws")
    overwrite(fd, raw)
    os.close(fd)
    manager.add_message("ws", "s1", role="user", content="later")
    assert {"first", "ours", "theirs", "later"} <= set(contents(manager, "s1"))
    manager.checkpoint("ws")
    manager.close()
    assert {"first", "ours", "theirs", "later"} <= set(contents(sound(tmp_path), "s1"))


def test_what_was_written_into_prev_is_merged_by_the_next_process(
    tmp_path: Path, manager: NativeSessionManager
) -> None:
    raw = theirs(tmp_path)
    fd = os.open(path_of(tmp_path), os.O_RDWR)
    manager.add_message("ws", "s1", role="user", content="ours")
    manager.checkpoint("ws")
    manager.close()
    overwrite(fd, raw)
    os.close(fd)
    with NativeSessionManager(tmp_path) as other:
        other.add_message("ws", "s1", role="user", content="later")
        other.checkpoint("ws")
        assert contents(other, "s1") == ["first", "ours", "later", "theirs"]
    sound(tmp_path)


class Racing(PosixFileSystem):
    """The real file system, on which another program writes the file in the very moment of an exchange."""

    __slots__ = ("can_exchange", "fd", "keep_time", "late", "raw")

    def __init__(self, raw: bytes, late: bytes = b"", *, keep_time: bool = False, can_exchange: bool = True) -> None:
        self.raw, self.late, self.keep_time, self.can_exchange = raw, late, keep_time, can_exchange
        self.fd = -1

    def exchange(self, a: str, b: str, /) -> bool:
        if not self.can_exchange:
            return False
        self._race(b)
        return REAL.exchange(a, b)

    def replace(self, src: str, dst: str, /) -> None:  # type: ignore[override]
        if not self.can_exchange:
            self._race(dst)
        REAL.replace(src, dst)

    def _race(self, path: str) -> None:
        if self.raw and path.endswith("sessions.json"):
            self.fd = os.open(path, os.O_RDWR)
            stat = os.fstat(self.fd)
            overwrite(self.fd, self.raw)
            if self.keep_time:
                os.utime(self.fd, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            self.raw = b""

    def sleep(self, seconds: float) -> None:  # type: ignore[override]
        if self.late:
            overwrite(self.fd, self.late)
            self.late = b""
        REAL.sleep(seconds)


@pytest.mark.parametrize("can_exchange", [True, False], ids=["by-exchange", "by-link-simulated"])
@pytest.mark.parametrize("half", [False, True], ids=["whole", "half"])
def test_a_file_that_comes_in_the_moment_of_the_exchange_is_merged(
    tmp_path: Path, manager: NativeSessionManager, half: bool, can_exchange: bool
) -> None:
    manager.add_message("ws", "s1", role="user", content="ours")
    raw = theirs(tmp_path)
    fs = Racing(raw[:100] if half else raw, raw if half else b"", can_exchange=can_exchange)
    with NativeSessionManager(tmp_path, filesystem=fs) as racing:
        racing.checkpoint("ws")
        assert fs.fd >= 0, "the exchange was raced"
        assert fs.late == b""
        assert set(contents(racing, "s1")) == {"first", "ours", "theirs"}
        racing.checkpoint("ws")
    os.close(fs.fd)
    data = json.loads(path_of(tmp_path).read_bytes())
    assert "theirs" in data["messages"]
    manager.close()
    sound(tmp_path)


def test_a_rewrite_within_one_tick_of_the_clock_and_of_the_same_size_is_merged(
    tmp_path: Path, manager: NativeSessionManager
) -> None:
    first, second = theirs(tmp_path, "one"), theirs(tmp_path, "two")
    assert len(first) == len(second)
    path_of(tmp_path).write_bytes(first)
    fs = Racing(second, keep_time=True)
    with NativeSessionManager(tmp_path, filesystem=fs) as racing:
        racing.checkpoint("ws")
        assert fs.fd >= 0, "the exchange was raced"
        assert set(contents(racing, "s1")) == {"first", "one", "two"}
    os.close(fs.fd)
    assert set(contents(manager, "s1")) == {"first", "one", "two"}
