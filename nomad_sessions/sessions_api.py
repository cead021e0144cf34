"""The calls on sessions and messages, in terms of three: read, commit, attach. Manager and transaction share them.

Invariant: a call that returns has been decided by one operation against one state; what it returns shares nothing with
the store, nor with what was passed in. Verified by `tests/unit/test_sessions.py` and `test_messages.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.models import Message, Page, Session
from nomad_sessions.operations import listing, messages, sessions
from nomad_sessions.operations.changes import prepare_changes
from nomad_sessions.operations.listing import UNSET, Unset
from nomad_sessions.operations.reading import Looking, check_text, message_model, session_model
from nomad_sessions.workspace.state import Body
from nomad_sessions.workspace.store import Operation

__all__ = ["SessionCalls"]

T = TypeVar("T")


class SessionCalls:
    """The calls on sessions and messages; `docs/api.md` has them in a table.

    All take the `workspace_id` first and return models that are snapshots: changing one, or a dict that was passed in,
    changes nothing in the store. Asked to change what is not there they raise `SessionNotFoundError` or
    `MessageNotFoundError` (both `KeyError`), for values that cannot be stored `InvalidInputError` (`ValueError`).
    """

    def _read(self, workspace_id: str, look: Callable[[Looking], T]) -> T:
        raise NotImplementedError

    def _commit(self, workspace_id: str, operation: Operation[T], *, lazy: bool = False) -> T:
        raise NotImplementedError

    def _attach(self, workspace_id: str, data: bytes) -> str:
        raise NotImplementedError

    # Sessions

    def list_sessions(
        self,
        workspace_id: str,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        archived: bool | None = None,
        parent_id: str | Unset | None = UNSET,
        updated_since: int | None = None,
    ) -> Page[Session]:
        """Sessions by `updated_at`, newest first, ties by their last change. Everything, unless `limit` says less.

        `archived` True or False keeps only those; `parent_id` only the children of that session (None: only roots);
        `updated_since` is in ms, inclusive. `cursor` is a page's `next_cursor`: rows that stay where they are come
        exactly once, however much changes meanwhile. `total` counts all that match. Cost: the matching sessions.
        """
        query = listing.SessionQuery(archived, parent_id, updated_since)
        return self._read(workspace_id, lambda view: listing.sessions(view, query, limit, cursor))

    def get_session(self, workspace_id: str, session_id: str) -> Session | None:
        """One session, or None."""

        def look(view: Looking) -> Session | None:
            known = check_text("session_id", session_id)
            session = view.session(known) if known else None
            return session_model(session) if session is not None else None

        return self._read(workspace_id, look)

    def create_session(self, workspace_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any) -> Session:
        """Creates a session, from a mapping in either spelling, keywords, or both.

        With an `id` that exists already the session that is there is returned, unchanged: a repeated call is harmless.
        `created_at` may be given too. Durable on return. Raises `InvalidInputError`, `ProtectedFieldError`,
        `StorageError`.
        """
        return self._commit(workspace_id, sessions.create(workspace_id, data, fields))

    def update_session(
        self,
        workspace_id: str,
        session_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Session:
        """Changes fields; None removes one. With `if_rev`, only if the session is at that `rev`.

        A value replaces the one that was there whole, `metadata` too. What changes nothing writes nothing, and
        leaves `updated_at`. Durable on return. Raises `ConflictError` (with `.current`), `ProtectedFieldError`,
        `InvalidInputError`.
        """
        return self._commit(workspace_id, sessions.update(session_id, changes, fields, if_rev))

    def delete_session(
        self, workspace_id: str, session_id: str, *, children: bool = False, forks: bool = False
    ) -> list[str]:
        """Deletes a session with its messages; returns the ids of the sessions that went. Durable on return.

        Children and forks stay, whole, unless asked for: `children` are the sessions below it by `parent_id`, and
        theirs; `forks` what was forked from it, and from those. A fork is no child of its original.
        """
        return self._commit(workspace_id, sessions.delete(session_id, children=children, forks=forks))

    def fork_session(
        self, workspace_id: str, session_id: str, *, message_id: str | None = None, title: str | None = None
    ) -> Session:
        """A new session with copies of the visible messages, up to and including `message_id`. Durable on return.

        Neither side can lose or change the other's messages. Cost: one record with the new ids; no body is copied.
        """
        return self._commit(workspace_id, sessions.fork(session_id, message_id, title, workspace_id))

    def revert(
        self, workspace_id: str, session_id: str, message_id: str | None = None, *, reason: str | None = None
    ) -> Session:
        """Keeps `message_id` and hides what follows; without it, hides the last message. Durable on return.

        `unrevert` brings back what is hidden, until the next message is added: that makes the revert final. Raises
        `MessageNotFoundError` for a message that is not visible in this session.
        """
        return self._commit(workspace_id, sessions.revert(session_id, message_id, reason))

    def unrevert(self, workspace_id: str, session_id: str) -> Session:
        """Shows again everything that reverts hid since the last added message. Durable on return."""
        return self._commit(workspace_id, sessions.unrevert(session_id))

    def children(self, workspace_id: str, session_id: str) -> Page[Session]:
        """The sessions whose `parent_id` is this one, newest first; an empty page for an unknown id."""
        return self.list_sessions(workspace_id, parent_id=session_id)

    def close_session(self, workspace_id: str, session_id: str) -> Session:
        """Marks a session as closed now (`closed_at`). Durable on return."""
        return self._commit(workspace_id, sessions.mark(session_id, "closedAt", True))

    def reopen_session(self, workspace_id: str, session_id: str) -> Session:
        """Takes the mark of `close_session` away. Durable on return."""
        return self._commit(workspace_id, sessions.mark(session_id, "closedAt", False))

    def archive_session(self, workspace_id: str, session_id: str) -> Session:
        """Marks a session as archived now (`archived_at`). Durable on return."""
        return self._commit(workspace_id, sessions.mark(session_id, "archivedAt", True))

    def unarchive_session(self, workspace_id: str, session_id: str) -> Session:
        """Takes the mark of `archive_session` away. Durable on return."""
        return self._commit(workspace_id, sessions.mark(session_id, "archivedAt", False))

    # Messages

    def get_session_messages(
        self,
        workspace_id: str,
        session_id: str,
        *,
        last: int | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        include_reverted: bool = False,
    ) -> Page[Message]:
        """A session's messages in order: all, or the `last` n, or pages of `limit`; none for an unknown session.

        `include_reverted` adds what a revert hid. `cursor` is a page's `next_cursor`: messages that are added or
        deleted meanwhile make none appear twice, and none be left out. Cost: the messages returned.
        """
        query = listing.MessageQuery(session_id, last, include_reverted)
        return self._read(workspace_id, lambda view: listing.messages(view, query, limit, cursor))

    def get_message(self, workspace_id: str, message_id: str) -> Message | None:
        """One message, visible or hidden by a revert, or None."""

        def look(view: Looking) -> Message | None:
            body = view.message_body(check_text("message_id", message_id))
            return message_model(body) if body is not None else None

        return self._read(workspace_id, look)

    def add_message(
        self, workspace_id: str, session_id: str, data: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Message:
        """Adds a message at the end of a session: `add_message(ws, sid, {"role": "user", "content": "hi"})`.

        One append and, at durability `full`, one sync, however large the workspace is; durable on return. With an `id`
        that is there already, the message that is there is returned: a repeated call is harmless. A given `created_at`
        is kept. A part's `file` may have `data` (bytes): above 64 KiB they become an attachment. Raises
        `InvalidInputError`, `AlreadyExistsError` (the id is another session's), `StorageError`.
        """
        body = self._prepared(workspace_id, data, fields)
        return self._commit(workspace_id, messages.add(session_id, [body]))[0]

    def add_messages(self, workspace_id: str, session_id: str, items: Iterable[Mapping[str, Any]]) -> list[Message]:
        """Adds several messages as one atomic group with one sync, as `add_message` adds one. Durable on return."""
        if not isinstance(items, Iterable):
            raise InvalidInputError(field="items", value=items, reason="must be an iterable of mappings")
        bodies = [self._prepared(workspace_id, item, {}) for item in items]
        return self._commit(workspace_id, messages.add(session_id, bodies))

    def update_message(
        self,
        workspace_id: str,
        message_id: str,
        changes: Mapping[str, Any] | None = None,
        /,
        *,
        if_rev: int | None = None,
        **fields: Any,
    ) -> Message:
        """Changes fields of a message; None removes one. With `if_rev`, only if it is at that `rev`. Durable on return.

        A value replaces the one that was there whole, `metadata` and `parts` too. Where a message has one text part, a
        new `content` is that part's; where it has several, `InvalidInputError`: change the parts. Raises
        `ConflictError` (with `.current`), `ProtectedFieldError`, `InvalidInputError`.
        """
        given = prepare_changes(changes, fields, lambda data: self._attach(workspace_id, data))
        return self._commit(workspace_id, messages.update(given, message_id, if_rev))

    def append_to_message(
        self, workspace_id: str, message_id: str, text: str, *, part: int | None = None, sync: bool = True
    ) -> None:
        """Adds text at the end of a message's content, or of part number `part`. Cost: the text and some 50 bytes.

        Where there are text parts, `part` None is the last of them. The times of message and session stay as they are:
        a token has none of its own. Durable on return unless `sync` is False: then soon (`batch_interval`), and with
        the next synced write.
        """
        self._commit(workspace_id, messages.append(message_id, text, part), lazy=not sync)

    def delete_message(self, workspace_id: str, message_id: str) -> None:
        """Deletes one message. Durable on return."""
        self._commit(workspace_id, messages.delete(message_id))

    def compact_session(
        self, workspace_id: str, session_id: str, summary: str, *, before: str | None = None, **fields: Any
    ) -> Message:
        """Adds `summary` as an assistant message that stands for everything before message `before` (None: all so far).

        Nothing is removed: `metadata.compaction.tailStart` of the new message says where the kept tail starts, and
        readers that build a model's context start there. `fields` as for `add_message`. Durable on return.
        """
        return self._commit(workspace_id, messages.compact(session_id, summary, before, fields))

    def _prepared(self, workspace_id: str, data: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Body:
        return messages.prepare(data, fields, lambda data: self._attach(workspace_id, data))
