"""Events handed to a callback: on a thread of the library, or wherever the subscriber says.

Invariant: a callback runs for one event after the other, in order, never under a lock of the store; no more than a few
are on their way at a time, so that a loop that is busy is not flooded; and a subscription that nobody delivers for any
more is closed. Verified by `tests/unit/test_callbacks.py`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

from nomad_sessions.errors import EventsPrunedError, InvalidInputError, NomadSessionsError, SubscriptionClosedError
from nomad_sessions.events.subscription import Subscription
from nomad_sessions.models import Event

__all__ = ["PRUNED", "Callback", "Deliver", "check_delivery", "deliver_to"]

_LOG = logging.getLogger("nomad_sessions")
PRUNED = "events.pruned"
"""The type of what a callback is given, with `since` and `first`, in place of events that are no longer kept."""
_LOOK_EVERY = 0.2
_LONGEST = 0.004
"""Seconds after which a turn on somebody else's loop ends: a window must not stand still for us."""

Callback = Callable[[Event], object]
Deliver = asyncio.AbstractEventLoop | Executor | Callable[[Callable[[], None]], object]
"""A loop, an executor, or any function that has what it is given called, soon and elsewhere."""


def check_delivery(callback: Callback | None, deliver: Deliver | None) -> None:
    """Raises `InvalidInputError` for a callback that cannot be called, or only awaited, and for a `deliver` that is
    none, or has no callback."""
    if callback is None:
        if deliver is not None:
            raise InvalidInputError(field="deliver", value=deliver, reason="is for a callback")
        return
    if not callable(callback):
        raise InvalidInputError(field="callback", value=callback, reason="cannot be called")
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(type(callback).__call__):
        raise InvalidInputError(field="callback", value=callback, reason="is to be awaited: iterate with `async for`")
    if not (deliver is None or isinstance(deliver, asyncio.AbstractEventLoop | Executor) or callable(deliver)):
        raise InvalidInputError(field="deliver", value=deliver, reason="must be a loop, an executor or a function")


def deliver_to(subscription: Subscription, callback: Callback, deliver: Deliver | None) -> None:
    """Starts the thread that hands over events. With a cursor each is acknowledged when its callback has returned."""
    run = _direct if deliver is None else _elsewhere(subscription, deliver)
    thread = threading.Thread(
        target=_Delivery(subscription, callback, run).run, name="nomad-sessions-callback", daemon=True
    )
    thread.start()


def _direct(job: Callable[[], None]) -> bool:
    job()
    return True


def _elsewhere(subscription: Subscription, deliver: Deliver) -> Callable[[Callable[[], None]], bool]:
    """What has a job run there and waits for it; False where it will not be."""
    loop = deliver if isinstance(deliver, asyncio.AbstractEventLoop) else None
    submit: Callable[[Callable[[], None]], object]
    if isinstance(deliver, asyncio.AbstractEventLoop):
        submit = deliver.call_soon_threadsafe
    elif isinstance(deliver, Executor):
        submit = deliver.submit
    else:
        submit = deliver

    def run(job: Callable[[], None]) -> bool:
        done = threading.Event()

        def turn() -> None:
            try:
                job()
            finally:
                done.set()

        try:
            handed = submit(turn)
        except Exception:  # Somebody else's: whatever it is, it was not taken.
            _LOG.exception("a subscriber's callback could not be handed over")
            return False
        while not done.wait(_LOOK_EVERY) and not subscription.closed:
            if (loop is not None and loop.is_closed()) or (isinstance(handed, Future) and handed.cancelled()):
                return False
        return True

    return run


class _Delivery:
    """The thread of one callback."""

    def __init__(
        self,
        subscription: Subscription,
        callback: Callback,
        run: Callable[[Callable[[], None]], bool],
    ) -> None:
        self._subscription = subscription
        self._callback = callback
        self._run = run
        self._acks = subscription.has_cursor

    def run(self) -> None:
        """Until the subscription ends."""
        try:
            while not self._subscription.closed:
                if self._is_due() and not self._run(self._turn):
                    _LOG.warning("a subscription has ended: its callback is run no more where it was to be run")
                    return
        finally:
            self._subscription.close()

    def _is_due(self) -> bool:
        """Waits for something to hand over; False when that has to be tried again."""
        try:
            return self._subscription.wait(None)
        except (NomadSessionsError, OSError) as error:
            _LOG.warning("a subscription is late, and goes on: %s", error)
            time.sleep(_LOOK_EVERY)
            return False

    def _turn(self) -> None:
        until = time.monotonic() + _LONGEST
        while not self._subscription.closed and (event := self._next()) is not None:
            self._call(event)
            if time.monotonic() > until:
                return

    def _next(self) -> Event | None:
        try:
            return self._subscription.take()
        except EventsPrunedError as told:
            return Event(type=PRUNED, properties={"since": told.since, "first": told.first})

    def _call(self, event: Event) -> None:
        with self._subscription.calling():
            self._call_and_acknowledge(event)

    def _call_and_acknowledge(self, event: Event) -> None:
        try:
            given = self._callback(event)
            if inspect.isawaitable(given):
                _LOG.error("a subscriber's callback gave something to be awaited, which nobody does")
                self._failed()
            elif self._acks and event.seq:
                self._subscription.ack(event)
        except SubscriptionClosedError:  # By another thread: the event comes again to who has the cursor next.
            return
        except Exception:
            _LOG.exception("a subscriber's callback failed at event %s of %s", event.seq, event.workspace_id)
            self._failed()
        except BaseException:  # Somebody ends the thread, or the loop: it is not for us to go on.
            self._subscription.close()
            raise

    def _failed(self) -> None:
        if self._acks:  # Going on would acknowledge it with the next: it comes again to who subscribes anew.
            self._subscription.close()
