"""The order of the mailbox, as rules over values: first in, first out in a lane; nothing starves; one lease each."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nomad_sessions.mail.queue import PASSES, Mailbox, choose
from nomad_sessions.mail.timing import Moment
from nomad_sessions.models.mail import PRIORITIES

NOW = 1_750_000_000_000
HERE = Moment(NOW, 0, {})
LEASE = {"id": "l", "ms": 1_000, "until": NOW + 1_000, "steady": 1_000, "holder": "h"}


def row(number: int, priority: str = "medium", **fields: Any) -> dict[str, Any]:
    made = {"id": f"m{number}", "recipient": "bob", "priority": priority, "status": "queued", "position": number}
    return made | {"attempts": 0, "maxAttempts": 3, "backoff": 0, "rev": number} | fields


def box_of(*rows: dict[str, Any]) -> Mailbox:
    return Mailbox({each["id"]: each for each in rows})


def next_of(box: Mailbox, *, ordered: bool = True, at: Moment = HERE) -> str | None:
    chosen = choose(box, "bob", at, ordered=ordered).row
    return None if chosen is None else str(chosen["id"])


def test_an_empty_mailbox_has_nothing() -> None:
    assert choose(box_of(), "bob", HERE, ordered=True) == (None, None, [], frozenset(), None)


def test_the_highest_priority_is_first_and_in_a_priority_the_first_sent() -> None:
    rows = [row(1, "low"), row(2), row(3, "urgent"), row(4, "urgent"), row(5, "high")]
    box = box_of(*rows)
    order = []
    while (found := next_of(box)) is not None:
        order.append(found)
        box.changed(found, None)
    assert order == ["m3", "m4", "m5", "m2", "m1"]


@pytest.mark.parametrize(
    "first",
    [
        {"status": "leased", "lease": LEASE, "attempts": 1},
        {"nextAttemptAt": NOW + 10, "retryDelay": 10},
    ],
)
def test_what_is_leased_or_waits_for_its_next_attempt_is_not_overtaken_in_its_lane(first: dict[str, Any]) -> None:
    box = box_of(row(1, **first), row(2), row(3, "low"))
    assert next_of(box) == "m3"
    assert next_of(box, ordered=False) == "m2"
    assert choose(box, "bob", HERE, ordered=True).again in (10, 1_000)


def test_a_lease_whose_time_is_over_is_handed_out_again_and_after_the_last_attempt_it_is_worn() -> None:
    late = Moment(NOW + 1_000, 1_000, {})
    box = box_of(row(1, status="leased", lease=LEASE, attempts=2), row(2))
    assert next_of(box, at=late) == "m1"
    box = box_of(row(1, status="leased", lease=LEASE, attempts=3), row(2))
    chosen = choose(box, "bob", late, ordered=True)
    assert ([each["id"] for each in chosen.worn], chosen.row and chosen.row["id"]) == (["m1"], "m2")


def test_where_it_hangs_on_who_lives_that_is_asked() -> None:
    box = box_of(row(1, status="leased", lease=LEASE, attempts=1))
    jumped = Moment(NOW + 3_600_000, 10, {})
    assert choose(box, "bob", jumped, ordered=True)[:4] == (None, None, [], frozenset({"h"}))
    assert next_of(box, at=jumped._replace(alive={"h": True})) is None
    assert next_of(box, at=jumped._replace(alive={"h": False})) == "m1"


def test_what_has_had_its_time_is_never_handed_out_and_holds_up_nobody() -> None:
    box = box_of(row(1, expiresAt=NOW), row(2))
    assert next_of(box) == "m2"
    assert [each["id"] for each in box.ended(HERE, 10)] == ["m1"]
    assert box.ended(HERE._replace(now=NOW - 1), 10) == []
    assert box.ended(HERE, 0) == []


@pytest.mark.parametrize("attempts", [1, 3])
def test_what_has_had_its_time_while_it_was_leased_has_ended_with_the_lease(attempts: int) -> None:
    box = box_of(row(1, status="leased", lease=LEASE, attempts=attempts, expiresAt=NOW), row(2))
    assert next_of(box) is None, "somebody is at work on the first"
    assert box.ended(HERE, 10) == []
    late = Moment(NOW + 1_000, 1_000, {})
    assert choose(box, "bob", late, ordered=True)[:3] == (box.get("m2"), None, [])
    assert [each["id"] for each in box.ended(late, 10)] == ["m1"]
    jumped = Moment(NOW + 3_600_000, 10, {})
    assert box.ended(jumped, 10) == [], "it hangs on whether the holder lives"
    assert choose(box, "bob", jumped, ordered=True).doubtful == frozenset({"h"})
    assert box.ended(jumped._replace(alive={"h": True}), 10) == []
    assert len(box.ended(jumped._replace(alive={"h": False}), 10)) == 1


def test_where_another_program_gave_two_the_same_place_their_ids_decide() -> None:
    rows = [row(1, position=0), row(2, position=0), row(3, position=-4), row(4, "high", position=-4)]
    for written in (rows, rows[::-1]):
        box, order = box_of(), []
        for each in written:
            box.changed(each["id"], each)
        while (found := next_of(box)) is not None:
            order.append(found)
            box.changed(found, None)
        assert order == ["m4", "m3", "m1", "m2"]


@pytest.mark.parametrize(
    "fields",
    [
        {"position": "1"},
        {"maxAttempts": None},
        {"priority": "most"},
        {"status": "leased"},
        {"status": "queued", "lease": LEASE},
        {"status": "leased", "lease": {"id": "l"}},
        {"id": "other"},
        {"recipient": 5},
        {"expiresAt": "now"},
    ],
)
def test_what_another_program_put_there_is_left_alone(fields: dict[str, Any]) -> None:
    box = Mailbox({"m1": row(1) | fields, "m2": row(2)})
    assert next_of(box) == "m2"
    box.changed("m1", row(1))
    assert next_of(box) == "m1"
    box.changed("m1", row(1) | fields)
    box.changed("m1", None)
    assert [each["id"] for each in box.all()] == ["m2"]


@given(st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=40), st.integers(0, 39), st.data())
def test_nothing_starves_whatever_is_sent_after_it(before: list[str], which: int, data: st.DataObject) -> None:
    """With n sent before it, it is handed out after at most (n + 1) * (PASSES + 1) deliveries."""
    which %= len(before)
    box = box_of(*(row(number, priority) for number, priority in enumerate(before)))
    number = len(before)
    for _ in range((which + 1) * (PASSES + 1)):
        for priority in data.draw(st.lists(st.sampled_from(("urgent", "high")), max_size=2)):
            box.changed(f"m{number}", row(number, priority))
            number += 1
        chosen = choose(box, "bob", HERE, ordered=True)
        if chosen.row is None:
            break
        if chosen.passed is not None:
            told = chosen.passed | {"passed": chosen.passed.get("passed", 0) + 1}
            assert told["passed"] <= PASSES
            box.changed(told["id"], told)
        box.changed(chosen.row["id"], None)
    assert box.get(f"m{which}") is None


class Mailing(RuleBasedStateMachine):
    """Everything that can happen to rows: the index says what one made afresh says, and order holds in each lane."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Any]] = {}
        self.box = Mailbox({})
        self.seq = 0
        self.at = HERE

    def write(self, row_id: str, value: dict[str, Any] | None) -> None:
        self.seq += 1
        if value is None:
            del self.rows[row_id]
        else:
            value = self.rows[row_id] = value | {"rev": self.seq}
        self.box.changed(row_id, value)

    @rule(
        priority=st.sampled_from(PRIORITIES),
        who=st.sampled_from(("bob", "eve")),
        ttl=st.none() | st.integers(1, 99),
        key=st.none() | st.sampled_from("kl"),
    )
    def send(self, priority: str, who: str, ttl: int | None, key: str | None) -> None:
        made = row(self.seq + 1, priority, recipient=who)
        if ttl is not None:
            made["expiresAt"] = self.at.now + ttl
        if key is not None and self.box.keyed(who, key) is None:
            made["key"] = key
        self.write(made["id"], made)

    @rule(ordered=st.booleans(), ms=st.integers(1, 50))
    def receive(self, ordered: bool, ms: int) -> None:
        chosen = choose(self.box, "bob", self.at, ordered=ordered)
        for worn in chosen.worn:
            self.write(worn["id"], {k: v for k, v in worn.items() if k != "lease"} | {"status": "dead"})
        if chosen.row is None:
            return
        assert chosen.row["status"] != "leased" or chosen.row["lease"]["until"] <= self.at.now
        assert chosen.row.get("expiresAt", self.at.now + 1) > self.at.now
        if ordered:
            lane = [each for each in self.rows.values() if each["recipient"] == "bob"]
            earlier = [
                each
                for each in lane
                if each["priority"] == chosen.row["priority"]
                and each["position"] < chosen.row["position"]
                and each["status"] in ("queued", "leased")
                and not self.is_over(each)
            ]
            assert earlier == [], "it overtook"
        lease = {"id": f"l{self.seq}", "ms": ms, "until": self.at.now + ms, "steady": self.at.steady + ms}
        leased = {"status": "leased", "lease": lease | {"holder": "h"}, "attempts": chosen.row["attempts"] + 1}
        self.write(chosen.row["id"], {**chosen.row, **leased, "passed": 0})

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), what=st.sampled_from(("ack", "nack", "dead", "requeue", "gone")))
    def settle(self, data: st.DataObject, what: str) -> None:
        found = self.rows[data.draw(st.sampled_from(sorted(self.rows)))]
        plain = {name: value for name, value in found.items() if name != "lease"}
        if what == "gone" or (what == "ack" and "key" not in found):
            self.write(found["id"], None)
        elif what == "ack":
            self.write(found["id"], plain | {"status": "acked"})
        elif what == "dead":
            self.write(found["id"], plain | {"status": "dead"})
        elif what == "nack" and found["status"] == "leased":
            self.write(found["id"], plain | {"status": "queued", "nextAttemptAt": self.at.now + 9, "retryDelay": 9})
        elif what == "requeue" and found["status"] == "dead":
            self.write(found["id"], plain | {"status": "queued", "position": self.seq + 1})

    def is_over(self, each: dict[str, Any]) -> bool:
        """Whether a message has had its time, and nobody has it."""
        free = each["status"] == "queued" or (each["status"] == "leased" and each["lease"]["until"] <= self.at.now)
        return free and bool(each.get("expiresAt", self.at.now + 1) <= self.at.now)

    @rule(ms=st.integers(1, 60))
    def wait(self, ms: int) -> None:
        self.at = Moment(self.at.now + ms, self.at.steady + ms, {})

    @invariant()
    def the_index_is_what_one_made_afresh_is(self) -> None:
        fresh = Mailbox(self.rows)
        for ordered in (True, False):
            assert choose(self.box, "bob", self.at, ordered=ordered) == choose(fresh, "bob", self.at, ordered=ordered)
        for box in (self.box, fresh):
            lanes = {
                (who, name): [each["id"] for each in lane] for who in box.lanes for name, lane in box.lanes[who].items()
            }
            wanted: dict[tuple[str, str], list[str]] = {}
            for each in sorted(self.rows.values(), key=lambda each: each["position"]):
                if each["status"] in ("queued", "leased"):
                    wanted.setdefault((each["recipient"], each["priority"]), []).append(each["id"])
            assert lanes == wanted
            leased = [each for each in self.rows.values() if each["status"] == "leased"]
            assert sum(lane.leased for who in box.lanes for lane in box.lanes[who].values()) == len(leased)
            assert [box.leased(each["lease"]["id"]) for each in leased] == leased
            ended = sorted((each.get("expiresAt", 0), each["id"]) for each in box.ended(self.at, 1_000))
            over = filter(self.is_over, self.rows.values())
            assert ended == sorted((each["expiresAt"], each["id"]) for each in over)
        assert list(self.box.dead) == list(fresh.dead)
        assert list(self.box.settled) == list(fresh.settled)
        for who in ("bob", "eve"):
            for key in "kl":
                assert self.box.keyed(who, key) == fresh.keyed(who, key)


TestMailing = Mailing.TestCase
TestMailing.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
