"""Forks of forks: whole whatever happens to what they were forked from, at a cost that follows what is written.

Work is counted, in bytes read and in calls made, never timed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.workspace import folding, recovery, store
from nomad_sessions.workspace.view import View
from tests.crash.life import manager_on, small_store
from tests.support.modelfs import ModelDisk

WS = "w"
FOLDER = "/data/w"
Chain = tuple[list[str], dict[str, list[str]]]


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    """Many sealed segments, and no checkpoint that nobody asked for."""
    with small_store() as patch:
        patch.setattr(folding, "FLOOR", 1 << 30)
        patch.setattr(folding, "SMALL", 0)
        yield


def chain(disk: ModelDisk, length: int, *, fold_at: int = -1) -> Chain:
    """Sessions, each but the first a fork of the one before, which then goes on: ids, and the texts of each.

    Every fork copies three messages. What they are copied from is changed afterwards, in each of the ways there are.
    """
    manager = manager_on(disk.process())
    first = manager.create_session(WS)
    manager.add_messages(WS, first.id, [{"role": "user", "content": f"root {n}"} for n in range(3)])
    ids, texts = [first.id], {first.id: ["root 0", "root 1", "root 2"]}
    for number in range(length - 1):
        source = ids[-1]
        page = manager.get_session_messages(WS, source)
        fork = manager.fork_session(WS, source, message_id=page[2].id)
        ids.append(fork.id)
        texts[fork.id] = [*texts[source][1:3], f"new {number}"]
        copies = manager.get_session_messages(WS, fork.id)
        manager.delete_message(WS, copies[0].id)
        manager.add_message(WS, fork.id, role="user", content=f"new {number}")
        manager.update_message(WS, page[1].id, content=f"changed {number}")
        manager.append_to_message(WS, page[2].id, " and on")
        manager.add_message(WS, source, role="user", content="later")
        texts[source] = [texts[source][0], f"changed {number}", texts[source][2] + " and on", "later"]
        if number == fold_at:
            manager.checkpoint(WS)
    manager.close()
    return ids, texts


def shown(manager: NativeSessionManager, session_id: str) -> list[str]:
    return [each.content for each in manager.get_session_messages(WS, session_id)]


def in_view(view: View, session_id: str) -> list[str]:
    session = view.session(session_id)
    assert session is not None
    return [state.body()["content"] for state in map(session.message, session.order) if state is not None]


class Work:
    """What is done while it is watched: bytes read from the disk, functions of the package called."""

    def __init__(self, disk: ModelDisk) -> None:
        self._disk = disk
        self.read = 0
        self.calls = 0

    def __enter__(self) -> Work:
        self._disk.trace.clear()
        self._before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        inside = f"{os.sep}nomad_sessions{os.sep}" in frame.f_code.co_filename
        self.calls += event == "call" and inside

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        self.read = sum(int(str(call.args[0])) for call in self._disk.trace if call.op == "pread")


def work_of(length: int, do: Callable[[NativeSessionManager, list[str]], object]) -> Work:
    """What a fresh handle does, on a chain of this length that no snapshot has yet."""
    disk = ModelDisk()
    ids, _ = chain(disk, length)
    manager = manager_on(disk.process())
    with Work(disk) as work:
        do(manager, ids)
    assert min(work.read, work.calls) > 100 * length, "the work was seen"
    return work


def fold(manager: NativeSessionManager, _: list[str]) -> None:
    assert manager.checkpoint(WS)


def list_all(manager: NativeSessionManager, ids: list[str]) -> None:
    assert {each.id for each in manager.list_sessions(WS)} == set(ids)


def list_and_read_all(manager: NativeSessionManager, ids: list[str]) -> None:
    list_all(manager, ids)
    assert all(manager.get_session_messages(WS, each) for each in reversed(ids))


def read_the_last(manager: NativeSessionManager, ids: list[str]) -> None:
    assert manager.get_session_messages(WS, ids[-1])


def delete_it_all(manager: NativeSessionManager, ids: list[str]) -> None:
    assert set(manager.delete_session(WS, ids[0], forks=True)) == set(ids)


@pytest.mark.parametrize("do", [fold, list_all, list_and_read_all, read_the_last, delete_it_all])
def test_a_chain_of_four_times_the_length_is_four_times_the_work(
    do: Callable[[NativeSessionManager, list[str]], None],
) -> None:
    short, long = work_of(20, do), work_of(80, do)
    # Four times, and something for tables that are deeper. Sixteen times and more where each is built by itself.
    assert long.read < 8 * short.read
    assert long.calls < 6 * short.calls


def test_each_further_fork_costs_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 1 << 20)  # Sealing a segment is another matter.
    costs = []
    for length in (20, 80):
        disk = ModelDisk()
        ids, _ = chain(disk, length)
        manager = manager_on(disk.process())
        manager.get_session_messages(WS, ids[-1])
        with Work(disk) as work:
            fork = manager.fork_session(WS, ids[-1])
            manager.fork_session(WS, fork.id)
        costs.append(work)
    assert costs[1].calls < 1.2 * costs[0].calls
    assert costs[1].read < 1.2 * costs[0].read + 1024


@pytest.mark.parametrize("fold_at", [-1, 3, 11])
def test_forks_have_what_was_there_when_they_were_made(fold_at: int) -> None:
    disk = ModelDisk()
    ids, texts = chain(disk, 14, fold_at=fold_at)
    for trust in (True, False):
        for order in (ids, ids[::-1], [*ids[7:], *ids[:7]]):
            view = recovery.load(disk.process(), FOLDER, wait=False, trust_tables=trust).view
            assert {each: in_view(view, each) for each in order} == texts
        view = recovery.load(disk.process(), FOLDER, wait=False, trust_tables=trust).view
        view.session(ids[4])  # What is loaded before is used, and is not what the forks of it saw.
        view.session(ids[9])
        assert {each.id: in_view(view, each.id) for each in view.load_all()} == texts
    manager = manager_on(disk.process())
    assert manager.checkpoint(WS)
    for reader in (manager, manager_on(disk.process())):
        assert {each: shown(reader, each) for each in ids} == texts
    assert manager.check(WS).ok


@pytest.mark.parametrize("fold_at", [-1, 6, 11])
@pytest.mark.parametrize("newest_first", [False, True])
def test_forks_stay_whole_when_what_they_were_forked_from_is_deleted(fold_at: int, newest_first: bool) -> None:
    disk = ModelDisk()
    ids, texts = chain(disk, 14, fold_at=fold_at)
    kept = [ids[5], ids[13]]
    manager = manager_on(disk.process())
    for each in reversed(ids) if newest_first else ids:
        if each not in kept:
            manager.delete_session(WS, each)
    for _ in range(2):
        for reader in (manager, manager_on(disk.process())):
            assert {each.id: shown(reader, each.id) for each in reader.list_sessions(WS)} == {
                each: texts[each] for each in kept
            }
        assert manager.check(WS).ok
        manager.checkpoint(WS)


def test_a_session_that_is_made_again_under_its_id_is_not_what_the_fork_of_it_saw() -> None:
    disk = ModelDisk()
    manager = manager_on(disk.process())
    for text in ("old", "new"):
        manager.create_session(WS, id="s")
        manager.add_message(WS, "s", role="user", content=text)
        fork = manager.fork_session(WS, "s", title=text)
        manager.add_message(WS, fork.id, role="user", content="mine")
        manager.delete_session(WS, "s")
    manager.create_session(WS, id="s", title="third")
    for each in (False, True):
        reader = manager_on(disk.process())
        assert {session.title: shown(reader, session.id) for session in reader.list_sessions(WS)} == {
            "old": ["old", "mine"],
            "new": ["new", "mine"],
            "third": [],
        }
        assert manager.checkpoint(WS) is not each


def test_hundreds_of_sessions_are_folded_without_looking_for_each_of_them() -> None:
    reads = []
    for count in (100, 400):
        disk = ModelDisk()
        manager = manager_on(disk.process())
        for _ in range(count):
            manager.create_session(WS)
        reader = manager_on(disk.process())
        with Work(disk) as work:
            fold(reader, [])
        reads.append(work.read / count)
    assert reads[1] < 1.3 * reads[0]
