"""A walk through the documents that were found in stores of the original: each is read, in each spelling, and comes out
canonical, once, however often it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomad_sessions.formats.dualstore import Found, Kind, NotRead, read_documents
from nomad_sessions.models import Message, Session, Task, canonical, validate

SES = "ses_60b3c94d0ffea52svi9FvwBcms"
MSG = "msg_9f4d5e84b00184H4Ob3lQYAhzz"
AT = 1760748071727
ISO = "2025-10-18T00:41:11.727Z"
SPELLINGS = ("sessionId", "sessionID", "session_id")


def read(of: Kind, *rows: Mapping[str, Any]) -> list[Found | NotRead]:
    return list(read_documents(of, rows))


def one(of: Kind, *rows: Mapping[str, Any]) -> dict[str, Any]:
    (found,) = read(of, *rows)
    assert isinstance(found, Found), found
    return found.record


# Sessions

INFO = {
    "id": SES,
    "title": "Fix kanban WIP limits",
    "agent": "code-reviewer",
    "description": "limits are ignored",
    "projectID": "p1",
    "time": {"created": AT, "updated": AT + 30_273},
}
NOTES = {
    "id": f"session:{SES}",
    "text": json.dumps(INFO),
    "timestamp": AT,
    "metadata": {"type": "session", "sessionId": SES, "title": "x", "vectorWriteSuccess": True},
}


def test_a_session_of_the_first_generation() -> None:
    session = one("session", NOTES)
    assert {key: session[key] for key in ("id", "title", "agent", "description", "createdAt", "updatedAt")} == {
        "id": SES,
        "title": "Fix kanban WIP limits",
        "agent": "code-reviewer",
        "description": "limits are ignored",
        "createdAt": AT,
        "updatedAt": AT + 30_273,
    }
    assert session["opencode"]["projectID"] == "p1"
    assert validate(Session, session).id == SES


def test_a_session_that_the_indexer_wrote_is_not_called_after_its_title() -> None:
    prose = (
        f"# Session: Fix kanban\n\n**ID:** {SES}\n**Created:** 10/18/2025, 12:41:11 AM\n**Project ID:** p1\n\n"
        "## Description\nlimits are\nignored\n\n---\n"
    )
    row = {"id": f"sess_{AT}_ab12cd", "text": prose, "timestamp": AT, "metadata": {"type": "session"}}
    session = one("session", row)
    assert (session["id"], session["title"], session["createdAt"]) == (SES, "Fix kanban", AT)
    assert session["description"] == "limits are\nignored"


def test_the_oldest_sessions_are_a_line_of_text() -> None:
    assert one("session", {"id": "x1", "text": "Session: abc123", "timestamp": AT})["id"] == "abc123"
    assert one("session", {"text": "Session: abc123"})["createdAt"] == 0
    assert one("session", {"id": f"session:{SES}", "text": "what it was about", "timestamp": ISO}) == {
        "id": SES,
        "createdAt": AT,
        "updatedAt": AT,
    }
    assert read("session", {"text": "nothing that names one"}) == [NotRead("", "it names no session")]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_of_a_session_without_its_id_any_spelling_names_it(spelling: str) -> None:
    row = {"id": "generated", "text": '{"title": "t"}', "metadata": {"type": "session", spelling: SES}}
    assert (one("session", row)["id"], one("session", row)["title"]) == (SES, "t")


def test_of_a_session_written_again_the_newest_is_read() -> None:
    later = {**INFO, "title": "Renamed", "time": {"created": AT, "updated": AT + 99_999}}
    again = {**NOTES, "text": json.dumps(later), "timestamp": AT + 99_999}
    for rows in ((NOTES, again), (again, NOTES), (NOTES, again, NOTES)):
        assert (one("session", *rows)["title"], one("session", *rows)["updatedAt"]) == ("Renamed", AT + 99_999)


# Messages

PARTS = [
    {"id": "prt_1", "type": "text", "text": "I looked. "},
    {"id": "prt_2", "type": "tool", "tool": "bash", "callID": "c1", "state": {"status": "completed", "input": {}}},
    {"id": "prt_3", "type": "reasoning", "text": "hm"},
    {"id": "prt_4", "type": "text", "text": "Done."},
]
FULL = {"info": {"id": MSG, "sessionID": SES, "role": "assistant", "time": {"created": AT}}, "parts": PARTS}


def test_a_message_of_the_indexer_has_all_its_parts() -> None:
    row = {"id": "generated", "text": json.dumps(FULL), "timestamp": AT + 5, "metadata": {"type": "message"}}
    message = one("message", row)
    assert (message["id"], message["sessionId"], message["role"]) == (MSG, SES, "assistant")
    assert message["content"] == "I looked. Done."
    assert [each["type"] for each in message["parts"]] == ["text", "tool_call", "thinking", "text"]
    assert message["createdAt"] == AT
    made = validate(Message, message)
    assert canonical(made) == canonical(canonical(made))


def part_row(text: str, spelling: str = "sessionID", at: int = AT) -> dict[str, Any]:
    about = {spelling: SES, "messageID": MSG, "type": "text", "timestamp": at}
    return {"id": MSG, "text": text, "timestamp": at, "metadata": about}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_message_in_a_row_for_each_part_is_put_together(spelling: str) -> None:
    message = one("message", part_row("First.", spelling), part_row("Second.", spelling))
    assert message == {
        "id": MSG,
        "sessionId": SES,
        "content": "First.Second.",
        "createdAt": AT,
        "updatedAt": AT,
    }


def test_parts_that_were_written_again_while_they_grew_are_there_once() -> None:
    rows = [part_row("Fir"), part_row("First."), part_row("Second."), part_row("First.", at=AT + 9)]
    message = one("message", *rows)
    assert (message["content"], message["createdAt"]) == ("First.Second.", AT)


@pytest.mark.parametrize("own", [f"session:{SES}:messages", f"{SES}:messages"])
def test_a_list_of_messages_is_all_of_them(own: str) -> None:
    other = {"info": {"id": "msg_2", "sessionID": SES, "role": "user", "time": {"created": AT}}, "parts": []}
    row = {"id": own, "text": json.dumps([FULL, other, "no message"]), "timestamp": AT}
    found = read("session", row)
    assert [each.record["id"] for each in found if isinstance(each, Found)] == [MSG, "msg_2"]
    assert all(each.kind == "message" for each in found if isinstance(each, Found))
    assert [each.id for each in found if isinstance(each, NotRead)] == [f"{own}#2"]


def test_a_message_of_the_command_line_and_its_companion_are_one() -> None:
    said = {
        "id": "msg-1760748071727-k3x9qa",
        "sessionId": SES,
        "content": "please rebase",
        "role": "user",
        "timestamp": ISO,
        "parts": [{"type": "text", "text": "please rebase"}],
    }
    row = {
        "id": said["id"],
        "text": json.dumps(said),
        "timestamp": ISO,
        "metadata": {"type": "message", "sessionId": SES, "role": "user", "messageId": said["id"]},
    }
    companion = {"id": f"{SES}:messages", "text": json.dumps(said), "metadata": {"type": "session_message"}}
    assert one("message", row, companion) == {
        "id": said["id"],
        "sessionId": SES,
        "role": "user",
        "content": "please rebase",
        "createdAt": AT,
        "updatedAt": AT,
    }


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_message_that_was_posted(spelling: str) -> None:
    row = {
        "id": "msg_1760748071727_abcdefghi",
        "text": "hello",
        "timestamp": AT,
        "metadata": {spelling: SES, "role": "user", "updated_at": "2025-10-18T00:42:00Z"},
    }
    message = one("message", row)
    assert (message["sessionId"], message["role"], message["content"]) == (SES, "user", "hello")
    assert message["updatedAt"] == 1760748120000


def test_what_is_no_message_says_why() -> None:
    assert read("message", {"id": "m", "text": "hi"}) == [NotRead("m", "it names no session")]
    assert read("message", {"id": "m", "text": " ", "metadata": {"sessionId": SES}, "x": 1})[0].kind == "message"  # type: ignore[union-attr]
    assert read("message", {"id": "m", "metadata": {"sessionId": SES}}) == [NotRead("m", "it has no text")]
    assert read("message", {"text": "hi", "metadata": {"sessionId": SES}}) == [NotRead("", "it has no id")]
    nameless = {"info": {"role": "user"}, "parts": []}
    row = {"text": json.dumps(nameless), "metadata": {"sessionId": SES}}
    assert read("message", row) == [NotRead("", "it has no id")]


# Mail, tasks, events


def test_a_message_between_agents_is_mail_that_was_delivered() -> None:
    row = {
        "id": "inter_agent_1760748100000_x1y2z3",
        "text": "Inter-agent message: please rebase",
        "timestamp": "2025-10-18T00:41:40.000Z",
        "metadata": {
            "type": "inter_agent_communication",
            "sender": "ses_a",
            "recipient": "ses_b",
            "priority": "high",
            "messageType": "task_delegation",
        },
    }
    (found,) = read("message", row)
    assert isinstance(found, Found)
    assert found.kind == "mail"
    assert found.record == {
        "id": row["id"],
        "sender": "ses_a",
        "recipient": "ses_b",
        "status": "acked",
        "content": "Inter-agent message: please rebase",
        "priority": "high",
        "type": "task_delegation",
        "createdAt": 1760748100000,
        "updatedAt": 1760748100000,
    }
    assert isinstance(read("message", {"id": "x", "metadata": {"type": "inter_agent_communication"}})[0], NotRead)


CREATED = {
    "id": SES,
    "text": "Review the kanban transition rules",
    "timestamp": AT + 1084,
    "metadata": {"sessionId": SES, "startTime": AT + 6, "status": "running", "lastActivity": AT + 6},
}


def update(status: str, at: int, **more: Any) -> dict[str, Any]:
    said = {"sessionId": SES, "status": status, "lastActivity": at, **more}
    return {"id": SES, "text": "Review the kanban transition rules", "timestamp": AT + 6, "metadata": said}


def test_a_task_and_its_updates_are_one_task_with_the_last_state() -> None:
    rows = [CREATED, update("idle", AT + 50), update("completed", AT + 90, completionMessage="all done")]
    assert one("task", CREATED, rows[1])["status"] == "running"
    for order in (rows, rows[::-1]):
        task = one("task", *order)
        assert (task["status"], task["startTime"], task["lastActivity"]) == ("completed", AT + 6, AT + 90)
        assert task["inputData"] == "Review the kanban transition rules"
        assert (task["outputData"], task["updatedAt"]) == ("all done", AT + 90)
        assert validate(Task, task).status == "completed"
    assert one("task", rows[2])["startTime"] == AT + 6  # The row's own time: an update has no other.


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_task_that_was_posted(spelling: str) -> None:
    row = {
        "id": "task_1",
        "text": "review",
        "timestamp": AT,
        "metadata": {
            spelling: SES,
            "agentId": "a1",
            "taskType": "review",
            "status": "pending",
            "progress": 40,
            "inputData": {"files": 2},
            "outputData": None,
            "errorMessage": None,
            "updated_at": ISO,
        },
    }
    assert one("task", row) == {
        "id": "task_1",
        "sessionId": SES,
        "agentId": "a1",
        "taskType": "review",
        "status": "pending",
        "progress": 40,
        "inputData": {"files": 2},
        "createdAt": AT,
        "updatedAt": AT,
    }
    assert read("task", {"text": "x"}) == [NotRead("", "it has no id")]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_event_of_each_generation(spelling: str) -> None:
    raw = {"type": "session.idle", "properties": {"sessionID": "ses_60a8"}}
    notes = {
        "_id": object(),
        "id": "session.idle_1760759652099_iv7q4d",
        "text": "…",
        "timestamp": 1760759652099,
        "metadata": {"eventType": "session.idle", spelling: "ses_60a8", "rawEvent": json.dumps(raw)},
    }
    event = one("event", notes)
    assert (event["type"], event["sessionId"], event["timestamp"]) == ("session.idle", "ses_60a8", 1760759652099)
    assert event["properties"] == {"sessionID": "ses_60a8"}
    projected = {
        "id": f"event:session-update-{SES}-1760748102000",
        "text": json.dumps({"type": "session.updated", "timestamp": ISO, spelling: SES, "properties": {"a": 1}}),
        "timestamp": ISO,
        "metadata": {"type": "projected_event", "sessionId": SES},
    }
    event = one("session", projected)
    assert (event["type"], event["sessionId"], event["timestamp"]) == ("session.updated", SES, AT)
    del projected["metadata"]["sessionId"]  # type: ignore[attr-defined]
    assert one("session", projected)["sessionId"] == SES
    for said in ({"session": {"id": SES}}, {"message": {spelling: SES}}, {spelling: SES}):
        older = {"type": "session.compacted", **said}
        row = {"id": "e", "text": "…", "metadata": {"eventType": "session.compacted", "rawEvent": json.dumps(older)}}
        assert one("event", row)["sessionId"] == SES
    posted = {
        "id": "event_1",
        "text": "x",
        "timestamp": datetime.fromtimestamp(AT / 1000, UTC).replace(tzinfo=None),
        "metadata": {spelling: SES, "event_type": "agent.started", "event_data": {"a": 1}, "severity": "info"},
    }
    event = one("event", posted)
    assert (event["type"], event["sessionId"], event["properties"]) == ("agent.started", SES, {"a": 1})
    assert event["timestamp"] == AT
    alone = {"id": "e", "text": "x", "metadata": {"eventType": "file.edited", "rawEvent": "{not json"}}
    assert "sessionId" not in one("event", alone)
    assert isinstance(read("event", {"id": "e", "text": "an alias or whatever"})[0], NotRead)


# Whatever there is


def test_what_was_said_of_the_vector_is_no_part_of_a_record() -> None:
    failed = {**part_row("x"), "metadata": {**part_row("x")["metadata"], "vectorWriteSuccess": False}}
    assert one("message", failed) == one("message", part_row("x"))


def test_an_alias_is_no_record() -> None:
    assert isinstance(read("task", {"_id": "duck_agent_tasks", "target": "duck_agent_tasks"})[0], NotRead)


def test_every_row_is_accounted_for_once() -> None:
    rows = [NOTES, CREATED, part_row("one"), part_row("two"), NOTES, {"id": "m", "text": "hi"}]
    found = read("message", *rows)
    assert len(found) == 4
    assert read("message", *rows, *rows) == found


names = st.sampled_from(["id", "text", "timestamp", "metadata", "type", "sessionId", "info", "parts", "role", "said"])
leaves = st.sampled_from(["", "session:a", "session:a:messages", "session", "text", '{"id":"m","role":3}', "[1]", "{"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.dictionaries(names, values, max_size=5), max_size=4))
@pytest.mark.parametrize("of", ["session", "message", "task", "event", "mail"])
def test_whatever_a_row_holds_it_is_read_or_says_why_not(of: Kind, rows: list[dict[str, Any]]) -> None:
    for each in read(of, *rows):
        if isinstance(each, Found):
            assert each.record["id"] or each.kind == "event"
        else:
            assert each.reason
