"""What the conversations took, and which of them a rule would remove."""

from __future__ import annotations

from datetime import datetime

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.pruning import Rule, find_victims, remove
from nomad_sessions.usage import Amounts, Usage

from .conftest import START

WS = "ws"
DAY = 86_400_000


def day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000).date().isoformat()


def test_usage_adds_up_by_day_agent_model_and_tool(m: NativeSessionManager, clock: ManualClock) -> None:
    session = m.create_session(WS).id
    m.add_message(WS, session, role="user", content="q")
    model = {"providerId": "p", "modelId": "m"}
    call = {"id": "1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    usage = {"input": 10, "output": 5, "cacheRead": 3, "cost": 0.5}
    m.add_message(WS, session, role="assistant", content="a", model=model, agent="plan", usage=usage, toolCalls=[call])
    clock.advance(2 * DAY)
    parts = [{"type": "tool_call", "toolCall": call}, {"type": "tool_call", "toolCall": call}]
    m.add_message(WS, session, role="assistant", parts=parts, model=model, usage={"input": 1, "output": 1})
    m.add_message(WS, session, role="user", content="hidden")
    m.revert(WS, session)
    m.fork_session(WS, session)  # Its copies were said once.
    answers = Amounts(2, 11, 6, 0, 3, 0, 0.5)
    found = m.usage(WS)
    assert found.total == Amounts(3, 11, 6, 0, 3, 0, 0.5)
    assert found.models == {"p/m": answers}
    assert found.agents == {"plan": Amounts(1, 10, 5, 0, 3, 0, 0.5)}
    assert found.tools == {"bash": 3}
    assert found.durations == [2 * DAY], "the fork's copies are no session of their own"
    assert list(found.days) == [day(START), day(START + 2 * DAY)]
    assert [each.messages for each in found.days.values()] == [2, 1]
    assert m.usage("none") == Usage(Amounts(), {}, {}, {}, {}, [])


@pytest.fixture
def filled(m: NativeSessionManager, clock: ManualClock) -> list[str]:
    """Five sessions a day apart, the oldest first, the second archived; each with a message of 1,000 characters."""
    ids = []
    for number in range(5):
        ids.append(m.create_session(WS, id=f"s{number}").id)
        m.add_message(WS, ids[-1], role="user", content="x" * 1000)
        clock.advance(DAY)
    m.archive_session(WS, "s1")
    m.update_session(WS, "s1", updated_at=START + DAY)
    return ids


def test_a_rule_by_age_number_or_size_names_the_oldest(m: NativeSessionManager, filled: list[str]) -> None:
    def named(rule: Rule) -> list[str]:
        return [victim.session.id for victim in find_victims(m, WS, rule)]

    assert named(Rule(before=START + 2 * DAY)) == ["s0", "s1"]
    assert named(Rule(keep=3)) == ["s0", "s1"]
    assert named(Rule(keep=0)) == filled
    assert named(Rule(keep=5)) == []
    assert named(Rule(keep=0, archived_only=True)) == ["s1"]
    sizes = {victim.session.id: victim.bytes for victim in find_victims(m, WS, Rule(keep=0))}
    assert all(1_000 < size < 2_000 for size in sizes.values())
    assert named(Rule(max_bytes=sizes["s4"] + sizes["s3"])) == ["s0", "s1", "s2"]
    assert named(Rule(max_bytes=10**9)) == []


def test_what_was_found_is_removed_unless_it_changed_since(m: NativeSessionManager, filled: list[str]) -> None:
    victims = find_victims(m, WS, Rule(keep=2))
    assert [victim.reason for victim in victims] == ["beyond the number"] * 3
    m.update_session(WS, "s1", title="still needed")
    assert remove(m, WS, victims) == ["s0", "s2"]
    assert {each.id for each in m.list_sessions(WS)} == {"s1", "s3", "s4"}
    assert remove(m, WS, victims) == []
