"""What a workspace that went to rest knows: nothing is less durable, older or later by it; nobody wakes it in vain."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import JournalCorruptError, NativeSessionManager
from nomad_sessions.search import Searcher
from nomad_sessions.workspace.displaced import _WATCHLIST
from nomad_sessions.workspace.resting import AWAKE
from nomad_sessions.workspace.store import Workspace

WS = "w"


def contents(m: NativeSessionManager, workspace_id: str = WS) -> list[str]:
    return [each.content for each in m.get_session_messages(workspace_id, "s")]


def said(m: NativeSessionManager, text: str, workspace_id: str = WS) -> None:
    m.add_message(workspace_id, "s", role="user", content=text)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AWAKE, "_most", lambda: 4)
    AWAKE.forget()
    _WATCHLIST.forget()


def test_a_sync_that_is_due_is_done_before_it_rests(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="batch", batch_interval=60) as m:
        m.create_session(WS, id="s")
        workspace = m.workspace(WS)
        before = workspace.counters.syncs
        assert workspace.rest()
        assert workspace.counters.syncs == before + 1
        assert workspace._timer is None
        assert contents(m) == []
        assert workspace.rest()
        assert workspace.counters.syncs == before + 1, "what is synced is not synced again"


def test_what_was_known_to_be_durable_is_told_by_the_next_record(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        for text in ("one", "two", "three"):
            said(m, text)
            assert m.workspace(WS).rest()
        (segment,) = (tmp_path / WS / "journal").iterdir()
        damaged = segment.read_bytes().replace(b'"two"', b'"twp"')
        (tmp_path / "copy" / WS / "journal").mkdir(parents=True)
        (tmp_path / "copy" / WS / "journal" / segment.name).write_bytes(damaged)
    with NativeSessionManager(tmp_path / "copy") as m, pytest.raises(JournalCorruptError):
        contents(m)


def test_of_another_log_nothing_is_known_to_be_durable(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="full") as m:
        m.create_session(WS, id="s")
        said(m, "one")
        workspace = m.workspace(WS)
        assert workspace.rest()
        (segment,) = (tmp_path / WS / "journal").iterdir()
        with NativeSessionManager(tmp_path / "other", durability="os") as other:
            other.create_session(WS, id="s")
            said(other, "another, which is longer")
            segment.write_bytes((tmp_path / "other" / WS / "journal" / segment.name).read_bytes())
        assert contents(m) == ["another, which is longer"]
        opened = workspace.opened
        assert opened is not None
        assert opened.view.journal.durable < opened.view.journal.end


def test_what_others_wrote_and_it_has_read_is_made_durable_also_at_rest(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as writer, NativeSessionManager(tmp_path) as m:
        writer.create_session(WS, id="s")
        assert contents(m) == []
        workspace = m.workspace(WS)
        assert workspace.rest()
        assert workspace.counters.syncs == 0
        m.flush()
        assert workspace.counters.syncs == 1
        assert workspace.rest()
        m.flush()
        assert (workspace.counters.syncs, workspace.opened) == (1, None)


def test_a_flush_during_which_it_goes_to_rest_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with NativeSessionManager(tmp_path, durability="os") as writer, NativeSessionManager(tmp_path) as m:
        writer.create_session(WS, id="s")
        assert contents(m) == []
        workspace, sync_to = m.workspace(WS), Workspace.sync_to
        rested: list[bool] = []

        def at_rest(self: Workspace, goal: Any) -> None:
            if not rested:
                rested.append(workspace.rest())
            sync_to(self, goal)

        monkeypatch.setattr(Workspace, "sync_to", at_rest)
        workspace.flush()
        assert (rested, workspace.counters.syncs) == ([True], 1)


def test_one_that_folds_always_folds_also_when_it_goes_to_rest_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.configure_workspace(WS, fold="always")
        workspace = m.workspace(WS)
        run = workspace._commits.run

        def and_rest(ticket: Any) -> None:
            run(ticket)
            assert workspace.rest()

        monkeypatch.setattr(workspace._commits, "run", and_rest)
        said(m, "shared")
        assert "shared" in (tmp_path / WS / "sessions.json").read_text()


def test_what_another_program_had_written_stays_while_it_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waited(seconds: float) -> None:
        raise AssertionError("it waits for the other program each time it wakes")

    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.checkpoint(WS)
        file = tmp_path / WS / "sessions.json"
        theirs = json.loads(file.read_text())
        theirs["sessions"]["t"] = {"id": "t", "workspaceId": WS, "title": "theirs", "createdAt": 1, "updatedAt": 1}
        file.write_text(json.dumps(theirs))
        assert m.get_session(WS, "t") is not None
        file.write_text("{")
        assert m.get_session(WS, "t") is not None
        assert m.workspace(WS).rest()
        monkeypatch.setattr(type(m._fs), "sleep", staticmethod(waited))
        assert m.get_session(WS, "t") is not None
        said(m, "ours")
        monkeypatch.undo()
        file.write_text(json.dumps(theirs))
        assert contents(m) == ["ours"]


def test_where_nothing_happened_nobody_wakes_it_to_hear_so(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m, NativeSessionManager(tmp_path) as other:
        m.create_session(WS, id="s")
        workspace = m.workspace(WS)
        assert workspace.rested_at() is None
        assert workspace.rest()
        assert (workspace.rested_at(), workspace.opened) == (1, None)
        said(other, "more")
        assert workspace.rested_at() is None
        assert contents(m) == ["more"]
        assert workspace.rest()
        other.checkpoint(WS)
        assert workspace.rested_at() is None
        assert contents(m) == ["more"]
        assert workspace.rest()
        assert workspace.rested_at() == 2
        said(other, "not seen here")
        assert workspace.rested_at() is None
        assert contents(m)[-1] == "not seen here"
        said(other, "since the last look")
        assert workspace.rest()
        assert workspace.rested_at() is None
        other.delete_workspace(WS)
        assert workspace.rested_at() is None


@pytest.mark.usefixtures("few")
def test_subscriptions_leave_those_at_rest_that_have_nothing_new_and_miss_nothing(tmp_path: Path) -> None:
    names = [f"w{number}" for number in range(12)]
    heard: list[tuple[str, int]] = []
    with NativeSessionManager(tmp_path) as m, NativeSessionManager(tmp_path) as other:
        for name in names:
            m.create_session(name, id="s")
        all_there = threading.Event()
        wanted = {(name, seq) for name in names for seq in (2, 3)}

        def hear(event: Any) -> None:
            heard.append((event.workspace_id, event.seq))
            if wanted <= set(heard):
                all_there.set()

        m.subscribe(callback=hear)
        hub = m._hub
        assert hub is not None
        for each in (m, other):
            for name in names:
                said(each, "more", name)
        assert all_there.wait(20)
        assert max(Counter(heard).values()) == 1
        resting = [name for name in names if m.workspace(name).rested_at() is not None]
        assert len(resting) >= len(names) - 5
        assert all(hub._rests(hub._feeds[name]) for name in resting)


@pytest.mark.usefixtures("few")
def test_files_that_checkpoints_displaced_are_few_and_hold_up_no_rest(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        for name in (WS, "other"):
            m.create_session(name, id="s")
            m.configure_workspace(name, fold="always")
        workspace = m.workspace(WS)
        opened = os.open(tmp_path / WS / "sessions.json", os.O_RDWR)
        theirs = json.loads((tmp_path / WS / "sessions.json").read_text())
        theirs["sessions"]["t"] = {"id": "t", "workspaceId": WS, "title": "theirs", "createdAt": 1, "updatedAt": 1}
        said(m, "one")  # Displaces what the other program has open.
        os.pwrite(opened, json.dumps(theirs).encode().ljust(os.fstat(opened).st_size), 0)
        os.close(opened)
        assert workspace.rest()
        for number in range(3 * AWAKE.few()):
            said(m, str(number), "other")
        assert len(_WATCHLIST._all) <= AWAKE.few() + 1
        assert len(m.workspace("other")._folding.displaced._files) <= AWAKE.few()
        said(m, "two")
        assert m.get_session(WS, "t") is not None, "one that was written to is looked at, however many come after it"
        assert contents(m) == ["one", "two"]


@pytest.mark.usefixtures("few")
def test_indexes_of_a_search_give_their_files_back(tmp_path: Path) -> None:
    names = [f"w{number:02}" for number in range(3 * AWAKE.few())]
    with NativeSessionManager(tmp_path, durability="os") as m, Searcher(m) as searcher:
        for name in names:
            m.create_session(name, id="s")
            said(m, "a needle", name)
        for _ in range(2):
            found = searcher.find("needle", limit=100)
            assert sorted(hit.workspace_id for hit in found.hits) == names
            open_ones = [each for each in searcher._indexes.values() if each._connection is not None]
            assert len(open_ones) <= AWAKE.few() + 1


@pytest.mark.parametrize("at_rest", [True, False])
def test_closing_a_workspace_that_somebody_deleted_makes_no_folder_again(tmp_path: Path, at_rest: bool) -> None:
    with NativeSessionManager(tmp_path) as m, NativeSessionManager(tmp_path) as other:
        m.create_session(WS, id="s")
        if at_rest:
            assert m.workspace(WS).rest()
        other.delete_workspace(WS)
    assert not (tmp_path / WS).exists()
