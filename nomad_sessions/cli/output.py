"""Results on stdout: JSON for programs, tables and conversations for people.

Stored text is data: what a terminal would take as a command (escape sequences, carriage returns) is shown, not obeyed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from nomad_sessions.models import Message, MessagePart, Page, Session, dump
from nomad_sessions.storage.codec import encode

__all__ = [
    "SHORT_ID",
    "WIDE",
    "conversation",
    "counted",
    "for_people",
    "page_as_json",
    "pairs",
    "plain",
    "sessions_table",
    "show_message",
    "show_page",
    "size",
    "table",
    "when",
    "write_bytes",
    "write_json",
    "write_line",
]

# C0 controls but tab and newline have pictures at U+2400 and up; C1 controls have none.
_SHOWN = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_SHOWN |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
_SILENT = ("step-start", "step-finish", "snapshot")  # OpenCode's bookkeeping, which says nothing to a reader
WIDE, SHORT_ID = 100, 8  # Columns of a terminal from which on ids are whole; characters of the others.
_CUT = 2_000  # characters of one part that a terminal shows


def for_people(as_json: bool) -> bool:
    """Whether to print tables: stdout is a terminal and nobody asked for JSON."""
    return not as_json and sys.stdout.isatty()


def write_json(value: Any) -> None:
    """One JSON value, indented, in UTF-8 whatever the locale; what UTF-8 cannot hold is escaped."""
    try:
        data = json.dumps(value, indent=2, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):  # lone surrogates, deep nesting
        data = encode(value)
    _write(data)


def write_line(value: Any) -> None:
    """One JSON value in a line."""
    _write(encode(value))


def _write(data: bytes) -> None:
    write_bytes((data, b"\n"))


def write_bytes(pieces: Iterable[bytes]) -> None:
    """Bytes as they are, all of them."""
    sys.stdout.flush()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:  # With PYTHONUNBUFFERED a single write to a pipe may take 64 KiB, and drop the rest.
            rest = rest[sys.stdout.buffer.write(rest) or 0 :]
    sys.stdout.buffer.flush()


def page_as_json(page: Page[Any]) -> dict[str, Any]:
    """A page as the command line and, later, HTTP give it."""
    return {"items": [dump(item) for item in page], "total": page.total, "nextCursor": page.next_cursor}


def plain(text: str) -> str:
    """Text that is safe to print: control characters as pictures of themselves, lone surrogates as U+FFFD."""
    return text.translate(_SHOWN).encode("utf-8", "replace").decode("utf-8")


def when(ms: int) -> str:
    """A time in the local zone, to the minute; "-" for none."""
    try:
        return datetime.fromtimestamp(ms / 1000).strftime("%Y-%m-%d %H:%M") if ms else "-"
    except (ValueError, OverflowError, OSError):  # a foreign file's idea of a time
        return str(ms)


def counted(number: int, noun: str) -> str:
    """A number of things, one thing in the singular."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(count: int) -> str:
    """Bytes for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = (), tight: bool = False
) -> Table:
    """A plain table of these columns; those named in `right` are numbers; a `tight` one has many for 80 characters."""
    result = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=tight)
    for name in columns:
        result.add_column(
            name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in ("id", "updated")
        )
    for row in rows:
        result.add_row(*(Text(plain(cell)) for cell in row))
    return result


def pairs(values: Iterable[tuple[str, str]]) -> Table:
    """Names and values, one pair a line."""
    result = Table(box=None, show_header=False, pad_edge=False)
    for name, value in values:
        result.add_row(Text(name, style="bold"), Text(plain(value)))
    return result


def sessions_table(page: Page[Session], width: int) -> Table:
    """The list of sessions. Where `width` (characters) is scarce an id is cut to its end, which every command takes."""
    keep = 0 if width >= WIDE else -SHORT_ID
    rows = ((s.id[keep:], s.title, str(len(s.message_ids)), when(s.updated_at), _marks(s)) for s in page)
    return table(("id", "title", "messages", "updated", ""), rows, right=("messages",))


def show_page(console: Console, page: Page[Any], noun: str) -> None:
    """What a page leaves out, and how to get it."""
    if len(page) < page.total:
        more = f", --cursor {page.next_cursor} for more" if page.next_cursor else ""
        console.print(Text(f"{len(page)} of {page.total} {noun}{more}", style="dim"))


def conversation(console: Console, session: Session, page: Page[Message]) -> None:
    """A session as one reads it."""
    console.print(Text(plain(session.title), style="bold"))
    console.print(Text(f"{session.id}  {when(session.updated_at)}  {_marks(session)}".rstrip(), style="dim"))
    for message in page:
        show_message(console, message)
    show_page(console, page, "messages")


def show_message(console: Console, message: Message) -> None:
    """One message of a conversation."""
    style = {"user": "bold cyan", "assistant": "bold green"}.get(message.role, "bold yellow")
    status = "" if message.status == "completed" else f"  {message.status}"
    details = f"  {when(message.created_at)}  {message.id}{status}"
    console.print()
    console.print(Text.assemble((plain(message.role), style), (plain(details), "dim")))
    for line in _lines(message):
        console.print(_indented(line))
    if message.error is not None:
        console.print(_indented(Text(plain(f"{message.error.name}: {message.error.message}"), style="red")))


def _indented(text: Text) -> Padding:
    text.rstrip()
    return Padding(text, (0, 0, 0, 2), expand=False)


def _marks(session: Session) -> str:
    marks = (("archived", session.archived_at), ("closed", session.closed_at), ("reverted", session.revert))
    return " ".join(name for name, value in marks if value)


def _lines(message: Message) -> Iterable[Text]:
    # Of parts of another tool perhaps only the message itself has the text.
    if message.content and not any(_is_shown(part) for part in message.parts):
        yield Text(plain(_cut(message.content)))
    for part in message.parts:
        yield from _part(part)


def _is_shown(part: MessagePart) -> bool:
    return bool(part.content or part.tool_call or part.tool_result or part.file)


def _part(part: MessagePart) -> Iterable[Text]:
    content = part.content if isinstance(part.content, str) else ""
    if part.type in ("text", "code"):
        yield Text(plain(_cut(content)))
    elif part.type == "thinking":
        yield Text(plain(_cut(content)), style="italic dim")
    elif part.type == "tool_call" and part.tool_call is not None:
        function = part.tool_call.function
        yield Text(plain(f"→ {function.name} {_cut(function.arguments, 200)} {part.state or ''}"), style="magenta")
        if part.tool_result is not None:
            yield Text(plain(_cut(part.tool_result.content, 200)), style="dim")
    elif part.type == "tool_result" and part.tool_result is not None:
        yield Text(plain(_cut(part.tool_result.content)), style="dim")
    elif part.type == "file" and part.file is not None:
        yield Text(plain(f"[{part.file.mime} {part.file.name or part.file.url or ''}]"[:200]), style="magenta")
    elif part.type not in _SILENT:
        yield Text(plain(f"[{part.type}]"), style="dim")


def _cut(text: str, limit: int = _CUT) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
