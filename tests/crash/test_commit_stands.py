"""The checkpoint that follows a commit fails, at every call and in every way: the commit has been acknowledged, so its
call returns what it made, and only what comes later hears of it."""

from __future__ import annotations

import errno
import logging

import pytest

from nomad_sessions import DurabilityLostError
from nomad_sessions.workspace.folding import Folding
from tests.crash.life import manager_on
from tests.crash.model import WS, contents, expect, perform
from tests.crash.test_every_call import add, filled
from tests.support.drawing import at_random
from tests.support.faults import Fault
from tests.support.modelfs import ModelDisk

WRITING = ["pwrite_all", "datasync", "sync", "sync_dir", "exchange", "replace", "unlink", "open", "chmod_like"]
READING = ["pread", "fstat", "stat", "listdir", "lock", "unlock", "resolve"]
CODES = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EMFILE": errno.EMFILE, "EACCES": errno.EACCES, "EXDEV": errno.EXDEV}


def strike(code: int, op: str, nth: int, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether there was a call to fail in the checkpoint after the commit."""
    disk = ModelDisk()
    state = filled(3)(disk)
    process = disk.process()
    manager = manager_on(process)
    manager.configure_workspace(WS, fold="always")
    disk.settle()
    faults: list[Fault] = []
    with pytest.MonkeyPatch.context() as patch:
        original = Folding.after_commit

        def after_commit(self: Folding) -> None:
            faults.append(process.inject(code, op=op, nth=nth))
            try:
                original(self)
            finally:
                faults[-1].remove()

        patch.setattr(Folding, "after_commit", after_commit)
        caplog.clear()
        perform(manager, add(10))  # Raises nothing: that is the promise.
    (fault,) = faults
    state = expect(state, add(10))
    assert contents(manager) == state, "the handle reads on"
    poisoned = any("could not sync" in record.getMessage() for record in caplog.records)
    try:
        perform(manager, add(11))
        state = expect(state, add(11))
        assert not poisoned, "a sync that failed is heard of by the next write"
    except DurabilityLostError:
        assert caplog.records, "and before that in the log"
        manager.clear_workspace(WS)
        perform(manager, add(12))
        state = expect(state, add(12))
    assert contents(manager_on(disk.crash(at_random(nth)).process())) == state
    assert manager_on(disk.process()).check(WS).ok
    return fault.fired > 0


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("op", WRITING + READING)
def test_a_commit_returns_whatever_happens_to_the_checkpoint_after_it(
    op: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    nth = 1
    with caplog.at_level(logging.WARNING, "nomad_sessions"):
        while strike(CODES[code], op, nth, caplog):
            nth += 1
    assert nth > 1, "the checkpoint makes no such call"


@pytest.mark.parametrize("op", ["sync", "sync_dir", "datasync"])
def test_a_sync_that_fails_in_it_is_logged_and_stops_the_next_write(op: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nomad_sessions"):
        assert strike(errno.EIO, op, 1, caplog)
    assert "checkpoint postponed: could not sync" in caplog.text
