"""Threads share the work of one; nobody's ticket is lost, worked on twice or left waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from nomad_sessions.workspace import combining
from nomad_sessions.workspace.combining import Combiner, Ticket
from tests.support.together import together


def test_every_ticket_of_eight_threads_is_worked_on_once_and_in_batches() -> None:
    seen: list[int] = []
    batches: list[int] = []

    def work(batch: list[Ticket]) -> None:
        batches.append(len(batch))
        time.sleep(0.0005)  # A sync: the others queue up meanwhile.
        for ticket in batch:
            seen.append(ticket.operation)
            ticket.value = ticket.operation * 2
            ticket.settle()

    combiner = Combiner(work)
    wrong: list[int] = []

    def caller(first: int) -> None:
        for number in range(first, first + 100):
            ticket = Ticket(number, False)
            combiner.run(ticket)
            if ticket.value != number * 2:
                wrong.append(number)

    together(*(partial(caller, 100 * each) for each in range(8)))
    assert not wrong
    assert sorted(seen) == list(range(800))
    assert max(batches) > 1


def test_an_error_reaches_the_thread_whose_ticket_it_is() -> None:
    def work(batch: list[Ticket]) -> None:
        for ticket in batch:
            ticket.settle(ValueError("mine") if ticket.operation == "bad" else None)

    combiner = Combiner(work)
    with pytest.raises(ValueError, match="mine"):
        combiner.run(Ticket("bad", False))
    combiner.run(Ticket("good", False))


def test_an_interrupted_worker_leaves_the_others_work_to_the_next_of_them() -> None:
    entered, go_on = threading.Event(), threading.Event()
    done: list[str] = []

    def work(batch: list[Ticket]) -> None:
        if batch[0].operation == "interrupted":
            if len(batch) == 1:
                entered.set()
                go_on.wait(10)
            raise KeyboardInterrupt
        for ticket in batch:
            done.append(ticket.operation)
            ticket.settle()

    combiner = Combiner(work)
    interrupted: list[bool] = []

    def first() -> None:
        try:
            combiner.run(Ticket("interrupted", False))
        except KeyboardInterrupt:
            interrupted.append(True)

    leader = threading.Thread(target=first)
    leader.start()
    assert entered.wait(10)
    others = [threading.Thread(target=combiner.run, args=(Ticket(name, False),)) for name in ("a", "b", "c")]
    for thread in others:
        thread.start()
    while len(combiner._waiting) < 3:
        time.sleep(0.001)
    go_on.set()
    for thread in (leader, *others):
        thread.join(10)
        assert not thread.is_alive()
    assert interrupted == [True]
    assert sorted(done) == ["a", "b", "c"]
    combiner.run(Ticket("later", False))
    assert done[-1] == "later"


def test_a_waiting_thread_that_is_interrupted_takes_its_ticket_back() -> None:
    combiner = Combiner(settle_all)
    combiner._busy = True
    ticket = Ticket("never", False)

    class Interrupt:
        def acquire(self, blocking: bool = True) -> bool:
            if not blocking:
                return False
            raise KeyboardInterrupt

        def release(self) -> None:
            raise AssertionError("nobody's turn")

    ticket.turn = Interrupt()  # type: ignore[assignment]  # A lock that Ctrl-C interrupts, on demand.
    with pytest.raises(KeyboardInterrupt):
        combiner.run(ticket)
    assert not combiner._waiting
    assert not ticket.done


def settle_all(batch: list[Ticket]) -> None:
    for ticket in batch:
        ticket.settle()


def started(combiner: Combiner, *names: str) -> list[threading.Thread]:
    threads = [threading.Thread(target=combiner.run, args=(Ticket(name, False),)) for name in names]
    for thread in threads:
        thread.start()
    return threads


def test_a_batch_is_held_open_until_as_many_wait_as_took_part_in_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "PATIENCE", 30.0)
    batches: list[set[str]] = []

    def work(batch: list[Ticket]) -> None:
        batches.append({ticket.operation for ticket in batch})
        settle_all(batch)

    combiner = Combiner(work)
    combiner._expected = 3
    first = started(combiner, "a")
    while combiner._complete is None:
        time.sleep(0.001)
    for thread in first + started(combiner, "b", "c"):
        thread.join(20)
        assert not thread.is_alive()
    assert batches == [{"a", "b", "c"}]


def test_a_batch_that_nobody_joins_goes_on_and_the_next_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "PATIENCE", 0.05)
    combiner = Combiner(settle_all)
    combiner._expected = 3
    combiner.run(Ticket("alone", False))
    monkeypatch.setattr(combining, "PATIENCE", 1e6)
    combiner.run(Ticket("again", False))
    assert combiner._expected == 1


def test_who_is_interrupted_while_a_batch_is_held_open_takes_only_its_own_ticket_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    combiner = Combiner(settle_all)
    gather = combiner._gather

    def interrupted(batch: list[Ticket]) -> None:
        monkeypatch.setattr(combiner, "_gather", gather)
        combiner._waiting.append(other)
        raise KeyboardInterrupt

    other = Ticket("other", False)
    monkeypatch.setattr(combiner, "_gather", interrupted)
    with pytest.raises(KeyboardInterrupt):
        combiner.run(Ticket("mine", False))
    assert list(combiner._waiting) == [other]
    assert other.turn.acquire(blocking=False), "the other thread leads now"


class Interrupting:
    """A lock whose waiter Ctrl-C interrupts, once `before` has run; as a ticket's `turn`."""

    def __init__(self, before: Callable[[], object]) -> None:
        self.before = before
        self.released = 0

    def acquire(self, blocking: bool = True) -> bool:
        if not blocking:
            return False
        self.before()
        raise KeyboardInterrupt

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize("called", [False, True])
def test_who_is_interrupted_while_its_ticket_is_done_leaves_nobody_waiting_behind_it(called: bool) -> None:
    """The threads of a batch wake each other in turn: one that is gone is passed over."""
    combiner = Combiner(settle_all)
    combiner._busy = True
    mine, after = Ticket("mine", False), Ticket("after", False)

    def worked_on() -> None:
        combiner._waiting.clear()
        mine.follower = after
        if called:
            combiner._call(mine)

    mine.turn = Interrupting(worked_on)  # type: ignore[assignment]  # A lock that Ctrl-C interrupts, on demand.
    with pytest.raises(KeyboardInterrupt):
        combiner.run(mine)
    combiner._call(mine)
    assert after.called
    assert after.turn.acquire(blocking=False)


def test_the_ticket_of_a_thread_that_is_gone_does_not_lead_when_the_work_on_it_is_interrupted() -> None:
    gone, waits = Ticket("gone", False), Ticket("waits", False)

    def interrupted(batch: list[Ticket]) -> None:
        raise KeyboardInterrupt

    combiner = Combiner(interrupted)
    gone.gone = True
    combiner._waiting.extend([gone, waits])
    with pytest.raises(KeyboardInterrupt):
        combiner.run(Ticket("mine", False))
    assert list(combiner._waiting) == [waits]
    assert waits.turn.acquire(blocking=False)
