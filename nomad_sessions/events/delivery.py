"""Events handed to a callback: on a thread of the library, or wherever the subscriber says.

Invariant: a callback runs for one event after the other, in order, never under a lock of the store; and no more than a
few are on their way at a time, so that a loop that is busy is not flooded. Verified by `tests/unit/test_subscribe.py`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor

from nomad_sessions.errors import EventsPrunedError, InvalidInputError, NomadSessionsError
from nomad_sessions.events.subscription import Subscription
from nomad_sessions.models import Event

__all__ = ["PRUNED", "Callback", "Deliver", "deliver_to"]

_LOG = logging.getLogger("nomad_sessions")
PRUNED = "events.pruned"
"""The type of what a callback is given, with `since` and `first`, in place of events that are no longer kept."""
_LOOK_EVERY = 0.2
_LONGEST = 0.004
"""Seconds after which a turn on somebody else's loop ends: a window must not stand still for us."""

Callback = Callable[[Event], object]
Deliver = asyncio.AbstractEventLoop | Executor | Callable[[Callable[[], None]], object]
"""A loop, an executor, or any function that has what it is given called, soon and elsewhere."""


def deliver_to(subscription: Subscription, callback: Callback, deliver: Deliver | None) -> threading.Thread:
    """Starts the thread that hands over events. With a
    cursor each is acknowledged when its callback has returned."""
    if not callable(callback):
        raise InvalidInputError(field="callback", value=callback, reason="cannot be called")
    run = _direct if deliver is None else _elsewhere(subscription, deliver)
    thread = threading.Thread(
        target=_Delivery(subscription, callback, run).run, name="nomad-sessions-callback", daemon=True
    )
    thread.start()
    return thread


def _direct(job: Callable[[], None]) -> None:
    job()


def _elsewhere(subscription: Subscription, deliver: Deliver) -> Callable[[Callable[[], None]], None]:
    submit: Callable[[Callable[[], None]], object]
    if isinstance(deliver, asyncio.AbstractEventLoop):
        submit = deliver.call_soon_threadsafe
    elif isinstance(deliver, Executor):
        submit = deliver.submit
    elif callable(deliver):
        submit = deliver
    else:
        raise InvalidInputError(field="deliver", value=deliver, reason="must be a loop, an executor or a function")

    def run(job: Callable[[], None]) -> None:
        done = threading.Event()

        def turn() -> None:
            try:
                job()
            finally:
                done.set()

        submit(turn)
        while not done.wait(_LOOK_EVERY) and not subscription.closed:
            pass

    return run


class _Delivery:
    """The thread of one callback."""

    def __init__(
        self,
        subscription: Subscription,
        callback: Callback,
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self._subscription = subscription
        self._callback = callback
        self._run = run
        self._acks = subscription.has_cursor
        self._batch: list[Event] = []

    def run(self) -> None:
        """Until the subscription ends."""
        subscription = self._subscription
        while not subscription.closed:
            try:
                event = subscription.next()
            except EventsPrunedError as error:
                event = Event(type=PRUNED, properties={"since": error.since, "first": error.first})
            except (NomadSessionsError, OSError) as error:
                _LOG.warning("a subscription is late, and goes on: %s", error)
                time.sleep(_LOOK_EVERY)
                continue
            if event is not None:
                self._batch = [event, *subscription.at_hand()]
                while self._batch and not subscription.closed:
                    self._run(self._turn)

    def _turn(self) -> None:
        until = time.monotonic() + _LONGEST
        while self._batch and not self._subscription.closed:
            event = self._batch.pop(0)
            try:
                self._callback(event)
            except Exception:
                _LOG.exception("a subscriber's callback failed at event %s of %s", event.seq, event.workspace_id)
                if self._acks:  # Going on would acknowledge it with the next: it comes again to who subscribes anew.
                    self._subscription.close()
                    return
            else:
                if self._acks:
                    self._acknowledge(event)
            if time.monotonic() > until:
                return

    def _acknowledge(self, event: Event) -> None:
        if event.type != PRUNED or event.recorded:
            self._subscription.ack(event)
