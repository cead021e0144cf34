"""What Codex's importer does for many threads, turns and rollbacks: as much for each as for one alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions.formats import ImportReport, codex
from nomad_sessions.formats.codex import IMPORTER
from nomad_sessions.formats.codex_forks import Told
from nomad_sessions.formats.codex_messages import Conversation
from nomad_sessions.formats.codex_rollout import Head, Record
from nomad_sessions.formats.source import stamp_of
from tests.support.rollouts import GEN2, Rollout

MANY = 30_000
TURNS = 44_000


def thread(number: int) -> str:
    return f"0199a21f-0000-7000-8000-{number:012}"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were listed."""
    folders: list[Path] = []

    def counted(name: str) -> None:
        whole = getattr(Path, name)

        def listing(self: Path, *args: Any, **kwargs: Any) -> Iterator[Path]:
            folders.append(self)
            found: Iterator[Path] = whole(self, *args, **kwargs)
            return found

        monkeypatch.setattr(Path, name, listing)

    counted("glob")
    counted("rglob")
    return folders


def test_folders_are_listed_once_however_many_origins_are_missing(tmp_path: Path, listed: list[Path]) -> None:
    counts = []
    for forks in (0, 1, 40):
        folder = tmp_path / str(forks) / "sessions" / "2026"
        for number in range(forks):
            Rollout(folder, thread(number), forked_from_id=thread(1000 + number)).save()
        Rollout(folder, thread(900)).save()
        listed.clear()
        assert len(list(IMPORTER.sessions(folder, ImportReport()))) == forks + 1
        counts.append(len(listed))
    assert counts[0] == 0, "nothing is looked for where nothing is missing"
    assert counts[1] == counts[2] > 0


def test_an_origin_is_found_by_the_whole_of_its_name_beside_the_fork_first(tmp_path: Path) -> None:
    home, folder = tmp_path / "home" / "sessions", tmp_path / "home" / "sessions" / "2026"
    fork = Rollout(folder, thread(1), forked_from_id="8000-000000000002").save()
    other = Rollout(home / "2025", thread(2)).save()
    (found,) = IMPORTER.sessions(fork, ImportReport())
    assert str(other.stat().st_mtime_ns) in found.stamp
    near = Rollout(folder, thread(2), note="this one is nearer").save()
    (found,) = IMPORTER.sessions(fork, ImportReport())
    assert f"{near.stat().st_size}.{near.stat().st_mtime_ns}" in found.stamp


def test_the_stamp_of_an_origin_is_taken_once_for_all_its_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped: list[Path] = []

    def counted(*paths: Path) -> str:
        stamped.extend(paths)
        return stamp_of(*paths)

    monkeypatch.setattr(codex, "stamp_of", counted)
    paths = [Rollout(tmp_path, thread(0), ordinal=0).save()]
    for number in range(1, 30):
        base = {"thread_id": thread(number - 1), "end_ordinal_exclusive": 1}
        paths.append(Rollout(tmp_path, thread(number), ordinal=1, history_base=base).save())
    found = list(IMPORTER.sessions(tmp_path, ImportReport()))
    parents = ["-", *(each.id for each in found)]
    assert [each.stamp for each in found] == [f"{stamp_of(*paths[n::-1])} {parents[n]}" for n in range(30)]
    assert sorted(stamped) == sorted(paths)


def conversation(*payloads: dict[str, Any]) -> Conversation:
    """What these lines say, of the events and of the items."""
    events = ("token_count", "thread_rolled_back")
    lines = [
        Told(Record("event_msg" if each["type"] in events else "response_item", each, n, None, n, n), f"{n}", f"{n}", n)
        for n, each in enumerate(payloads)
    ]
    return Conversation(Head(GEN2), lines, ImportReport())


def prompt(told: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": told}]}


def answer(told: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": told}]}


def tokens(total: int) -> dict[str, Any]:
    info = {"last_token_usage": {"output_tokens": 1}, "total_token_usage": {"output_tokens": total}}
    return {"type": "token_count", "info": info}


def back(turns: int) -> dict[str, Any]:
    return {"type": "thread_rolled_back", "num_turns": turns}


def test_tokens_long_after_an_answer_are_counted_with_it_in_linear_time() -> None:
    later = [each for number in range(MANY) for each in (prompt("Go on"), tokens(number))]
    told = conversation(prompt("Go"), answer("Done"), *later)
    assert len(told.messages) == MANY + 2
    assert told.messages[1]["usage"] == {"output": MANY}


def test_tokens_after_a_rollback_are_counted_with_the_answer_that_is_left() -> None:
    first, second = (prompt("One"), answer("1")), (prompt("Two"), answer("2"), tokens(1))
    told = conversation(*first, *second, back(1), tokens(2), prompt("Three"), tokens(3))
    assert [each.get("usage") for each in told.messages] == [None, {"output": 2}, None]
    told = conversation(*first, *second, back(2), tokens(2), prompt("Three"), tokens(3), answer("3"), tokens(4))
    assert [each.get("usage") for each in told.messages] == [None, {"output": 1}]


def test_many_rollbacks_take_linear_time() -> None:
    turns = [(prompt(f"{number}"), back(number % 2)) for number in range(TURNS)]
    told = conversation(*(each for turn in turns for each in turn))
    assert [each["content"] for each in told.messages] == [f"{number}" for number in range(0, TURNS, 2)]
    assert conversation(*(each for turn in turns[:8] for each in turn), back(10**30)).messages == []
