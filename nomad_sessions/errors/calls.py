"""Errors of what a call was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nomad_sessions.errors.base import NomadSessionsError, at, plain, short

if TYPE_CHECKING:
    from nomad_sessions.models.base import Model


class NotFoundError(NomadSessionsError, KeyError):
    """Something to be changed or deleted does not exist. `kind` is what it is ("session", …), `id` which one, `hint`
    where to look."""

    def __init__(self, *, kind: str, id: str, hint: str | None = None) -> None:
        self.kind = kind
        self.id = id
        self.hint = hint or "it never existed or was deleted; check the id and workspace"
        super().__init__(message=f"no {kind} {short(id)}: {self.hint}")


class SessionNotFoundError(NotFoundError):
    """The session `session_id` is not in this workspace."""

    def __init__(self, *, session_id: str, hint: str | None = None) -> None:
        self.session_id = session_id
        super().__init__(kind="session", id=session_id, hint=hint)


class MessageNotFoundError(NotFoundError):
    """The message `message_id` is not in this workspace, or not visible in the session asked for."""

    def __init__(self, *, message_id: str) -> None:
        self.message_id = message_id
        super().__init__(kind="message", id=message_id)


class WorkspaceNotFoundError(NotFoundError):
    """The workspace `workspace_id` has no folder in the data folder."""

    def __init__(self, *, workspace_id: str) -> None:
        self.workspace_id = workspace_id
        super().__init__(kind="workspace", id=workspace_id)


class TaskNotFoundError(NotFoundError):
    """The task `task_id` is not in this workspace."""

    def __init__(self, *, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(kind="task", id=task_id)


class MailNotFoundError(NotFoundError):
    """The message `mail_id` is not in this mailbox, or not as the call needs it: `hint` says how it is."""

    def __init__(self, *, mail_id: str, hint: str | None = None) -> None:
        self.mail_id = mail_id
        super().__init__(kind="mail", id=mail_id, hint=hint)


class LeaseNotFoundError(NotFoundError):
    """The lease `lease_id` is not, or no longer, that of a message. Nothing was changed."""

    def __init__(self, *, lease_id: str) -> None:
        self.lease_id = lease_id
        hint = "it was acknowledged or given back, or its time ran out and somebody else has the message"
        super().__init__(kind="lease", id=lease_id, hint=hint)


class OriginalNotFoundError(NotFoundError):
    """What the session `session_id` was imported from is not kept here, if it was imported at all; `hint` says why."""

    def __init__(self, *, session_id: str, hint: str) -> None:
        self.session_id = session_id
        super().__init__(kind="original of session", id=session_id, hint=hint)


class InvalidInputError(NomadSessionsError, ValueError):
    """A value given by the caller cannot be stored; nothing was written.

    `field` is the name of the field as the file spells it, `value` a shortened repr of what was given, `reason` why.
    """

    def __init__(self, *, field: str, value: object, reason: str) -> None:
        self.field = field
        self.value = short(value)
        self.reason = reason
        super().__init__(message=f"{plain(field)}: {reason} (got {self.value})")


class InvalidWorkspaceIdError(InvalidInputError):
    """`workspace_id` cannot be the name of a folder on every system."""

    def __init__(self, *, workspace_id: object, reason: str) -> None:
        self.workspace_id = workspace_id
        super().__init__(field="workspaceId", value=workspace_id, reason=reason)


class ProtectedFieldError(InvalidInputError):
    """An update named a field that the store alone decides (`id`, `createdAt`, …)."""

    def __init__(self, *, field: str, value: object = None) -> None:
        super().__init__(field=field, value=value, reason="is set by the store and cannot be changed; leave it out")


class InvalidCursorError(InvalidInputError):
    """`cursor` was not made by this list, or not by this package."""

    def __init__(self, *, cursor: object) -> None:
        self.cursor = cursor
        super().__init__(field="cursor", value=cursor, reason="is not a cursor of this list; use a page's next_cursor")


class ConflictError(NomadSessionsError):
    """The record changed since the caller read it. `current` is what it is now, `expected_rev` was asked for."""

    def __init__(self, *, current: Model, expected_rev: int) -> None:
        self.current = current
        self.expected_rev = expected_rev
        kind, rev = type(current).__name__.lower(), getattr(current, "rev", None)
        found = f"{kind} {short(getattr(current, 'id', ''))} is at rev {rev}"
        super().__init__(message=f"{found}, expected {expected_rev}: read it again and repeat the change")


class AlreadyExistsError(NomadSessionsError):
    """The id given for a creation is taken by other content. `current` is what is stored under `kind` and `id`."""

    def __init__(self, *, kind: str, id: str, current: Model | None = None) -> None:
        self.kind = kind
        self.id = id
        self.current = current
        super().__init__(message=f"{kind} {short(id)} exists already with other content: choose another id")


class IllegalTransitionError(NomadSessionsError, RuntimeError):
    """From the state `before`, `kind` and `id` cannot go to `after`; nothing was written. `hint`: what can be done."""

    def __init__(self, *, kind: str, id: str, before: str, after: str, hint: str) -> None:
        self.kind = kind
        self.id = id
        self.before = before
        self.after = after
        self.hint = hint
        super().__init__(message=f"{kind} {short(id)} cannot go from {plain(before)} to {plain(after)}: {hint}")


class TransactionError(NomadSessionsError, RuntimeError):
    """A transaction was opened inside another one, or used after its end."""


class SessionStateError(NomadSessionsError, RuntimeError):
    """The session is in a `state` ("open", "closed" or "archived") from which there is no such way."""

    def __init__(self, *, session_id: str, state: str, hint: str) -> None:
        self.session_id, self.state, self.hint = session_id, state, hint
        super().__init__(message=f"session {short(session_id)} is {state}: {hint}")


class SessionInUseError(NomadSessionsError):
    """Other clients are connected to the session, or one is alone: `holders` are their `ConnectionInfo`."""

    def __init__(self, *, session_id: str, holders: tuple[Any, ...]) -> None:
        self.session_id, self.holders = session_id, holders
        named = ", ".join(f"{short(each.client)} (pid {each.pid} on {plain(each.machine)})" for each in holders[:3])
        super().__init__(message=f"session {short(session_id)} is in use by {named}: close that first")


class ConnectionClosedError(NomadSessionsError, RuntimeError):
    """A connection to a session was used after its end: it was closed, or another client took its place."""


class SubscriptionClosedError(NomadSessionsError, RuntimeError):
    """A subscription's cursor was to be moved after its end: it was closed, or its workspace deleted."""


class StoreClosedError(NomadSessionsError, RuntimeError):
    """The manager or store was used after `close()`. `path` is its folder, where known."""

    def __init__(self, *, path: str = "") -> None:
        self.path = path
        super().__init__(message=f"the store{at(path)} is closed: open a new manager")


class EventsPrunedError(NomadSessionsError, LookupError):
    """Changes after the seq `since` are no longer kept, or the workspace began anew; `first` is the first that is."""

    def __init__(self, *, path: str, since: int, first: int) -> None:
        self.path = path
        self.since = since
        self.first = first
        gone = f"no longer has the changes after {since}"
        never = f"has no change {since}: it began anew, or there never was one"
        told = f"{plain(path)} {gone if since < first else never}"
        text = f"{told}; the first that it has is {first}: read the state afresh, and go on from there"
        super().__init__(message=text)


class TargetUnavailableError(NomadSessionsError, RuntimeError):
    """A copy of the store elsewhere (`target`, its name) cannot be reached, or does not answer: `reason`. Nothing is
    lost: what it lacks is sent when it is there again."""

    def __init__(self, *, target: str, reason: str) -> None:
        self.target = target
        self.reason = reason
        super().__init__(message=f"the sync target {short(target)} is not available: {plain(reason)}")


class EmbedderError(NomadSessionsError, RuntimeError):
    """Whatever makes vectors of texts (`model`) cannot be reached, or gives none that could be used: `reason`."""

    def __init__(self, *, model: str, reason: str) -> None:
        self.model = model
        self.reason = reason
        super().__init__(message=f"the embedder {short(model)} is not available: {plain(reason)}")


class EmbeddingRefusedError(EmbedderError, ValueError):
    """The embedder `model` does not take one of the texts that it was given, and never will: `reason`."""

    def __init__(self, *, model: str, reason: str) -> None:
        super().__init__(model=model, reason=reason)
        self.message = f"the embedder {short(model)} does not take this text: {plain(reason)}"


class NoRouteError(NomadSessionsError, LookupError):
    """None of the workspace's `rules` (a number) matches a message of this `type`: it was not sent to anybody."""

    def __init__(self, *, type: str, rules: int) -> None:
        self.type = type
        self.rules = rules
        text = f"none of the {rules} mail rules matches type {short(type)}, and no recipient is named"
        super().__init__(message=f"{text}: name one, or see explain_route")
