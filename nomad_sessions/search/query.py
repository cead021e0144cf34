"""What a person types, as a query of SQLite's FTS5.

| typed | finds |
|---|---|
| `slugify test` | both words, anywhere in a message |
| `"trailing dashes"` | the words next to each other |
| `slug*` | words that begin so |
| `slugify -regex` | the one without the other |
| `slugify OR kebab` | either |

Punctuation inside a word joins its pieces as a phrase does: `foo.bar` finds `foo.bar` and `foo bar`. Nothing that is
typed is an error of syntax.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.search.text import clean

__all__ = ["expression", "phrases", "trigrams"]

_MOST = 500
_TERM = re.compile(r'(-?)"([^"]*)"(\*?)|(\S+)')


def expression(query: str) -> str | None:
    """The FTS5 expression of a query; None for one without a word. Raises `InvalidInputError` when all it does is
    exclude, which would find everything else, and for more words than FTS5 finds in any time."""
    found = _groups(query)
    count = sum(len(each) for group in found for each in group)
    if count > _MOST:
        reason = f"has {count} different words, of at most {_MOST}; as part of a text it may be longer"
        raise InvalidInputError(field="query", value=query, reason=reason)
    if any(not wanted for wanted, _ in found):
        raise InvalidInputError(field="query", value=query, reason="must say what to find, not only what not to find")
    return " OR ".join(f"({_group(*each)})" for each in found) or None


def phrases(query: str) -> list[str]:
    """The FTS5 expressions of the words and phrases that it wants, each by itself."""
    return list(dict.fromkeys(each for wanted, _ in _groups(query) for each in wanted))


def _groups(query: str) -> list[tuple[dict[str, None], dict[str, None]]]:
    """What is wanted and what is not, for each side of an OR, each once and in order."""
    groups: list[tuple[dict[str, None], dict[str, None]]] = [({}, {})]
    for term in _TERM.finditer(query):
        if term[4] == "OR":
            groups.append(({}, {}))
            continue
        text, excluded = _phrase(term)
        if text is not None:
            groups[-1][excluded][text] = None
    return [group for group in groups if group[0] or group[1]]


def _phrase(term: re.Match[str]) -> tuple[str | None, bool]:
    if term[4] is None:
        text, star, minus = term[2], term[3], term[1]
    else:
        word = term[4]
        minus, word = ("-", word[1:]) if word.startswith("-") and len(word) > 1 else ("", word)
        star, word = ("*", word[:-1]) if word.endswith("*") else ("", word)
        text = word.replace('"', "")
    if not any(each.isalnum() for each in text):
        return None, False
    return f'"{clean(text)}"{" *" if star else ""}', bool(minus)


def _group(wanted: Iterable[str], unwanted: Collection[str]) -> str:
    """FTS5's own implied AND does not mix with NOT."""
    positive = " AND ".join(wanted)
    return f"({positive}) NOT ({' OR '.join(unwanted)})" if unwanted else positive


def trigrams(text: str) -> str | None:
    """The FTS5 expression for texts that have every three characters in succession of `text`; None for less than three.

    With an index that knows no positions: what it finds has to be looked at again.
    """
    pieces = dict.fromkeys(text[at : at + 3] for at in range(len(text) - 2))
    return " AND ".join('"{}"'.format(piece.replace('"', '""')) for piece in pieces) or None
