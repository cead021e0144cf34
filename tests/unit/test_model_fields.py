from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.errors import InvalidInputError, ProtectedFieldError
from nomad_sessions.models import (
    PROTECTED_MESSAGE,
    PROTECTED_SESSION,
    Message,
    Session,
    dump,
    normalise_fields,
    refuse_protected,
    validate,
    with_changes,
)
from nomad_sessions.models.base import names_of
from nomad_sessions.models.fields import MODELS


def test_changes_are_laid_over_a_copy() -> None:
    message = validate(Message, {"id": "m1", "role": "user", "content": "a", "theirs": 1, "agent": "build"})
    before = dump(message)
    changed = with_changes(message, {"content": "b", "agent": None, "theirs": 2, "new": [1], "updated_at": 5})
    assert dump(message) == before
    assert dump(changed) == {
        "id": "m1",
        "role": "user",
        "content": "b",
        "updatedAt": 5,
        "agent": None,
        "theirs": 2,
        "new": [1],
    }
    assert type(changed) is Message
    assert dump(with_changes(message, {})) == before


@given(
    st.dictionaries(st.sampled_from(["title", "agent", "directory", "own"]), st.text()),
    st.dictionaries(st.sampled_from(["title", "agent", "directory", "own", "more"]), st.text()),
)
def test_changing_a_record_is_merging_its_dump(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert dump(with_changes(validate(Session, old), new)) == old | new


def test_a_change_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        with_changes(Session(id="s1"), {"title": 7})
    assert caught.value.field == "title"


@pytest.mark.parametrize(
    ("protected", "field"),
    [(PROTECTED_SESSION, name) for name in ("id", "workspaceId", "createdAt", "messageIds", "rev")]
    + [(PROTECTED_MESSAGE, name) for name in ("id", "sessionId", "createdAt", "rev")],
)
def test_a_protected_field_cannot_be_changed(protected: frozenset[str], field: str) -> None:
    with pytest.raises(ProtectedFieldError) as caught:
        refuse_protected({"title": "x", field: "y"}, protected)
    assert caught.value.field == field
    refuse_protected({"title": "x", "theirs": 1}, protected)


def test_fields_come_out_in_the_spelling_of_the_file() -> None:
    data = {"session_id": "s", "toolCallId": "c", "their_own": 1}
    assert normalise_fields("message", data, {"created_at": 5, "role": "user"}) == {
        "sessionId": "s",
        "toolCallId": "c",
        "their_own": 1,
        "createdAt": 5,
        "role": "user",
    }
    assert data == {"session_id": "s", "toolCallId": "c", "their_own": 1}
    assert normalise_fields("session", None, {"parent_id": None}) == {"parentId": None}
    assert normalise_fields("task", {"agent_id": "a"}, {"agent_id": "b"}) == {"agentId": "b"}


def test_the_result_is_never_the_callers_own_mapping() -> None:
    data = {"role": "user"}
    fields = {"role": "user"}
    assert normalise_fields("message", data, {}) is not data
    assert normalise_fields("message", None, fields) is not fields


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({"session_id": 1, "sessionId": 1}, {}),
        ({"sessionId": 1, "session_id": 1}, {}),
        ({"sessionId": 1}, {"session_id": 1}),
        ({"session_id": 1}, {"sessionId": 1}),
    ],
)
def test_a_field_in_both_spellings_is_refused(data: dict[str, Any], fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        normalise_fields("message", data, fields)
    assert caught.value.field == "sessionId"


@pytest.mark.parametrize("data", [7, "text", [("role", "user")], Message()])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="mapping"):
        normalise_fields("message", data, {})


def test_every_kind_of_record_has_the_fields_that_the_files_have() -> None:
    spelt = {kind: " ".join(alias for _, alias in names_of(cls)) for kind, cls in MODELS.items()}
    assert spelt == {
        "session": "id workspaceId title parentId createdAt updatedAt messageIds model agent revert description "
        "directory forkedFrom closedAt archivedAt metadata rev",
        "message": "id sessionId role content parts createdAt updatedAt toolCalls toolCallId status originId model "
        "agent usage error metadata rev",
        "task": "id sessionId agentId taskType status progress inputData outputData errorMessage startTime "
        "lastActivity createdAt updatedAt rev",
        "event": "seq id timestamp type sessionId messageId properties workspaceId recorded",
    }
