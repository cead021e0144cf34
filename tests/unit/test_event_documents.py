"""Events out of the original's documents, in each generation and spelling; twice is as once, and nothing is dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import ImportReport, import_file
from nomad_sessions.models import Event

WS = "ws"
T = 1_760_759_652_099


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    return NativeSessionManager(tmp_path / "data", durability="os")


def raw(kind: str, properties: dict[str, Any], number: int = 1, **metadata: Any) -> dict[str, Any]:
    """A document as the watcher of the command line kept it."""
    return {
        "id": f"{kind}_{T + number}_iv7q4d",
        "text": f"{kind} happened",
        "timestamp": T + number,
        "metadata": {
            "eventType": kind,
            "timestamp": T + number,
            "rawEvent": json.dumps({"type": kind, "properties": properties}),
            **metadata,
        },
    }


PROJECTED = {
    "id": "event:session-update-ses_1-1760748102000",
    "text": json.dumps(
        {
            "id": "x",
            "type": "session.updated",
            "timestamp": "2025-10-18T00:41:42.000Z",
            "source": "retrospective",
            "processed": True,
            "sessionId": "ses_1",
            "properties": {"action": "update", "sessionData": {"title": "t"}},
        }
    ),
    "timestamp": "2025-10-18T00:41:42.000Z",
    "metadata": {"type": "projected_event", "source": "retrospective", "sessionId": "ses_1"},
}
POSTED = {
    "id": "event_1760748102000_abc",
    "text": "something",
    "timestamp": {"$date": "2025-10-18T00:41:42Z"},
    "metadata": {
        "session_id": "ses_2",
        "event_type": "tool.execute",
        "event_data": {"tool": "bash"},
        "severity": "info",
    },
}


def brought(m: NativeSessionManager, documents: list[Any], *, lines: bool = False) -> ImportReport:
    path = Path(m.data_dir).parent / "events.json"
    text = "\n".join(json.dumps(each) for each in documents) if lines else json.dumps(documents, indent=1)
    path.write_text(text)
    return import_file(m, WS, path)


def events(m: NativeSessionManager) -> list[Event]:
    return list(m.events(WS, recorded=True))


@pytest.mark.parametrize("lines", [True, False])
def test_each_generation_comes_in_and_twice_is_as_once(m: NativeSessionManager, lines: bool) -> None:
    documents = [raw("session.idle", {"sessionID": "ses_0"}), PROJECTED, POSTED]
    report = brought(m, documents, lines=lines)
    assert vars(report.events) == {"read": 3, "imported": 3, "updated": 0, "unchanged": 0, "skipped": 0}
    assert report.complete
    idle, projected, posted = events(m)
    assert (idle.id, idle.type, idle.timestamp) == (documents[0]["id"], "session.idle", T + 1)
    assert (idle.session_id, idle.properties) == ("ses_0", {"sessionID": "ses_0"})
    assert (projected.type, projected.session_id) == ("session.updated", "ses_1")
    assert projected.properties["sessionData"] == {"title": "t"}
    assert projected.timestamp == posted.timestamp == 1_760_748_102_000
    assert (posted.type, posted.session_id, posted.properties) == ("tool.execute", "ses_2", {"tool": "bash"})
    seq = m.status(WS).seq
    again = brought(m, documents, lines=lines)
    assert (again.events.imported, again.events.unchanged) == (0, 3)
    assert m.status(WS).seq == seq


def test_what_a_document_has_beside_the_event_is_kept(m: NativeSessionManager) -> None:
    brought(m, [raw("session.idle", {"sessionID": "s"}, vectorWriteSuccess=False), PROJECTED, POSTED])
    idle, projected, posted = (each.model_extra["imported"] for each in events(m) if each.model_extra)
    assert idle["metadata"]["vectorWriteSuccess"] is False
    assert idle["text"] == "session.idle happened"
    assert "rawEvent" not in idle["metadata"], "it is the event"
    assert json.loads(projected["text"])["processed"] is True
    assert posted["metadata"]["severity"] == "info"


@pytest.mark.parametrize(
    ("kind", "properties", "metadata", "session", "message"),
    [
        ("session.idle", {"sessionID": "s"}, {}, "s", None),
        ("session.idle", {"sessionId": "s"}, {}, "s", None),
        ("session.idle", {"session_id": "s"}, {}, "s", None),
        ("session.idle", {}, {"sessionId": "s"}, "s", None),
        ("session.idle", {}, {"sessionID": "s"}, "s", None),
        ("session.idle", {}, {"session_id": "s"}, "s", None),
        ("session.updated", {"info": {"id": "s", "title": "t"}}, {"sessionId": "s"}, "s", None),
        ("session.compacted", {"sessionID": "s"}, {}, "s", None),
        ("message.updated", {"info": {"id": "m", "sessionID": "s"}}, {"sessionId": "m"}, "s", "m"),
        ("message.part.updated", {"part": {"id": "p", "sessionID": "s", "messageID": "m"}}, {}, "s", "m"),
        ("message.removed", {"sessionID": "s", "messageID": "m"}, {}, "s", "m"),
        ("unheard.of", {"a": 1}, {}, None, None),
    ],
)
def test_dualstore_51_the_session_of_an_event_is_the_one_it_names_in_whichever_spelling(
    m: NativeSessionManager,
    kind: str,
    properties: dict[str, Any],
    metadata: dict[str, Any],
    session: str | None,
    message: str | None,
) -> None:
    brought(m, [raw(kind, properties, **metadata)])
    (event,) = events(m)
    assert (event.type, event.session_id, event.message_id) == (kind, session, message)


def test_what_cannot_be_read_is_counted_and_located(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    good = json.dumps(raw("session.idle", {"sessionID": "s"}))
    broken = raw("session.idle", {}, 2, sessionId="s")
    broken["metadata"]["rawEvent"] = "{not json"
    typeless = {"id": "x", "metadata": {"eventType": 5}}
    path.write_text("\n".join([good, good[:40], json.dumps(broken), json.dumps(typeless), "[]", ""]))
    report = import_file(m, WS, path)
    assert vars(report.events) == {"read": 5, "imported": 2, "updated": 0, "unchanged": 0, "skipped": 3}
    assert sum(report.skipped.values()) == 3
    assert f"@{len(good) + 1}" in report.warnings[0]
    kept = events(m)[1]
    assert (kept.type, kept.session_id, kept.properties) == ("session.idle", "s", {})
    assert kept.model_extra is not None
    assert kept.model_extra["imported"]["metadata"]["rawEvent"] == "{not json"


def test_dualstore_1_two_documents_of_one_id_are_both_kept(m: NativeSessionManager) -> None:
    one, other = raw("session.idle", {"sessionID": "a"}), raw("session.idle", {"sessionID": "b"})
    for _ in range(2):
        report = brought(m, [one, other, one])
        assert [event.session_id for event in events(m)] == ["a", "b"]
    assert (report.events.imported, report.events.unchanged) == (0, 3)


def test_dualstore_19_a_time_that_is_none_is_said_and_not_made_up(m: NativeSessionManager) -> None:
    document = raw("session.idle", {})
    document["timestamp"] = document["metadata"]["timestamp"] = "no date"
    report = brought(m, [document])
    assert "it has no time" in report.warnings[0]
    assert events(m)[0].timestamp == 0


def test_other_files_are_what_they_were(m: NativeSessionManager, tmp_path: Path) -> None:
    path = tmp_path / "sessions.json"
    path.write_text('{"sessions": {}, "messages": {}}')
    assert import_file(m, WS, path).format == "nomadarch"
