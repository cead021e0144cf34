"""What another program does to the mailbox: nothing of theirs is lost, nothing of ours comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager
from tests.support.mail import BOB, WS, contents, lease_of, received


def test_where_another_program_keeps_something_else_nothing_is_sent_into_the_void(m: NativeSessionManager) -> None:
    m.create_session(WS)
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"mailbox": ["theirs"]}))
    for call in (lambda: m.send(WS, BOB, 1), lambda: m.receive(WS, BOB), lambda: m.list_mail(WS)):
        with pytest.raises(InvalidInputError, match="mailbox"):
            call()
    m.checkpoint(WS)
    assert json.loads(path.read_text())["mailbox"] == ["theirs"]


def test_a_program_that_gives_back_what_it_once_read_brings_no_acknowledged_message_back(
    m: NativeSessionManager,
) -> None:
    m.send(WS, BOB, 1)
    m.send(WS, BOB, 2)
    m.create_session(WS, id="s")
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    once = json.loads(path.read_text())
    m.ack(WS, lease_of(received(m)))
    m.send(WS, BOB, 3)
    once["sessions"]["s"]["title"] = "theirs"
    path.write_text(json.dumps(once, indent=2))
    assert contents(m) == [2, 3]
    assert m.check(WS).ok


def rewrite(m: NativeSessionManager, edit: Callable[[dict[str, Any]], object]) -> None:
    """What another program does to the rows."""
    m.checkpoint(WS)
    path = Path(m.data_dir) / WS / "sessions.json"
    value = json.loads(path.read_text())
    edit(value["mailbox"])
    path.write_text(json.dumps(value))


@pytest.mark.parametrize("position", [0, 7, -3, 10**30])
def test_pages_have_each_row_once_whatever_places_another_program_gave_them(
    m: NativeSessionManager, position: int
) -> None:
    ids = [m.send(WS, BOB, number).id for number in range(9)]
    rewrite(m, lambda rows: [row.update(position=position) for row in rows.values()])
    seen: list[str] = []
    cursor = None
    for _ in range(5):
        page = m.list_mail(WS, limit=2, cursor=cursor)
        assert page.total == 9
        seen += [mail.id for mail in page]
        cursor = page.next_cursor
    assert (seen, cursor) == (sorted(ids), None)
