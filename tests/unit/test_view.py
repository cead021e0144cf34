"""A view is what its snapshot says with the journal above it, whatever was sealed, folded, or loaded before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nomad_sessions.workspace import folding, recovery, store
from nomad_sessions.workspace.state import WORKSPACE
from nomad_sessions.workspace.view import View
from tests.crash.life import manager_on, small_store
from tests.crash.model import RECORDED, WS, Names, State, Step, contents, draw_step, expect, perform
from tests.support.drawing import at_random
from tests.support.modelfs import ModelDisk

FOLDER = "/data/w"


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small_store() as patch:
        patch.setattr(folding, "FLOOR", 1 << 20)
        yield


def texts(view: View) -> dict[str, tuple[list[str], list[str]]]:
    """Shown and hidden texts by title."""
    found = {}
    for session in view.load_all():
        bodies = [
            [state.body()["content"] for each in ids if (state := session.message(each))]
            for ids in (session.order, session.hidden)
        ]
        found[str(session.fields["title"])] = (bodies[0], bodies[1])
    return found


def told(state: State) -> dict[str, tuple[list[str], list[str]]]:
    """What a view has of it: what was recorded is in the log, and not in the view."""
    return {title: (list(chat.shown), list(chat.hidden)) for title, chat in state.items() if title != RECORDED}


def history(seed: int, count: int, *, fold_at: int = 0) -> tuple[ModelDisk, list[tuple[int, State]]]:
    """A store, and its state at each seq that ended a call."""
    disk = ModelDisk()
    manager = manager_on(disk.process())
    draw, names = at_random(seed), Names(sizes=(1, 80))
    state: State = {}
    states: list[tuple[int, State]] = []
    for number in range(count):
        step = draw_step(draw, state, names)
        perform(manager, step)
        state = expect(state, step)
        states.append((manager.status(WS).seq, state))
        if number + 1 == fold_at:
            manager.checkpoint(WS)
    return disk, states


@pytest.mark.parametrize("seed", range(12))
def test_views_with_and_without_tables_snapshot_and_earlier_looks_agree(seed: int) -> None:
    disk, states = history(seed, 50, fold_at=25)
    fs = disk.process()
    seq, state = states[-1]
    for trust in (True, False):
        view = recovery.load(fs, FOLDER, wait=False, trust_tables=trust).view
        assert view.seq == seq
        assert bool(view.sealed) == trust
        assert texts(view) == told(state)
        assert len(view.summaries()) == len(told(state))
        for session in view.load_all():
            assert all(view.owner(each) == session.id for each in session.ids())
    distrusting = recovery.load(fs, FOLDER, wait=False, distrust=True).view
    assert distrusting.tombstones() == view.tombstones()


@pytest.mark.parametrize("seed", range(6))
def test_the_past_is_what_it_was_at_every_seq(seed: int) -> None:
    disk, states = history(seed + 50, 30)
    fs = disk.process()
    for seq, state in states:
        view = recovery.past(fs, FOLDER, seq)
        assert view is not None
        assert view.seq == seq
        assert texts(view) == told(state)
    assert recovery.past(fs, FOLDER, states[-1][0] + 1) is None


def test_a_snapshot_whose_seq_lies_inside_a_segment_hides_the_records_below_it() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "_ROTATE_ABOVE", 1 << 20)
        patch.setattr(store, "SEGMENT_BYTES", 4_000)
        disk, states = history(7, 40, fold_at=17)
        view = recovery.load(disk.process(), FOLDER, wait=False).view
        assert view.sealed
        assert view.journal.first_seqs()[0] <= view.floor
        assert view.floor + 1 not in view.journal.first_seqs()
        assert texts(view) == told(states[-1][1])


def test_the_view_of_a_writer_is_the_view_of_a_reader_after_every_call() -> None:
    disk = ModelDisk()
    writer, reader = manager_on(disk.process()), manager_on(disk.process())
    draw, names = at_random(11), Names()
    state: State = {}
    for number in range(60):
        step = draw_step(draw, state, names)
        perform(writer, step)
        state = expect(state, step)
        assert contents(writer) == state
        if number % 4 == 0:
            assert contents(reader) == state
            writer, reader = reader, writer
        if number % 13 == 0:
            writer.checkpoint(WS)


def test_a_deleted_message_and_session_leave_a_tombstone_that_survives_sealing_and_folding() -> None:
    disk = ModelDisk()
    manager = manager_on(disk.process())
    session = manager.create_session(WS, title="chat")
    message = manager.add_message(WS, session.id, role="user", content="gone")
    manager.delete_message(WS, message.id)
    manager.delete_session(WS, session.id)
    manager.create_session(WS, title="other")
    seqs = set()
    for _ in range(3):
        view = recovery.load(disk.process(), FOLDER, wait=False).view
        tombstones = view.tombstones()
        seqs.add((tombstones[message.id], tombstones[session.id]))
        assert view.session(session.id) is None
        manager.checkpoint(WS)
        for number in range(9):
            perform(manager, Step("add", "other", (f"{number}" * 200,)))
    assert seqs == {(3, 4)}


def test_a_long_chain_of_forks_is_no_deeper_than_a_stack_allows() -> None:
    disk = ModelDisk()
    manager = manager_on(disk.process(), "os")
    session = manager.create_session(WS, title="first")
    manager.add_message(WS, session.id, role="user", content="the text")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "SEGMENT_BYTES", 1 << 20)
        for _ in range(400):
            session = manager.fork_session(WS, session.id)
    view = recovery.load(disk.process(), FOLDER, wait=False).view
    last = view.session(session.id)
    assert last is not None
    state = last.message(last.order[0])
    assert state is not None
    assert state.body()["content"] == "the text"


def test_a_view_reads_nothing_that_is_not_asked_for() -> None:
    disk, _ = history(3, 60, fold_at=60)
    disk.trace.clear()
    view = recovery.load(disk.process(), FOLDER, wait=False).view
    assert sum(int(str(call.args[0])) for call in disk.trace if call.op == "pread") < 8_192
    assert view.session("nobody") is None
    assert view.session(WORKSPACE) is not None
