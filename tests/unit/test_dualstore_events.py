"""Events under their keys: found by their ids at any moment, and never twice, without reading the log again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.dualstore import recorded as module
from nomad_sessions.workspace.log import LogReader
from tests.support.there import there

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


def event(name: str, **properties: Any) -> dict[str, Any]:
    return {"type": "noted", "id": name, "properties": properties}


def test_what_others_record_is_found_and_the_log_is_read_once(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = 0

    class Counted(LogReader):
        def kept(self, told: int | None = None) -> Any:
            nonlocal given
            for batch in super().kept(told):
                given += len(batch)
                yield batch

    monkeypatch.setattr(module, "LogReader", Counted)
    m.record_events(WS, [event(f"e{n}") for n in range(500)])
    with DualStoreManager(m, WS) as store:
        store.insert({"id": "event:mine", "text": '{"type": "noted"}'})
        begun = given
        assert begun >= 500
        for n in range(20):
            store.insert({"id": f"event:mine-{n}", "text": '{"type": "noted"}'})
        assert given - begun < 30
        with NativeSessionManager(m.data_dir, durability="os") as other:
            other.record_events(WS, [event("theirs", a=1)])
        assert '"a":1' in there(store.get("event:theirs")).text
        assert store.get("event:e7") is not None
        assert store.get("event:e500") is None
        m.record_events(WS, [event("theirs", a=2)])
        assert '"a":2' in there(store.get("event:theirs")).text


def test_a_workspace_that_is_made_anew_has_none_of_the_events_before(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        m.record_events(WS, [event(f"e{n}") for n in range(10)])
        assert store.get("event:e3") is not None
        m.delete_workspace(WS)
        m.record_events(WS, [event("new")])
        assert store.get("event:e3") is None
        assert store.get("event:new") is not None


def test_of_threads_that_insert_the_same_event_one_records_it(m: NativeSessionManager) -> None:
    with DualStoreManager(m, WS) as store:
        together = threading.Barrier(8)

        def insert() -> None:
            together.wait(10)
            for n in range(20):
                store.insert({"id": f"event:{n}", "text": '{"type": "noted"}'})

        threads = [threading.Thread(target=insert) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(each.id for each in m.events(WS, recorded=True)) == sorted(map(str, range(20)))


def test_what_was_carried_over_since_is_found_where_it_is_now(m: NativeSessionManager) -> None:
    m.configure_workspace(WS, retention={"bytes": 0})
    with DualStoreManager(m, WS) as store:
        m.record_events(WS, [event(f"e{n}", n=n) for n in range(8)])
        assert '"n":3' in there(store.get("event:e3")).text
        for n in range(3):
            m.create_session(WS, title="x" * 50_000)
            m.record_event(WS, "noted", {"n": n})
            m.checkpoint(WS)
        assert list((Path(m.data_dir) / WS / "events").iterdir())
        for name in ("e3", "e7"):
            assert there(store.get(f"event:{name}")).id == f"event:{name}"
    with DualStoreManager(m, WS) as store:
        assert '"n":3' in there(store.get("event:e3")).text
