"""A session as one HTML page that needs nothing else: no network, no script, light and dark.

What was said is rendered as Markdown, with raw HTML in it shown and not obeyed; code is highlighted; thinking and tools
are folded. A content security policy forbids the page to load or run anything, whatever a message holds.
"""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats.transcript import Entry, Item, entries_of, moment
from nomad_sessions.operations.files import data_url

__all__ = ["to_html"]

_SPEAKERS = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}
_LONGEST = 200_000
"""Code of more characters than this is not highlighted: it would take seconds."""
_LONGEST_LINE = 500
"""Nor code with a longer line than this, but for JSON: in many languages the time grows with its square."""
_DEEPEST = 200
"""A text of lists or quotes nested deeper is shown as it is: the parser would leave out what follows, too."""


def to_html(
    session: Mapping[str, Any],
    messages: Sequence[Mapping[str, Any]],
    attachment: Callable[[str], bytes],
) -> str:
    """The whole session as a page, images included; `attachment` gives bytes by their sha256.

    Needs markdown-it-py and pygments (the extra `cli` has them); `InvalidInputError` says so where they are missing.
    """
    for module in ("markdown_it", "pygments"):
        if importlib.util.find_spec(module) is None:
            reason = "needs markdown-it-py and pygments: pip install 'nomad-sessions[cli]'"
            raise InvalidInputError(field="format", value="html", reason=reason)
    title = " ".join(str(session.get("title") or "Untitled").split())
    body = "\n".join(_entry(entry, attachment) for entry in entries_of(messages))
    facts = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in _facts(session) if value)
    return (
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'\">"
            f"<title>{escape(title)}</title><style>{_style()}</style></head>\n"
            f"<body><main><h1>{escape(title)}</h1><dl>{facts}</dl>\n{body}\n</main></body></html>\n"
        )
        .encode("utf-8", "replace")
        .decode("utf-8")
    )


def _facts(session: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "session", str(session.get("id") or "")
    yield "created", moment(int(session.get("createdAt") or 0))
    yield "updated", moment(int(session.get("updatedAt") or 0))
    yield "folder", str(session.get("directory") or "")


def _entry(entry: Entry, attachment: Callable[[str], bytes]) -> str:
    who = escape(_SPEAKERS.get(entry.role, entry.role))
    about = escape(" · ".join(each for each in (entry.model, moment(entry.time)) if each))
    items = "\n".join(_item(item, attachment) for item in entry.items)
    failed = entry.error or (entry.status if entry.status != "completed" else "")
    tail = f'<p class="bad">{escape(failed)}</p>' if failed else ""
    role = escape(entry.role if entry.role in _SPEAKERS else "other")
    return f'<article class="{role}"><header><b>{who}</b> {about}</header><div>{items}{tail}</div></article>'


def _item(item: Item, attachment: Callable[[str], bytes]) -> str:
    if item.kind == "text":
        return _rendered(item.content)
    if item.kind == "code":
        return _highlighted(item.content, "")
    if item.kind == "file":
        return _file(item, attachment)
    if item.kind == "thinking":
        return f"<details><summary>Thinking</summary>{_rendered(item.content)}</details>"
    if item.kind != "tool":
        return f"<details><summary>{escape(item.title)}</summary><pre>{escape(item.content)}</pre></details>"
    first = escape(" ".join(item.content.split())[:100])
    result = "<p>no result recorded</p>" if item.result is None else f"<pre>{escape(item.result)}</pre>"
    bad = ' class="bad"' if item.is_error else ""
    summary = f"<summary><b>{escape(item.title)}</b> <code>{first}</code></summary>"
    return f"<details{bad}>{summary}{_highlighted(item.content, 'json')}{result}</details>"


def _file(item: Item, attachment: Callable[[str], bytes]) -> str:
    name = escape(item.title or item.mime or "file")
    url = item.url
    if item.mime.startswith("image/"):
        if url is None and item.sha256 is not None:
            url = data_url(item.mime, attachment(item.sha256))
        if url is not None and url.startswith("data:image/"):
            return f'<p><img src="{escape(url)}" alt="{name}"></p>'
    return f"<p>📎 <code>{name}</code></p>"


def _rendered(content: str) -> str:
    parser = _markdown()
    tokens = parser.parse(content)
    if any(token.level >= _DEEPEST - 1 for token in tokens):
        return f"<pre>{escape(content)}</pre>"
    return str(parser.renderer.render(tokens, parser.options, {}))


@functools.cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    options = {"html": False, "breaks": True, "maxNesting": _DEEPEST}
    parser = MarkdownIt("commonmark", {**options, "highlight": lambda code, name, _: _highlighted(code, name)})
    return parser.enable(["table", "strikethrough"])


def _highlighted(code: str, name: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    if len(code) <= _LONGEST and (name == "json" or all(len(line) <= _LONGEST_LINE for line in code.splitlines())):
        try:
            lexer = get_lexer_by_name(name or "text")
        except ClassNotFound:
            pass
        else:
            inner = highlight(code, lexer, HtmlFormatter(nowrap=True))
            return f'<pre class="code"><code>{inner}</code></pre>'
    return f"<pre><code>{escape(code)}</code></pre>"


@functools.cache
def _style() -> str:
    from pygments.formatters import HtmlFormatter

    page = (importlib.resources.files(__package__) / "page.css").read_text(encoding="utf-8")
    formatters: list[Any] = [HtmlFormatter(style=name) for name in ("default", "github-dark")]
    light, dark = (formatter.get_style_defs(".code") for formatter in formatters)
    return f"\n{page}{light}\n@media(prefers-color-scheme:dark){{{dark}}}\n.code{{background:var(--code)!important}}"
