"""Two windows on a session: live copies, kept by events, equal what the store reads, whatever happened to it."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomad_sessions import ManualClock, NativeSessionManager, SessionReplica
from nomad_sessions.connections.replica import SNAPSHOT
from nomad_sessions.errors import InvalidInputError, NotFoundError
from nomad_sessions.events import Subscription, feed
from nomad_sessions.models import Event, dump
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.workspace import folding, store
from tests.support.there import there

WS = "ws"
TEXTS = ["", "hi", "zwölf\r\n\0", "\ud83d", "\ude00 half", "emoji 😀", "x" * 300]
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
PARTS: list[list[dict[str, Any]]] = [
    [],
    [{"type": "text", "content": "one"}],
    [{"type": "thinking", "content": "hm"}, {"type": "text", "content": "two"}],
    [{"type": "tool_call", "toolCall": CALL}, {"type": "text", "content": "three"}],
]


class Window:
    """One that follows the session, and what it shows."""

    def __init__(self, manager: NativeSessionManager, session_id: str = "s") -> None:
        self.manager = manager
        self.session_id = session_id
        self.replica = SessionReplica()
        self.subscription: Subscription = manager.follow_session(WS, session_id)
        self.heard: Counter[str] = Counter()

    def read_on(self, goal: int) -> None:
        """Up to the event of this seq."""
        while self.replica.seq < goal:
            event = self.subscription.next(5)
            assert event is not None, f"nothing came after {self.replica.seq}, up to {goal}"
            self.heard[event.type] += 1
            self.replica.apply(event)

    def go_away_and_come_back(self) -> None:
        """A window that was asleep: it goes on from what it has."""
        self.subscription.close()
        self.subscription = self.manager.follow_session(WS, self.session_id, since=self.replica.seq)


def compare(window: Window, manager: NativeSessionManager) -> None:
    """Not a field, not an order may differ."""
    replica, session_id = window.replica, window.session_id
    session = manager.get_session(WS, session_id)
    assert (replica.session and dump(replica.session)) == (session and dump(session))
    stored = manager.get_session_messages(WS, session_id, include_reverted=True)
    visible = manager.get_session_messages(WS, session_id)
    assert [dump(each) for each in replica.messages] == [dump(each) for each in visible]
    assert replica.message_ids == [each.id for each in visible]
    assert [dump(there(replica.message(each.id))) for each in stored] == [dump(each) for each in stored]


class Driver:
    """Does what can happen to a session, through two managers and another program."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(1_750_000_000_000)
        self.managers = [NativeSessionManager(folder, durability="os", clock=self.clock) for _ in range(2)]
        self.ours = self.managers[0]
        self.ours.create_session(WS, id="s")
        self.ours.create_session(WS, id="other")
        self.ours.configure_workspace(WS, retention={"bytes": 0})
        self.windows = [Window(self.ours), Window(self.managers[1])]
        self.done: Counter[str] = Counter()

    def step(self, name: str, seed: int) -> None:
        chance = random.Random(seed)
        self.clock.advance(chance.choice([0, 1, 1000, -3_600_000]))
        try:
            getattr(self, name)(chance.choice(self.managers), chance)
        except (NotFoundError, InvalidInputError):  # Of what is not there any more, or does not fit: that is no change.
            return
        self.done[name] += 1
        if chance.random() < 0.3:
            self.look(chance.choice(self.windows))

    def look(self, window: Window) -> None:
        window.read_on(self.mark())
        compare(window, self.ours)

    def mark(self) -> int:
        """An event of the session, up to which everybody is to read."""
        seqs = [each.record_event(WS, "marked", session_id="s") for each in self.managers]
        return seqs[0]

    def finish(self) -> None:
        goal = self.mark()
        for window in self.windows:
            window.read_on(goal)
            compare(window, self.managers[0])
            compare(window, self.managers[1])
        assert self.ours.check(WS).ok
        for manager in self.managers:
            manager.close()

    def message(self, m: SessionCalls, chance: random.Random) -> str:
        ids = [each.id for each in m.get_session_messages(WS, "s", include_reverted=True)]
        return chance.choice(ids) if ids else "none"

    def add(self, m: SessionCalls, chance: random.Random) -> None:
        parts = chance.choice(PARTS)
        fields = {"parts": parts} if parts else {"content": chance.choice(TEXTS)}
        m.add_message(WS, chance.choice(["s", "s", "other"]), role="assistant", **fields)

    def edit(self, m: SessionCalls, chance: random.Random) -> None:
        changes: list[dict[str, Any]] = [
            {"content": chance.choice(TEXTS)},
            {"parts": chance.choice(PARTS)},
            {"metadata": {"a": [1, {"b": None}]}, "agent": "x"},
            {"agent": None, "error": {"name": "n", "message": "m"}},
        ]
        m.update_message(WS, self.message(m, chance), chance.choice(changes))

    def append(self, m: SessionCalls, chance: random.Random) -> None:
        m.append_to_message(WS, self.message(m, chance), chance.choice(TEXTS), sync=False)

    def stream(self, m: NativeSessionManager, chance: random.Random) -> None:
        with m.stream_message(WS, "s") as streaming:
            for _ in range(chance.randrange(6)):
                streaming.text(chance.choice(TEXTS))
                streaming.thinking(chance.choice(TEXTS))
                streaming.tool_call("c", "bash", chance.choice(["{", "}", ""]))
            streaming.usage(input=3)

    def delete(self, m: SessionCalls, chance: random.Random) -> None:
        m.delete_message(WS, self.message(m, chance))

    def revert(self, m: SessionCalls, chance: random.Random) -> None:
        ids = [each.id for each in m.get_session_messages(WS, "s")]
        m.revert(WS, "s", chance.choice([None, *ids]))

    def unrevert(self, m: SessionCalls, chance: random.Random) -> None:
        m.unrevert(WS, "s")

    def change(self, m: SessionCalls, chance: random.Random) -> None:
        m.update_session(WS, "s", {chance.choice(["title", "agent", "revert"]): chance.choice([None, None, "a"])})

    def put_away(self, m: SessionCalls, chance: random.Random) -> None:
        getattr(m, chance.choice(["close_session", "reopen_session", "archive_session", "unarchive_session"]))(WS, "s")

    def compact(self, m: SessionCalls, chance: random.Random) -> None:
        m.compact_session(WS, "s", "what it came to")

    def fork(self, m: SessionCalls, chance: random.Random) -> None:
        """Of the session; or the session is gone, and comes again as a fork or anew."""
        fork = m.fork_session(WS, "s")
        if chance.random() < 0.3:
            m.delete_session(WS, "s")
            m.create_session(WS, id="s", title="again")
        m.add_message(WS, fork.id, role="user", content="not ours")

    def transact(self, m: NativeSessionManager, chance: random.Random) -> None:
        with m.transaction(WS) as tx:
            for _ in range(3):
                getattr(self, chance.choice(["add", "edit", "append", "delete", "revert"]))(tx, chance)

    def checkpoint(self, m: NativeSessionManager, chance: random.Random) -> None:
        m.checkpoint(WS)

    def clear(self, m: NativeSessionManager, chance: random.Random) -> None:
        m.clear_workspace(WS)

    def prune(self, m: NativeSessionManager, chance: random.Random) -> None:
        """So much that what the windows have not read is no longer kept."""
        for _ in range(2):
            for _ in range(12):
                m.add_message(WS, chance.choice(["s", "other"]), role="user", content="x" * 400)
            m.checkpoint(WS)

    def rewrite(self, m: NativeSessionManager, chance: random.Random) -> None:
        """Another program writes the file back, in place, from what it has in memory; then one of ours writes."""
        path = self.folder / WS / "sessions.json"
        m.checkpoint(WS)
        data = json.loads(path.read_bytes())
        ours = data["sessions"].get("s")
        now = self.clock.now() + 10_000
        if ours is not None:
            kept = ours["messageIds"]
            if kept and chance.random() < 0.5:
                data["messages"].pop(kept.pop(chance.randrange(len(kept))))
            for each in kept[:1]:
                data["messages"][each] |= {"content": "theirs", "parts": [], "updatedAt": now}
            made = f"theirs-{now}-{chance.random()}"
            data["messages"][made] = {"id": made, "sessionId": "s", "role": "user", "content": "new", "updatedAt": now}
            kept.insert(chance.choice([0, len(kept)]), made)
            ours |= {"title": "theirs", "updatedAt": now}
        path.write_text(json.dumps(data))
        m.add_message(WS, "other", role="user", content="ours")

    def sleep(self, m: NativeSessionManager, chance: random.Random) -> None:
        chance.choice(self.windows).go_away_and_come_back()


NAMES = [
    *("add", "append", "change", "checkpoint", "clear", "compact", "delete", "edit", "fork", "prune", "put_away"),
    *("revert", "rewrite", "sleep", "stream", "transact", "unrevert"),
]
WEIGHTS = [{"add": 8, "stream": 4, "edit": 4, "append": 4}.get(name, 2) for name in NAMES]
STEPS = st.tuples(st.sampled_from(NAMES), st.integers(0, 1 << 20))


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that segments fill up, are folded and pruned, and who is late has to read the log."""
    monkeypatch.setattr(store, "SEGMENT_BYTES", 3_000)
    monkeypatch.setattr(folding, "FLOOR", 8_000)
    monkeypatch.setattr(folding, "_ROTATE_ABOVE", 1_000)
    monkeypatch.setattr(feed, "_MOST", 5)


@pytest.mark.parametrize("seed", range(3))
def test_two_windows_show_what_the_store_reads_after_two_hundred_random_changes(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    driver = Driver(tmp_path)
    for name in chance.choices(NAMES, WEIGHTS, k=200):
        driver.step(name, chance.randrange(1 << 30))
    driver.finish()
    assert set(driver.done) == set(NAMES)
    for window in driver.windows:
        assert window.heard[SNAPSHOT] > 3
        assert window.heard["message.part.delta"] > 3, "it was not snapshots alone that kept them equal"


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_short_runs_that_shrink_end_with_windows_that_are_equal(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = Driver(tmp_path_factory.mktemp("store"))
    for name, seed in steps:
        driver.step(name, seed)
    driver.finish()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 1 << 30), again=st.lists(st.integers(0, 30), max_size=10))
def test_events_that_come_again_change_nothing(
    seed: int, again: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    driver = Driver(tmp_path_factory.mktemp("store"))
    window = driver.windows[0]
    for name in chance.choices(["add", "edit", "append", "delete", "stream", "compact"], k=8):
        driver.step(name, chance.randrange(1 << 30))
    goal = driver.mark()
    heard: list[Event] = []
    while window.replica.seq < goal:
        heard.append(there(window.subscription.next(5)))
        window.replica.apply(heard[-1])
        for number in again:
            if number < len(heard) and heard[number].type != SNAPSHOT:
                window.replica.apply(heard[number])
    driver.finish()
