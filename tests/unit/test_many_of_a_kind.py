"""Sources with thousands of what is usually a few: read in the time of their size, and as a few are."""

from __future__ import annotations

from typing import Any

from nomad_sessions.formats import Found, ImportReport, histories, nomadarch
from nomad_sessions.formats.redaction import Redactor

MANY = 100_000
"""So many that a time that grew with their square would be beyond the limit of a test."""


def test_of_many_keys_that_become_the_same_each_is_kept_and_has_a_number() -> None:
    keys = [f"/home/user{number}" for number in range(MANY)]
    found = Redactor().value({"~ (2)": "mine", **dict.fromkeys(keys, "theirs")})
    assert list(found) == ["~ (2)", "~", *(f"~ ({number})" for number in range(3, MANY + 2))]
    assert found["~ (2)"] == "mine"


def test_of_many_reverted_sessions_each_has_the_messages_that_are_hidden_in_it() -> None:
    sessions: dict[str, Any] = {}
    messages: dict[str, Any] = {}
    for number in range(MANY // 4):
        shown, *hidden = (f"m{number}-{each}" for each in range(3))
        for time, each in enumerate(reversed((shown, *hidden))):
            messages[each] = {"id": each, "role": "user", "content": each, "sessionId": f"s{number}", "createdAt": time}
        sessions[f"s{number}"] = {"id": f"s{number}", "messageIds": [shown], "revert": {"messageID": shown}}
    parsed = nomadarch.parse({"sessions": sessions, "messages": messages}, ImportReport())
    assert len(parsed) == MANY // 4
    for number, session in enumerate(parsed):
        assert [each["id"] for each in session.messages] == [f"m{number}-0", f"m{number}-2", f"m{number}-1"]
        assert session.visible == 1


def test_many_copies_of_a_session_share_one_stamp() -> None:
    copies = [Found("same", None, f"{number}", 1, "", lambda _: None) for number in range(MANY)]
    single = Found("single", "/folder", "stamp", 1, "", lambda _: None)
    *found, last = histories._together([*copies, single])
    assert last == single
    assert found[0].stamp == " ".join(map(str, range(MANY)))
    assert all(each.stamp is found[0].stamp and not each.alone for each in found)
