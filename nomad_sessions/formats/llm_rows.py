"""The rows of `llm`'s tables that are a conversation or a thread, for its original: the oldest answer first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial

from nomad_sessions.formats import sqlite
from nomad_sessions.formats.verbatim import Rows

__all__ = ["rows_of_conversation", "rows_of_thread"]

_Row = tuple[str, sqlite3.Row]


def rows_of_conversation(name: str | None) -> Rows:
    """Each answer of a conversation, with the calls and results of tools beside it; then the conversation's own row.

    None is the conversation of the answers that belong to none.
    """
    return partial(_conversation, name)


def rows_of_thread(name: str, tip: str | None) -> Rows:
    """Each message up to the newest, with its parts; then the thread's own row."""
    return partial(_thread, name, tip)


def _conversation(name: str | None, connection: sqlite3.Connection) -> Iterator[_Row]:
    for row in connection.execute(
        "SELECT * FROM responses WHERE conversation_id IS ? ORDER BY datetime_utc, id", (name,)
    ):
        yield "responses", row
        for table in ("tool_results", "tool_calls"):
            yield from _where(connection, table, "response_id", row["id"], "rowid")
    yield from _where(connection, "conversations", "id", name, "rowid")


def _thread(name: str, tip: str | None, connection: sqlite3.Connection) -> Iterator[_Row]:
    chain: dict[str, sqlite3.Row] = {}
    at = tip
    while at is not None and at not in chain:
        row = connection.execute("SELECT * FROM messages WHERE hash = ?", (at,)).fetchone()
        if row is None:
            break
        chain[at] = row
        at = row["parent_hash"]
    for key, row in reversed(chain.items()):
        yield "messages", row
        yield from _where(connection, "parts", "message_hash", key, "position")
    yield from _where(connection, "threads", "id", name, "rowid")


def _where(connection: sqlite3.Connection, table: str, column: str, value: object, order: str) -> Iterator[_Row]:
    if column in sqlite.columns(connection, table):
        for row in connection.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY {order}", (value,)):
            yield table, row
