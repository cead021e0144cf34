"""Several machines with one place in common: what a hostile review of it found, as single cases."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager, WorkspaceNotFoundError
from nomad_sessions.clock import Clock, ManualClock
from nomad_sessions.models import dump
from nomad_sessions.sync import MemoryTarget, Synchronizer
from nomad_sessions.sync.two_way import MemoryPlace

WS = "ws"
NOW = 1_700_000_000_000
HOUR = 3_600_000


class Machine:
    """A store of its own, and its way to the place."""

    def __init__(self, folder: Path, place: MemoryPlace, clock: Clock | None = None) -> None:
        self.folder = folder
        self._place = place
        self._clock = clock
        self.open()

    def open(self) -> None:
        options: dict[str, Any] = {} if self._clock is None else {"clock": self._clock}
        self.manager = NativeSessionManager(self.folder, durability="os", **options)
        self.sync = Synchronizer(self.manager, [MemoryTarget("it", place=self._place)])

    def close(self) -> None:
        self.sync.close()
        self.manager.close()

    def say(self, session: str, text: str, **options: Any) -> str:
        return self.manager.add_message(WS, session, role="user", content=text, **options).id

    def texts(self, session: str) -> list[str]:
        return [each.content for each in self.manager.get_session_messages(WS, session)]

    def title(self, session: str) -> str:
        found = self.manager.get_session(WS, session)
        assert found is not None
        return found.title

    def lost(self) -> list[tuple[str, Any]]:
        return [(each.field, each.lost) for each in self.sync.conflicts(WS)]

    @property
    def shadow(self) -> Path:
        return self.folder / WS / "sync" / "it-two-way.sqlite"

    def edit_file(self, change: Any) -> None:
        """As another program does that knows the file alone."""
        path = self.folder / WS / "sessions.json"
        self.manager.checkpoint(WS)
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    place = MemoryPlace()
    machines = Machine(tmp_path / "a", place), Machine(tmp_path / "b", place)
    yield machines
    for each in machines:
        each.close()


def settle(*machines: Machine) -> None:
    for each in [*machines, *machines]:
        each.sync.pull(WS)


def everything(machine: Machine) -> list[Any]:
    """All sessions with all their messages, without what numbers the changes of one store."""
    found = []
    for session in sorted(machine.manager.list_sessions(WS, archived=None), key=lambda each: each.id):
        messages = machine.manager.get_session_messages(WS, session.id, include_reverted=True)
        found.append([dump(each) for each in (session, *messages)])
    for each in found:
        for one in each:
            one.pop("rev", None)
    return found


def settled(machines: Sequence[Machine]) -> None:
    """Lets them settle: they have the same, and so has the place."""
    settle(*machines)
    first = everything(machines[0])
    for each in machines:
        assert everything(each) == first
        assert each.sync.verify(WS, target="it") == []


def test_what_another_program_alone_has_written_is_sent(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.manager.create_session(WS, id="s", title="Ours")
    settle(one, other)
    one.edit_file(lambda data: (data["sessions"]["s"].update(title="Theirs"), data.update(theirs={"k": 1})))
    settled(two)
    assert other.title("s") == "Theirs"
    other.manager.checkpoint(WS)
    assert json.loads((other.folder / WS / "sessions.json").read_text())["theirs"] == {"k": 1}


def test_what_another_version_knew_of_the_place_is_made_anew(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.manager.create_session(WS, id="s", title="Before")
    settle(one, other)
    with closing(sqlite3.connect(one.shadow, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = '9' WHERE key = 'version'")
        db.execute("DROP TABLE record")
        db.execute("CREATE TABLE record (other)")
    one.manager.update_session(WS, "s", title="After")
    settled(two)
    assert other.title("s") == "After"


def test_what_a_copy_of_a_store_writes_is_not_taken_for_its_own(two: tuple[Machine, Machine]) -> None:
    one, copy = two
    one.manager.create_session(WS, id="s", title="Before")
    message = one.say("s", "Before")
    settle(one)
    one.close()
    copy.close()
    shutil.copytree(one.folder, copy.folder, dirs_exist_ok=True)
    one.open()
    copy.open()
    for each, name in ((one, "first"), (copy, "second")):
        each.manager.update_session(WS, "s", title=name)
        each.manager.update_message(WS, message, content=name)
    settled(two)
    kept = one.title("s"), one.texts("s")[0]
    lost = [value for _, fields in [*one.lost(), *copy.lost()] for value in fields.values()]
    assert {*kept, *lost} == {"first", "second"}
    assert len(lost) == 2


def test_a_backup_that_is_put_back_with_all_that_it_knew_writes_nothing_over_in_silence(
    two: tuple[Machine, Machine],
) -> None:
    one, other = two
    one.manager.create_session(WS, id="s", title="Before")
    settle(one, other)
    one.close()
    backup = one.folder.with_name("backup")
    shutil.copytree(one.folder, backup)
    one.open()
    one.manager.update_session(WS, "s", title="After it was made")
    settle(one, other)
    one.close()
    shutil.rmtree(one.folder)
    shutil.copytree(backup, one.folder)
    one.open()
    one.manager.update_session(WS, "s", title="After it was put back")
    settled(two)
    assert one.title("s") == "After it was put back"
    assert one.lost() == [("title", {"title": "After it was made"})]


def test_who_edits_what_he_has_read_wins_also_when_what_was_known_of_the_place_is_lost(tmp_path: Path) -> None:
    place = MemoryPlace()
    ahead, right = (
        Machine(tmp_path / "a", place, ManualClock(NOW + HOUR)),
        Machine(tmp_path / "b", place, ManualClock(NOW)),
    )
    ahead.manager.create_session(WS, id="s", title="By a clock that is wrong")
    settle(ahead, right)
    right.close()
    right.shadow.unlink()
    right.open()
    settle(right)
    right.manager.update_session(WS, "s", title="Read, and renamed")
    ahead.manager.update_session(WS, "s", description="So that both are joined")
    ahead.sync.push(WS)
    settled((ahead, right))
    assert ahead.title("s") == "Read, and renamed"
    assert right.lost() == []
    for each in (ahead, right):
        each.close()


def test_a_message_that_is_deleted_and_added_to_another_session_is_there_on_all_machines(
    two: tuple[Machine, Machine],
) -> None:
    one, other = two
    for session in ("s", "t"):
        one.manager.create_session(WS, id=session)
    one.say("s", "In the first", id="m")
    settle(one, other)
    one.manager.delete_message(WS, "m")
    one.say("t", "In the second", id="m")
    settled(two)
    assert other.texts("s") == []
    assert other.texts("t") == ["In the second"]


def test_two_messages_of_one_id_become_one_and_the_other_is_listed(two: tuple[Machine, Machine]) -> None:
    one, other = two
    for each, session in ((one, "first"), (other, "second")):
        each.manager.create_session(WS, id=session)
        each.say(session, session, id="m")
        each.say(session, f"after {session}")
    settled(two)
    texts = [*one.texts("first"), *one.texts("second")]
    (content,) = [fields["content"] for name, fields in [*one.lost(), *other.lost()] if name == "content"]
    assert sorted([*texts, content]) == ["after first", "after second", "first", "second"]


def test_what_was_said_in_a_session_that_others_deleted_goes_with_it_also_when_the_whole_is_compared(
    tmp_path: Path,
) -> None:
    place, clock = MemoryPlace(), ManualClock(NOW)
    one, other = (Machine(tmp_path / name, place, clock) for name in "ab")
    one.manager.create_session(WS, id="s")
    settle(one, other)
    other.say("s", "Not known to who deletes")
    other.sync.reset(WS, target="it")
    clock.advance(1_000)
    one.manager.delete_session(WS, "s")
    settled((one, other))
    assert one.manager.get_session(WS, "s") is None
    assert "Not known to who deletes" in [(fields or {}).get("content") for _, fields in other.lost()]
    one.close()
    other.close()


def test_a_message_that_two_gave_to_two_sessions_is_settled_by_two_pushes_of_each(tmp_path: Path) -> None:
    place = MemoryPlace()
    machines = [Machine(tmp_path / name, place) for name in "abc"]
    for session in ("s", "t"):
        machines[0].manager.create_session(WS, id=session)
    settle(*machines)
    machines[1].say("t", "In the one", id="m")
    machines[2].say("s", "In the other", id="m")
    machines[2].say("t", "More")
    settled(machines)
    assert sorted([*machines[0].texts("s"), *machines[0].texts("t")]) in (
        ["In the one", "More"],
        ["In the other", "More"],
    )
    for each in machines:
        each.close()


def test_a_workspace_that_nobody_has_is_not_made_one_of_all_machines(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.manager.create_session(WS, id="s")
    one.sync.push()
    with pytest.raises(WorkspaceNotFoundError):
        other.sync.pull("misspelt")
    assert set(other.sync.pull()) == {("it", WS)}


def test_a_comparison_of_the_whole_while_a_message_streams_ends(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.manager.create_session(WS, id="s")
    message = one.say("s", "Once")
    settle(one, other)
    one.manager.append_to_message(WS, message, " upon")
    one.sync.reset(WS, target="it")
    settled(two)
    assert other.texts("s") == ["Once upon"]
    assert [each.compared for each in one.sync.push(WS).values()] == [""]


def test_a_message_that_is_gone_is_gone_from_whichever_session_had_it(tmp_path: Path) -> None:
    place, clock = MemoryPlace(), ManualClock(NOW)
    one, two, three = (Machine(tmp_path / name, place, clock) for name in "abc")
    for each, session in ((one, "first"), (two, "second"), (three, "third")):
        each.manager.create_session(WS, id=session)
    settle(one, two, three)
    three.say("third", "In the third", id="m")
    clock.advance(10)
    two.say("second", "In the second", id="m")
    settle(two)
    clock.advance(10)
    one.say("first", "In the first", id="m")
    one.shadow.unlink()
    clock.advance(1_000)
    one.manager.delete_session(WS, "first")
    settled((one, two, three))
    assert [each.texts(session) for each in (one, two, three) for session in ("second", "third")] == [[]] * 6
    assert "In the third" in [(fields or {}).get("content") for _, fields in three.lost()]
    for each in (one, two, three):
        each.close()
