"""Messages between processes that are killed, that compete, and whose clocks are set: promise 33.

*Queues are at-least-once, in order per recipient; an unacked claim comes back after its timeout.*
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from tests.processes import mail_jobs
from tests.processes.children import Child
from tests.processes.mail_jobs import BOB, WS
from tests.processes.node import sound
from tests.support.there import there
from tests.support.zygote import Zygote

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork"),
]
RUNS = 200
HOUR = 3_600_000


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote(["tests.processes.mail_jobs"]) as made:
        yield made


def rest_of(manager: NativeSessionManager) -> list[Any]:
    """Everything that is still to be had, in the order in which it comes."""
    found = []
    while (mail := manager.receive(WS, BOB, wait=0.2)) is not None:
        found.append(mail.content)
        manager.ack(WS, there(mail.lease).id)
    return found


def test_nothing_is_lost_and_the_order_kept_by_200_consumers_killed_between_lease_and_ack(
    data_dir: Path, zygote: Zygote
) -> None:
    """Two processes send meanwhile. A message that somebody died over comes to the next, before all that follow it."""
    acked: list[list[Any]] = []
    with Child("send_mail", data_dir, "one", 150) as one, Child("send_mail", data_dir, "two", 150) as two:
        one.go()
        two.go()
        held: Any = None
        for number in range(RUNS):
            outcome = zygote.run(mail_jobs.die, data_dir=str(data_dir), acks=number % 3 == 0, lease=0.01)
            assert outcome.status == -9, outcome.errors
            leased = [content for what, content, _ in outcome.said if what == "leased"]
            assert held in (None, leased[0]), "what a dead consumer had comes first"
            acked += [said[1:] for said in outcome.said if said[0] == "acked"]
            held = leased[-1]
        assert (one.hear(), two.hear()) == (150, 150)
    with NativeSessionManager(data_dir) as manager:
        done = [content for content, _ in acked]
        rest = rest_of(manager)
        assert rest[0] == held
        assert sorted(done + rest) == sorted([name, number] for name in ("one", "two") for number in range(150))
        for name in ("one", "two"):
            assert [number for sender, number in done + rest if sender == name] == list(range(150))
        assert all(before < after for (_, before), (_, after) in pairwise(acked))
        assert manager.mail_counts(WS) == (0, 0, 0, 0, None, 0)
    sound(data_dir).close()


def consumed(data_dir: Path, *, ordered: bool, count: int) -> list[list[Any]]:
    """What two processes made of `count` messages, both at once."""
    with NativeSessionManager(data_dir) as manager:
        for number in range(count):
            manager.send(WS, BOB, number)
    with (
        Zygote(["tests.processes.mail_jobs"]) as one,
        Zygote(["tests.processes.mail_jobs"]) as two,
        ThreadPoolExecutor(2) as threads,
    ):
        begin = time.monotonic() + 2.0  # Both are there by then, on a busy machine too.
        arguments = {"data_dir": str(data_dir), "ordered": ordered, "begin": begin}
        runs = [threads.submit(each.run, mail_jobs.consume, **arguments) for each in (one, two)]
        said = [run.result(60).well() for run in runs]
    # Strictly in order only one message can be had at a time, and who has dealt with it asks again first.
    assert all(said) or (ordered and any(said)), "one of them got nothing"
    return [each for of_one in said for each in of_one]


@pytest.mark.parametrize("ordered", [True, False])
def test_two_processes_on_one_mailbox_never_hold_the_same_message(data_dir: Path, ordered: bool) -> None:
    done = consumed(data_dir, ordered=ordered, count=150)
    assert sorted(content for content, *_ in done) == list(range(150))
    assert {attempts for _, _, attempts, _, _ in done} == {1}
    if ordered:
        done.sort(key=lambda each: each[1])
        for (*_, ended), (_, _, _, started, _) in pairwise(done):
            assert ended <= started, "the next began before the one before it was done"
    sound(data_dir).close()


def test_what_a_killed_sender_had_sent_is_there_and_its_successor_sends_nothing_twice(
    data_dir: Path, zygote: Zygote
) -> None:
    known = 0
    for number in range(30):
        arguments = {"data_dir": str(data_dir), "name": "s", "start": known, "count": 3, "killed": number < 29}
        outcome = zygote.run(mail_jobs.send_keyed, **arguments)
        assert outcome.status == (-9 if number < 29 else 0), outcome.errors
        known = (outcome.said or [known - 1])[-1] + 1  # The one in flight may be there: it is sent again, by its key.
    assert known > 60
    manager = sound(data_dir)
    assert rest_of(manager) == [["s", number] for number in range(known)]
    manager.close()


def test_an_unacked_claim_comes_back_after_its_timeout_and_not_before(data_dir: Path) -> None:
    with NativeSessionManager(data_dir) as manager:
        manager.send(WS, BOB, "x")
        with Child("hold_mail", data_dir, 0.6) as holder:
            began = time.monotonic()
            assert holder.first == "x"
            assert manager.receive(WS, BOB) is None
            holder.kill()
            assert manager.receive(WS, BOB) is None, "the time is not over, though nobody is at work"
            mail = there(manager.receive(WS, BOB, wait=20))
            assert mail.attempts == 2
            assert 0.4 <= time.monotonic() - began < 5


def test_a_set_clock_takes_nothing_from_a_process_that_lives_and_leaves_nothing_with_one_that_died(
    data_dir: Path, zygote: Zygote
) -> None:
    """Promise 31 for leases: each of those who look has a clock of its own."""
    with NativeSessionManager(data_dir) as manager:
        manager.send(WS, BOB, "x", max_attempts=100)

    def seen(wrong: int) -> Any:
        return zygote.run(mail_jobs.look, data_dir=str(data_dir), wrong=wrong).well()[0]

    with Child("hold_mail", data_dir, 20) as holder:
        assert holder.first == "x"
        for wrong in (0, HOUR, -HOUR, 1_000 * HOUR):
            assert seen(wrong) is None, wrong
        holder.kill()
        assert seen(0) is None, "its time is not over"
        assert seen(-HOUR) == "x"
    with Child("hold_mail", data_dir, 20) as holder:
        assert holder.first == "x"
        holder.kill()
        assert seen(HOUR) == "x"
    with Child("hold_mail", data_dir, 0.3) as holder:
        assert holder.first == "x"
        time.sleep(0.35)
        assert seen(-HOUR) == "x", "it lives, but its time is over"


def test_a_forked_child_is_a_consumer_of_its_own(data_dir: Path) -> None:
    manager = NativeSessionManager(data_dir)
    for number in range(2):
        manager.send(WS, BOB, number)
    mine = there(there(manager.receive(WS, BOB)).lease)
    child = os.fork()
    if not child:
        fine = False
        try:
            other = manager.receive(WS, BOB, ordered=False)
            fine = other is not None and other.lease is not None and other.lease.holder != mine.holder
        finally:
            os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert manager.mail_counts(WS).leased == 2
    manager.ack(WS, mine.id)
    manager.close()
