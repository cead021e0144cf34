"""Damage to the files of a whole store: every prefix, tails of every kind, one flipped bit in every byte.

Promises 8 and 9: what was whole is there, what is damaged is detected, and writing goes on where it may.
"""

from __future__ import annotations

import pytest

from nomad_sessions.errors import CorruptionError
from nomad_sessions.storage.segment import name_of
from nomad_sessions.workspace import folding, store
from tests.crash.life import DATA, manager_on
from tests.crash.model import WS, Names, State, Step, contents, draw_step, expect, perform
from tests.support.drawing import at_random
from tests.support.modelfs import ModelDisk

JOURNAL = f"{DATA}/{WS}/journal/{name_of(1)}"


@pytest.fixture(autouse=True)
def _one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SEGMENT_BYTES", 1 << 20)
    monkeypatch.setattr(folding, "FLOOR", 1 << 20)


def history(count: int) -> tuple[bytes, list[tuple[int, State]]]:
    """A journal, and the state at each length of it that ends a call."""
    disk = ModelDisk()
    manager = manager_on(disk.process())
    draw = at_random(3)
    names = Names(sizes=(1, 5, 30))
    state: State = {}
    states: list[tuple[int, State]] = [(0, {})]
    while len(states) <= count:
        step = draw_step(draw, state, names)
        perform(manager, step)
        state = expect(state, step)
        states.append((len(disk.read(JOURNAL)), state))
    return disk.read(JOURNAL), states


def on_disk(data: bytes) -> ModelDisk:
    disk = ModelDisk()
    disk.write(f"{DATA}/{WS}/lock", b"")
    disk.write(JOURNAL, data)
    return disk


def goes_on(disk: ModelDisk, state: State) -> None:
    """The next write heals, and everything is there again."""
    manager = manager_on(disk.process())
    step = Step("create", "after")
    perform(manager, step)
    assert contents(manager_on(disk.process())) == expect(state, step)
    assert manager.check(WS).ok
    assert manager.check(WS).torn == 0


def test_every_prefix_of_a_journal_of_sixty_calls_holds_the_calls_that_are_whole() -> None:
    data, states = history(60)
    ends = {end for end, _ in states}
    for size in range(len(data)):
        near_an_end = bool(ends & {size - 1, size, size + 1})
        if size % 101 and not near_an_end:
            continue  # `test_segment.py` reads every single prefix; here are whole stores.
        disk = on_disk(data[:size])
        state = next(state for end, state in reversed(states) if end <= size)
        manager = manager_on(disk.process())
        assert contents(manager) == state
        assert manager.check(WS).ok
        if size % 3 == 0:
            goes_on(disk, state)


@pytest.mark.parametrize(
    "tail", [bytes(1), bytes(4096), b"\n", b"{", b'{"crc":"00000000","seq":1}\n', b"\xff\n\xfe\n" * 50, b"A" * 5000]
)
def test_a_tail_of_nuls_or_garbage_is_skipped_and_then_cut_and_kept(tail: bytes) -> None:
    data, states = history(12)
    disk = on_disk(data + tail)
    manager = manager_on(disk.process())
    assert contents(manager) == states[-1][1]
    assert manager.check(WS).ok
    assert manager.check(WS).torn == len(tail)
    goes_on(disk, states[-1][1])
    assert tail in [kept for path, kept in disk.tree().items() if "/quarantine/" in path]


def test_one_flipped_bit_in_any_byte_of_a_journal_is_never_undetected() -> None:
    data, states = history(8)
    before_last = states[-2][0]
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        disk = on_disk(bytes(damaged))
        manager = manager_on(disk.process())
        report = manager.check(WS)
        assert not report.ok or report.torn
        if at >= before_last:
            assert contents(manager) == states[-2][1]
            continue
        with pytest.raises(CorruptionError):
            contents(manager)
        with pytest.raises(CorruptionError):
            manager.create_session(WS, title="no")
        assert disk.read(JOURNAL) == damaged


def test_damage_in_a_stream_of_synced_deltas_is_no_torn_tail() -> None:
    disk = ModelDisk()
    manager = manager_on(disk.process())
    session = manager.create_session(WS, title="chat")
    message = manager.add_message(WS, session.id, role="assistant", content="")
    for number in range(8):
        manager.append_to_message(WS, message.id, f"token {number} ")
    data = disk.read(JOURNAL)
    damaged = bytearray(data)
    damaged[data.index(b"token 3")] ^= 1
    with pytest.raises(CorruptionError):
        contents(manager_on(on_disk(bytes(damaged)).process()))


def test_repair_leaves_out_what_is_damaged_when_it_is_asked_to_and_keeps_the_bytes() -> None:
    disk = ModelDisk()
    manager = manager_on(disk.process())
    state: State = {}
    for step in [Step("create", "chat"), *(Step("add", "chat", (f"text {number}",)) for number in range(6))]:
        perform(manager, step)
        state = expect(state, step)
    data = bytearray(disk.read(JOURNAL))
    data[data.index(b"text 2")] ^= 1
    disk.write(JOURNAL, bytes(data))
    again = manager_on(disk.process())
    report = again.repair(WS, drop_corrupt=True)
    assert not report.before.ok
    assert report.after.ok
    assert contents(again)["chat"].shown == tuple(f"text {number}" for number in range(6) if number != 2)
    assert bytes(data) in [kept for path, kept in disk.tree().items() if "/quarantine/" in path]
    goes_on(disk, contents(again))
