"""What the snapshot has folded, the journal once had: bytes that are no records any more are damage, not a tail."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from nomad_sessions import JournalCorruptError, NativeSessionManager
from nomad_sessions.workspace.options import Durability
from tests.support.damage import long_damaged


def write(folder: Path, durability: Durability, *, fold: bool = True) -> None:
    """By the managers of five short processes, each of which folds when it closes; the last only if `fold`."""
    with NativeSessionManager(folder, durability=durability) as m:
        m.create_session("ws", id="s")
    for number in range(4):
        m = NativeSessionManager(folder, durability=durability)
        m.add_message("ws", "s", id=f"m{number}", role="user", content=f"message {number}")
        if fold or number < 3:
            m.close()
        else:
            m.clear_workspace("ws")


@pytest.fixture(params=["full", "os"])
def durability(request: pytest.FixtureRequest) -> Durability:
    found: Durability = request.param
    return found


@pytest.fixture
def folded(tmp_path: Path, durability: Durability) -> Path:
    """A data folder whose snapshot has everything."""
    write(tmp_path, durability)
    return tmp_path


# Where nobody syncs no record can say that what lies before it was synced: the store opens, from its snapshot.
FOUND: dict[Durability, tuple[list[str], str]] = {
    "full": (["journal-damaged", "unreadable"], "known to be durable"),
    "os": (["journal-damaged"], "snapshot has changes up to seq 5"),
}


def damage(folder: Path) -> None:
    (segment,) = (folder / "ws" / "journal").glob("*.jsonl")
    content = segment.read_bytes()
    assert content.count(b"message 1") == 1
    segment.write_bytes(content.replace(b"message 1", b"mesSage 1"))


def test_check_finds_it_before_anybody_writes_and_repair_mends_it(
    folded: Path, durability: Durability, caplog: pytest.LogCaptureFixture
) -> None:
    damage(folded)
    with NativeSessionManager(folded) as m:
        report = m.check("ws")
        kinds, told = FOUND[durability]
        assert [problem.kind for problem in report.problems] == kinds
        assert told in report.problems[0].detail
        assert m.repair("ws").after.ok
    caplog.clear()
    with caplog.at_level(logging.WARNING), NativeSessionManager(folded) as m:
        assert m.check("ws").ok
        assert [each.content for each in m.get_session_messages("ws", "s")] == [f"message {n}" for n in range(4)]
        m.add_message("ws", "s", role="user", content="later")
        assert m.check("ws").ok
    assert caplog.records == []


def test_without_damage_there_is_nothing_to_find(folded: Path) -> None:
    with NativeSessionManager(folded) as m:
        assert m.check("ws").ok
        assert m.repair("ws").actions == []


@pytest.mark.parametrize("garbage", [False, True])
def test_what_follows_the_damage_and_is_in_no_snapshot_is_not_passed_over(
    tmp_path: Path, durability: Durability, garbage: bool
) -> None:
    """The last message is in the journal alone, behind damage to what the snapshot, or `.prev`, has."""
    write(tmp_path, durability, fold=False)
    damage(tmp_path)
    if garbage:
        long_damaged(tmp_path / "ws" / "sessions.json")
    with NativeSessionManager(tmp_path) as m:
        with pytest.raises(JournalCorruptError):
            m.get_session_messages("ws", "s")
        with pytest.raises(JournalCorruptError):
            m.add_message("ws", "s", role="user", content="would get its number")
        assert "/journal/" in Path(m.check("ws").problems[0].path).as_posix()
        assert m.repair("ws").after.ok
        assert [each.content for each in m.get_session_messages("ws", "s")] == [f"message {n}" for n in range(4)]


def test_short_processes_tell_of_what_those_before_them_synced(tmp_path: Path) -> None:
    """Each dies without a fold; whatever byte of what they acknowledged is damaged, it is found, but for the last."""
    for number in range(4):
        m = NativeSessionManager(tmp_path)
        if not number:
            m.create_session("ws", id="s")
        m.add_message("ws", "s", role="user", content=f"message {number}")
        m.clear_workspace("ws")
    (segment,) = (tmp_path / "ws" / "journal").glob("*.jsonl")
    content = segment.read_bytes()
    for number in range(3):
        segment.write_bytes(content.replace(b"message %d" % number, b"mesSage %d" % number))
        with NativeSessionManager(tmp_path) as m, pytest.raises(JournalCorruptError, match="known to be durable"):
            m.get_session("ws", "s")


def test_damage_to_what_is_in_no_snapshot_is_left_to_who_says_so(tmp_path: Path) -> None:
    """But what another program wrote beside it, which was not merged yet, is."""
    write(tmp_path, "full", fold=False)
    damage(tmp_path)
    with NativeSessionManager(tmp_path) as m:
        (tmp_path / "ws" / "sessions.json").write_text('{"sessions": {"theirs": {"id": "theirs"}}, "messages": {}}')
        assert m.repair("ws").after.ok
        assert m.get_session("ws", "theirs") is not None
        m.add_message("ws", "s", role="user", content="message 4")
        m.add_message("ws", "s", role="user", content="message 5")
        m.clear_workspace("ws")
    segment = max((tmp_path / "ws" / "journal").glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"message 4", b"mesSage 4"))
    with NativeSessionManager(tmp_path) as m:
        with pytest.raises(JournalCorruptError):
            m.repair("ws")
        assert m.repair("ws", drop_corrupt=True).after.ok
        contents = [each.content for each in m.get_session_messages("ws", "s")]
        assert contents == [*(f"message {n}" for n in range(4)), "message 5"]
