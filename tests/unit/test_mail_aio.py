"""The mailbox for asyncio: the same calls, and who waits takes no thread from the others."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import AsyncSessionManager, InvalidInputError, LeaseNotFoundError, Mail
from nomad_sessions.aio_mail import AsyncMailCalls
from nomad_sessions.mail_api import MailCalls
from tests.support.there import there

WS, BOB = "ws", "bob"


def run(tmp_path: Path, body: Callable[[AsyncSessionManager], Awaitable[None]]) -> None:
    async def main() -> None:
        async with AsyncSessionManager(tmp_path, durability="os") as m:
            await body(m)

    asyncio.run(main())


def lease_of(mail: Mail | None) -> str:
    return there(there(mail).lease).id


def test_every_call_does_what_the_sync_one_does(tmp_path: Path) -> None:
    called: set[str] = set()

    async def body(m: AsyncSessionManager) -> None:
        async def call(name: str, *args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return await getattr(m, name)(WS, *args, **kwargs)

        rules = [{"name": "all", "to": [BOB]}]
        assert await call("set_mail_rules", rules) == await call("mail_rules")
        assert [verdict.matched for verdict in await call("explain_route", type="x")] == [True]
        (first,) = await call("publish", "a", priority="high")
        await call("send", BOB, "b", sender="alice")
        assert (await call("peek", BOB)).id == first.id
        mail = await call("receive", BOB, lease=60)
        assert (await call("extend", lease_of(mail), 90)).lease.ms == 90_000
        assert (await call("nack", lease_of(mail), error="e", retry=False)).status == "dead"
        assert [dead.id for dead in await call("dead_letters", BOB)] == [first.id]
        assert (await call("requeue", first.id)).status == "queued"
        assert (await call("get_mail", first.id)).attempts == 0
        assert (await call("list_mail", BOB, limit=1)).total == 2
        await call("discard", first.id)
        await call("ack", lease_of(await call("receive", BOB)))
        assert (await call("mail_counts")) == (0, 0, 0, 0, None, 0)
        with pytest.raises(LeaseNotFoundError):
            await call("ack", lease_of(mail))

    run(tmp_path, body)
    stubs = {"subscribe", "workspace"}
    assert called == {name for name in vars(MailCalls) if not name.startswith("_")} - stubs
    for name in called:
        mine, other = getattr(AsyncMailCalls, name), getattr(MailCalls, name)
        assert inspect.signature(mine) == inspect.signature(other), name


def test_twenty_who_wait_hold_up_nobody_and_each_gets_its_message(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        waiting = [asyncio.ensure_future(m.receive(WS, f"agent {number}", wait=30)) for number in range(20)]
        await asyncio.sleep(0.05)
        for number in range(20):
            await asyncio.wait_for(m.send(WS, f"agent {number}", number), 10)
        found = await asyncio.wait_for(asyncio.gather(*waiting), 20)
        assert [there(mail).content for mail in found] == list(range(20))

    run(tmp_path, body)


def test_a_retry_that_is_due_wakes_who_waits_and_waiting_in_vain_ends_in_time(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        await m.send(WS, BOB, "x")
        await m.nack(WS, lease_of(await m.receive(WS, BOB)), delay=0.1)
        assert there(await asyncio.wait_for(m.receive(WS, BOB, wait=30), 10)).attempts == 2
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await m.receive(WS, BOB, wait=0.1) is None
        assert 0.1 <= loop.time() - began < 5
        with pytest.raises(InvalidInputError):
            await m.receive(WS, BOB, wait=-1)

    run(tmp_path, body)


def test_cancelling_who_waits_takes_no_message(tmp_path: Path) -> None:
    async def body(m: AsyncSessionManager) -> None:
        waiting = asyncio.ensure_future(m.receive(WS, BOB, wait=30))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await m.send(WS, BOB, "x")
        assert there(await m.receive(WS, BOB)).content == "x"

    run(tmp_path, body)
