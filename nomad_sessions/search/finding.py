"""Questions to one index: which docs match, how many, and what to show of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nomad_sessions.search.hits import Hit
from nomad_sessions.search.index import Index
from nomad_sessions.search.query import expression, trigrams
from nomad_sessions.search.text import COLUMNS, clean

__all__ = ["OWNERS", "Filters", "Found", "Question", "find", "shown"]

_OPEN, _CLOSE = "\x02", "\x03"
_AROUND = 40
_LONGEST_LIKE = 10_000  # SQLite takes no pattern of more than 50,000, escapes included.
OWNERS = "entry e JOIN session s ON s.number = e.session JOIN doc d ON d.number = e.doc"


class Filters(NamedTuple):
    """What hits have to be of; None: anything. Times in ms: `since` <= created < `until`."""

    session_id: str | None = None
    role: str | None = None
    agent: str | None = None
    model: str | None = None
    tool: str | None = None
    since: int | None = None
    until: int | None = None
    archived: bool | None = None

    def terms(self) -> tuple[list[str], list[Any]]:
        """Conditions on the tables `e` (entry), `s` (session) and `d` (doc), and their values."""
        pairs: list[tuple[str, Any]] = [
            ("s.id = ?", self.session_id),
            ("e.role = ?", self.role),
            ("e.agent = ?", self.agent),
            ("(e.model = ? OR substr(e.model, instr(e.model, '/') + 1) = ?)", self.model),
            ("instr(d.tools, ?) > 0", None if self.tool is None else f"\1{self.tool}\1"),
            ("e.created >= ?", self.since),
            ("e.created < ?", self.until),
        ]
        terms: list[str] = []
        values: list[Any] = []
        for term, value in pairs:
            if value is not None:
                values += [clean(value) if isinstance(value, str) else value] * term.count("?")
                terms.append(term)
        if self.archived is not None:
            terms.append(f"s.archived IS {'NOT ' if self.archived else ''}NULL")
        return terms, values


class Question(NamedTuple):
    """What is asked: a query in the language of `query.py`, or, with `substring`, any part of a text; and filters."""

    text: str
    substring: bool
    filters: Filters


class Found(NamedTuple):
    """A doc that matches; the smaller the rank, the better. `snippet` has marks in it; None: not made yet."""

    rank: float
    doc: int
    snippet: str | None


def find(index: Index, question: Question, limit: int) -> tuple[int, list[Found]]:
    """How many docs match in all, and the best of them in order, at most `limit`."""
    if question.substring and question.text:
        return _with_part(index, question, limit)
    match = expression(question.text)
    if match is not None:
        return _with_words(index, match, question.filters, limit)
    terms, values = question.filters.terms()
    # Without a word: everything that the filters leave; of all texts nothing in particular was asked for.
    return _newest(index, "doc d", terms, values, limit) if terms and not question.text.strip() else (0, [])


def _with_words(index: Index, match: str, filters: Filters, limit: int) -> tuple[int, list[Found]]:
    terms, values = filters.terms()
    source = "FROM words WHERE words MATCH ?"
    if terms:
        source += f" AND EXISTS (SELECT 1 FROM {OWNERS} WHERE e.doc = words.rowid AND {' AND '.join(terms)})"
    execute = index.connection.execute
    count = execute(f"SELECT count(*) {source}", (match, *values)).fetchone()[0]
    query = f"SELECT rank, rowid, snippet(words, -1, ?, ?, '…', 24) {source} ORDER BY rank LIMIT ?"
    rows = execute(query, (_OPEN, _CLOSE, match, *values, limit))
    return count, [Found(*row) for row in rows]


def _with_part(index: Index, question: Question, limit: int) -> tuple[int, list[Found]]:
    """Texts that contain another, newest first: there is nothing to tell the better from."""
    text = clean(question.text)
    if text.isascii() and len(text) <= _LONGEST_LIKE:
        condition = "{} LIKE ? ESCAPE '\\'"
        wanted = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    else:
        condition, wanted = "has_text({}, ?)", text.casefold()
    terms, values = question.filters.terms()
    terms.insert(0, "(" + " OR ".join(condition.format(f"d.{name}") for name in COLUMNS) + ")")
    values[:0] = [wanted] * len(COLUMNS)
    match = trigrams(text)
    if match is None or not index.has_grams():
        return _newest(index, "doc d", terms, values, limit)
    source = "grams CROSS JOIN doc d ON d.number = grams.rowid"
    return _newest(index, source, ["grams MATCH ?", *terms], [match, *values], limit)


def _newest(
    index: Index, source: str, terms: Sequence[str], values: Sequence[Any], limit: int
) -> tuple[int, list[Found]]:
    query = (
        f"SELECT -max(e.created) AS age, d.number, NULL FROM {source} JOIN entry e ON e.doc = d.number "
        f"JOIN session s ON s.number = e.session WHERE {' AND '.join(terms)} GROUP BY d.number ORDER BY age, d.number"
    )
    rows = index.connection.execute(query, values).fetchall()
    return len(rows), [Found(*row) for row in rows[:limit]]


def shown(index: Index, question: Question, workspace_id: str, found: Sequence[Found]) -> dict[int, Hit]:
    """The hits for docs that were found, by doc: the oldest copy that the filters let through, and its text."""
    terms, values = question.filters.terms()
    docs = ", ".join(str(each.doc) for each in found)
    query = (
        f"SELECT e.doc, s.id, s.title, e.id, e.role, e.created, {' AND '.join(terms) or '1'} FROM {OWNERS} "
        f"WHERE e.doc IN ({docs}) ORDER BY e.doc, e.number"
    )
    owners: dict[int, list[tuple[Any, ...]]] = {}
    for doc, *row in index.connection.execute(query, values):
        owners.setdefault(doc, []).append(tuple(row))
    hits = {}
    for each in found:
        copies = owners.get(each.doc, ())
        row = next((copy for copy in copies if copy[-1]), None)
        if row is None:
            continue  # Taken out by another process since it was found.
        snippet, marks = _marked(_part(index, question.text, each.doc) if each.snippet is None else each.snippet)
        session, title, message, role, created, _ = row
        hits[each.doc] = Hit(workspace_id, session, title, message, role, created, snippet, marks, len(copies) - 1)
    return hits


def _part(index: Index, text: str, doc: int) -> str:
    """The text around the first place where this one stands in a doc."""
    row = index.connection.execute("SELECT body, calls, title, names FROM doc WHERE number = ?", (doc,)).fetchone()
    filled = [column for column in row or () if column]
    whole = next((column for column in filled if _place(column, text) >= 0), filled[0] if filled else "")
    at = _place(whole, text)
    if at < 0 or not text:
        return whole[: 4 * _AROUND]
    start, end = max(0, at - _AROUND), at + len(text) + 2 * _AROUND
    head, tail = "…" if start else "", "…" if end < len(whole) else ""
    inner = f"{whole[start:at]}{_OPEN}{whole[at : at + len(text)]}{_CLOSE}{whole[at + len(text) : end]}"
    return head + inner + tail


def _place(whole: str, text: str) -> int:
    """Where a text stands in another, whatever the case; -1 where it does not, or not of the same length."""
    lower, wanted = whole.lower(), text.lower()
    return lower.find(wanted) if len(lower) == len(whole) and len(wanted) == len(text) else whole.find(text)


def _marked(snippet: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A snippet without the marks in it, and where they were; on one line."""
    marks: list[tuple[int, int]] = []
    text, start = "", 0
    for piece in snippet.replace("\n", " ").replace(_CLOSE, _CLOSE + _OPEN).split(_OPEN):
        if piece.endswith(_CLOSE):
            start = len(text)
            text += piece[:-1]
            marks.append((start, len(text)))
        else:
            text += piece
    return text, tuple(marks)
