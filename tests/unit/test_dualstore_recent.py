"""The newest entries: what sorting all of them would give, and what is too old is not read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.dualstore.entries import event_entry

WS = "ws"
T0 = 1_760_748_071_727


class Counting(NativeSessionManager):
    """Counts whose messages are read."""

    read: int = 0

    def get_session_messages(self, workspace_id: str, session_id: str, **options: Any) -> Any:
        self.read += 1
        return super().get_session_messages(workspace_id, session_id, **options)


@pytest.fixture
def m(tmp_path: Path) -> Iterator[Counting]:
    manager = Counting(tmp_path / "data", durability="os")
    with manager:
        yield manager


def test_of_messages_only_sessions_that_are_new_enough_are_read(m: Counting) -> None:
    for n in range(250):
        m.create_session(WS, id=f"s{n:03}", created_at=T0 + n * 1000)
        m.add_message(WS, f"s{n:03}", id=f"m{n:03}", role="user", content=str(n), created_at=T0 + n * 1000)
        m.update_session(WS, f"s{n:03}", updatedAt=T0 + n * 1000)
    with DualStoreManager(m, WS) as store:
        assert [each.id for each in store.get_most_recent(3)] == ["m249", "m248", "m247"]
        assert m.read == 3
        assert [each.id for each in store.get_most_recent(2, {"createdAt": {"$lt": T0 + 60_000}})] == ["m059", "m058"]
        m.read = 0
        assert [each.id for each in store.get_most_recent(2, None, {"text": 1})] == ["m000", "m001"]
        assert m.read == 250
    with DualStoreManager(m, WS, collection="sessions") as store:
        assert [each.id for each in store.get_most_recent(3, {}, {"createdAt": -1})] == [
            f"session:s{n}" for n in (249, 248, 247)
        ]
        assert len(store.get_most_recent(1000)) == 250


@pytest.mark.parametrize("spread", [1, 50_000, 40_000_000_000])
def test_of_events_the_newest_by_their_own_time_come_whatever_their_order_in_the_log(m: Counting, spread: int) -> None:
    drawn = random.Random(spread)
    times = [T0 + drawn.randrange(spread) for _ in range(1500)] + [1 << 53, 0, 0]
    drawn.shuffle(times)
    m.record_events(WS, [{"type": "noted", "id": f"e{n}", "timestamp": each} for n, each in enumerate(times)])
    m.create_session(WS, id="no-event-that-was-recorded")
    everything = [event_entry(each) for each in m.events(WS, recorded=True)]
    with DualStoreManager(m, WS, collection="opencode_events") as store:
        for limit in (1, 10, 1400, 5000):
            found = store.get_most_recent(limit, {})
            assert len({each.id for each in found}) == min(limit, len(times))
            assert [each.timestamp for each in found] == sorted(times, reverse=True)[:limit]
        (old,) = store.get_most_recent(5, {"id": "event:e7"})
        assert old == everything[7]
