"""Connections in asyncio: the same, and a call that is cancelled leaves nobody connected."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from nomad_sessions import AsyncSessionManager, Connection, SessionInUseError, SessionReplica, StoreClosedError

WS = "ws"


def test_a_session_is_opened_followed_and_let_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            async with await m.open_session(WS, "s", client="a", exclusive=True, expires_after=9) as connection:
                assert [each.client for each in await m.connections(WS)] == ["a"]
                with pytest.raises(SessionInUseError):
                    await m.open_session(WS, "s")
                replica = SessionReplica()
                async with m.stream_message(WS, "s") as streaming:
                    await streaming.text("hi")
                goal = await m.record_event(WS, "marked", session_id="s")
                async for event in await m.follow_session(WS, "s"):
                    replica.apply(event)
                    if replica.seq >= goal:
                        break
                assert replica.messages == list(await m.get_session_messages(WS, "s"))
            assert connection.state == "closed"
            await m.close_session(WS, "s")
            async with await m.resume_session(WS, "s"):
                assert len(await m.connections(WS, "s")) == 1
            assert await m.connections(WS) == []
        with pytest.raises(StoreClosedError):
            await m.open_session(WS, "s")

    asyncio.run(main())


def test_who_is_cancelled_while_connecting_is_not_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            begun, go_on = threading.Event(), threading.Event()
            connect = m._manager._connect

            def slowly(*args: object) -> Connection:
                begun.set()
                go_on.wait(10)
                return connect(*args)  # type: ignore[arg-type]

            monkeypatch.setattr(m._manager, "_connect", slowly)
            opening = asyncio.ensure_future(m.open_session(WS, "s", exclusive=True))
            await asyncio.to_thread(begun.wait)
            for _ in range(2):
                opening.cancel()
                await asyncio.sleep(0.01)
            assert not opening.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await opening
            monkeypatch.setattr(m._manager, "_connect", connect)
            assert not m._manager._connections
            assert await m.connections(WS) == []
            (await m.open_session(WS, "s", exclusive=True)).close()

    asyncio.run(main())


def test_cancelled_before_a_thread_takes_it_up_it_is_not_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            gate = threading.Event()
            busy = [asyncio.ensure_future(m._run(gate.wait)) for _ in range(8)]
            await asyncio.sleep(0.02)
            opening = asyncio.ensure_future(m.open_session(WS, "s"))
            await asyncio.sleep(0.02)
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            gate.set()
            await asyncio.gather(*busy)
            assert await m.connections(WS) == []

    asyncio.run(main())
