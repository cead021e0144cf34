"""Rules: in their order, the first that matches, and what an explanation says is what is done."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions import InvalidInputError, MailRule, NativeSessionManager, NoRouteError
from nomad_sessions.mail.routing import checked_rules, explain, recipients_of

WS = "ws"
RULES: list[dict[str, Any]] = [
    {"name": "audit", "to": ["log"], "types": ["task.*"], "proceed": True},
    {"name": "alarm", "to": ["oncall", "log"], "priorities": ["urgent", "high"], "senders": ["build*"]},
    {"name": "team", "to": ["backend"], "metadata": {"team": "backend", "n": 1}},
    {"name": "rest", "to": ["inbox"]},
]


def to(type: str = "x", sender: str | None = None, priority: str = "low", **metadata: Any) -> list[str]:
    verdicts = explain(checked_rules(RULES), type=type, sender=sender, priority=priority, metadata=metadata)
    return recipients_of(verdicts)


def test_the_first_rule_that_matches_decides_unless_it_says_to_go_on() -> None:
    assert to() == ["inbox"]
    assert to("task.done") == ["log", "inbox"]
    assert to("task.done", "builder", "urgent") == ["log", "oncall"]
    assert to("Task.done") == ["inbox"]
    assert to(sender="builder", priority="medium") == ["inbox"]
    assert to(priority="urgent") == ["inbox"]
    assert to(team="backend", n=1, other=[]) == ["backend"]
    assert to(team="backend", n=True) == to(team="backend", n=1.0) == to(team="backend") == ["inbox"]


def test_an_explanation_says_of_each_rule_why_and_why_not() -> None:
    verdicts = explain(
        checked_rules(RULES), type="task.done", sender="builder", priority="high", metadata={"team": "frontend"}
    )
    assert [(each.rule, each.matched) for each in verdicts] == [
        ("audit", True),
        ("alarm", True),
        ("team", False),
        ("rest", False),
    ]
    assert verdicts[3].reason == "not asked: 'alarm' matched before it"
    other: Any = {"type": "x", "sender": None, "priority": "low"}
    reasons = [each.reason for each in explain(checked_rules(RULES), **other, metadata={})]
    assert reasons[:3] == ["type 'x' is none of task.*", "sender None is none of build*", "metadata has no 'team'"]
    (verdict, *_) = explain(checked_rules(RULES[2:]), **other, metadata={"team": "y"})
    assert verdict.reason == "metadata 'team' is another"
    (verdict,) = explain(checked_rules([{"to": ["a"], "priorities": ["high"]}]), **other, metadata={})
    assert (verdict.rule, verdict.reason) == ("rule 1", "priority 'low' is none of high")


RULE = st.fixed_dictionaries(
    {
        "to": st.lists(st.sampled_from("abc"), min_size=1),
        "proceed": st.booleans(),
        "types": st.lists(st.sampled_from(["x", "y", "*"])),
    }
)


@given(st.lists(RULE))
def test_each_recipient_comes_once_and_nothing_after_a_rule_that_ends(rules: list[dict[str, Any]]) -> None:
    verdicts = explain(checked_rules(rules), type="x", sender=None, priority="low", metadata={})
    matched = [verdict for verdict in verdicts if verdict.matched]
    found = recipients_of(verdicts)
    assert set(found) == {each for verdict in matched for each in verdict.to}
    assert len(found) == len(set(found))
    ends = [number for number, rule in enumerate(rules) if verdicts[number].matched and not rule["proceed"]]
    assert len(ends) <= 1
    assert not ends or not any(verdict.matched for verdict in verdicts[ends[0] + 1 :])


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ("text", "rules"),
        ({"to": ["a"]}, "rules"),
        (5, "rules"),
        ([5], "rules[0]"),
        ([{"to": []}], "rules[0].to"),
        ([{"to": [""]}], "rules[0].to"),
        ([{"to": ["a"]}, {"name": "x"}], "rules[1].to"),
        ([{"to": ["a"], "type": "x"}], "rules[0].type"),
        ([{"to": ["a"], "priorities": ["most"]}], "rules[0].priorities"),
        ([{"to": ["a"], "metadata": {"x": object()}}], "rules[0].metadata"),
        ([{"name": "a", "to": ["a"]}, {"name": "a", "to": ["b"]}], "rules"),
    ],
)
def test_a_rule_that_is_none_is_refused_by_its_place_and_nothing_is_changed(
    m: NativeSessionManager, rules: Any, field: str
) -> None:
    m.set_mail_rules(WS, RULES)
    with pytest.raises(InvalidInputError) as caught:
        m.set_mail_rules(WS, rules)
    assert caught.value.field == field
    assert [rule.name for rule in m.mail_rules(WS)] == ["audit", "alarm", "team", "rest"]


def test_rules_are_kept_with_the_workspace_and_replaced_whole(m: NativeSessionManager) -> None:
    assert m.mail_rules(WS) == []
    m.set_mail_rules(WS, RULES)
    m.checkpoint(WS)
    with NativeSessionManager(m.data_dir) as other:
        assert [rule.to for rule in other.mail_rules(WS)] == [["log"], ["oncall", "log"], ["backend"], ["inbox"]]
        other.set_mail_rules(WS, [MailRule(name="one", to=["a"])])
    assert [rule.name for rule in m.mail_rules(WS)] == ["one"]
    assert m.set_mail_rules(WS, []) == []


def test_what_is_published_goes_to_all_whom_the_rules_say_in_one_group(m: NativeSessionManager) -> None:
    m.set_mail_rules(WS, RULES)
    sent = m.publish(WS, "x", type="task.done", sender="builder", priority="urgent", key="k")
    assert [mail.recipient for mail in sent] == ["log", "oncall"]
    verdicts = m.explain_route(WS, type="task.done", sender="builder", priority="urgent")
    assert recipients_of(verdicts) == ["log", "oncall"]
    assert [mail.id for mail in m.publish(WS, "x", type="task.done", sender="builder", priority="urgent", key="k")] == [
        mail.id for mail in sent
    ]
    m.set_mail_rules(WS, [{"to": ["oncall", "new"]}])
    again = m.publish(WS, "x", key="k")
    assert again[0].id == sent[1].id
    assert (again[1].recipient, m.list_mail(WS).total) == ("new", 3)


def test_what_no_rule_wants_is_an_error_and_is_not_sent(m: NativeSessionManager) -> None:
    with pytest.raises(NoRouteError, match="none of the 0 mail rules"):
        m.publish(WS, "x")
    m.set_mail_rules(WS, RULES[:3])
    with pytest.raises(NoRouteError, match="'chat'"):
        m.publish(WS, "x", type="chat")
    assert m.list_mail(WS).total == 0
