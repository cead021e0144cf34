"""The calls on messages between sessions as coroutines: the rest of what `aio_calls.py` has."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.mail.names import name_of
from nomad_sessions.mail_api import MAIL_EVENTS, pause_of
from nomad_sessions.manager import NativeSessionManager
from nomad_sessions.models import Page

if TYPE_CHECKING:
    from typing import Unpack

    from nomad_sessions.events.subscription import Subscription
    from nomad_sessions.mail.asking import MailCounts, SendOptions
    from nomad_sessions.mail.operations import Taken
    from nomad_sessions.mail.routing import RuleVerdict
    from nomad_sessions.models.mail import Mail, MailRule

__all__ = ["AsyncMailCalls"]

P = ParamSpec("P")
T = TypeVar("T")


class AsyncMailCalls:
    """What `AsyncSessionManager` has of the calls on the mailbox."""

    _manager: NativeSessionManager

    async def _run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        raise NotImplementedError

    async def send(
        self, workspace_id: str, recipient: str, content: Any = None, **options: Unpack[SendOptions]
    ) -> Mail:
        """Sends any JSON to a recipient: a session's id, or the name of an agent. Durable on return."""
        return await self._run(self._manager.send, workspace_id, recipient, content, **options)

    async def publish(self, workspace_id: str, content: Any = None, **options: Unpack[SendOptions]) -> list[Mail]:
        """Sends to everybody to whom the rules say, as `send` does, all or none. Durable on return."""
        return await self._run(self._manager.publish, workspace_id, content, **options)

    async def mail_rules(self, workspace_id: str) -> list[MailRule]:
        """The rules that `publish` goes by, in their order."""
        return await self._run(self._manager.mail_rules, workspace_id)

    async def set_mail_rules(self, workspace_id: str, rules: Iterable[MailRule | Mapping[str, Any]]) -> list[MailRule]:
        """Replaces the rules, all of them. Durable on return."""
        return await self._run(self._manager.set_mail_rules, workspace_id, rules)

    async def explain_route(
        self,
        workspace_id: str,
        *,
        sender: str | None = None,
        type: str = "message",
        priority: str = "medium",
        metadata: Mapping[str, Any] | None = None,
    ) -> list[RuleVerdict]:
        """What each rule says of such a message. Sends nothing."""
        return await self._run(
            self._manager.explain_route, workspace_id, sender=sender, type=type, priority=priority, metadata=metadata
        )

    async def receive(
        self, workspace_id: str, recipient: str, *, lease: float = 30.0, wait: float = 0.0, ordered: bool = True
    ) -> Mail | None:
        """Leases the next message for a recipient for `lease` seconds; None when there is none. Durable on return.

        Who waits takes no thread. Cancelled at the moment of the lease, the message comes back when its time is over.
        """

        recipient = name_of("recipient", recipient)

        async def take() -> Taken:
            return await self._run(self._manager._taken, workspace_id, recipient, lease, wait, ordered=ordered)

        taken = await take()
        if taken.mail is not None or not wait:
            return taken.mail
        loop = asyncio.get_running_loop()
        until = loop.time() + wait
        with await self._run(
            self._manager.subscribe, workspace_id, types=MAIL_EVENTS, session_id=recipient
        ) as subscription:
            while True:
                taken = await take()
                left = until - loop.time()
                if taken.mail is not None or left <= 0:
                    return taken.mail
                with contextlib.suppress(TimeoutError, EventsPrunedError):
                    await asyncio.wait_for(_first_of(subscription), pause_of(taken, left))

    async def ack(self, workspace_id: str, lease_id: str) -> None:
        """The leased message has been dealt with, and is gone. Durable on return."""
        return await self._run(self._manager.ack, workspace_id, lease_id)

    async def nack(
        self,
        workspace_id: str,
        lease_id: str,
        *,
        delay: float | None = None,
        error: str | None = None,
        retry: bool = True,
    ) -> Mail:
        """Gives a leased message back, for another attempt or for the dead letters. Durable on return."""
        return await self._run(self._manager.nack, workspace_id, lease_id, delay=delay, error=error, retry=retry)

    async def extend(self, workspace_id: str, lease_id: str, seconds: float = 30.0) -> Mail:
        """Gives a lease `seconds` from now on. Durable on return."""
        return await self._run(self._manager.extend, workspace_id, lease_id, seconds)

    async def get_mail(self, workspace_id: str, mail_id: str) -> Mail | None:
        """One message, or None."""
        return await self._run(self._manager.get_mail, workspace_id, mail_id)

    async def list_mail(
        self,
        workspace_id: str,
        recipient: str | None = None,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Mail]:
        """What is in the mailbox, in the order of sending."""
        return await self._run(
            self._manager.list_mail, workspace_id, recipient, status=status, limit=limit, cursor=cursor
        )

    async def peek(self, workspace_id: str, recipient: str, *, ordered: bool = True) -> Mail | None:
        """What `receive` would give now; leases nothing."""
        return await self._run(self._manager.peek, workspace_id, recipient, ordered=ordered)

    async def mail_counts(self, workspace_id: str, recipient: str | None = None) -> MailCounts:
        """How many messages wait, are leased and dead, and how old the oldest is."""
        return await self._run(self._manager.mail_counts, workspace_id, recipient)

    async def dead_letters(
        self,
        workspace_id: str,
        recipient: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Mail]:
        """What was given up: kept until `requeue` or `discard`."""
        return await self._run(self._manager.dead_letters, workspace_id, recipient, limit=limit, cursor=cursor)

    async def requeue(self, workspace_id: str, mail_id: str) -> Mail:
        """Gives a dead letter all its attempts again, behind what waits. Durable on return."""
        return await self._run(self._manager.requeue, workspace_id, mail_id)

    async def discard(self, workspace_id: str, mail_id: str) -> None:
        """Takes a message away that nobody has. Durable on return."""
        return await self._run(self._manager.discard, workspace_id, mail_id)


async def _first_of(subscription: Subscription) -> None:
    """Returns at the first event, or at the end of the subscription."""
    async for _ in subscription:
        return
