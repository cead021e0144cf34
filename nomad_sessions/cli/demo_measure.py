"""The demo's two measurements: what survives a killed writer, and what a durable write costs beside a raw one."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nomad_sessions.cli.demo_writer import text_of
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import dump
from nomad_sessions.storage.codec import encode

__all__ = ["Survival", "Timing", "kill_a_writer", "time_writes"]


@dataclass(frozen=True)
class Survival:
    """What a killed writer had been promised, and what reopening the store found."""

    acked: int
    found: int
    intact: bool
    problems: int

    @property
    def kept(self) -> bool:
        """Every acknowledged message is there, unchanged, and at most the one in flight besides."""
        return self.intact and self.acked <= self.found <= self.acked + 1 and not self.problems


def kill_a_writer(data_dir: Path, workspace_id: str, session_id: str, seconds: float) -> Survival:
    """Lets a process of its own write for so long, kills it (SIGKILL), and reopens what it leaves.

    The acknowledgements are counted on this side of a pipe, so the dead process cannot have made them up.
    """
    command = [sys.executable, "-m", "nomad_sessions.cli.demo_writer", str(data_dir), workspace_id, session_id]
    # In a session of its own, where there is such a thing: Ctrl-C is for the demo, and ends it by the pipe.
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as writer:
        assert writer.stdout is not None
        acked = 1 if writer.stdout.readline() else 0
        time.sleep(seconds)
        writer.kill()
        acked += writer.stdout.read().count(b"\n")
    with NativeSessionManager(data_dir) as manager:
        texts = [message.content for message in manager.get_session_messages(workspace_id, session_id)]
        problems = len(manager.check(workspace_id).problems)
    intact = all(text == text_of(number) for number, text in enumerate(texts))
    return Survival(acked, len(texts), intact, problems)


@dataclass(frozen=True)
class Timing:
    """Milliseconds for one durable write of about `size` bytes: by the store, and raw; medians of `count` each."""

    count: int
    size: int
    stored: float
    raw: float


def time_writes(manager: NativeSessionManager, workspace_id: str, raw_file: Path, count: int) -> Timing:
    """Adds messages of 1 KB, each followed by a raw write and fdatasync of the same number of bytes on the same disk.

    Taking turns keeps the comparison fair: whatever else the disk does, it does to both.
    """
    session = manager.create_session(workspace_id, title="Timings")
    payload = encode(dump(manager.add_message(workspace_id, session.id, role="user", content="x" * 1024))) + b"\n"
    sync = getattr(os, "fdatasync", os.fsync)  # Windows and macOS have the second only
    stored: list[float] = []
    raw: list[float] = []
    descriptor = os.open(raw_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(count):
            start = time.perf_counter()
            manager.add_message(workspace_id, session.id, role="user", content="x" * 1024)
            middle = time.perf_counter()
            os.write(descriptor, payload)
            sync(descriptor)
            stored.append(middle - start)
            raw.append(time.perf_counter() - middle)
    finally:
        os.close(descriptor)
    return Timing(count, len(payload), statistics.median(stored) * 1000, statistics.median(raw) * 1000)
