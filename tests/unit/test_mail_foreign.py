"""What another program does to the mailbox: nothing of theirs is lost, nothing of ours comes back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, MailNotFoundError, NativeSessionManager
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


THEIRS: list[tuple[Any, str]] = [
    ({}, "has no attempts, backoff, id"),
    ({"position": "first"}, "position: "),
    ({"priority": "most"}, "priority: "),
    ({"id": "another"}, "has another id"),
    ({"status": "leased"}, "has no whole lease"),
    ({"status": "leased", "lease": {"id": "l"}}, "has no whole lease"),
    ({"lease": {"id": "l"}}, "is queued, and has a lease"),
]


@pytest.mark.parametrize(("fields", "why"), THEIRS, ids=[why for _, why in THEIRS])
def test_a_row_that_is_no_message_is_counted_and_named_and_stays(
    m: NativeSessionManager, fields: dict[str, Any], why: str
) -> None:
    ours, other = m.send(WS, BOB, "ours").id, m.send(WS, BOB, "theirs").id
    m.send(WS, "eve", "hers")

    def spoil(rows: dict[str, Any]) -> None:
        rows[other] = {**rows[other], **fields} if fields else {}

    rewrite(m, spoil)
    (problem,) = m.check(WS).problems
    assert (problem.kind, Path(problem.path).name) == ("mail-unreadable", "sessions.json")
    assert repr(other) in problem.detail
    assert why in problem.detail
    assert (m.mail_counts(WS).queued, m.mail_counts(WS).unreadable) == (2, 1)
    assert m.mail_counts(WS, "eve").unreadable == 0
    assert m.mail_counts(WS, BOB).unreadable == int(bool(fields)), "it does not say for whom it is"
    assert [mail.id for mail in m.list_mail(WS, BOB)] == [ours]
    assert m.get_mail(WS, other) is None
    assert contents(m) == ["ours"]
    with pytest.raises(MailNotFoundError):
        m.discard(WS, other)
    m.checkpoint(WS)
    assert m.check(WS).problems == [problem]
    stored = json.loads((Path(m.data_dir) / WS / "sessions.json").read_text())["mailbox"]
    assert set(stored) == {other, m.list_mail(WS, "eve")[0].id}
    assert stored[other].items() >= fields.items(), "it is as they wrote it"


def test_what_is_no_object_at_all_is_named_too(m: NativeSessionManager) -> None:
    folder = Path(m.data_dir) / WS
    folder.mkdir(parents=True)
    folder.joinpath("sessions.json").write_text(json.dumps({"sessions": {}, "messages": {}, "mailbox": {"n": "milk"}}))
    (problem,) = m.check(WS).problems
    assert problem.detail == "message 'n' of the mailbox is no object: nobody is given it"
    m.send(WS, BOB, "x")
    assert contents(m) == ["x"]
    assert m.check(WS).problems == [problem]


def test_a_row_that_was_put_right_is_a_message_again(m: NativeSessionManager) -> None:
    sent = m.send(WS, BOB, "x").id
    rewrite(m, lambda rows: rows[sent].update(position="first"))
    assert m.mail_counts(WS)[0::5] == (0, 1)
    rewrite(m, lambda rows: rows[sent].update(position=1))
    assert m.mail_counts(WS)[0::5] == (1, 0)
    assert m.check(WS).ok
    assert contents(m) == ["x"]
