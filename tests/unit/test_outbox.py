"""The way of changes to a target: all of them, whatever becomes of the target or the log on the way."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from nomad_sessions import LockTimeoutError, NativeSessionManager, TargetUnavailableError
from nomad_sessions.sync import Applied, Change, Key, MemoryTarget, Synchronizer
from nomad_sessions.sync.outbox import Outbox, Pushed
from tests.support.there import there
from tests.support.troublesome import TroublesomeTarget

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        manager.create_session(WS, id="s")
        yield manager


def add(m: NativeSessionManager, count: int, session: str = "s") -> list[str]:
    return [m.add_message(WS, session, role="user", content=f"text {n}").id for n in range(count)]


def synced(m: NativeSessionManager, target: MemoryTarget) -> bool:
    """Whether the target is what the store is, as a comparison of its own sees it."""
    with Synchronizer(m, [target]) as sync:
        return sync.verify(WS, target=target.name) == []


def kinds(target: MemoryTarget) -> dict[str, int]:
    return {kind: len(target.scan(WS, kind)) for kind in target.kinds if target.scan(WS, kind)}


def test_every_kind_of_record_arrives_and_what_is_deleted_goes(m: NativeSessionManager) -> None:
    target = MemoryTarget()
    with Synchronizer(m, [target]) as sync:
        first, second, third = add(m, 3)
        m.record_event(WS, "note", {"n": 1}, session_id="s")
        task = m.create_task(WS, "s", {"task": "look"})
        m.send(WS, "inbox", type="note", content="hello")
        m.configure_workspace(WS, fold="auto")
        assert sync.push()["memory", WS].compared == "it is new"
        expected = {"workspace": 1, "session": 1, "message": 3, "task": 1, "mail": 1, "event": 1}
        assert kinds(target) == expected
        m.update_message(WS, first, content="changed")
        m.append_to_message(WS, second, " and more")
        m.delete_message(WS, third)
        m.update_task(WS, task.id, status="running")
        fork = m.fork_session(WS, "s")
        m.revert(WS, fork.id, fork.message_ids[0])
        m.record_event(WS, "note", {"n": 2})
        assert sync.push()["memory", WS].compared == ""
        assert kinds(target) == expected | {"session": 2, "message": 4, "event": 2}
        assert there(target.fetch(WS, "message", [first])[first].body)["content"] == "changed"
        assert there(target.fetch(WS, "message", [second])[second].body)["content"] == "text 1 and more"
        reverted = there(target.fetch(WS, "session", [fork.id])[fork.id].body)
        assert reverted["messageIds"] == fork.message_ids[:1]
        assert reverted["hiddenIds"] == fork.message_ids[1:]
        assert sync.verify(WS, target="memory") == []
        m.delete_session(WS, fork.id)
        m.delete_task(WS, task.id)
        m.delete_session(WS, "s")
        sync.push()
        assert kinds(target) == {"workspace": 1, "mail": 1, "event": 2}
        assert sync.verify(WS, target="memory") == []


def test_a_push_costs_what_is_new(m: NativeSessionManager) -> None:
    target = TroublesomeTarget()
    add(m, 50)
    with Synchronizer(m, [target]) as sync:
        sync.push()
        target.sent.clear()
        assert sync.push()["memory", WS] == Pushed(0, 0, "")
        assert target.sent == []
        (message,) = add(m, 1)
        for n in range(200):
            m.append_to_message(WS, message, f" {n}")
        sync.push()
    assert sorted(each.key for each in target.sent) == [Key("message", message), Key("session", "s")], "not each token"


def test_a_push_ends_however_much_is_written_meanwhile(m: NativeSessionManager) -> None:
    class Written(TroublesomeTarget):
        def apply(self, changes: Sequence[Change], *, force: bool = False) -> Applied:
            add(m, 1)
            assert self.calls < 10, "it runs after the writer"
            return super().apply(changes, force=force)

    target = Written()
    with Synchronizer(m, [target]) as sync:
        for _ in range(3):
            sync.push()
        assert sync.verify(WS, target="memory") == [], "what came during the push is on its way"


def test_what_it_was_told_it_is_not_told_again_by_the_next_process(m: NativeSessionManager) -> None:
    target = TroublesomeTarget()
    add(m, 20)
    with Synchronizer(m, [target]) as sync:
        sync.push()
    add(m, 3)
    target.sent.clear()
    with NativeSessionManager(m.data_dir) as other, Synchronizer(other, [target]) as sync:
        sync.push()
    assert len(target.sent) == 4


@pytest.mark.parametrize("what", ["away", "lost", "half", "twice"])
def test_whatever_it_does_at_any_call_in_the_end_it_has_all(m: NativeSessionManager, what: str) -> None:
    for call in range(1, 9):
        target = TroublesomeTarget(lambda n, call=call: what if n == call else "")  # type: ignore[misc]
        with Synchronizer(m, [target]) as sync:
            for _ in range(4):
                ids = add(m, 3)
                m.delete_message(WS, ids[0])
                for _ in range(2):
                    try:
                        sync.push()
                        break
                    except TargetUnavailableError:
                        pass
            sync.push()
            assert sync.verify(WS, target="memory") == []
        with Synchronizer(m, [target]) as sync:
            sync.reset(WS, target="memory")


def test_after_a_failure_the_same_outbox_goes_on_where_the_target_is(m: NativeSessionManager) -> None:
    target = TroublesomeTarget(lambda n: "away" if n == 3 else "")
    outbox = Outbox(m, WS, target)
    outbox.push()
    add(m, 3)
    outbox.push()
    add(m, 3)
    with pytest.raises(TargetUnavailableError):
        outbox.push()
    assert outbox.behind() == 3
    assert outbox.push().confirmed == 4
    assert outbox.behind() == 0
    outbox.close()
    assert synced(m, target)


def test_a_session_that_was_deleted_and_made_again_in_between_leaves_none_of_its_messages(
    m: NativeSessionManager,
) -> None:
    target = MemoryTarget()
    with Synchronizer(m, [target]) as sync:
        add(m, 3)
        sync.push()
        m.delete_session(WS, "s")
        m.create_session(WS, id="s")
        (message,) = add(m, 1)
        sync.push()
        assert [each.id for each in target.scan(WS, "message")] == [message]
        assert sync.verify(WS, target="memory") == []


def test_poison_is_named_and_holds_up_nothing_and_can_be_retried(m: NativeSessionManager) -> None:
    first, second = add(m, 2)
    target = TroublesomeTarget(poison=[first])
    with Synchronizer(m, [target]) as sync:
        assert sync.push()["memory", WS].rejected == 1
        assert [each.id for each in target.scan(WS, "message")] == [second]
        ((name, workspace, letter),) = sync.dead()
        assert (name, workspace, letter.key, letter.reason, letter.attempts) == (
            "memory",
            WS,
            Key("message", first),
            "poison",
            1,
        )
        m.update_message(WS, first, content="changed")
        sync.push()
        assert [(each.attempts, each.rev) for _, _, each in sync.dead()] == [(2, m.status(WS).seq)]
        (difference,) = sync.verify(WS, target="memory")
        assert (difference.key, difference.problem) == (Key("message", first), "missing")
    with Synchronizer(m, [target]) as sync:
        assert len(sync.dead(WS, target="memory")) == 1, "it is kept on the disk"
        assert sync.status(WS)[0].dead == 1
        assert sync.retry().rejected == 1
        target.poison.clear()
        assert sync.retry() == Pushed(1, 0, "")
        assert sync.dead() == []
        assert sync.retry() == Pushed(0, 0, "")
        assert sync.verify(WS, target="memory") == []


def test_a_refused_record_that_is_deleted_is_no_dead_letter_any_more(m: NativeSessionManager) -> None:
    (message,) = add(m, 1)
    target = TroublesomeTarget(poison=[message])
    with Synchronizer(m, [target]) as sync:
        sync.push()
        target.poison.clear()
        m.delete_message(WS, message)
        sync.push()
        assert sync.dead() == []


def test_a_log_that_ends_with_a_stream_is_followed_from_there(m: NativeSessionManager) -> None:
    """The pieces of a stream have no ids of their own: the place is not taken for that of another log."""
    (message,) = add(m, 1)
    m.append_to_message(WS, message, "more")
    m.append_to_message(WS, message, "and more")
    with Synchronizer(m, [MemoryTarget()]) as sync:
        assert sync.push()["memory", WS].compared == "it is new"
        m.append_to_message(WS, message, "and more")
        assert sync.push()["memory", WS] == Pushed(2, 0, "")


def test_where_the_retention_has_overtaken_it_the_whole_is_compared_and_said(
    m: NativeSessionManager, caplog: pytest.LogCaptureFixture
) -> None:
    target = TroublesomeTarget()
    m.configure_workspace(WS, retention={"bytes": 0})
    kept = add(m, 3)
    with Synchronizer(m, [target]) as sync:
        sync.push()
        m.delete_message(WS, kept[0])
        m.record_event(WS, "note")
        for _ in range(4):
            add(m, 200)
            m.checkpoint(WS)
        target.sent.clear()
        assert sync.push()["memory", WS].compared == "the log has been pruned since"
        assert "compared as a whole" in caplog.text
        assert len(target.sent) <= 805, "only what differs"
        assert sync.push()["memory", WS].compared == ""
        assert sync.verify(WS, target="memory") == []


def test_another_past_of_the_workspace_is_compared_too(m: NativeSessionManager) -> None:
    target = MemoryTarget()
    add(m, 8)
    with Synchronizer(m, [target]) as sync:
        sync.push()
        kept = (Path(m.data_dir) / WS / "cursors" / "sync-memory.json").read_bytes()
        m.delete_workspace(WS)
        m.create_session(WS, id="s")
        add(m, 12)
        (Path(m.data_dir) / WS / "cursors").mkdir()
        (Path(m.data_dir) / WS / "cursors" / "sync-memory.json").write_bytes(kept)
        assert sync.push()["memory", WS].compared == "the log is another one"
        assert len(target.scan(WS, "message")) == 12
        assert sync.verify(WS, target="memory") == []


def test_what_somebody_changed_in_the_target_is_found_and_made_right(m: NativeSessionManager) -> None:
    target = MemoryTarget()
    ids = add(m, 2500)
    with Synchronizer(m, [target]) as sync:
        sync.push()
        keys = [(WS, Key("message", each)) for each in ids]
        del target.records[keys[3]]
        target.records[keys[1700]] = target.records[keys[1700]]._replace(rev=1)
        target.records[keys[2400]] = target.records[keys[2400]]._replace(rev=99_999)
        extra = target.records[keys[0]]._replace(key=Key("message", "theirs"))
        target.records[WS, extra.key] = extra
        told: list[tuple[int, int]] = []
        found = sync.verify(WS, target="memory", progress=lambda done, of: told.append((done, of)))
        assert sorted((each.key.id, each.problem) for each in found) == sorted(
            [(ids[3], "missing"), (ids[1700], "stale"), (ids[2400], "ahead"), ("theirs", "extra")]
        )
        assert (2500, 2500) in told
        assert len(sync.verify(WS, target="memory", repair=True)) == 4
        assert sync.verify(WS, target="memory") == []


def test_one_process_pushes_at_a_time(m: NativeSessionManager) -> None:
    target = MemoryTarget()
    outbox = Outbox(m, WS, target)
    with Synchronizer(m, [target]) as sync:
        with pytest.raises(LockTimeoutError, match="sync-memory"):
            sync.push()
        outbox.close()
        sync.push()
    assert synced(m, target)


def test_a_reset_compares_the_whole_again_and_sends_nothing_that_is_there(m: NativeSessionManager) -> None:
    target = TroublesomeTarget()
    add(m, 5)
    with Synchronizer(m, [target]) as sync:
        sync.push()
        target.sent.clear()
        sync.reset(WS, target="memory")
        assert sync.status()[0].behind == m.status(WS).seq
        assert sync.push()["memory", WS] == Pushed(0, 0, "it is new")
        assert target.sent == []


def test_what_is_not_on_the_disk_yet_is_not_told(m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seq that somebody elsewhere was shown is never given to another change."""
    workspace = m.workspace(WS)
    durable: list[int] = []

    class Asking(MemoryTarget):
        def apply(self, changes, *, force=False):  # type: ignore[no-untyped-def]
            view = workspace.read(lambda each: each)
            durable.append(view.journal.durable - view.journal.end)
            return super().apply(changes, force=force)

    add(m, 5)
    with Synchronizer(m, [Asking()]) as sync:
        sync.push()
    assert durable
    assert not any(durable)


def test_a_workspace_that_is_deleted_takes_its_place_along(m: NativeSessionManager) -> None:
    target = TroublesomeTarget(poison=["s"])
    with Synchronizer(m, [target]) as sync:
        sync.push()
    folder = Path(m.data_dir) / WS
    assert (folder / "sync" / "memory.json").exists()
    m.delete_workspace(WS)
    assert not folder.exists()


def test_nothing_is_logged_that_was_not_to_be(m: NativeSessionManager, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Synchronizer(m, [MemoryTarget()]) as sync:
        sync.push()
    assert caplog.text == ""
