"""What a hostile reading of the store found: acknowledged data that went, and errors without a name."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import AsyncSessionManager, InvalidInputError, NativeSessionManager, StoreClosedError

WS = "w"
TEXTS = [("m0", "text 0"), ("m1", "text 1"), ("m2", "text 2")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folded session `s` of three messages; `.prev` and the journal have them too."""
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s", title="T")
        for name, text in TEXTS:
            m.add_message(WS, "s", id=name, role="user", content=text)
        m.checkpoint(WS)
        m.update_session(WS, "s", title="T2")
        m.checkpoint(WS)
    return tmp_path


def snapshot(store: Path) -> Path:
    return store / WS / "sessions.json"


def texts(store: Path) -> list[tuple[str, str]]:
    with NativeSessionManager(store) as m:
        return [(each.id, each.content) for each in m.get_session_messages(WS, "s")]


@pytest.mark.parametrize(("word", "damaged"), [(b'"m1":{', b'"q1":{'), (b'"messageIds"', b'"messageIdr"')])
def test_a_bit_that_flips_in_our_own_file_deletes_and_hides_nothing(store: Path, word: bytes, damaged: bytes) -> None:
    """`.prev` and the journal know better: it was taken for a deletion by another program."""
    content = snapshot(store).read_bytes()
    assert content.count(word) == 1
    snapshot(store).write_bytes(content.replace(word, damaged))
    assert texts(store) == TEXTS
    with NativeSessionManager(store) as m:
        assert not m.check(WS).ok
        assert m.repair(WS).after.ok
    assert texts(store) == TEXTS
    with NativeSessionManager(store) as m:
        m.add_message(WS, "s", id="m3", role="user", content="text 3")
        m.checkpoint(WS)
    assert texts(store) == [*TEXTS, ("m3", "text 3")]


def without_messages(data: dict[str, Any]) -> None:
    del data["messages"]


def with_a_list(data: dict[str, Any]) -> None:
    data["messages"] = []


def with_nothing(data: dict[str, Any]) -> None:
    data["sessions"] = None


def with_a_null_message(data: dict[str, Any]) -> None:
    data["messages"]["m1"] = None


def with_a_null_session(data: dict[str, Any]) -> None:
    data["sessions"]["s"] = None


def with_a_null_order(data: dict[str, Any]) -> None:
    data["sessions"]["s"]["messageIds"] = None


def with_a_text_for_an_order(data: dict[str, Any]) -> None:
    data["sessions"]["s"]["messageIds"] = "m0 m1 m2"


@pytest.mark.parametrize(
    "spoil",
    [
        without_messages,
        with_a_list,
        with_nothing,
        with_a_null_message,
        with_a_null_session,
        with_a_null_order,
        with_a_text_for_an_order,
    ],
)
def test_what_a_program_wrote_in_a_wrong_shape_is_no_deletion(store: Path, spoil: Any) -> None:
    data = json.loads(snapshot(store).read_bytes())
    spoil(data)
    snapshot(store).write_text(json.dumps(data, indent=2))
    assert texts(store) == TEXTS
    with NativeSessionManager(store) as m:
        m.update_session(WS, "s", title="T3")
        m.checkpoint(WS)
    assert texts(store) == TEXTS


def test_a_message_that_a_program_left_out_is_still_a_deletion(store: Path) -> None:
    data = json.loads(snapshot(store).read_bytes())
    del data["messages"]["m1"]
    data["sessions"]["s"]["messageIds"] = ["m0", "m2"]
    snapshot(store).write_text(json.dumps(data, indent=2))
    assert texts(store) == [TEXTS[0], TEXTS[2]]


def test_a_number_that_no_float_holds_stops_nothing(store: Path) -> None:
    data = snapshot(store).read_text(encoding="utf-8")
    value = json.loads(data)
    value["messages"]["m1"]["note"] = "HUGE"
    snapshot(store).write_text(json.dumps(value, indent=2).replace('"HUGE"', "1e400"), encoding="utf-8")
    with NativeSessionManager(store) as m:
        m.add_message(WS, "s", id="m3", role="user", content="text 3")
        m.checkpoint(WS)
        message = m.get_message(WS, "m1")
        assert message is not None
        assert (message.model_extra or {})["note"] == "1e400"
        assert m.check(WS).ok


def test_half_a_character_in_the_name_of_a_field_hides_no_session(store: Path) -> None:
    value = json.loads(snapshot(store).read_bytes())
    value["messages"]["m1"]["\ud800"] = "x"
    snapshot(store).write_text(json.dumps(value, indent=2))
    assert texts(store) == TEXTS


def journal(store: Path) -> Path:
    (segment,) = (store / WS / "journal").glob("*.jsonl")
    return segment


@pytest.fixture
def unfolded(tmp_path: Path) -> Path:
    """All of it is in the journal only."""
    m = NativeSessionManager(tmp_path)
    m.create_session(WS, id="s", title="T")
    for name, text in TEXTS:
        m.add_message(WS, "s", id=name, role="user", content=text)
    m.flush()
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / WS, copy / WS)
    m.close()
    return copy


def test_repair_keeps_the_messages_of_a_session_whose_creation_is_damaged(unfolded: Path) -> None:
    content = journal(unfolded).read_bytes()
    journal(unfolded).write_bytes(content.replace(b'"title":"T"', b'"title":"Q"', 1))
    with NativeSessionManager(unfolded) as m:
        report = m.repair(WS, drop_corrupt=True)
        assert report.after.ok
        assert any("made session s again" in action for action in report.actions)
    assert texts(unfolded) == TEXTS


def test_repair_brings_no_part_of_a_group_back_that_was_never_whole(unfolded: Path) -> None:
    with NativeSessionManager(unfolded) as m:
        m.workspace(WS)
        m.add_messages(WS, "s", [{"role": "user", "content": f"group {n}"} for n in range(4)])
        m.flush()
        content = journal(unfolded).read_bytes()
    for name in ("sessions.json", "sessions.json.prev"):
        (unfolded / WS / name).unlink(missing_ok=True)
    cut = content[: content.index(b"group 3")].replace(b"text 1", b"text X", 1)
    for segment in (unfolded / WS / "journal").glob("*.jsonl"):
        segment.unlink()
    (unfolded / WS / "journal" / f"{1:016d}.jsonl").write_bytes(cut)
    with NativeSessionManager(unfolded) as m:
        assert m.repair(WS, drop_corrupt=True).after.ok
    assert texts(unfolded) == [TEXTS[0], TEXTS[2]]


def test_a_live_segment_that_is_gone_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nomad_sessions.workspace.store.SEGMENT_BYTES", 900)
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        for number in range(20):
            m.add_message(WS, "s", role="user", content=f"{number}")
        m.checkpoint(WS)
        m.add_message(WS, "s", role="user", content="after the checkpoint")
        m.close(checkpoint=False)
    segments = sorted((tmp_path / WS / "journal").glob("*.jsonl"))
    head = json.loads(snapshot(tmp_path).read_bytes())["nomad"]["head"]["journal"]
    for segment in segments:
        if int(segment.stem) >= head:
            segment.unlink()
    with NativeSessionManager(tmp_path) as m:
        assert [problem.kind for problem in m.check(WS).problems] == ["journal-missing"]


def test_a_workspace_that_somebody_else_deleted_begins_anew(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="old")
        shutil.rmtree(tmp_path / WS)
        m.create_session(WS, id="new")
        assert [each.id for each in m.list_sessions(WS)] == ["new"]


def test_a_setting_that_no_clock_can_count_is_refused(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m, pytest.raises(InvalidInputError):
        m.configure_workspace(WS, retention={"days": 1e305})


def test_a_folder_may_be_named_in_bytes(tmp_path: Path) -> None:
    with NativeSessionManager(os.fsencode(tmp_path / "b")) as m:  # type: ignore[arg-type]
        m.create_session(WS, id="s")
    assert (tmp_path / "b" / WS).is_dir()


def test_the_origin_of_a_copy_can_be_changed(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", role="user", content="x")
        (copy,) = m.fork_session(WS, "s").message_ids
        m.update_message(WS, copy, originId="mine")
        assert m.get_message(WS, copy).origin_id == "mine"  # type: ignore[union-attr]


def test_an_async_manager_closes_twice_and_says_that_it_is_closed(tmp_path: Path) -> None:
    async def use() -> None:
        async with AsyncSessionManager(tmp_path) as m:
            await m.create_session(WS, id="s")
            await m.close()
        await m.close()
        with pytest.raises(StoreClosedError):
            await m.get_session(WS, "s")

    asyncio.run(use())


def other_store(folder: Path, name: str, count: int) -> Path:
    with NativeSessionManager(folder) as m:
        m.create_session(name, id=name)
        for number in range(count):
            m.add_message(name, name, id=f"{name}{number}", role="user", content=f"{name} {number}")
        m.checkpoint(name)
    return folder / name / "sessions.json"


def counts(folder: Path, name: str) -> dict[str, int]:
    with NativeSessionManager(folder) as m:
        return {each.id: m.get_session_messages(name, each.id).total for each in m.list_sessions(name)}


@pytest.mark.parametrize("reprinted", [True, False], ids=["reprinted", "as it is"])
@pytest.mark.parametrize(("ours", "theirs"), [(30, 5), (5, 30)])
def test_the_file_of_another_store_adds_and_deletes_nothing(
    tmp_path: Path, ours: int, theirs: int, reprinted: bool
) -> None:
    """Its numbers are another's: what it has not nobody deleted, and its seq says nothing of our journal."""
    there = other_store(tmp_path, "B", theirs)
    here = other_store(tmp_path, "A", ours)
    content = there.read_bytes()
    here.write_bytes(json.dumps(json.loads(content), indent=2).encode() if reprinted else content)
    assert counts(tmp_path, "A") == {"A": ours, "B": theirs}
    with NativeSessionManager(tmp_path) as m:
        m.add_message("A", "A", role="user", content="on")
        m.checkpoint("A")
        m.add_message("A", "A", role="user", content="and on")
        m.checkpoint("A")
        assert m.check("A").ok
    assert counts(tmp_path, "A") == {"A": ours + 2, "B": theirs}


def test_an_older_copy_of_our_own_file_is_our_own(store: Path) -> None:
    copy = snapshot(store).read_bytes()
    with NativeSessionManager(store) as m:
        m.add_message(WS, "s", id="m3", role="user", content="text 3")
        m.checkpoint(WS)
    snapshot(store).write_bytes(copy)
    assert texts(store) == [*TEXTS, ("m3", "text 3")]
