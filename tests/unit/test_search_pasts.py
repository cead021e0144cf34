"""An index that was made of another past than its workspace has: what is found is what there is, at once."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import EventFilter, NativeSessionManager
from nomad_sessions.search import Searcher, event_rows
from nomad_sessions.search.past import Proof, follows, holds, prove
from nomad_sessions.workspace import lines
from nomad_sessions.workspace.state import Body
from tests.support.indexes import INDEX, WS, agrees, begin, folder, look
from tests.support.there import there


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


def put_back(m: NativeSessionManager, copy: Path) -> None:
    """Makes the workspace what it was, but for the index."""
    m.clear_workspace(WS)
    for each in folder(m).iterdir():
        if not each.name.startswith(INDEX):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    for each in copy.iterdir():
        shutil.copytree(each, folder(m) / each.name) if each.is_dir() else shutil.copy2(each, folder(m))


def copied(m: NativeSessionManager, to: Path) -> Path:
    m.clear_workspace(WS)
    shutil.copytree(folder(m), to, ignore=shutil.ignore_patterns(f"{INDEX}*"))
    return to


def streamed(m: NativeSessionManager, text: str) -> None:
    for letter in text.split():
        m.append_to_message(WS, "streamed", letter)


def edit(m: NativeSessionManager, text: str) -> None:
    m.update_message(WS, "m0", content=text)
    m.record_events(WS, [{"type": f"of.{text}", "properties": {"text": text * n}} for n in range(5)])


@pytest.mark.parametrize("further", [0, 1, 6])
@pytest.mark.parametrize("words", ["", "aa bb cc"])
def test_an_older_copy_that_was_put_back_and_has_gone_further(
    m: NativeSessionManager, tmp_path: Path, further: int, words: str
) -> None:
    begin(m)
    streamed(m, words)
    copy = copied(m, tmp_path / "copy")
    edit(m, "lost")
    streamed(m, words)
    look(m, "lost", "original1")
    put_back(m, copy)
    edit(m, "kept")
    streamed(m, words)
    m.record_events(WS, [{"type": "further"}] * further)
    with Searcher(m) as s:
        assert [s.find(query).total for query in ("lost", "kept", "original0", "original3")] == [0, 1, 0, 1]
        assert s.events(WS, EventFilter("of.lost")).total == 0
        assert s.events(WS, query="lost*").total == 0
    agrees(m)


def test_a_copy_of_the_middle_of_a_stream_that_went_on_otherwise(m: NativeSessionManager, tmp_path: Path) -> None:
    begin(m)
    streamed(m, "a b")
    copy = copied(m, tmp_path / "copy")
    streamed(m, "these words are lost")
    look(m)
    put_back(m, copy)
    streamed(m, "of them nothing is left at all now")
    m.record_event(WS, "end")
    agrees(m)


def test_a_message_of_the_old_past_that_was_not_changed_in_the_new_one(m: NativeSessionManager, tmp_path: Path) -> None:
    begin(m)
    copy = copied(m, tmp_path / "copy")
    m.update_message(WS, "m1", content="lost")
    look(m, "lost")
    put_back(m, copy)
    for n in range(5):
        m.add_message(WS, "s", role="user", content=f"further{n}")
    with Searcher(m) as s:
        assert [s.find(query).total for query in ("lost", "original1", "further4")] == [0, 1, 1]


def test_a_workspace_that_was_deleted_and_made_anew(m: NativeSessionManager, tmp_path: Path) -> None:
    begin(m)
    edit(m, "lost")
    look(m, "lost")
    shutil.copy(folder(m) / INDEX, tmp_path / INDEX)
    m.delete_workspace(WS)
    begin(m)
    edit(m, "kept")
    edit(m, "new")
    shutil.copy(tmp_path / INDEX, folder(m) / INDEX)
    with Searcher(m) as s:
        assert [s.find(query).total for query in ("lost", "kept", "new", "original1")] == [0, 0, 1, 1]
    agrees(m)


def test_a_snapshot_from_elsewhere(m: NativeSessionManager, tmp_path: Path) -> None:
    begin(m)
    copy = copied(m, tmp_path / "copy")
    edit(m, "lost")
    edit(m, "elsewhere")
    m.checkpoint(WS)
    shutil.copy(folder(m) / "sessions.json", tmp_path)
    put_back(m, copy)
    edit(m, "mine")
    look(m, "mine")
    m.clear_workspace(WS)
    shutil.copy(tmp_path / "sessions.json", folder(m))
    with Searcher(m) as s:
        for later in ("", "later"):
            if later:
                m.add_message(WS, "s", role="user", content=later)
            there = [message.content for message in m.get_session_messages(WS, "s")]
            for word in ("mine", "elsewhere", "lost", "original1"):
                assert s.find(word).total == there.count(word), word


def test_a_snapshot_from_elsewhere_that_is_ahead_of_all_that_was_done_here(
    m: NativeSessionManager, tmp_path: Path
) -> None:
    begin(m)
    copied(m, tmp_path / "copy" / WS)
    m.update_message(WS, "m1", content="mine")
    look(m, "mine")
    m.clear_workspace(WS)
    with NativeSessionManager(tmp_path / "copy", durability="os") as other:
        edit(other, "elsewhere")
        other.checkpoint(WS)
    shutil.copy(tmp_path / "copy" / WS / "sessions.json", folder(m))
    for later in range(3):
        with Searcher(m) as s:
            assert [s.find(query).total for query in ("mine", "elsewhere", "original1")] == [0, 1, 1]
        m.add_message(WS, "s", role="user", content=f"later{later}")


@pytest.mark.parametrize("between", [1, 4])
def test_an_index_that_the_retention_has_overtaken(m: NativeSessionManager, between: int) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    begin(m)
    edit(m, "one")
    look(m, "one")
    for n in range(between):
        edit(m, f"text{n}")
        m.add_message(WS, "s", role="user", content="x" * 50_000)
        m.checkpoint(WS)
    with Searcher(m) as s:
        assert [s.find(query).total for query in ("one", f"text{between - 1}", "original1")] == [0, 1, 1]
    agrees(m)


def test_what_goes_on_is_not_read_again(m: NativeSessionManager) -> None:
    begin(m)
    edit(m, "one")
    look(m, "one")
    with contextlib.closing(sqlite3.connect(folder(m) / INDEX)) as other:
        epochs = other.execute("SELECT value FROM meta WHERE key LIKE '%epoch' ORDER BY key").fetchall()
        for n in range(3):
            edit(m, f"later{n}")
            streamed(m, "a b c")
            m.checkpoint(WS)
            look(m, f"later{n}")
        assert other.execute("SELECT value FROM meta WHERE key LIKE '%epoch' ORDER BY key").fetchall() == epochs


def test_what_was_carried_over_proves_the_past_of_events_too(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    m.create_session(WS, title="x" * 50_000)
    m.record_event(WS, "last")
    look(m)
    with contextlib.closing(sqlite3.connect(folder(m) / INDEX)) as other:
        epoch = other.execute("SELECT value FROM meta WHERE key = 'event_epoch'").fetchone()
        for _ in range(3):
            m.create_session(WS, title="x" * 50_000)
            m.checkpoint(WS)
        assert min(event.seq for event in m.events(WS, recorded=False)) > 4, "the journal has it no more"
        agrees(m)
        assert other.execute("SELECT value FROM meta WHERE key = 'event_epoch'").fetchone() == epoch


def test_a_proof_is_of_one_log(m: NativeSessionManager, tmp_path: Path) -> None:
    begin(m)
    streamed(m, "a b")
    workspace = m.workspace(WS)
    last = m.status(WS).seq
    proofs = {seq: there(prove(workspace, seq, None)) for seq in range(1, last + 1)}
    assert len(set(proofs.values())) == last
    assert prove(workspace, last + 1, None) is None
    for known, proof in proofs.items():
        assert Proof.of(proof.text()) == proof
        assert [prove(workspace, seq, proof) for seq in range(known, last + 1)] == list(proofs.values())[known - 1 :]
        assert prove(workspace, last + 1, proof) is None
    m.checkpoint(WS)
    edit(m, "x")
    m.record_events(WS, [{"type": "large", "properties": {"x": "x" * 1_000}} for _ in range(300)])
    edit(m, "y")
    assert {seq: prove(workspace, seq, None) for seq in proofs} == proofs
    assert all(holds(workspace, proof) for proof in proofs.values())
    now = m.status(WS).seq
    assert prove(workspace, now, proofs[last]) == prove(workspace, now, None)
    for wrong in ({"id": proofs[1].id}, {"last": proofs[2].last._replace(seq=1)}, {"named": proofs[1].named}):
        assert not holds(workspace, proofs[2]._replace(**wrong))
    assert follows(workspace, 1, now)
    assert not follows(workspace, 1, now + 1)


@pytest.mark.parametrize("recorded", [0, 1, 2, 3, 5])
def test_a_log_of_which_only_deltas_are_left_is_proved_by_where_they_lie(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch, recorded: int
) -> None:
    monkeypatch.setattr(event_rows, "_GROUP", 3)
    delta = lines._delta

    def older(*given: Any) -> Body:
        """As before they said whose they are."""
        return {key: value for key, value in delta(*given).items() if key not in ("id", "ts", "sessionId")}

    monkeypatch.setattr(lines, "_delta", older)
    m.configure_workspace(WS, retention={"bytes": 0})
    begin(m)
    m.record_events(WS, [{"type": "noted"}] * recorded)
    m.update_message(WS, "m0", content="x" * 50_000)
    m.checkpoint(WS)
    streamed(m, "a b c d e f g")
    m.checkpoint(WS)
    streamed(m, "h i")
    assert {event.type for event in m.events(WS, recorded=False)} == {"message.part.delta"}
    workspace, last = m.workspace(WS), m.status(WS).seq
    proof = there(prove(workspace, last, None))
    assert (proof.named, proof.id) == (proof.last, None)
    assert holds(workspace, proof)
    agrees(m)
    streamed(m, "j k l m n o p")
    agrees(m)
    assert holds(workspace, proof)
    assert not holds(workspace, proof._replace(last=proof.last._replace(segment=77)))


def carried(m: NativeSessionManager) -> Path:
    """Events, some of which were carried over, all of them in the index: the first file of `events/`."""
    m.configure_workspace(WS, retention={"bytes": 0})
    for n in range(3):
        m.record_events(WS, [{"type": f"n.{n}.{each}"} for each in range(8)])
        m.create_session(WS, title="x" * 50_000)
        m.checkpoint(WS)
    agrees(m)
    return min((folder(m) / "events").iterdir())


def test_a_repair_that_dropped_carried_events(m: NativeSessionManager) -> None:
    path = carried(m)
    path.write_bytes(path.read_bytes().replace(b"n.0.7", b"n.0.9"))
    m.repair(WS, drop_corrupt=True)
    with Searcher(m) as s:
        assert s.events(WS, EventFilter(recorded=True), offset=1_000).total == 23, "without a look at the events"
    agrees(m)
    path.write_bytes(path.read_bytes().replace(b"n.0.2", b"n.0.9"))
    m.repair(WS, drop_corrupt=True)
    m.record_event(WS, "later")
    m.checkpoint(WS)
    agrees(m)


def test_carried_events_that_somebody_deleted(m: NativeSessionManager) -> None:
    carried(m).unlink()
    agrees(m)
    shutil.rmtree(folder(m) / "events")
    agrees(m)


def test_events_that_went_before_the_index_saw_them_carried_over(m: NativeSessionManager) -> None:
    m.record_event(WS, "gone")
    m.create_session(WS, title="x" * 50_000)
    m.checkpoint(WS)
    m.record_event(WS, "kept")
    look(m)
    m.configure_workspace(WS, retention={"bytes": 0})
    m.checkpoint(WS)
    (carried_over,) = (folder(m) / "events").iterdir()
    carried_over.unlink()
    agrees(m)
    with Searcher(m) as s:
        assert s.events(WS, EventFilter(("gone", "kept"))).total == 1


def test_a_repair_that_dropped_the_only_recorded_event_of_the_journal(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as m:
        m.create_session(WS, id="s")
        m.record_event(WS, "only", {"text": "here"})
        m.create_session(WS, id="t")
        look(m)
        m.clear_workspace(WS)
        segment = next((folder(m) / "journal").iterdir())
        segment.write_bytes(segment.read_bytes().replace(b"here", b"hare"))
        m.repair(WS, drop_corrupt=True)
        agrees(m)
        m.record_event(WS, "later")
        agrees(m)
