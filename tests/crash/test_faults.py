"""Every call of the store fails once, or from then on, in every way that it can: promises 14 to 18 and 20.

What the oracle wants: a call that returned counts, one that raised is there whole or not at all (after `DiskFullError`
and `StoreReadOnlyError`: not at all), reading goes on, and, once the fault is gone, writing too; at once, or after a
failed sync when the workspace was reopened. A power loss at the end takes nothing of what was acknowledged.
"""

from __future__ import annotations

import errno
import gc

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import DiskFullError, DurabilityLostError, StorageError, StoreReadOnlyError
from tests.crash.life import manager_on
from tests.crash.model import WS, State, Step, contents, expect, perform
from tests.crash.test_every_call import add, filled
from tests.support.drawing import at_random
from tests.support.faults import Effect
from tests.support.modelfs import ModelDisk, ModelFS

WRITING = ["pwrite_all", "datasync", "sync", "sync_dir", "truncate", "exchange", "replace", "unlink", "mkdir", "open"]
READING = ["pread", "fstat", "stat", "listdir", "lock", "unlock", "close", "chmod_like", "resolve"]


class Suffering:
    """One store with one fault in it."""

    def __init__(self, *, fold: bool) -> None:
        self.disk = ModelDisk()
        self.state: State = filled(4, fold=fold)(self.disk)
        self.disk.settle()
        self.process: ModelFS = self.disk.process()
        self.manager: NativeSessionManager = manager_on(self.process)
        self.poisoned = False

    def step(self, step: Step) -> None:
        """One call; whatever it says must be true."""
        after = expect(self.state, step)
        try:
            perform(self.manager, step)
        except (DiskFullError, StoreReadOnlyError):
            allowed = [self.state]
        except (StorageError, OSError) as error:
            self.poisoned = self.poisoned or isinstance(error, DurabilityLostError)
            allowed = [self.state, after]
        else:
            allowed = [after]
        found = contents(manager_on(self.disk.process()))
        assert found in allowed
        self.state = found

    def checkpoint(self) -> None:
        try:
            self.manager.checkpoint(WS)
        except (StorageError, OSError) as error:
            self.poisoned = self.poisoned or isinstance(error, DurabilityLostError)
        assert contents(manager_on(self.disk.process())) == self.state

    def heal(self, seed: int) -> None:
        """The fault is gone."""
        assert contents(self.manager) == self.state, "reading goes on"
        if self.poisoned:
            with pytest.raises(DurabilityLostError):
                perform(self.manager, add(998))
            self.manager.clear_workspace(WS)
        last = add(999)
        perform(self.manager, last)
        self.state = expect(self.state, last)
        image = self.disk.crash(at_random(seed))
        survivor = manager_on(image.process())
        assert survivor.check(WS).ok, survivor.check(WS).problems
        assert contents(survivor) == self.state
        assert not [path for path in self.disk.tree() if path.endswith(".tmp")], "no temporary file stays"
        self.manager.close()
        if self.process.open_paths:
            gc.collect()  # An error that was raised keeps the frames of its traceback for a while.
        assert not self.process.open_paths, "no descriptor leaks"
        assert contents(manager_on(self.disk.process())) == self.state


def suffer(code: int, op: str, nth: int, *, forever: bool, effect: Effect, fold: bool) -> bool:
    """Whether there was a call to fail."""
    store = Suffering(fold=fold)
    fault = store.process.inject(code, op=op, nth=nth, forever=forever, effect=effect)
    for number in range(10, 13):
        store.step(add(number, 450))
    store.checkpoint()
    store.step(add(20))
    fault.remove()
    if fault.fired:
        store.heal(nth)
    return fault.fired > 0


def at_every_call(code: int, op: str, *, forever: bool, effect: Effect = "none") -> int:
    """How many calls there were to fail."""
    calls = 0
    for fold in (False, True):
        nth = 1
        while suffer(code, op, nth, forever=forever, effect=effect, fold=fold):
            nth += 1
        calls += nth - 1
    return calls


@pytest.mark.parametrize("op", ["pwrite_all", "open", "exchange", "replace"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
def test_a_full_disk_takes_nothing_and_writing_goes_on_when_there_is_room(op: str, forever: bool) -> None:
    assert at_every_call(errno.ENOSPC, op, forever=forever)


@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
def test_a_write_that_fails_half_way_leaves_nothing_behind(forever: bool) -> None:
    assert at_every_call(errno.ENOSPC, "pwrite_all", forever=forever, effect="part")


@pytest.mark.parametrize("op", ["datasync", "sync", "sync_dir"])
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
def test_a_failed_sync_is_never_tried_again_and_called_a_success(op: str, forever: bool, code: int) -> None:
    assert at_every_call(code, op, forever=forever)


@pytest.mark.parametrize("op", ["datasync", "sync", "sync_dir", "exchange", "replace"])
def test_an_error_after_the_fact_leaves_old_or_new_and_never_a_mix(op: str) -> None:
    assert at_every_call(errno.EIO, op, forever=False, effect="all")


@pytest.mark.parametrize("op", WRITING)
def test_an_input_output_error_anywhere_in_writing_is_survived(op: str) -> None:
    at_every_call(errno.EIO, op, forever=False)


@pytest.mark.parametrize("op", READING)
def test_an_input_output_error_anywhere_in_looking_is_survived(op: str) -> None:
    # On Linux the descriptor is gone whatever close says.
    at_every_call(errno.EIO, op, forever=False, effect="all" if op == "close" else "none")


@pytest.mark.parametrize("op", ["open", "pwrite_all", "truncate", "mkdir", "exchange", "replace"])
def test_a_store_that_may_not_be_written_says_so_and_keeps_everything(op: str) -> None:
    at_every_call(errno.EACCES, op, forever=False)


def test_too_many_open_files_lose_and_leak_nothing() -> None:
    assert at_every_call(errno.EMFILE, "open", forever=False)


def test_a_short_write_is_completed() -> None:
    for nth in range(1, 12):
        store = Suffering(fold=True)
        with store.process.inject(None, op="pwrite_all", nth=nth, effect="part"):
            for number in range(10, 16):
                store.step(add(number, 450))
            store.checkpoint()
        assert not store.poisoned
        store.heal(nth)


def test_a_disk_that_fills_up_slowly_refuses_and_goes_on_after_it_was_emptied() -> None:
    store = Suffering(fold=True)
    store.disk.capacity = store.disk.used() + 3_000
    refused = 0
    for number in range(10, 30):
        before = store.state
        store.step(add(number, 450))
        refused += store.state == before
    assert refused > 3, "it never filled up"
    store.disk.capacity = None
    store.heal(1)


def test_a_read_only_disk_is_read_and_the_first_write_says_so() -> None:
    store = Suffering(fold=True)
    store.disk.read_only = True
    tree = store.disk.tree()
    assert contents(store.manager) == store.state
    with pytest.raises(StoreReadOnlyError, match="/data/w"):
        perform(store.manager, add(10))
    assert store.disk.tree() == tree
    store.disk.read_only = False
    store.heal(1)


def test_after_a_failed_sync_all_waiting_calls_fail_and_a_new_manager_reads_what_is_there() -> None:
    store = Suffering(fold=False)
    with store.process.inject(errno.EIO, op="datasync"), pytest.raises(DurabilityLostError):
        perform(store.manager, add(10))
    syncs = store.process.calls["datasync"]
    for _ in range(3):
        with pytest.raises(DurabilityLostError):
            perform(store.manager, add(11))
    assert store.process.calls["datasync"] == syncs, "no second try"
    assert contents(store.manager)["chat"].shown[:4] == store.state["chat"].shown
    again = manager_on(store.process)
    perform(again, add(12))
    after = contents(again)
    for seed in range(40):
        image = store.disk.crash(at_random(seed))
        assert contents(manager_on(image.process())) == after


def test_a_checkpoint_whose_sync_fails_takes_nothing_from_the_commit_that_started_it() -> None:
    """What was acknowledged stays acknowledged; it is the next write that hears of the disk."""
    store = Suffering(fold=True)
    store.manager.configure_workspace(WS, fold="always")
    with store.process.inject(errno.EIO, op="sync", nth=2):  # The first is that of a new segment.
        perform(store.manager, add(10))
    after = expect(store.state, add(10))
    assert contents(store.manager) == after
    with pytest.raises(DurabilityLostError):
        perform(store.manager, add(11))
    for seed in range(20):
        assert contents(manager_on(store.disk.crash(at_random(seed)).process())) == after
