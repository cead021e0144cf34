"""The index follows the store, whatever is changed and whatever happens to its file; it is never in the way."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.search import Searcher, index
from tests.support.talks import add, talking


@pytest.fixture
def s(m: NativeSessionManager) -> Iterator[Searcher]:
    with Searcher(m) as searcher:
        yield searcher


@pytest.fixture
def talk(m: NativeSessionManager, clock: ManualClock) -> dict[str, str]:
    return talking(m, clock)


VOCABULARY = [f"word{number}" for number in range(12)]


def found_by_reading(m: NativeSessionManager, word: str) -> set[tuple[str, int]]:
    """What a search has to find: each text that has the word, once for each time."""
    return {
        (message.content, message.created_at)
        for session in m.list_sessions("ws")
        for message in m.get_session_messages("ws", session.id)
        if word in message.content.split()
    }


@pytest.mark.parametrize("seed", range(6))
def test_after_any_changes_a_search_finds_what_reading_finds(tmp_path: Path, seed: int) -> None:
    chance, clock = random.Random(seed), ManualClock(1_750_000_000_000)
    with NativeSessionManager(tmp_path, durability="os", clock=clock) as m, Searcher(m) as s:
        for step in range(150):
            clock.advance(1)
            change(m, chance, step)
            if step % 5 == 0:
                word = chance.choice(VOCABULARY)
                wanted = found_by_reading(m, word)
                found = s.find(word, limit=1000)
                assert found.total == len(wanted) == len(found.hits), (seed, step)
                part = s.find(word, substring=True, limit=1000)
                longer = {pair for other in VOCABULARY if word in other for pair in found_by_reading(m, other)}
                assert part.total == len(longer), (seed, step)
        with Searcher(m) as fresh:
            assert {word: fresh.find(word).total for word in VOCABULARY} == {
                word: len(found_by_reading(m, word)) for word in VOCABULARY
            }


def change(m: NativeSessionManager, chance: random.Random, step: int) -> None:
    there = [each.id for each in m.list_sessions("ws")]
    kind = chance.choice(
        ["create", "add", "add", "add", "edit", "drop", "fork", "revert", "unrevert", "delete", "fold"]
    )
    text = f"{' '.join(chance.choices(VOCABULARY, k=4))} number {step}"
    if kind == "create" or not there:
        m.create_session("ws", title="a session")
        return
    session = chance.choice(there)
    messages = m.get_session_messages("ws", session)
    if kind == "add":
        m.add_message("ws", session, role="user", content=text)
    elif kind == "edit" and messages:
        m.update_message("ws", chance.choice(messages).id, content=text)
    elif kind == "drop" and messages:
        m.delete_message("ws", chance.choice(messages).id)
    elif kind == "fork":
        m.fork_session("ws", session)
    elif kind == "revert" and len(messages) > 1:
        m.revert("ws", session, messages[0].id)
    elif kind == "unrevert":
        m.unrevert("ws", session)
    elif kind == "delete" and len(there) > 3:
        m.delete_session("ws", session)
    elif kind == "fold":
        m.checkpoint("ws")


def test_what_another_process_writes_is_found_at_the_next_search(
    m: NativeSessionManager, s: Searcher, talk: dict[str, str]
) -> None:
    assert s.find("elsewhere").total == 0
    with NativeSessionManager(m.data_dir) as other:
        other.add_message("ws", "s", role="user", content="written elsewhere")
    assert s.find("elsewhere").total == 1


def place(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / "ws" / "index.sqlite"


def test_the_index_is_kept_for_the_user_alone_and_used_again(m: NativeSessionManager, talk: dict[str, str]) -> None:
    with Searcher(m) as s:
        s.find("slugify")
    assert place(m).stat().st_mode & 0o777 == 0o600
    seen: list[int] = []
    with Searcher(m) as s:
        assert s.find("slugify", progress=lambda done, total: seen.append(total)).total == 1
    assert seen == []


def damage_nothing(path: Path) -> None:
    path.unlink()


def damage_start(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def damage_middle(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def damage_version(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE meta SET value = 0 WHERE key = 'version'")


@pytest.mark.parametrize("damage", [damage_nothing, damage_start, damage_middle, damage_version])
@pytest.mark.parametrize("open_already", [False, True])
def test_an_index_that_is_gone_or_damaged_is_made_again(
    m: NativeSessionManager, talk: dict[str, str], damage: Any, open_already: bool
) -> None:
    with Searcher(m) as first:
        first.find("dashes", substring=True)
        if not open_already:
            first.close()
        for end in ("-wal", "-shm"):
            if not open_already:
                place(m).with_name(f"index.sqlite{end}").unlink(missing_ok=True)
        damage(place(m))
        add(m, "s", "a later message")
        with contextlib.ExitStack() as stack:
            s = first if open_already else stack.enter_context(Searcher(m))
            assert s.find("later").total == 1
            assert s.find("slugify").total == 1
            assert s.find("lugif", substring=True).total == 1


def test_an_older_state_that_was_put_back_is_what_is_found(
    m: NativeSessionManager, talk: dict[str, str], tmp_path: Path
) -> None:
    m.checkpoint("ws")
    m.clear_workspace("ws")
    shutil.copytree(Path(m.data_dir) / "ws", tmp_path / "copy")
    with Searcher(m) as s:
        add(m, "s", "a later message")
        assert s.find("later").total == 1
    m.clear_workspace("ws")
    index_file = place(m).read_bytes()
    shutil.rmtree(Path(m.data_dir) / "ws")
    shutil.copytree(tmp_path / "copy", Path(m.data_dir) / "ws")
    place(m).write_bytes(index_file)
    with Searcher(m) as s:
        assert s.find("later").total == 0
        assert s.find("slugify").total == 1


def test_a_write_never_waits_for_the_index_and_a_search_says_when_it_is_behind(
    m: NativeSessionManager, talk: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "WAIT", 0.05)
    with Searcher(m) as s:
        s.find("slugify")
        with contextlib.closing(sqlite3.connect(place(m), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            add(m, "s", "slugify again")
            found = s.find("slugify")
            assert (found.total, found.stale) == (1, ("ws",))
            other.execute("ROLLBACK")
        found = s.find("slugify")
        assert (found.total, found.stale) == (2, ())


def test_where_the_folder_takes_no_file_the_index_is_in_memory(
    m: NativeSessionManager, s: Searcher, talk: dict[str, str]
) -> None:
    place(m).mkdir()
    assert s.find("slugify").total == 1
    add(m, "s", "slugify again")
    assert s.find("slugify").total == 2
    assert list(place(m).iterdir()) == []


def test_an_index_that_was_being_made_is_finished_by_the_next_search(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nomad_sessions.search.catch_up._GROUP", 5)
    for number in range(6):
        m.create_session("ws", id=f"s{number}")
        for _ in range(5):
            add(m, f"s{number}", f"needle {number}")

    def stop(done: int, total: int) -> None:
        assert total == 30
        if done >= 15:
            raise KeyboardInterrupt

    with Searcher(m) as s, pytest.raises(KeyboardInterrupt):
        s.find("needle", progress=stop)
    seen: list[tuple[int, int]] = []
    with Searcher(m) as s:
        assert s.find("needle", progress=lambda *each: seen.append(each)).total == 30
    assert seen[-1] == (15, 15)


def test_a_workspace_made_anew_under_the_old_name_is_searched_anew(
    m: NativeSessionManager, s: Searcher, talk: dict[str, str]
) -> None:
    assert s.find("slugify").total == 1
    m.delete_workspace("ws")
    m.create_session("ws", id="s")
    add(m, "s", "something else")
    assert s.find("slugify").total == 0
    assert s.find("else").total == 1
