"""An ordering lint over a log of real system calls: nothing is acknowledged, renamed or relied on before it is synced.

The lint itself is tested: of a log from which one sync is taken out, it has to complain.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.faults import jobs
from tests.support.lives import LIFE
from tests.support.strace import Call, traced
from tests.support.zygote import Zygote

pytestmark = pytest.mark.faults

SYNCS = {"fsync", "fdatasync", "sync_file_range", "msync", "sync", "syncfs"}
RENAMES = {"rename", "renameat", "renameat2", "link", "linkat"}


class Lint:
    """Follows what is written and not yet synced: bytes of files, and names in folders. Below `folder` only."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.bytes: set[str] = set()
        self.names: dict[str, set[str]] = {}
        self.known: set[str] = set()
        self.acks = 0
        self.complaints: list[str] = []

    def run(self, calls: Iterable[Call]) -> list[str]:
        for call in calls:
            if call.result >= 0:
                self._call(call)
        return self.complaints

    def _call(self, call: Call) -> None:
        ours = [path for path in call.paths if path.startswith(self.folder)]
        if call.name in ("pwrite64", "ftruncate") and call.path.startswith(self.folder):
            self.bytes.add(call.path)
        elif call.name in SYNCS:
            self.bytes.discard(call.path)
            self.names.pop(call.path, None)
        elif call.name in ("mkdir", "mkdirat") or (call.name == "openat" and "O_CREAT" in call.arguments):
            for path in ours:
                self._named(path)
        elif call.name in RENAMES:
            self._renamed(call.name, *ours)
        elif call.name in ("unlink", "unlinkat"):
            for path in ours:
                self._gone(path)
        elif call.name == "write" and '"{\\"acked\\"' in call.arguments:
            self.acks += 1
            self._judge(f"acknowledgement {self.acks}")

    def _named(self, path: str) -> None:
        # Losing the lock file loses nothing: it is empty, and whoever comes next makes it.
        if path not in self.known and os.path.basename(path) != "lock":
            self.known.add(path)
            self.names.setdefault(os.path.dirname(path), set()).add(path)

    def _gone(self, path: str) -> None:
        self.known.discard(path)
        self.bytes.discard(path)
        self.names.get(os.path.dirname(path), set()).discard(path)

    def _renamed(self, how: str, source: str, target: str) -> None:
        for path in {source, target} & self.bytes:
            self.complaints.append(f"{how} of {path}, whose bytes are not synced")
        self.names.setdefault(os.path.dirname(target), set()).add(target)
        self.known.add(target)
        if how.startswith("rename") and how != "renameat2":
            self._gone(source)

    def _judge(self, what: str) -> None:
        unsynced = sorted(self.bytes) + sorted(path for paths in self.names.values() for path in paths)
        self.complaints += [f"{what} while {path} is not synced" for path in unsynced]


def lived(zygote: Zygote, tmp_path: Path) -> tuple[str, list[Call]]:
    folder = str(tmp_path / "data")
    outcome, calls = traced(zygote, tmp_path / "log", jobs.live, folder=folder)
    assert outcome.well()[-1] == {"complete": True}
    return folder, calls


def test_everything_is_synced_before_it_is_acknowledged_and_before_it_is_renamed(
    zygote: Zygote, tmp_path: Path
) -> None:
    folder, calls = lived(zygote, tmp_path)
    lint = Lint(folder)
    assert lint.run(calls) == []
    assert lint.acks == len(LIFE)
    assert {"renameat2", "mkdir", "fdatasync", "fsync"} <= {call.name for call in calls}


def test_the_lint_complains_of_a_log_from_which_any_kind_of_sync_is_taken_out(zygote: Zygote, tmp_path: Path) -> None:
    folder, calls = lived(zygote, tmp_path)
    without: dict[str, Callable[[Call], bool]] = {
        "the journal's": lambda call: call.path.endswith(".jsonl"),
        "the journal folder's": lambda call: call.path.endswith("/journal"),
        "the workspace folder's": lambda call: call.path.endswith("/w"),
        "the data folder's": lambda call: call.path == folder,
        "the snapshot's": lambda call: ".tmp" in call.path and "sessions.json" in call.path,
        "an attachment's": lambda call: ".tmp" in call.path and "/attachments/" in call.path,
        "the attachments folder's": lambda call: call.path.endswith("/attachments"),
    }
    for whose, taken_out in without.items():
        kept = [call for call in calls if not (call.name in SYNCS and taken_out(call))]
        assert len(kept) < len(calls), f"nobody calls {whose} sync"
        assert Lint(folder).run(kept), f"the lint does not miss {whose} sync"


def test_a_durable_add_message_costs_exactly_one_sync(zygote: Zygote, tmp_path: Path) -> None:
    assert syncs_between_acks(zygote, tmp_path, "full") == [1] * 20


def test_an_add_message_that_need_not_survive_power_loss_costs_no_sync(zygote: Zygote, tmp_path: Path) -> None:
    assert syncs_between_acks(zygote, tmp_path, "os") == [0] * 20


def syncs_between_acks(zygote: Zygote, tmp_path: Path, durability: str) -> Sequence[int]:
    """How many syncs each of twenty calls made, after a few that opened the store and the journal."""
    folder = str(tmp_path / "data")
    _, calls = traced(zygote, tmp_path / "log", jobs.add_many, folder=folder, count=24, durability=durability)
    counts = [0]
    for call in calls:
        counts[-1] += call.name in SYNCS
        if call.name == "write" and '"{\\"acked\\"' in call.arguments:
            counts.append(0)
    return counts[4:24]
