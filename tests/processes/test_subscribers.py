"""Events reach the subscribers of other processes in order, each once, whoever is killed meanwhile."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from nomad_sessions import Event, NativeSessionManager
from tests.processes.children import Child
from tests.support.there import there

pytestmark = pytest.mark.processes
EVENTS, EACH = 2_000, 4


def seqs(path: Path) -> list[int]:
    """The whole lines of what a listener wrote down."""
    return [int(line) for line in path.read_bytes().rpartition(b"\n")[0].split()] if path.exists() else []


def note(seen: list[int], event: Event) -> None:
    seen.append(event.seq)


@pytest.mark.parametrize("wakes", ["awake", "asleep"])
def test_a_durable_cursor_skips_nothing_though_writers_and_listeners_are_killed(data_dir: Path, wakes: str) -> None:
    draw = random.Random(wakes)
    paths = {f"c{number}": data_dir / f"c{number}.txt" for number in range(EACH)}
    jobs: list[tuple[object, ...]] = [("tell", data_dir, f"w{number}") for number in range(EACH)]
    jobs += [("listen", data_dir, name, path, wakes) for name, path in paths.items()]
    with ExitStack() as ending, NativeSessionManager(data_dir) as manager:
        children = [ending.enter_context(Child(str(job), *rest)) for job, *rest in jobs]
        while manager.status("ws").seq < EVENTS:
            time.sleep(draw.uniform(0.02, 0.15))
            victim = draw.randrange(len(jobs))
            children[victim].kill()
            children[victim] = ending.enter_context(Child(str(jobs[victim][0]), *jobs[victim][1:]))
        for writer in children[:EACH]:
            writer.kill()
        last = manager.status("ws").seq
        until = time.monotonic() + 60
        while any(seqs(path)[-1:] != [last] for path in paths.values()):
            assert time.monotonic() < until, {name: seqs(path)[-1:] for name, path in paths.items()}
            time.sleep(0.05)
        for path in paths.values():
            seen, furthest = seqs(path), 0
            for seq in seen:
                assert seq <= furthest + 1, "skipped"
                assert seq > furthest - 3, "what was acknowledged came again"
                furthest = max(furthest, seq)
            assert set(seen) == set(range(1, last + 1))
        assert manager.check("ws").ok


def test_after_its_event_a_change_by_another_process_is_never_read_stale(data_dir: Path) -> None:
    seen = 0
    with NativeSessionManager(data_dir) as manager, manager.subscribe("ws", types="message.updated") as subscription:
        manager.get_session_messages("ws", "shared")
        with Child("add", data_dir, "other", 300, 40) as other:
            other.go()
            while seen < 300:
                event = there(subscription.next(30))
                seen += 1
                newest = manager.get_session_messages("ws", "shared")
                assert len(newest) >= seen
                assert event.message_id in {each.id for each in newest}
                assert there(manager.get_message("ws", event.message_id or "")).rev >= event.seq


def test_twenty_subscribers_at_500_events_a_second_miss_none(data_dir: Path) -> None:
    """For four seconds; NOMAD_SESSIONS_SUBSCRIBERS_SECONDS says for how many."""
    events = int(os.environ.get("NOMAD_SESSIONS_SUBSCRIBERS_SECONDS", "4")) * 500
    got: list[list[int]] = [[] for _ in range(20)]
    with NativeSessionManager(data_dir) as manager, NativeSessionManager(data_dir, durability="os") as writer:
        subscriptions = [manager.subscribe("ws", callback=partial(note, each)) for each in got]
        begin = time.monotonic()
        first = writer.record_event("ws", "tick")
        for number in range(1, events):
            writer.record_event("ws", "tick", {"number": number})
            time.sleep(max(0.0, begin + number / 500 - time.monotonic()))
        until = time.monotonic() + 60
        while any(len(each) < events for each in got):
            assert time.monotonic() < until, [len(each) for each in got]
            time.sleep(0.02)
        assert not any(each.closed for each in subscriptions)
    assert got == [list(range(first, first + events))] * 20
