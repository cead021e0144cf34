"""`AsyncSessionManager`: the same calls, results and errors; cancelling before a thread takes a call up, and after."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from nomad_sessions import (
    AsyncSessionManager,
    ConflictError,
    NativeSessionManager,
    SessionNotFoundError,
    StoreClosedError,
    TransactionError,
)
from nomad_sessions.aio_mail import AsyncMailCalls
from nomad_sessions.sync import MemoryTarget
from tests.support.there import there

WS = "ws"
NOT_ASYNC = {"workspace", "closed", "data_dir"}
OF_ITS_OWN = {"transaction", "stream_message", "close", "events"}


def public(cls: type) -> dict[str, Any]:
    return {name: each for name, each in inspect.getmembers(cls) if not name.startswith("_")}


def test_every_method_has_its_twin_with_the_same_signature() -> None:
    ours, theirs = public(AsyncSessionManager), public(NativeSessionManager)
    assert set(ours) - {"data_dir"} == set(theirs) - NOT_ASYNC
    for name in set(theirs) - NOT_ASYNC - OF_ITS_OWN:
        assert inspect.iscoroutinefunction(ours[name]), name
        assert inspect.signature(ours[name]) == inspect.signature(theirs[name]), name
    for name in OF_ITS_OWN:
        mine, other = (inspect.signature(each[name]).parameters for each in (ours, theirs))
        assert list(mine.values()) == list(other.values()), name


def test_the_constructors_take_the_same_options() -> None:
    mine = dict(inspect.signature(AsyncSessionManager.__init__).parameters)
    assert mine.pop("manager").default is None
    assert list(mine.values()) == list(inspect.signature(NativeSessionManager.__init__).parameters.values())


def run(tmp_path: Path, body: Callable[[AsyncSessionManager], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path, **options) as m:
            await body(m)

    asyncio.run(main())


async def on_tasks(call: Callable[..., Awaitable[Any]], session: str) -> None:
    task = await call("create_task", WS, session, {"agentId": "a"}, id="t")
    assert (await call("start_task", WS, "t")).status == "running"
    assert (await call("progress_task", WS, "t", 50)).progress == 50
    assert (await call("touch_task", WS, "t")).rev == task.rev + 3
    assert (await call("update_task", WS, "t", agent_id="b", if_rev=task.rev + 3)).agent_id == "b"
    assert (await call("complete_task", WS, "t", {"k": 1})).output_data == {"k": 1}
    assert (await call("get_task", WS, "t")).status == "completed"
    await call("create_task", WS, session, id="u")
    assert (await call("fail_task", WS, "u", "why")).error_message == "why"
    assert (await call("list_tasks", WS, status="failed", limit=1)).total == 1
    assert (await call("session_info", WS, session)).agent_task_status == "failed"
    assert (await call("list_session_info", WS, limit=1, is_agent_task=True)).total_count == 1
    await call("delete_task", WS, "u")
    assert await call("overdue_tasks", WS) == await call("fail_overdue_tasks", WS, idle_ms=1) == []
    with await call("monitor_tasks", WS, every_ms=5) as monitor:
        assert monitor.look() == []
    assert monitor.closed


def test_every_method_does_what_the_sync_one_does(tmp_path: Path) -> None:
    called: set[str] = set()

    async def body(m: AsyncSessionManager) -> None:
        async def call(name: str, *args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return await getattr(m, name)(*args, **kwargs)

        session = (await call("create_session", WS, {"title": "t"}, id="s")).id
        one = await call("add_message", WS, session, role="user", content="a")
        two, _ = await call("add_messages", WS, session, [{"role": "user", "content": c} for c in "bc"])
        assert (await call("update_message", WS, one.id, content="A", if_rev=one.rev)).content == "A"
        await call("append_to_message", WS, two.id, "!", sync=False)
        await call("flush")
        assert (await call("get_message", WS, two.id)).content == "b!"
        assert [each.content for each in await call("get_session_messages", WS, session, last=2)] == ["b!", "c"]
        assert (await call("revert", WS, session, one.id, reason="r")).message_ids == [one.id]
        assert len((await call("unrevert", WS, session)).message_ids) == 3
        fork = await call("fork_session", WS, session, message_id=one.id, title="f")
        assert (await call("children", WS, session)).total == 1
        assert (await call("update_session", WS, fork.id, title="g")).title == "g"
        for name, field in (("close", "closed_at"), ("archive", "archived_at")):
            assert getattr(await call(f"{name}_session", WS, session), field) is not None
            undo = {"close": "reopen_session", "archive": "unarchive_session"}[name]
            assert getattr(await call(undo, WS, session), field) is None
        await call("delete_message", WS, one.id)
        assert (await call("compact_session", WS, session, "sum")).metadata["compaction"]["messages"] == 2
        assert (await call("move_session", WS, fork.id, to_workspace="other")).workspace_id == "other"
        assert await call("list_workspaces") == ["other", WS]
        assert (await call("list_sessions", WS, limit=1)).total == 1
        assert (await call("get_session", WS, session)).title == "t"
        assert await call("interrupted_messages", WS) == []
        assert await call("get_active_session_count") == 2
        await on_tasks(call, session)
        seq = await call("record_event", WS, "noted")
        assert await call("warm", WS, sessions=5) == 3
        assert (await call("metrics")).workspaces[WS].seq > 0
        assert await call("record_events", WS, []) == []
        assert await call("list_cursors", WS) == []
        (await call("start_sync", MemoryTarget())).close()
        assert not await call("delete_cursor", WS, "c")
        assert [event.seq async for event in m.events(WS, recorded=True)] == [seq]
        with await call("subscribe", WS, since=seq - 1) as subscription:
            assert subscription.next(5).seq == seq
        with await call("open_session", WS, session, client="c") as connection:
            assert await call("connections", WS, session) == [connection.info._replace(heartbeat_age=ANY)]
            assert (await call("follow_session", WS, session)).next(5).type == "session.snapshot"
        await m.close_session(WS, session)
        (await call("resume_session", WS, session)).close()
        file = await m.add_message(WS, session, role="user", parts=[{"type": "f", "file": {"data": bytes(99_999)}}])
        assert await call("read_attachment", WS, there(file.parts[0].file).sha256) == bytes(99_999)
        assert (await call("configure_workspace", WS, fold="auto"))["fold"] == "auto"
        assert await call("checkpoint", WS) is True
        assert (await call("status", WS)).unfolded_records == 0
        assert (await call("settings", WS)) == {"fold": "auto"}
        assert (await call("stats", WS)).sessions == 1
        assert (await call("usage", WS)).total.messages > 0
        assert (await call("check", WS)).ok
        assert (await call("doctor", WS)).ok
        assert (await call("repair", WS)).after.ok
        named = await call("workspace_for", tmp_path / "project")
        await call("link_workspace", named, tmp_path / "moved")
        assert (await call("workspace_folders"))[named] == str(tmp_path / "moved")
        assert await m.workspace_for(tmp_path / "moved") == named
        await call("clear_workspace", WS)
        assert await call("delete_session", WS, session) == [session]
        await call("delete_workspace", "other")
        async with m.transaction(WS) as tx:
            tx.create_session(WS, id="tx")
        async with m.stream_message(WS, "tx") as s:
            await s.text("x")

    run(tmp_path, body)
    elsewhere = {"transaction", "events", "stream_message", "close", *public(AsyncMailCalls)}
    assert called | elsewhere == set(public(NativeSessionManager)) - NOT_ASYNC


def test_errors_come_as_they_are(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        with pytest.raises(SessionNotFoundError):
            await m.add_message(WS, "nobody", role="user")
        session = await m.create_session(WS)
        with pytest.raises(ConflictError):
            await m.update_session(WS, session.id, title="x", if_rev=99)

    run(tmp_path, body)


def test_two_hundred_concurrent_adds_are_all_there(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")
        adds = [m.add_message(WS, "s", role="user", content=str(n)) for n in range(200)]
        added = await asyncio.gather(*adds)
        assert sorted(int(each.content) for each in added) == list(range(200))
        assert len({each.id for each in added}) == 200

    run(tmp_path, body)
    with NativeSessionManager(tmp_path) as m:
        page = m.get_session_messages(WS, "s")
        assert sorted(int(each.content) for each in page) == list(range(200))
        assert [each.rev for each in page] == list(range(2, 202))


def test_a_write_that_is_cancelled_before_a_thread_takes_it_up_is_not_done(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")
        gate = threading.Event()
        busy = [asyncio.ensure_future(m._run(gate.wait)) for _ in range(8)]
        await asyncio.sleep(0.02)
        waiting = asyncio.ensure_future(m.add_message(WS, "s", role="user", content="never"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.set()
        await asyncio.gather(*busy)
        await m.add_message(WS, "s", role="user", content="after")
        assert [each.content for each in await m.get_session_messages(WS, "s")] == ["after"]

    run(tmp_path, body)


def test_a_write_that_is_cancelled_later_is_finished(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")
        with m._manager.workspace(WS).locked():  # Holds up the thread that took the call up.
            waiting = asyncio.ensure_future(m.add_message(WS, "s", role="user", content="done"))
            await asyncio.sleep(0.05)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        while not await m.get_session_messages(WS, "s"):
            await asyncio.sleep(0.005)

    run(tmp_path, body)
    with NativeSessionManager(tmp_path) as m:
        assert [each.content for each in m.get_session_messages(WS, "s")] == ["done"]


def test_a_transaction_commits_at_its_end_and_rolls_back_on_cancellation(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        async def work(session_id: str, pause: float) -> None:
            async with m.transaction(WS) as tx:
                tx.create_session(WS, id=session_id)
                await asyncio.sleep(pause)

        slow = asyncio.ensure_future(work("lost", 60))
        await asyncio.gather(work("one", 0.01), work("two", 0.01))
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        with pytest.raises(ValueError, match="no"):  # noqa: PT012
            async with m.transaction(WS) as tx:
                tx.create_session(WS, id="lost too")
                raise ValueError("no")
        async with m.transaction(WS) as tx:
            tx.create_session(WS, id="outer")
            with pytest.raises(TransactionError):
                async with m.transaction(WS):
                    pass
        assert {each.id for each in await m.list_sessions(WS)} == {"one", "two", "outer"}

    run(tmp_path, body)


def test_a_transaction_that_is_cancelled_while_it_commits_is_committed_when_the_task_has_ended(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")

        async def work() -> None:
            async with m.transaction(WS) as tx:
                tx.add_message(WS, "s", role="user", content="whole")
                await asyncio.sleep(0.05)

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0.02)
        with m._manager.workspace(WS).locked():  # Holds up the commit.
            await asyncio.sleep(0.1)
            task.cancel()
            await asyncio.sleep(0.05)
        (result,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)
        assert [each.content for each in await m.get_session_messages(WS, "s")] == ["whole"]

    run(tmp_path, body)


def test_the_loop_is_not_blocked_while_a_call_waits_for_the_lock(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")
        ticks = 0
        with m._manager.workspace(WS).locked():
            waiting = asyncio.ensure_future(m.add_message(WS, "s", role="user"))
            for _ in range(10):
                await asyncio.sleep(0.002)
                ticks += 1
            assert not waiting.done()
        assert (await waiting).session_id == "s"
        assert ticks == 10

    run(tmp_path, body)


def test_closing_waits_for_calls_under_way_and_a_shared_manager_stays_open(tmp_path: Path) -> None:
    async def main(manager: NativeSessionManager) -> None:
        async with AsyncSessionManager(manager=manager) as m:
            assert m.data_dir == str(tmp_path)
            await m.create_session(WS, id="s")
            adding = [asyncio.ensure_future(m.add_message(WS, "s", role="user")) for _ in range(20)]
            await asyncio.sleep(0)
        assert len(await asyncio.gather(*adding)) == 20
        own = AsyncSessionManager(tmp_path)
        await own.close()
        with pytest.raises((StoreClosedError, RuntimeError)):
            await own.create_session(WS)

    with NativeSessionManager(tmp_path) as manager:
        asyncio.run(main(manager))
        assert manager.get_session_messages(WS, "s").total == 20


@pytest.mark.parametrize("owned", [True, False])
def test_a_stream_that_ends_after_its_manager_was_closed_leaves_no_living_writer(tmp_path: Path, owned: bool) -> None:
    async def main(shared: NativeSessionManager) -> str:
        m = AsyncSessionManager(tmp_path) if owned else AsyncSessionManager(manager=shared)
        await m.create_session(WS, id="s")
        stream = await m.stream_message(WS, "s").__aenter__()
        await stream.text("all")
        await m.close()
        with pytest.raises(StoreClosedError):
            await stream.text("more")
        if owned:
            with pytest.raises(StoreClosedError):
                await stream.__aexit__(None, None, None)
        else:
            await stream.__aexit__(None, None, None)
        return stream.message.id

    with NativeSessionManager(tmp_path) as shared:
        found = shared.get_message(WS, asyncio.run(main(shared)))
        assert found is not None
        assert (found.content, found.status) == ("all", "streaming" if owned else "completed")
        assert [each.id for each in shared.interrupted_messages(WS)] == ([found.id] if owned else [])


def test_who_subscribes_hears_of_a_transaction_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.create_session(WS, id="s")
        woken: list[str] = []
        subscription = await m.subscribe(WS)
        hub = m._manager._hub
        assert hub is not None
        monkeypatch.setattr(hub, "wake", woken.append)
        async with m.transaction(WS) as tx:
            tx.add_message(WS, "s", role="user", content="whole")
        assert WS in woken
        subscription.close()

    run(tmp_path, body)
