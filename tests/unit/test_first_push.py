"""The first push to a target that has nothing, or marks only of what was there in another past."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.sync import Change, Key, MemoryTarget, Synchronizer, outbox
from nomad_sessions.sync.host import all_recorded


def test_what_was_deleted_in_another_past_is_there_again(tmp_path: Path) -> None:
    target = MemoryTarget()
    with NativeSessionManager(tmp_path) as manager, Synchronizer(manager, [target]) as sync:
        session = manager.create_session("ws").id
        message = manager.add_message("ws", session, role="user", content="hello").id
        for key in (Key("message", message), Key("session", session)):
            target.apply([Change("ws", key, 1_000, None)])
        sync.push()
        assert sync.verify("ws", target="memory") == []
        assert list(target.fetch("ws", "message", [message])) == [message]


def test_for_many_events_the_log_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = 0

    def counted(*args: object) -> object:
        nonlocal reads
        reads += 1
        return all_recorded(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(outbox, "all_recorded", counted)
    with NativeSessionManager(tmp_path, durability="os") as manager:
        manager.record_events("ws", [{"type": "told", "properties": {"n": number}} for number in range(5_000)])
        target = MemoryTarget()
        with Synchronizer(manager, [target]) as sync:
            assert sync.push()["memory", "ws"].confirmed == 5_000
            assert reads == 2  # To know what there is, and to send it.
            assert sync.verify("ws", target="memory") == []
            target.apply([Change("ws", Key("event", "nobody's"), 1, {"id": "nobody's"})])
            (extra,) = sync.verify("ws", target="memory", repair=True)
            assert (extra.problem, extra.key.id) == ("extra", "nobody's")
            assert sync.verify("ws", target="memory") == []
