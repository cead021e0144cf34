"""What several machines did to one record, joined in any order, and as often as one likes."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.sync import Key
from nomad_sessions.sync.two_way.joining import WHOLE, Loss, by_unit, joined
from nomad_sessions.sync.two_way.versions import ARRANGEMENT, Stamp, Stamps, Version, Write

KEY = Key("session", "s")
FIRST = Stamp(0, "a", 0)
BODY = {"id": "s", "title": "first", "agent": "duck", "updatedAt": 0, "messageIds": []}
THERE = Version(KEY, 1, BODY, "s", Stamps(FIRST, {}, FIRST))


@st.composite
def histories(draw: st.DrawFn) -> list[Write]:
    """Writes of three machines, each of what it made of the record itself, and each with a stamp of its own."""
    writes = []
    for machine in "abc":
        body: dict[str, Any] = dict(BODY)
        for seq, time in enumerate(sorted(draw(st.lists(st.integers(1, 9), max_size=3, unique=True))), 1):
            stamp = Stamp(time, machine, seq)
            changes = draw(
                st.dictionaries(
                    st.sampled_from(["title", "agent", "note"]), st.none() | st.text("xyz", max_size=2), min_size=1
                )
            )
            body = {**body, **changes, "updatedAt": time}
            body = {name: value for name, value in body.items() if value is not None}
            writes.append(Write(KEY, body, "s", stamp, dict.fromkeys(changes, stamp)))
    return writes


@given(histories(), st.randoms(use_true_random=False))
def test_any_order_ends_the_same(writes: list[Write], chance: Any) -> None:
    ends = []
    for _ in range(3):
        there: Version | None = THERE
        order = [*writes, *chance.sample(writes, len(writes) // 2)]
        chance.shuffle(order)
        for write in order:
            result = joined(there, write, None)
            there = result.version or there
            assert there is not None
            assert joined(there, write, None).version is None, "a second time changes nothing"
        assert there is not None
        assert there.body is not None
        named = {name: there.stamps.of(name) for name in ("title", "agent", "note")}
        ends.append((sorted(there.body.items(), key=str), named, there.stamps.alive))
        for name in ("title", "agent", "note"):
            last = max((each for each in writes if name in each.fields), key=lambda each: each.alive, default=None)
            assert last is None or (last.body or {}).get(name) == there.body.get(name)
    assert ends[0] == ends[1] == ends[2]


@given(histories())
def test_every_value_is_there_or_was_seen_or_is_among_the_losses(writes: list[Write]) -> None:
    there, lost = THERE, set[tuple[str, str]]()
    for write in writes:
        before = there
        result = joined(there, write, None)
        there = result.version or there
        lost |= {(name, str(value)) for loss in result.losses for name, value in (loss.lost or {}).items()}
        assert before.body is not None
        assert there.body is not None
        for name in write.fields:
            mine, theirs, now = ((each or {}).get(name) for each in (write.body, before.body, there.body))
            others = before.stamps.of(name).machine != write.alive.machine
            for value in (mine, theirs if others else now):
                assert value in (None, now) or (name, str(value)) in lost


AT = [Stamp(time, machine, 1) for time, machine in itertools.product((1, 2), "ab")]


def test_a_deletion_wins_over_what_is_older_and_over_nothing_newer() -> None:
    body = {**BODY, "title": "new"}
    for gone, written in itertools.permutations(AT, 2):
        edit = Write(KEY, body, "s", written, {"title": written})
        delete = Write(KEY, None, None, gone, {}, gone=gone)
        for order in ((edit, delete), (delete, edit)):
            there, losses, revived = THERE, list[Loss](), False
            for write in order:
                result = joined(there, write, THERE.stamps)
                there = result.version or there
                losses += result.losses
                revived |= result.revived
            assert (there.body is None) == (gone > written), (gone, written)
            unknown = gone.machine != written.machine or order[0] is delete or gone < written
            assert ([each.field for each in losses] == [WHOLE]) == unknown
            assert revived == (order[0] is delete and written > gone)


def test_what_was_never_there_is_not_deleted() -> None:
    assert joined(None, Write(KEY, None, None, FIRST, {}, gone=FIRST), None).version is None
    made = joined(None, Write(KEY, dict(BODY), "s", FIRST, {}, whole=FIRST), None).version
    assert made == THERE


def test_what_was_seen_is_no_loss() -> None:
    theirs = joined(THERE, Write(KEY, {**BODY, "title": "b"}, "s", AT[1], {"title": AT[1]}), None).version
    assert theirs is not None
    over = Write(KEY, {**BODY, "title": "a"}, "s", AT[2], {"title": AT[2]})
    assert joined(theirs, over, theirs.stamps).losses == []
    assert joined(theirs, over, THERE.stamps).losses == [Loss("title", {"title": "a"}, {"title": "b"}, AT[1])]


def test_who_is_only_known_to_be_so_wins_where_it_differs() -> None:
    same = Write(KEY, dict(BODY), "s", AT[3], {}, whole=AT[3], certain=False)
    result = joined(THERE, same, None)
    assert result.version is not None
    assert result.version.stamps.of("title") == FIRST, "nobody wrote it"
    other = same._replace(body={**BODY, "title": "x", "agent": "duck"})
    found = joined(THERE, other, None).version
    assert found is not None
    assert (found.stamps.of("title"), found.stamps.of("agent")) == (AT[3], FIRST)


def test_what_says_one_thing_together_is_written_together() -> None:
    stamps = {"content": AT[0], "parts": AT[2], "status": AT[1], "updatedAt": AT[3]}
    assert by_unit("message", stamps) == {"content": AT[2], "status": AT[1]}
    assert by_unit("session", {"revert": AT[0], "messageIds": AT[1], "hiddenIds": AT[3]}) == {ARRANGEMENT: AT[1]}
    assert by_unit("workspace", {"updatedAt": AT[0]}) == {"updatedAt": AT[0]}
    key = Key("message", "m")
    there = Version(key, 1, {"content": "a", "parts": [1]}, "s", Stamps(FIRST, {}, FIRST))
    write = Write(key, {"content": "b"}, "s", AT[0], {"content": AT[0]})
    found = joined(there, write, there.stamps).version
    assert found is not None
    assert found.body == {"content": "b"}
