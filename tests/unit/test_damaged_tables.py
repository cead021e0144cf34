"""What only says where the records lie can be damaged without a loss: tables, head and trailer of a snapshot, and the
end of a segment. Where records are gone with it, that is said, and nothing is written over them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import pytest

from nomad_sessions import JournalCorruptError, NativeSessionManager
from nomad_sessions.workspace import store as store_module
from tests.crash.life import DATA, manager_on
from tests.support.drawing import at_random
from tests.support.modelfs import ModelDisk

WS = "w"
SNAPSHOT = f"{DATA}/{WS}/sessions.json"

State = dict[str, tuple[str, list[tuple[str, str]]]]


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", 900)


def contents(disk: ModelDisk) -> State:
    return state_of(manager_on(disk.process()))


def copy(disk: ModelDisk) -> ModelDisk:
    disk.settle()
    return disk.crash(at_random(0))


def state_of(manager: NativeSessionManager) -> State:
    return {
        session.id: (
            session.title,
            [(each.id, each.content) for each in manager.get_session_messages(WS, session.id)],
        )
        for session in manager.list_sessions(WS)
    }


@pytest.fixture
def disk() -> ModelDisk:
    """Two snapshots of ours, segments above the newer one, something deleted."""
    disk = ModelDisk()
    manager = manager_on(disk.process())
    for session_id in ("s1", "s2", "gone"):
        manager.create_session(WS, title=f"title of {session_id}", id=session_id)
        for number in range(3):
            manager.add_message(WS, session_id, role="user", content=f"{number}", id=f"{session_id}-{number}")
    manager.delete_session(WS, "gone")
    manager.delete_message(WS, "s1-2")
    manager.checkpoint(WS)
    manager.add_message(WS, "s1", role="user", content="between" * 20, id="between")
    manager.checkpoint(WS)
    for number in range(9):
        manager.add_message(WS, "s2", role="user", content=f"{number}" * 150, id=f"after-{number}")
    manager.flush()
    assert len(above(disk)) > 3
    return disk


def segments(disk: ModelDisk) -> list[str]:
    return sorted(path for path in disk.tree() if "/journal/" in path)


def above(disk: ModelDisk) -> list[str]:
    """The segments with the records that the snapshot does not have."""
    return [path for path in segments(disk) if b'"messageId":"after-' in disk.read(path)]


def spots(data: bytes, name: str) -> range:
    """Offsets in the part of a snapshot's index that has this name."""
    begin = data.index(f'"{name}":'.encode(), data.index(b'"nomad":{'))
    return range(begin, data.index(b"\n" if name in ("head", "trailer") else b"\n]", begin), 17)


@pytest.mark.parametrize("name", ["sessions.json", "sessions.json.prev"])
@pytest.mark.parametrize("part", ["groups", "items", "tombstones", "head", "trailer"])
def test_damage_to_what_leads_to_the_records_loses_none_of_them_and_repair_writes_it_afresh(
    disk: ModelDisk, name: str, part: str
) -> None:
    expected = contents(disk)
    path = f"{DATA}/{WS}/{name}"
    data = disk.read(path)
    for at in spots(data, part):
        damaged = bytearray(data)
        damaged[at] ^= 4
        image = copy(disk)
        image.write(path, bytes(damaged))
        assert contents(image) == expected, at
        manager = manager_on(image.process())
        report = manager.repair(WS)
        assert report.after.ok, report.after.problems
        assert not [action for action in report.actions if action.startswith("skipped")]
        assert state_of(manager) == expected
        assert contents(image) == expected


def test_tables_of_the_snapshot_and_a_seal_damaged_at_once_are_read_around_and_mended(disk: ModelDisk) -> None:
    expected = contents(disk)
    data = disk.read(SNAPSHOT)
    for part in (b'"groups":[\n["', b'"items":[\n["'):
        at = data.index(part) + len(part)
        data = data[:at] + b"00000000" + data[at + 8 :]
    disk.write(SNAPSHOT, data)
    path = above(disk)[0]
    disk.write(path, disk.read(path).replace(b'"lastSeq"', b'"lostSeq"'))
    assert contents(disk) == expected
    manager = manager_on(disk.process())
    report = manager.repair(WS)
    assert not report.before.ok
    assert report.after.ok, report.after.problems
    assert contents(disk) == expected
    manager.add_message(WS, "s1", role="user", content="and on")
    assert contents(disk)["s1"][1][-1][1] == "and on"


def test_a_damaged_number_does_not_make_a_file_of_ours_delete_what_came_after_it(disk: ModelDisk) -> None:
    """Every digit of `seq` in the head: a larger one would say that its writer had seen, and removed, what is new."""
    expected = contents(disk)
    data = disk.read(SNAPSHOT)
    found = re.search(rb'"head":\{"format":1,"seq":(\d+)', data)
    assert found is not None
    for at in range(found.start(1), found.end(1)):
        for digit in b"0123456789":
            if digit == data[at] or (digit == ord("0") and at == found.start(1)):
                continue  # As it was, or no JSON.
            image = copy(disk)
            image.write(SNAPSHOT, data[:at] + bytes([digit]) + data[at + 1 :])
            assert contents(image) == expected, (at, digit)
            manager = manager_on(image.process())
            manager.add_message(WS, "s1", role="user", content="and on")
            manager.checkpoint(WS)
            assert b"and on" in image.read(SNAPSHOT)
            assert contents(image)["s2"] == expected["s2"]


def test_a_file_whose_writer_has_seen_more_than_there_is_deletes_nothing(disk: ModelDisk) -> None:
    """Its numbers are of another life of the store: one that somebody put back a backup over."""
    manager = manager_on(disk.process())
    manager.add_message(WS, "s1", role="user", content="only here", id="only here")
    expected = contents(disk)
    data = disk.read(SNAPSHOT)
    seq = re.search(rb'"head":\{"format":1,"seq":(\d+)', data)
    assert seq is not None
    ahead = re.sub(rb'("head":\{"format":1,"seq":)\d+', rb"\g<1>9000", data)
    ahead = re.sub(rb' \d{16}"\}\}\n$', b' 0000000000009000"}}\n', ahead)
    disk.write(SNAPSHOT, ahead)
    assert contents(disk) == expected


# A segment that ends too early, where the snapshot says that it was the live one: it looks like the last


def lines_of(data: bytes) -> list[int]:
    return [at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n"]


def hinted(disk: ModelDisk) -> str:
    """The segment that was live when the snapshot was written."""
    found = re.search(rb'"journal":(\d+)', disk.read(SNAPSHOT))
    assert found is not None
    return f"{DATA}/{WS}/journal/{int(found[1]):016d}.jsonl"


def after_the_last_record(data: bytes) -> int:
    return data.index(b"\n", data.rindex(b'"seq":')) + 1


def test_the_segment_that_the_snapshot_names_may_lose_its_seal_and_all_after_it_is_read(disk: ModelDisk) -> None:
    expected = contents(disk)
    path = hinted(disk)
    data = disk.read(path)
    assert path in above(disk)[:-1]
    disk.write(path, data[: after_the_last_record(data)])
    assert contents(disk) == expected
    manager = manager_on(disk.process())
    assert not manager.check(WS).ok
    manager.add_message(WS, "s1", role="user", content="and on")
    assert contents(disk)["s2"] == expected["s2"]
    assert manager.repair(WS).after.ok
    assert contents(disk)["s2"] == expected["s2"]


CUTS: list[Callable[[bytes], int]] = [lambda data: lines_of(data)[0], lambda data: lines_of(data)[1]]


@pytest.mark.parametrize("cut", CUTS, ids=["header only", "one record"])
def test_a_segment_that_lost_records_and_seal_is_never_taken_for_the_last_one_by_a_writer(
    disk: ModelDisk, cut: Callable[[bytes], int]
) -> None:
    path = hinted(disk)
    data = disk.read(path)
    assert cut(data) < after_the_last_record(data)
    disk.write(path, data[: cut(data)])
    before = journal(disk)
    writes: list[Callable[[NativeSessionManager], object]] = [
        lambda manager: manager.add_message(WS, "s1", role="user", content="over it"),
        lambda manager: manager.checkpoint(WS),
        lambda manager: manager.repair(WS),
    ]
    for write in writes:
        with pytest.raises(JournalCorruptError) as caught:
            write(manager_on(disk.process()))
        assert caught.value.path == path
    assert journal(disk) == before
    reader = manager_on(disk.process())
    with contextlib.suppress(
        JournalCorruptError
    ):  # The first look may take the snapshot's word for it, the second not.
        reader.list_sessions(WS)
    with pytest.raises(JournalCorruptError):
        reader.list_sessions(WS)
    kept_by_repair(reader, lost=data.count(b'"messageId"') - data[: cut(data)].count(b'"messageId"'))


def test_an_empty_segment_that_the_snapshot_names_is_not_begun_again(disk: ModelDisk) -> None:
    path = hinted(disk)
    lost = disk.read(path).count(b'"messageId"')
    disk.write(path, b"")
    before = journal(disk)
    manager = manager_on(disk.process())
    with pytest.raises(JournalCorruptError) as caught:
        manager.get_session_messages(WS, "s2")
    assert caught.value.path == path
    # The seals after it know what was in it: a new record gets its number after theirs.
    manager.add_message(WS, "s1", role="user", content="at the end")
    *others, last = sorted(before)
    assert [journal(disk)[each] for each in others] == [before[each] for each in others]
    assert b"at the end" in journal(disk)[last][len(before[last]) :]
    kept_by_repair(manager, lost=lost - 1)


def journal(disk: ModelDisk) -> dict[str, bytes]:
    return {path: disk.read(path) for path in segments(disk)}


def kept_by_repair(manager: NativeSessionManager, *, lost: int) -> None:
    """Only when told to, a repair goes on without what is lost; all else is there."""
    assert not manager.check(WS).ok
    with pytest.raises(JournalCorruptError):
        manager.repair(WS)
    report = manager.repair(WS, drop_corrupt=True)
    assert report.after.ok
    assert report.after.messages == 6 + 9 - lost
