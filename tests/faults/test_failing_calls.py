"""System calls that fail, one at a time, every n: the error is ours and says what it means, nothing acknowledged is
lost, and the handle does what it promises next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults import jobs
from tests.support.lives import LIFE, Seen, as_state, predictions
from tests.support.strace import every_nth, struck
from tests.support.zygote import Outcome, Zygote

pytestmark = pytest.mark.faults

LOST = "DurabilityLostError"
LIVED = predictions(LIFE)
WRITTEN_AGAIN = Seen([], [])


class Failure(NamedTuple):
    """`error` given by `call`; `raises` are the names that the step may fail with. After a `DurabilityLostError` the
    handle takes no more writes, after any other it does; `exact`: then nothing of the failed step is there."""

    call: str
    error: str
    raises: Sequence[str]
    exact: bool = True


FAILURES = [
    Failure("fsync", "EIO", [LOST]),
    Failure("fdatasync", "EIO", [LOST]),
    Failure("pwrite64", "EIO", [LOST]),
    Failure("pwrite64", "ENOSPC", ["DiskFullError"]),
    Failure("pwrite64", "EDQUOT", ["DiskFullError"]),
    # A folder that cannot be opened cannot be synced either.
    Failure("openat", "ENOSPC", ["DiskFullError", "OSError", LOST]),
    Failure("openat", "EMFILE", ["OSError", LOST]),
    Failure("?mkdir,?mkdirat", "ENOSPC", ["DiskFullError"]),
    Failure("?rename,?renameat", "ENOSPC", ["DiskFullError"]),
    Failure("renameat2", "ENOSPC", ["DiskFullError"]),
    # Freeing the lock comes after the commit.
    Failure("flock", "ENOLCK", ["LockUnsupportedError", "OSError"], exact=False),
]


class Struck(NamedTuple):
    outcome: Outcome
    folder: str
    n: int

    @property
    def acked(self) -> int:
        return sum("acked" in said for said in self.outcome.said)

    @property
    def failed(self) -> dict[str, Any] | None:
        last = self.outcome.well()[-1]
        return last if "failed" in last else None


def every(
    call: str, error: str, zygotes: Sequence[Zygote], memory: Path, judge: Callable[[Zygote, Struck], None]
) -> int:
    """Lives a life for each n, with the n-th `call` failing, until one has no n-th; how often the fault fired."""

    def strike(zygote: Zygote, n: int) -> bool:
        folder = memory / str(n) / "data"
        folder.parent.mkdir()
        inject = f"{call}:error={error}:when={n}"
        outcome, log = struck(zygote, memory / f"{n}.log", [inject], jobs.live, folder=str(folder))
        outcome.well()
        fired = "(INJECTED)" in log
        if fired:
            judge(zygote, Struck(outcome, str(folder), n))
        return fired

    return every_nth(zygotes, strike)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda each: f"{each.call.lstrip('?').split(',')[0]}-{each.error}")
def test_a_call_that_fails_once_loses_nothing_and_says_what_happened(
    failure: Failure, zygotes: list[Zygote], memory: Path
) -> None:
    outcomes: Counter[str] = Counter()

    def judge(zygote: Zygote, run: Struck) -> None:
        what = f"{failure.call} number {run.n}: {run.failed}"
        (found,) = zygote.run(jobs.inspect, folder=run.folder).well()
        assert found["ok"], (what, found["problems"])
        assert found["ok_after"], (what, found["problems"])
        state = as_state(found["state"])
        again = state.pop("after the error", None)
        failed = run.failed
        if failed is None:
            # A checkpoint of a clean close, or the sealing of a segment, which can wait; or a read that was repeated.
            assert state == LIVED[-1], what
            outcomes["went on"] += 1
            return
        outcomes[failed["failed"][0]] += 1
        assert failed["failed"][0] in failure.raises, what
        lost = failed["failed"][0] == LOST
        allowed = [LIVED[run.acked]] if failure.exact and not lost else LIVED[run.acked : run.acked + 2]
        assert state in allowed, (what, run.acked, state)
        if LIFE[run.acked].do != "reopen":
            assert failed["again"] == (LOST if lost else "ok"), what
            assert (again == WRITTEN_AGAIN) == (not lost), what
            assert as_state(failed["state"]) in LIVED[run.acked : run.acked + 2], what

    fired = every(failure.call, failure.error, zygotes, memory, judge)
    print(f"{failure.call} {failure.error}: fired {fired} times, {dict(outcomes)}")
    assert fired > 2
    assert set(outcomes) & set(failure.raises), outcomes


@pytest.mark.parametrize("call", ["openat", "pread64", "pwrite64", "fsync", "fdatasync", "ftruncate", "flock"])
def test_interrupted_calls_are_repeated(call: str, zygote: Zygote, memory: Path) -> None:
    # Every other call, so that each one is interrupted and its repetition is not.
    outcome, log = struck(
        zygote, memory / "log", [f"{call}:error=EINTR:when=1+2"], jobs.live, folder=str(memory / "data")
    )
    assert outcome.well()[-1] == {"complete": True}
    assert log.count("EINTR") > 2
    (found,) = zygote.run(jobs.inspect, folder=str(memory / "data")).well()
    assert found["ok"]
    assert as_state(found["state"]) == LIVED[-1]


@pytest.mark.parametrize(("error", "expected"), [("ENOSPC", "DiskFullError"), ("EIO", LOST)], ids=["ENOSPC", "EIO"])
def test_a_disk_that_stays_broken_leaves_what_was_acknowledged_readable(
    error: str, expected: str, zygotes: list[Zygote], memory: Path
) -> None:
    for n in (1, 2, 5, 9, 14, 20):
        folder = memory / str(n) / "data"
        folder.parent.mkdir()
        inject = f"pwrite64:error={error}:when={n}+"
        outcome, log = struck(zygotes[0], memory / f"{n}.log", [inject], jobs.live, folder=str(folder))
        run = Struck(outcome, str(folder), n)
        assert "(INJECTED)" in log
        assert run.failed is not None
        assert run.failed["failed"][0] == expected
        assert run.failed["again"] in (expected, None)
        # Where a seal could not be written, the record before it had been.
        allowed = LIVED[run.acked : run.acked + (2 if expected == LOST else 1)]
        assert as_state(run.failed["state"]) in allowed
        (found,) = zygotes[0].run(jobs.inspect, folder=str(folder)).well()
        assert found["ok"], found["problems"]
        assert as_state(found["state"]) in allowed


def test_a_write_that_makes_no_progress_is_an_error_not_an_endless_loop(zygote: Zygote, memory: Path) -> None:
    folder = str(memory / "data")
    outcome, log = struck(zygote, memory / "log", ["pwrite64:retval=0:when=4+"], jobs.live, folder=folder)
    assert "(INJECTED)" in log
    run = Struck(outcome, folder, 4)
    assert run.failed is not None
    assert run.failed["failed"][0] == LOST
    (found,) = zygote.run(jobs.inspect, folder=folder).well()
    assert found["ok"]
    assert as_state(found["state"]) == LIVED[run.acked]


def test_an_error_between_the_rename_and_the_sync_of_the_folder_says_that_the_outcome_is_unknown(
    zygotes: list[Zygote], memory: Path
) -> None:
    """The sync that follows a `renameat2`, found in the order of calls of the same life."""
    hits = 0

    def judge(zygote: Zygote, run: Struck) -> None:
        nonlocal hits
        log = (memory / f"{run.n}.log").read_text()
        before = log[: log.index("(INJECTED)")]
        if run.failed is None or LIFE[run.acked].do != "checkpoint":
            return
        if before.rfind("rename") < before.rfind("fdatasync"):
            return
        hits += 1
        assert run.failed["failed"][0] == LOST
        (found,) = zygote.run(jobs.inspect, folder=run.folder).well()
        assert found["ok"], found["problems"]
        assert as_state(found["state"]) in (LIVED[run.acked], LIVED[run.acked] | {"after the error": WRITTEN_AGAIN})

    every("fsync", "EIO", zygotes, memory, judge)
    assert hits >= 2
