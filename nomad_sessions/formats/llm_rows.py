"""The rows of `llm`'s tables that are a conversation or a thread: the oldest answer first.

Its tables have no index by conversation: which rows belong to which is asked once for all (`numbers_of`), and then each
row by its number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any

from nomad_sessions.formats import sqlite
from nomad_sessions.formats.verbatim import Rows

__all__ = ["TOOLS", "Numbers", "numbers_of", "queries_of", "rows_of_conversation", "rows_of_thread"]

TOOLS = ("tool_results", "tool_calls")
_AT_ONCE = 500
_Row = tuple[str, sqlite3.Row]
Numbers = Mapping[str, Sequence[int]]
"""By table, the numbers of the rows that belong to a conversation."""
Query = tuple[str, Sequence[Any]]
"""A query and its values."""


def numbers_of(connection: sqlite3.Connection) -> dict[str | None, Numbers] | None:
    """Of each conversation the numbers of its rows; None where the database cannot tell, damaged as it is."""
    found: dict[str | None, dict[str, list[int]]] = {}
    queries = {"responses": "SELECT conversation_id AS name, rowid AS number FROM responses ORDER BY datetime_utc, id"}
    for table in TOOLS:
        if "response_id" in sqlite.columns(connection, table):
            queries[table] = (
                f"SELECT conversation_id AS name, {table}.rowid AS number FROM {table} "
                f"JOIN responses ON responses.id = response_id ORDER BY {table}.rowid"
            )
    try:
        for table, query in queries.items():
            for name, rows in groupby(connection.execute(query), lambda row: row["name"]):
                found.setdefault(name, {}).setdefault(table, []).extend(row["number"] for row in rows)
    except sqlite3.Error:
        return None
    return dict(found)


def queries_of(connection: sqlite3.Connection, table: str, name: str | None, numbers: Numbers | None) -> list[Query]:
    """What to ask, one after the other, for the rows of a table that belong to a conversation, in order; nothing where
    there is no such table. None is the conversation of the answers that belong to none."""
    if numbers is not None:
        order = "datetime_utc, id" if table == "responses" else "rowid"
        own = numbers.get(table, ())
        parts = [own[at : at + _AT_ONCE] for at in range(0, len(own), _AT_ONCE)]
        marks = [",".join("?" * len(part)) for part in parts]
        return [
            (f"SELECT * FROM {table} WHERE rowid IN ({each}) ORDER BY {order}", part)
            for each, part in zip(marks, parts, strict=True)
        ]
    if table == "responses":
        return [("SELECT * FROM responses WHERE conversation_id IS ? ORDER BY datetime_utc, id", (name,))]
    if "response_id" not in sqlite.columns(connection, table):
        return []
    joined = f"{table} JOIN responses ON responses.id = response_id"
    return [(f"SELECT {table}.* FROM {joined} WHERE conversation_id IS ? ORDER BY {table}.rowid", (name,))]


def rows_of_conversation(name: str | None, numbers: Numbers | None) -> Rows:
    """Each answer of a conversation, with the calls and results of tools beside it; then the conversation's own row."""
    return partial(_conversation, name, numbers)


def rows_of_thread(name: str, tip: str | None) -> Rows:
    """Each message up to the newest, with its parts; then the thread's own row."""
    return partial(_thread, name, tip)


def _conversation(name: str | None, numbers: Numbers | None, connection: sqlite3.Connection) -> Iterator[_Row]:
    beside: dict[tuple[str, object], list[sqlite3.Row]] = {}
    for table in TOOLS:
        for query in queries_of(connection, table, name, numbers):
            for row in connection.execute(*query):
                beside.setdefault((table, row["response_id"]), []).append(row)
    for query in queries_of(connection, "responses", name, numbers):
        for row in connection.execute(*query):
            yield "responses", row
            for table in TOOLS:
                yield from ((table, each) for each in beside.get((table, row["id"]), ()))
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
