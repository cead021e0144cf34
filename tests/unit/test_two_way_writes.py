"""What an entry of the log wrote: which fields of which records, and with which stamps."""

from __future__ import annotations

from pathlib import Path

from nomad_sessions import NativeSessionManager
from nomad_sessions.sync import Key
from nomad_sessions.sync.changes import FETCHED
from nomad_sessions.sync.following import Following
from nomad_sessions.sync.two_way.versions import ARRANGEMENT, Stamp
from nomad_sessions.sync.two_way.writes import Deed, Deeds, fetched_mark
from nomad_sessions.workspace.log import LogPosition

WS = "ws"
S = Key("session", "s")


def deeds(manager: NativeSessionManager, since: int = 0) -> dict[Key, Deed]:
    """What the log says from a seq on."""
    follow = Following(manager, WS, "test")
    try:
        follow.begin(LogPosition(since))
        found = Deeds(WS, "place", "me", 0)
        with follow.taken() as records:
            for record in records:
                found.take(record)
        return found.found
    finally:
        follow.close()


def last(manager: NativeSessionManager) -> int:
    return manager._use(WS, lambda each: each.read(lambda view: view.seq))


def names(deed: Deed) -> set[str]:
    return set(deed.fields)


def test_each_call_says_what_it_wrote(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as m:
        m.create_session(WS, id="s")
        for name in ("m", "n"):
            m.add_message(WS, "s", role="user", content="x", id=name)
        m.create_task(WS, "s", {"do": 1}, id="t")
        made = deeds(m)
        assert {key for key, each in made.items() if each.whole} == {
            S,
            *(Key("message", x) for x in "mn"),
            Key("task", "t"),
        }

        def did(since: int) -> dict[Key, Deed]:
            return deeds(m, since)

        at = last(m)
        m.update_session(WS, "s", title="new", agent="duck")
        assert {"title", "agent"} <= names(did(at)[S])
        at = last(m)
        m.update_message(WS, "m", content="y")
        found = did(at)
        assert "content" in names(found[Key("message", "m")])
        assert names(found[S]) == set(), "it is alive, no more"
        at = last(m)
        m.append_to_message(WS, "m", "more")
        assert names(did(at)[Key("message", "m")]) == {"content"}
        at = last(m)
        m.revert(WS, "s", "m")
        assert names(did(at)[S]) == {ARRANGEMENT}
        at = last(m)
        m.add_message(WS, "s", role="user", content="z", id="o")
        found = did(at)
        assert found[Key("message", "n")].ended is not None, "what a revert hid is gone"
        assert names(found[S]) == {ARRANGEMENT}
        at = last(m)
        m.delete_message(WS, "o")
        assert did(at)[Key("message", "o")].ended is not None
        at = last(m)
        fork = m.fork_session(WS, "s")
        assert did(at)[Key("session", fork.id)].whole is not None
        assert all(did(at)[Key("message", each)].whole for each in fork.message_ids)
        at = last(m)
        m.update_task(WS, "t", metadata={"a": 1})
        assert "metadata" in names(did(at)[Key("task", "t")])
        at = last(m)
        m.delete_task(WS, "t")
        m.delete_session(WS, "s")
        m.create_session(WS, id="s")
        found = did(at)
        assert found[Key("task", "t")].ended is not None
        assert found[S].whole is not None
        assert found[S].ended is not None, "another of its name was there"
        at = last(m)
        m.record_event(WS, "note", {})
        m.configure_workspace(WS, fold="always")
        assert did(at) == {}


def entry(seq: int, ts: int, **more: object) -> dict[str, object]:
    return {"type": "session.updated", "sessionId": "s", "seq": seq, "ts": ts, "set": {"title": "x"}, **more}


def test_what_was_fetched_is_no_doing_of_ours_but_moves_the_clock() -> None:
    found = Deeds(WS, "place", "me", 0)
    found.take(entry(1, 100))
    found.take(entry(2, 110, **{FETCHED: fetched_mark("place", 5_000)}))
    assert found.found[S].alive == Stamp(100, "me", 1)
    found.take(entry(3, 120))
    assert found.found[S].alive == Stamp(5_001, "me", 3), "whoever has seen something writes after it"
    assert found.floor == 5_001
    found.take(entry(4, 130, **{FETCHED: fetched_mark("elsewhere", 9_000)}))
    assert found.found[S].alive == Stamp(5_001, "me", 4), "of another place it is news"


def test_a_clock_that_is_set_back_takes_nothing_back() -> None:
    found = Deeds(WS, "place", "me", 0)
    found.take(entry(1, 1_000))
    found.take(entry(2, 10))
    assert found.found[S].fields["title"] == Stamp(1_000, "me", 2)
