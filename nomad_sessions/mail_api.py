"""The calls on the mailbox: messages that sessions and agents send to each other. `docs/mail.md` says how it works.

Invariant: what was sent is handed out until somebody acknowledges it, or it is dead: at least once, so that a consumer
must bear a message twice. Of one message there is one lease at a time. Verified by `tests/unit/test_mail.py` and
`tests/processes/test_mail_processes.py`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from nomad_sessions.clock import Clock, monotonic_of
from nomad_sessions.errors import EventsPrunedError
from nomad_sessions.mail.names import name_of
from nomad_sessions.operations.reading import Looking, check_text
from nomad_sessions.storage._os import FileSystem
from nomad_sessions.workspace.state import WORKSPACE
from nomad_sessions.workspace.store import Operation, Workspace

# A program that only adds messages starts faster without them.
if TYPE_CHECKING:
    from typing import Unpack

    from nomad_sessions.events.subscription import Subscription
    from nomad_sessions.mail.asking import MailCounts, SendOptions
    from nomad_sessions.mail.operations import Taken
    from nomad_sessions.mail.queue import Choice, Mailbox
    from nomad_sessions.mail.routing import RuleVerdict
    from nomad_sessions.mail.timing import Moment
    from nomad_sessions.models import Page
    from nomad_sessions.models.mail import Mail, MailRule
    from nomad_sessions.workspace.living import Living

__all__ = ["MAIL_EVENTS", "MailCalls", "pause_of"]

MAIL_EVENTS = "mail.*"
T = TypeVar("T")


class MailCalls:
    """The calls on messages between sessions; `docs/api.md` has them in a table."""

    _fs: FileSystem
    _clock: Clock
    _mutex: threading.Lock
    _consumers: dict[str, tuple[Workspace, Living]]

    def subscribe(
        self, workspace_id: str | None = None, *, types: str | Iterable[str] = (), session_id: str | None = None
    ) -> Subscription:
        """Everything that happens from now on."""
        raise NotImplementedError

    def workspace(self, workspace_id: str) -> Workspace:
        """The open workspace of this id."""
        raise NotImplementedError

    def _use(self, workspace_id: str, use: Callable[[Workspace], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    # Sending

    def send(self, workspace_id: str, recipient: str, content: Any = None, **options: Unpack[SendOptions]) -> Mail:
        """Sends any JSON to a recipient: a session's id, or the name of an agent. Durable on return.

        Nobody has to be there: it waits until somebody receives for that name. The options (`SendOptions`): `sender`,
        `type` ("message") and `metadata` say what it is. `priority` is low, medium (the default), high or urgent. With
        a `key` a second send to the same recipient gives the first message, and sends nothing: while it is in the
        mailbox, and until 1,000 others with keys are done with after it. After `ttl` seconds it goes to the dead
        letters, with `on_expiry="drop"` away; where it is leased then, with the end of the lease. It is handed out up
        to `max_attempts` times (5); after one that failed it waits `backoff` seconds (1.0), then twice as long, and so
        on, up to five minutes, by chance up to half less.

        Raises `InvalidInputError`. One append and one sync, however much is in the mailbox.
        """
        from nomad_sessions.mail import operations
        from nomad_sessions.mail.asking import outgoing

        fields = outgoing(content, **options)
        return self._commit(workspace_id, operations.send(fields, name_of("recipient", recipient), self._steady))

    def publish(self, workspace_id: str, content: Any = None, **options: Unpack[SendOptions]) -> list[Mail]:
        """Sends to everybody to whom the rules say, as `send` does, all or none. Durable on return.

        `options` are those of `send`. Raises `NoRouteError` where no rule matches, `InvalidInputError`.
        """
        from nomad_sessions.mail import operations
        from nomad_sessions.mail.asking import outgoing

        return self._commit(workspace_id, operations.publish(outgoing(content, **options), self._steady))

    def mail_rules(self, workspace_id: str) -> list[MailRule]:
        """The rules that `publish` goes by, in their order."""
        from nomad_sessions.mail.routing import stored_rules

        return self._use(workspace_id, lambda each: each.read(lambda view: stored_rules(view.settings())))

    def set_mail_rules(self, workspace_id: str, rules: Iterable[MailRule | Mapping[str, Any]]) -> list[MailRule]:
        """Replaces the rules, all of them. Durable on return. Raises `InvalidInputError` that names the rule."""
        from nomad_sessions.mail.routing import checked_rules, stored_rules
        from nomad_sessions.models import dump

        settings = {"mailRules": [dump(rule) for rule in checked_rules(rules)]}
        change = {"type": "workspace.configured", "sessionId": WORKSPACE, "settings": settings}
        return self._commit(workspace_id, lambda _view, _stamp: ([change], lambda view: stored_rules(view.settings())))

    def explain_route(
        self,
        workspace_id: str,
        *,
        sender: str | None = None,
        type: str = "message",
        priority: str = "medium",
        metadata: Mapping[str, Any] | None = None,
    ) -> list[RuleVerdict]:
        """What each rule says of such a message: whether it matches, to whom it goes then, why not. Sends nothing."""
        from nomad_sessions.mail.asking import outgoing
        from nomad_sessions.mail.routing import described, explain

        rules = self.mail_rules(workspace_id)
        asked = outgoing(None, sender=sender, type=type, priority=priority, metadata=metadata)
        return explain(rules, **described(asked))

    # Receiving

    def receive(
        self, workspace_id: str, recipient: str, *, lease: float = 30.0, wait: float = 0.0, ordered: bool = True
    ) -> Mail | None:
        """Leases the next message for a recipient for `lease` seconds; None when there is none. Durable on return.

        It is for `ack`, `nack` or `extend`, by the id of its lease (`mail.lease.id`); once its time is over somebody
        else may have it. The highest priority is first, but nothing waits for ever. Of one priority messages come in
        the order in which they were sent, one at a time: what follows one that somebody has, or that waits for its next
        attempt, waits too; `ordered=False` takes the first that is free. `wait` is for how many seconds to wait for
        one, without looking again and again. Raises `InvalidInputError`; where nothing can be written and there is
        something to lease or to clear up, `StoreReadOnlyError`: `peek` and the lists look all the same.
        """
        recipient = name_of("recipient", recipient)
        taken = self._taken(workspace_id, recipient, lease, wait, ordered=ordered)
        if taken.mail is not None or not wait:
            return taken.mail
        until = self._fs.monotonic() + wait
        with self.subscribe(workspace_id, types=MAIL_EVENTS, session_id=recipient) as subscription:
            while True:
                # Looked for once more, after the subscription has begun: what came in between is not missed.
                taken = self._taken(workspace_id, recipient, lease, wait, ordered=ordered)
                left = until - self._fs.monotonic()
                if taken.mail is not None or left <= 0:
                    return taken.mail
                with contextlib.suppress(EventsPrunedError):  # What happened is no matter: that something did is.
                    subscription.next(pause_of(taken, left))

    def ack(self, workspace_id: str, lease_id: str) -> None:
        """The leased message has been dealt with, and is gone. Durable on return.

        Raises `LeaseNotFoundError`, and changes nothing, where the lease is not, or no longer, that of a message. One
        whose time is over is good until somebody else has the message: the work is done, and is not to be done again.
        """
        from nomad_sessions.mail import operations

        self._commit(workspace_id, operations.ack(name_of("lease_id", lease_id)))

    def nack(
        self,
        workspace_id: str,
        lease_id: str,
        *,
        delay: float | None = None,
        error: str | None = None,
        retry: bool = True,
    ) -> Mail:
        """Gives a leased message back, for another attempt in `delay` seconds, by default as its `backoff` says.

        When it has had all its attempts, or with `retry=False`, it goes to the dead letters; `error` says why it
        failed. One whose `ttl` is over goes where such go, and is returned as what it has become. Durable on return.
        Raises as `ack` does, and `InvalidInputError`.
        """
        from nomad_sessions.mail import operations
        from nomad_sessions.mail.asking import check_flag, milliseconds

        ms = None if delay is None else milliseconds("delay", delay)
        told = None if error is None else check_text("error", error)
        check_flag("retry", retry)
        return self._commit(workspace_id, operations.nack(name_of("lease_id", lease_id), ms, told, retry=retry))

    def extend(self, workspace_id: str, lease_id: str, seconds: float = 30.0) -> Mail:
        """Gives a lease `seconds` from now on. Durable on return. Raises as `ack` does."""
        from nomad_sessions.mail import operations
        from nomad_sessions.mail.asking import milliseconds

        ms = milliseconds("seconds", seconds, least=1)
        lease_id = name_of("lease_id", lease_id)
        # First a look, so that a lease that is none makes no file.
        self._read(workspace_id, lambda view: operations.leased_row(operations.box_of(view), lease_id))
        consumer = operations.Consumer(self._consumer(workspace_id), self._steady, {})
        return self._commit(workspace_id, operations.extend(lease_id, ms, consumer))

    # Looking, and dead letters

    def get_mail(self, workspace_id: str, mail_id: str) -> Mail | None:
        """One message, or None: also what became of one that had a `key`, while that is remembered."""
        from nomad_sessions.mail.operations import box_of, mail_model

        def look(view: Looking) -> Mail | None:
            row = box_of(view).get(name_of("mail_id", mail_id))
            return None if row is None else mail_model(row)

        return self._read(workspace_id, look)

    def list_mail(
        self,
        workspace_id: str,
        recipient: str | None = None,
        *,
        status: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Mail]:
        """What is in the mailbox, in the order of sending: queued, leased and dead, or what has this `status`.

        Everything, unless `limit` says less; `cursor` is a page's `next_cursor`. Raises `InvalidInputError`,
        `InvalidCursorError`.
        """
        from nomad_sessions.mail.asking import MailQuery, listed

        return self._read(workspace_id, lambda view: listed(view, MailQuery(recipient, status, limit, cursor)))

    def peek(self, workspace_id: str, recipient: str, *, ordered: bool = True) -> Mail | None:
        """What `receive` would give now, as far as can be told without asking who is alive; leases nothing."""
        from nomad_sessions.mail.asking import check_flag
        from nomad_sessions.mail.operations import box_of, mail_model

        recipient = name_of("recipient", recipient)
        check_flag("ordered", ordered)

        def look(view: Looking) -> Mail | None:
            row = self._choice(box_of(view), recipient, ordered=ordered).row
            return None if row is None else mail_model(row)

        return self._read(workspace_id, look)

    def mail_counts(self, workspace_id: str, recipient: str | None = None) -> MailCounts:
        """How many messages wait, are leased and dead, and how old the oldest is; how many rows are none of ours.

        Raises `InvalidInputError`. Cost: one look at each recipient.
        """
        from nomad_sessions.mail.asking import counts
        from nomad_sessions.mail.operations import box_of

        wanted = None if recipient is None else name_of("recipient", recipient)
        return self._read(workspace_id, lambda view: counts(box_of(view), wanted))

    def dead_letters(
        self,
        workspace_id: str,
        recipient: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Mail]:
        """What was given up, with `reason` and `error`: kept until `requeue` or `discard`. Otherwise as `list_mail`."""
        return self.list_mail(workspace_id, recipient, status="dead", limit=limit, cursor=cursor)

    def requeue(self, workspace_id: str, mail_id: str) -> Mail:
        """Gives a dead letter all its attempts again, and no end to its life, behind what waits. Durable on return.

        Raises `MailNotFoundError` for what is no dead letter.
        """
        from nomad_sessions.mail import operations

        return self._commit(workspace_id, operations.requeue(name_of("mail_id", mail_id)))

    def discard(self, workspace_id: str, mail_id: str) -> None:
        """Takes a message away that nobody has: a dead letter, or one that waits. Durable on return.

        Raises `MailNotFoundError`, also for one that is leased.
        """
        from nomad_sessions.mail import operations

        self._commit(workspace_id, operations.discard(name_of("mail_id", mail_id)))

    # Who asks, and who lives

    def _taken(self, workspace_id: str, recipient: str, lease: float, wait: float, *, ordered: bool) -> Taken:
        """Leases what is next, if there is anything. Where there is not, nothing is locked and nothing written."""
        from nomad_sessions.mail import operations
        from nomad_sessions.mail.asking import check_flag, milliseconds
        from nomad_sessions.workspace.living import lives

        ms = milliseconds("lease", lease, least=1)
        milliseconds("wait", wait)
        check_flag("ordered", ordered)

        def idle(view: Looking) -> Taken | None:
            box = operations.box_of(view)
            choice = self._choice(box, recipient, ordered=ordered)
            at_rest = choice.row is None and not choice.worn and not choice.doubtful
            none_ended = not box.ended(self._moment(), 1)
            return operations.Taken(None, frozenset(), choice.again) if at_rest and none_ended else None

        taken = self._read(workspace_id, idle)
        if taken is not None:
            return taken
        holder = self._consumer(workspace_id)
        alive = {holder: True}
        while True:
            consumer = operations.Consumer(holder, self._steady, dict(alive))
            taken = self._commit(workspace_id, operations.take(recipient, ms, consumer, ordered=ordered))
            if not taken.doubtful:
                return taken
            folder = self.workspace(workspace_id).folder
            alive |= {each: lives(self._fs, folder, each) for each in taken.doubtful}

    def _choice(self, box: Mailbox, recipient: str, *, ordered: bool) -> Choice:
        from nomad_sessions.mail.queue import choose

        return choose(box, recipient, self._moment(), ordered=ordered)

    def _moment(self) -> Moment:
        """Now, as far as can be told without asking who lives."""
        from nomad_sessions.mail.timing import Moment

        return Moment(self._clock.now(), self._steady(), {})

    def _steady(self) -> int:
        return monotonic_of(self._clock)

    def _consumer(self, workspace_id: str) -> str:
        """The name under which leases of this process are held: while it lives its lock is."""
        from nomad_sessions.workspace.living import Living

        workspace = self.workspace(workspace_id)
        with self._mutex:
            known = self._consumers.get(workspace_id)
            if known is None or known[0] is not workspace or not known[1].held:
                if known is not None:
                    known[1].end()
                known = self._consumers[workspace_id] = (workspace, Living(self._fs, workspace.folder))
            return known[1].name

    def _end_consumers(self) -> None:
        """Nobody of this process is at work on messages any more: their leases go by the clock now."""
        for _, living in self._consumers.values():
            living.end()
        self._consumers.clear()


def pause_of(taken: Taken, left: float) -> float:
    """For how many seconds to wait for word, of the `left` ones: until time alone may change something."""
    return left if taken.again is None else min(left, max(taken.again, 1) / 1000)
