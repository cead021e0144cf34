"""What a backup, a copy or another store's file in the wrong place does: nothing that was acknowledged goes unsaid."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager, SnapshotUnreadableError
from tests.support.damage import flipped, long_ago

WS = "ws"


def leave(m: NativeSessionManager) -> None:
    """As a process that ends without folding."""
    m.clear_workspace(WS)
    m.close()


def said(m: NativeSessionManager, session: str = "s") -> list[str]:
    return [each.content for each in m.get_session_messages(WS, session)]


def written(folder: Path, session: str, texts: list[str], *, fold: bool = True) -> None:
    with NativeSessionManager(folder) as m:
        if m.get_session(WS, session) is None:
            m.create_session(WS, id=session)
        for text in texts:
            m.add_message(WS, session, role="user", content=text)
        if fold:
            m.checkpoint(WS)
        leave(m)


def segment(folder: Path) -> Path:
    return max((folder / WS / "journal").glob("*.jsonl"))


def put(source: Path, target: Path, name: str = "sessions.json") -> None:
    shutil.copy(source / WS / name, target / WS / name)


def test_a_journal_put_back_into_the_same_file_under_two_handles_loses_nothing_that_comes_after(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as one, NativeSessionManager(tmp_path) as two:
        one.create_session(WS, id="s")
        one.add_message(WS, "s", role="user", content="in the backup")
        backup = segment(tmp_path).read_bytes()
        one.add_message(WS, "s", role="user", content="after it " + "x" * 500)
        assert len(said(two)) == 2
        segment(tmp_path).write_bytes(backup)
        one.add_message(WS, "s", role="user", content="by one " + "y" * 900)
        two.add_message(WS, "s", role="user", content="by two")
        for each in (one, two):
            assert [text[:6] for text in said(each)] == ["in the", "by one", "by two"]
        assert one.check(WS).ok


@pytest.mark.parametrize("after_it", [0, 3])
def test_another_store_s_snapshot_is_merged_also_where_its_last_change_lies_in_a_sealed_segment(
    tmp_path: Path, after_it: int, caplog: pytest.LogCaptureFixture
) -> None:
    mine = [f"{number} {'x' * 20_000}" for number in range(5)]
    written(tmp_path, "s", mine)
    written(tmp_path, "s", mine[:after_it], fold=False)
    written(tmp_path / "other", "theirs", ["theirs"])
    put(tmp_path / "other", tmp_path)
    with caplog.at_level(logging.WARNING), NativeSessionManager(tmp_path) as m:
        assert said(m) == [*mine, *mine[:after_it]]
        assert said(m, "theirs") == ["theirs"]
        m.add_message(WS, "s", role="user", content="more")
        m.checkpoint(WS)
    assert "of another store" in caplog.text
    with NativeSessionManager(tmp_path) as m:
        assert said(m) == [*mine, *mine[:after_it], "more"]
        assert m.check(WS).ok


def test_of_two_copies_that_went_on_apart_the_one_that_is_here_stays_and_the_other_is_kept(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with NativeSessionManager(one) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", id="m", role="user", content="original")
        m.checkpoint(WS)
    shutil.copytree(one, two)
    for folder in (one, two):
        with NativeSessionManager(folder) as m:
            m.update_message(WS, "m", content=f"text of {folder.name}")
            if folder is two:
                m.add_message(WS, "s", role="user", content="of two alone")
                leave(m)
    put(one, two)
    with NativeSessionManager(two) as m:
        assert said(m) == ["text of two", "of two alone"]
        m.checkpoint(WS)
        assert said(m) == ["text of two", "of two alone"]
    (kept,) = (two / WS / "quarantine").glob("merge-*.json")
    assert "text of one" in kept.read_text()


@pytest.mark.parametrize("theirs", [2, 40])
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("folds", [1, 2])
def test_a_repair_keeps_what_is_ours_beside_another_store_s_snapshot(
    tmp_path: Path, theirs: int, drop: bool, folds: int
) -> None:
    mine = [f"mine {number}" for number in range(6)]
    written(tmp_path, "s", mine)
    for _ in range(1, folds):
        written(tmp_path, "s", ["folded twice"])
        mine.append("folded twice")
    written(tmp_path, "s", ["the last"], fold=False)
    time.sleep(0.01)  # The other store's ids are the newer ones: time alone does not tell it.
    written(tmp_path / "other", "theirs", [f"theirs {number}" for number in range(theirs)])
    put(tmp_path / "other", tmp_path)
    flipped(segment(tmp_path), b"mine 3")
    with NativeSessionManager(tmp_path) as m:
        if folds == 1 and not drop:  # There is no `.prev`: what was damaged is nowhere else.
            with pytest.raises(Exception, match="damaged"):
                m.repair(WS)
            assert m.repair(WS, drop_corrupt=True).after.ok
            assert said(m) == [*mine[:3], *mine[4:], "the last"]
        else:
            assert m.repair(WS, drop_corrupt=drop).after.ok
            assert said(m) == [*(mine if folds > 1 else [*mine[:3], *mine[4:]]), "the last"]
        assert len(said(m, "theirs")) == theirs


def test_lines_that_stand_twice_come_out_once(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", role="user", content="a")
        m.add_message(WS, "s", id="stream", role="assistant", content="", status="streaming")
        for text in ("Hello ", "Hello ", "world"):
            m.append_to_message(WS, "stream", text)
        leave(m)
    data = segment(tmp_path).read_bytes()
    segment(tmp_path).write_bytes(data + b"".join(data.splitlines(keepends=True)[-4:]))
    with NativeSessionManager(tmp_path) as m:
        m.repair(WS, drop_corrupt=True)
        assert said(m) == ["a", "Hello Hello world"]


def _prune(folder: Path) -> None:
    """A store whose journal reaches down to `.prev` only."""
    with NativeSessionManager(folder) as m:
        m.create_session(WS, id="s")
        m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
        for number in range(12):
            m.add_message(WS, "s", role="user", content=f"{number} {'x' * 12_000}")
            if number % 3 == 2:
                m.checkpoint(WS)
        leave(m)
    assert not (folder / WS / "journal" / "0000000000000001.jsonl").exists()


def _rewritten(folder: Path, *, ours: bool) -> None:
    """By another program, which may give our own key back or not."""
    path = folder / WS / "sessions.json"
    value = json.loads(path.read_bytes())
    if not ours:
        del value["nomad"]
    value["messages"]["f"] = {"id": "f", "sessionId": "s", "role": "user", "content": "theirs", "createdAt": 1}
    value["sessions"]["s"]["messageIds"].append("f")
    path.write_text(json.dumps(value))


PARTS = {"groups": b'"groups":[', "items": b'"items":[', "tombstones": b'"tombstones":[', "head": b'"head":{"for'}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("ours", [False, True])
def test_damage_to_the_snapshot_before_another_program_s_file_is_named_and_the_file_is_merged_by_a_repair(
    tmp_path: Path, part: str, ours: bool
) -> None:
    _prune(tmp_path)
    with NativeSessionManager(tmp_path) as m:
        before = said(m)
        leave(m)
    _rewritten(tmp_path, ours=ours)
    flipped(tmp_path / WS / "sessions.json.prev", PARTS[part], behind=3)
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        calls: list[Callable[[], object]] = [lambda: said(m), lambda: m.list_sessions(WS), lambda: m.repair(WS)]
        for call in calls:
            with contextlib.suppress(SnapshotUnreadableError):
                call()
        m.repair(WS, drop_corrupt=True)
        assert m.check(WS).ok
        assert said(m) == [*before, "theirs"]


@pytest.mark.parametrize("what", ["record", "seal"])
@pytest.mark.parametrize("drop", [None, False, True])
def test_an_old_segment_s_damage_stops_no_merge(tmp_path: Path, what: str, drop: bool | None) -> None:
    """The other program had seen less than `.prev` has; what it had seen cannot be rebuilt."""
    texts = [f"{number} {'x' * 12_000}" for number in range(12)]
    old = tmp_path / "old"
    for start in range(0, 12, 3):
        written(tmp_path, "s", texts[start : start + 3])
        if not start:
            shutil.copytree(tmp_path / WS, old / WS)
    _rewritten(old, ours=True)
    put(old, tmp_path)
    first = min((tmp_path / WS / "journal").glob("*.jsonl"))
    flipped(first, b"1 xxx" if what == "record" else b'"seal":')
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        if drop is not None:
            assert m.repair(WS, drop_corrupt=drop).after.ok
        assert sorted(said(m)) == sorted([*texts, "theirs"])


def test_a_newline_that_is_damaged_costs_no_record(tmp_path: Path) -> None:
    texts = [f"m{number} {{}}" for number in range(6)]
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        for number, text in enumerate(texts):
            # What looks like the begin of a line is none.
            m.add_message(WS, "s", role="user", content=text, metadata={"crc": "1", "of": [{"crc": number}]})
        leave(m)
    data = segment(tmp_path).read_bytes()
    for at in [place for place, byte in enumerate(data) if byte == 10][1:-1]:
        segment(tmp_path).write_bytes(data[:at] + b"\x0b" + data[at + 1 :])
        copy = tmp_path / f"copy-{at}"
        shutil.copytree(tmp_path / WS, copy / WS)
        with NativeSessionManager(copy) as m:
            assert m.repair(WS, drop_corrupt=True).after.ok
            assert said(m) == texts


@pytest.mark.parametrize("folded", [False, True])
def test_a_snapshot_that_is_damaged_and_ahead_of_the_journal_is_not_replaced_by_an_older_state(
    tmp_path: Path, folded: bool
) -> None:
    written(tmp_path, "s", ["early"], fold=folded)
    backup = segment(tmp_path).read_bytes()
    written(tmp_path, "s", ["folded 1", "folded 2"])
    segment(tmp_path).write_bytes(backup)
    flipped(tmp_path / WS / "sessions.json", b'"content"', behind=0)  # No JSON any more; its index is whole.
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        with pytest.raises(SnapshotUnreadableError, match="by its index"):
            said(m)
        with pytest.raises(SnapshotUnreadableError, match="by its index"):
            m.repair(WS)


def test_without_snapshot_and_last_segment_the_one_before_does_not_pass_for_the_newest(tmp_path: Path) -> None:
    for number in range(3):
        written(tmp_path, "s", [f"{number} {'x' * 40_000}"])
    written(tmp_path, "s", ["the last"], fold=False)
    os.unlink(segment(tmp_path))
    os.unlink(tmp_path / WS / "sessions.json")
    with NativeSessionManager(tmp_path) as m, pytest.raises(SnapshotUnreadableError, match="sealed segment"):
        said(m)


def test_a_previous_snapshot_with_more_than_what_was_put_back_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(tmp_path, "s", ["old"])
    shutil.copytree(tmp_path / WS, tmp_path / "backup" / WS)
    for number in range(3):
        written(tmp_path, "s", [f"newer {number}"])
    put(tmp_path / "backup", tmp_path)
    segment(tmp_path).write_bytes(segment(tmp_path / "backup").read_bytes())
    with caplog.at_level(logging.WARNING):
        written(tmp_path, "s", ["goes on"])
    with NativeSessionManager(tmp_path) as m:
        assert said(m) == ["old", "goes on"]
    (kept,) = (tmp_path / WS / "quarantine").glob("*.newer*")
    assert "newer 1" in kept.read_text()
    assert "kept in" in caplog.text


def test_two_damages_at_once_stop_no_repair_that_may_drop(tmp_path: Path) -> None:
    _prune(tmp_path)
    with NativeSessionManager(tmp_path) as m:
        before = said(m)
        leave(m)
    flipped(tmp_path / WS / "sessions.json", b'"content"', behind=0)
    os.unlink(segment(tmp_path))
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        assert m.repair(WS, drop_corrupt=True).after.ok
        assert said(m) == before


@pytest.mark.parametrize("drop", [False, True])
def test_one_repair_is_enough(tmp_path: Path, drop: bool) -> None:
    written(tmp_path, "s", ["first"])
    written(tmp_path, "s", ["second"], fold=False)
    for path in (tmp_path / WS / "sessions.json", segment(tmp_path)):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        assert m.repair(WS, drop_corrupt=drop).after.ok
        assert m.repair(WS).actions == []


@pytest.mark.parametrize("others", [False, True])
def test_an_old_snapshot_put_back_brings_no_mail_again_that_was_acknowledged(tmp_path: Path, others: bool) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.configure_workspace(WS, retention={"bytes": 0, "days": 0})
        m.add_message(WS, "s", role="user", content="x" * 40_000)
        task = m.create_task(WS, "s", agent_id="a", task_type="t")
        m.send(WS, "bob", "pay")
        if others:
            m.send(WS, "carol", "other")
            m.create_task(WS, "s", agent_id="a", task_type="stays")
        m.checkpoint(WS)
        backup = (tmp_path / WS / "sessions.json").read_bytes()
        m.delete_task(WS, task.id)
        lease = m.receive(WS, "bob")
        assert lease is not None
        assert lease.lease is not None
        m.ack(WS, lease.lease.id)
        for number in range(3):
            m.add_message(WS, "s", role="user", content=f"{number} {'y' * 60_000}")
            m.checkpoint(WS)
        leave(m)
    (tmp_path / WS / "sessions.json").write_bytes(backup)
    with NativeSessionManager(tmp_path) as m:
        assert m.receive(WS, "bob") is None
        assert len(m.list_tasks(WS)) == len(m.list_mail(WS)) == others
        assert len(said(m)) == 4
        m.checkpoint(WS)
    (kept,) = (tmp_path / WS / "quarantine").glob("merge-*.json")
    assert "pay" in kept.read_text()


@pytest.mark.parametrize("drop", [False, True])
def test_a_repair_takes_an_old_snapshot_of_ours_for_what_it_is(tmp_path: Path, drop: bool) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", role="user", content="deleted with its session " + "x" * 40_000)
        m.checkpoint(WS)
        backup = (tmp_path / WS / "sessions.json").read_bytes()
        m.delete_session(WS, "s")
        m.create_session(WS, id="s")
        for text in ("new life", "later"):
            m.add_message(WS, "s", role="user", content=text + "y" * 40_000)
            m.checkpoint(WS)
        m.add_message(WS, "s", role="user", content="last")
        before = said(m)
        leave(m)
    (tmp_path / WS / "sessions.json").write_bytes(backup)
    flipped(min((tmp_path / WS / "journal").glob("*.jsonl")), b"deleted with")
    long_ago(tmp_path / WS)
    with NativeSessionManager(tmp_path) as m:
        assert m.repair(WS, drop_corrupt=drop).after.ok
        assert said(m) == before
