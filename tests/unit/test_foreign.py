"""Files that NomadArch (or anybody) wrote: opened, read, adopted, rewritten, with nothing lost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import nomad_sessions
from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import SnapshotUnreadableError
from nomad_sessions.workspace.foreign import UNFIT
from tests.support.there import there

Body = dict[str, Any]


def session(name: str, ids: list[str], **fields: Any) -> Body:
    record: Body = {"id": name, "workspaceId": "ws", "title": name.title(), "parentId": None}
    return {**record, "createdAt": 1_000, "updatedAt": 2_000, "messageIds": ids, **fields}


def message(name: str, owner: str, **fields: Any) -> Body:
    record: Body = {"id": name, "sessionId": owner, "role": "user", "content": name}
    return {**record, "createdAt": 1_000, "updatedAt": 1_000, **fields}


def store(sessions: list[Body], messages: list[Body], **extras: Any) -> Body:
    return {"sessions": {s["id"]: s for s in sessions}, "messages": {m["id"]: m for m in messages}, **extras}


def path_of(data_dir: Path) -> Path:
    return data_dir / "ws" / "sessions.json"


def put(data_dir: Path, data: Any, prefix: bytes = b"") -> None:
    path_of(data_dir).parent.mkdir(exist_ok=True)
    path_of(data_dir).write_bytes(prefix + json.dumps(data, indent=2).encode())


def plain(data_dir: Path) -> Body:
    data: Body = json.loads(path_of(data_dir).read_bytes())
    return data


def adopt(data_dir: Path) -> Body:
    """Reads (changing nothing), then writes a session and folds; `sessions.json` as it is then."""
    before = sorted(each.name for each in path_of(data_dir).parent.rglob("*")), path_of(data_dir).read_bytes()
    with NativeSessionManager(data_dir) as reader:
        seen = [each.model_dump(exclude={"rev"}) for each in reader.list_sessions("ws")]
        texts = {each["id"]: texts_of(reader, each["id"]) for each in seen}
    after = sorted(each.name for each in path_of(data_dir).parent.rglob("*")), path_of(data_dir).read_bytes()
    assert after == before
    with NativeSessionManager(data_dir) as manager:
        manager.create_session("ws", id="ours")
        manager.checkpoint("ws")
        for each in seen:
            found = manager.get_session("ws", each["id"])
            assert found is not None
            assert found.model_dump(exclude={"rev"}) == each, "a reader sees what the writer makes permanent"
            assert texts_of(manager, each["id"]) == texts[each["id"]]
        report = manager.check("ws")
        assert report.ok, report.problems
    return plain(data_dir)


def texts_of(manager: NativeSessionManager, name: str) -> list[str]:
    return [each.content for each in manager.get_session_messages("ws", name)]


def test_a_pretty_printed_file_without_our_key_is_read_and_adopted(tmp_path: Path) -> None:
    put(tmp_path, store([session("s1", ["m1", "m2"])], [message("m1", "s1"), message("m2", "s1")]))
    with NativeSessionManager(tmp_path) as manager:
        assert texts_of(manager, "s1") == ["m1", "m2"]
        assert there(manager.get_message("ws", "m2")).content == "m2"
        manager.add_message("ws", "s1", role="user", content="ours")
    assert set(adopt(tmp_path)["sessions"]) == {"s1", "ours"}
    with NativeSessionManager(tmp_path) as manager:
        assert texts_of(manager, "s1") == ["m1", "m2", "ours"]


def test_a_reader_sees_a_foreign_change_to_a_session_that_it_has_not_loaded(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        for name in ("s1", "s2"):
            manager.create_session("ws", id=name)
            manager.add_message("ws", name, id=f"{name}m", role="user", content="ours")
        manager.checkpoint("ws")
    data = plain(tmp_path)
    data["messages"]["new"] = message("new", "s1")
    data["sessions"]["s1"]["messageIds"].append("new")
    data["sessions"]["s2"]["title"] = "Theirs"
    del data["messages"]["s2m"]
    data["sessions"]["s2"]["messageIds"] = []
    put(tmp_path, data)
    with NativeSessionManager(tmp_path) as reader:
        assert texts_of(reader, "s1") == ["ours", "new"]
        assert texts_of(reader, "s2") == []
        assert [each.title for each in reader.list_sessions("ws") if each.id == "s2"] == ["Theirs"]


def test_forks_that_share_message_ids_get_messages_of_their_own(tmp_path: Path) -> None:
    shared = [message("m1", "s1"), message("m2", "s1"), message("m3", "s2")]
    put(tmp_path, store([session("s2", ["m1", "m2", "m3"], parentId="s1"), session("s1", ["m1", "m2"])], shared))
    data = adopt(tmp_path)
    first, second = data["sessions"]["s1"]["messageIds"], data["sessions"]["s2"]["messageIds"]
    assert first == ["m1", "m2"]
    assert second[2] == "m3"
    assert not set(first) & set(second)
    assert [data["messages"][each]["content"] for each in second] == ["m1", "m2", "m3"]
    assert [data["messages"][each].get("originId") for each in second] == ["m1", "m2", None]
    with NativeSessionManager(tmp_path) as manager:
        manager.delete_session("ws", "s1")
        assert texts_of(manager, "s2") == ["m1", "m2", "m3"]
        put(tmp_path, store([session("s2", ["m1", "m2", "m3"])], shared))
        assert texts_of(manager, "s2") == ["m1", "m2", "m3"]
        manager.add_message("ws", "s2", role="user", content="more")
        assert texts_of(manager, "s2") == ["m1", "m2", "m3", "more"]


def test_dangling_ids_are_skipped_and_orphans_are_kept(tmp_path: Path) -> None:
    orphan = message("lost", "nowhere", note={"deep": [1]})
    put(tmp_path, store([session("s1", ["m1", "gone", "m1"])], [message("m1", "s1"), orphan]))
    data = adopt(tmp_path)
    assert data["sessions"]["s1"]["messageIds"] == ["m1"]
    assert {key: value for key, value in data["messages"]["lost"].items() if key != "rev"} == orphan


def test_unknown_keys_survive_at_every_depth_and_in_order(tmp_path: Path) -> None:
    deep: Body = {"zeta": [{"b": 1, "a": {"x": None}}], "alpha": "é\u2028\ud83d\ude00", "big": 2**70, "float": 1.0}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}", "strict": deep}, "extra": deep}
    part = {"type": "weird", "content": {"any": deep}, "toolCall": call, "own": deep}
    put(
        tmp_path,
        store(
            [session("s1", ["m1"], model={"providerId": "p", "modelId": "m", "variant": deep}, custom=deep)],
            [message("m1", "s1", parts=[part], toolCalls=[call], custom=deep, metadata=deep)],
            zeta=deep,
            others={"t": deep},
            alpha=[deep],
        ),
    )
    before = plain(tmp_path)
    data = adopt(tmp_path)
    with NativeSessionManager(tmp_path) as manager:
        manager.update_session("ws", "s1", title="ours")
        manager.update_message("ws", "m1", status="error")
        manager.checkpoint("ws")
    for after in (data, plain(tmp_path)):
        for key in ("zeta", "others", "alpha"):
            assert json.dumps(after[key]) == json.dumps(before[key])
        for table, name in (("sessions", "s1"), ("messages", "m1")):
            kept = {key: after[table][name][key] for key in before[table][name] if key not in ("title", "updatedAt")}
            old = {key: value for key, value in before[table][name].items() if key not in ("title", "updatedAt")}
            assert json.dumps(kept) == json.dumps(old)
            known = [key for key in after[table][name] if key in before[table][name] and key != "messageIds"]
            assert known == [key for key in before[table][name] if key != "messageIds"]


@pytest.mark.parametrize("value", [5, "text", True, [], [5], {}, {"a": 1}, None, 1.5], ids=repr)
def test_a_wrong_type_hides_neither_its_record_nor_any_other(tmp_path: Path, value: Any) -> None:
    fields = ["id", "title", "parentId", "createdAt", "updatedAt", "messageIds", "model", "agent", "revert", "metadata"]
    bad = [session(f"s-{field}", ["m"]) | {field: value} for field in fields]
    keys = ["id", "sessionId", "role", "content", "parts", "createdAt", "updatedAt", "toolCalls", "status", "usage"]
    broken = [message(f"m-{key}", "good") | {key: value} for key in keys]
    data = store([session("good", [f"m-{key}" for key in keys])], [message("m", "good")])
    data["sessions"] |= {f"s-{field}": record for field, record in zip(fields, bad, strict=True)}
    data["messages"] |= {f"m-{key}": record for key, record in zip(keys, broken, strict=True)}
    data["sessions"]["no-object"] = data["messages"]["no-object"] = value if not isinstance(value, dict) else 7
    put(tmp_path, data)
    after = adopt(tmp_path)
    assert {f"s-{field}" for field in fields} <= set(after["sessions"])
    assert {f"m-{key}" for key in keys} <= set(after["messages"])
    for table, names in (("sessions", fields), ("messages", keys)):
        for name in names:
            if name in ("messageIds", "sessionId", "id"):
                continue
            record = after[table][f"{table[0]}-{name}"]
            assert record.get(UNFIT, {}).get(name, record.get(name)) == value, (table, name)
    with NativeSessionManager(tmp_path) as manager:
        assert len(manager.list_sessions("ws")) == len(fields) + 2
        assert len(manager.get_session_messages("ws", "good")) == len(keys)
        for field in fields:
            manager.add_message("ws", f"s-{field}", role="user", content="more")
        for key in keys:
            manager.update_message("ws", f"m-{key}", agent="ours")


@pytest.mark.parametrize("data", [{"sessions": 5}, {"messages": [], "sessions": {}}, {"sessions": {"": {}, "s": {}}}])
def test_a_file_with_tables_of_the_wrong_kind_is_read_as_far_as_it_goes(tmp_path: Path, data: Body) -> None:
    put(tmp_path, data)
    with NativeSessionManager(tmp_path) as manager:
        found = len(manager.list_sessions("ws"))
        assert found == (2 if isinstance(data["sessions"], dict) and data["sessions"] else 0)
        manager.create_session("ws", id="ours")
        manager.checkpoint("ws")
        assert len(manager.list_sessions("ws")) == found + 1
    kept = [name.read_bytes() for name in (tmp_path / "ws" / "quarantine").iterdir()]
    assert json.dumps(data, indent=2).encode() in kept, "what could not be taken in is kept"


@pytest.mark.parametrize("raw", [b"[]", b'{"other": 1}', b'{"sessions"', b"\0" * 50, b""])
def test_what_is_no_session_file_is_never_an_empty_store(tmp_path: Path, raw: bytes) -> None:
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).write_bytes(raw)
    with NativeSessionManager(tmp_path) as manager, pytest.raises(SnapshotUnreadableError):
        manager.create_session("ws")
    assert path_of(tmp_path).read_bytes() == raw


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    put(tmp_path, store([session("s1", ["m1"])], [message("m1", "s1")]), prefix=b"\xef\xbb\xbf")
    assert set(adopt(tmp_path)["messages"]) == {"m1"}


def test_lone_surrogates_deep_nesting_and_odd_ids_survive(tmp_path: Path) -> None:
    deep: Any = "bottom"
    for _ in range(900):
        deep = [deep]
    odd = "\ud83d half/../\0 \u2028"
    put(tmp_path, store([session(odd, ["m\ud800"], deep=deep)], [message("m\ud800", odd, content="\udc00 \ud83d")]))
    data = adopt(tmp_path)
    assert data["messages"]["m\ud800"]["content"] == "\udc00 \ud83d"
    assert data["sessions"][odd]["deep"] == deep
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message("ws", odd, role="user", content="ours")
        data = plain(tmp_path)
        data["sessions"][odd]["title"] = "changed"
        put(tmp_path, data)
        assert manager.update_session("ws", odd, agent="a").title == "changed"


def test_a_hand_edit_of_the_same_size_in_our_own_file_is_taken_in(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s1", title="Before")
        manager.add_message("ws", "s1", id="m1", role="user", content="before")
        manager.create_session("ws", id="s2", title="Other")
        manager.checkpoint("ws")
        raw = path_of(tmp_path).read_bytes()
        stat = path_of(tmp_path).stat()
        with path_of(tmp_path).open("r+b") as file:
            file.write(raw.replace(b"Before", b"After!").replace(b"before", b"after!"))
        assert path_of(tmp_path).stat().st_ino == stat.st_ino
        # A commit that reads neither, then the checkpoint that copies both.
        manager.add_message("ws", "s2", role="user", content="ours")
        manager.checkpoint("ws")
        assert there(manager.get_session("ws", "s1")).title == "After!"
        assert texts_of(manager, "s1") == ["after!"]
        assert texts_of(manager, "s2") == ["ours"]
        assert manager.check("ws").ok


def test_a_file_that_is_left_half_written_delays_no_append_and_is_kept_when_it_is_given_up(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s1")
        manager.checkpoint("ws")
        half = json.dumps(plain(tmp_path), indent=2).encode()[:100]
        path_of(tmp_path).write_bytes(half)
        start = time.monotonic()
        for number in range(20):
            manager.add_message("ws", "s1", role="user", content=str(number))
        assert time.monotonic() - start < 1.0
        assert texts_of(manager, "s1") == [str(number) for number in range(20)]
        assert path_of(tmp_path).read_bytes() == half
    with NativeSessionManager(tmp_path) as manager:
        assert len(texts_of(manager, "s1")) == 20
        old = time.time() - 60
        os.utime(path_of(tmp_path), (old, old))
        manager.checkpoint("ws")
        assert manager.check("ws").ok
    assert len(plain(tmp_path)["messages"]) == 20
    assert half in [name.read_bytes() for name in (tmp_path / "ws" / "quarantine").iterdir()]


def test_a_foreign_change_while_a_revert_is_pending_loses_nothing(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s1")
        for number in range(4):
            manager.add_message("ws", "s1", id=f"m{number}", role="user", content=f"m{number}")
        stale_before = None
        manager.checkpoint("ws")
        stale_before = plain(tmp_path)
        manager.revert("ws", "s1", "m1")
        manager.checkpoint("ws")
        stale_after = plain(tmp_path)
        assert stale_after["sessions"]["s1"]["messageIds"] == ["m0", "m1"]
        for number, data in enumerate((stale_before, stale_after)):
            data["messages"][f"t{number}"] = message(f"t{number}", "s1")
            data["sessions"]["s1"]["messageIds"].append(f"t{number}")
            put(tmp_path, data)
            manager.create_session("ws")
        found = manager.get_session_messages("ws", "s1", include_reverted=True)
        assert {each.id for each in found} == {"m0", "m1", "m2", "m3", "t0", "t1"}
        assert {each.id for each in manager.get_session_messages("ws", "s1")} == {"m0", "m1", "t0", "t1"}
        manager.unrevert("ws", "s1")
        assert len(texts_of(manager, "s1")) == 6
        manager.checkpoint("ws")
        assert manager.check("ws").ok


def test_a_program_that_never_saw_our_key_goes_on_changing_its_own_records(tmp_path: Path) -> None:
    theirs = store([session("s1", ["m1"])], [message("m1", "s1", status="streaming", content="a")])
    put(tmp_path, theirs)
    with NativeSessionManager(tmp_path) as manager:
        manager.add_message("ws", "s1", id="ours", role="user", content="ours")
        manager.checkpoint("ws")
        for number, text in enumerate(("ab", "abc", "abcd")):
            theirs["messages"]["m1"] |= {"content": text, "updatedAt": 3_000 + number}
            theirs["sessions"]["s1"] |= {"title": f"Title {number}", "updatedAt": 3_000 + number}
            put(tmp_path, theirs)
            manager.update_session("ws", "s1", agent=f"agent {number}")
            assert texts_of(manager, "s1") == [text, "ours"]
            found = manager.get_session("ws", "s1")
            assert found is not None
            assert (found.title, found.agent) == (f"Title {number}", f"agent {number}")
        theirs["messages"]["m1"]["status"] = "completed"
        put(tmp_path, theirs)
        manager.checkpoint("ws")
        assert there(manager.get_message("ws", "m1")).status == "completed"
    assert not list((tmp_path / "ws" / "quarantine").glob("merge-*")), "nothing of anybody's had to be taken out"


BIG = """
import json, resource, sys, time
from nomad_sessions import NativeSessionManager
start = time.monotonic()
manager = NativeSessionManager(sys.argv[1])
assert len(manager.list_sessions("ws")) == 100
assert len(manager.get_session_messages("ws", "s7")) == 100
read = time.monotonic() - start
manager.add_message("ws", "s7", role="user", content="ours")
manager.checkpoint("ws")
adopted = time.monotonic() - start
assert len(manager.get_session_messages("ws", "s7")) == 101
try:  # Of this program alone: the other counter begins with what the process that started us had.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    peak = int(line.split()[1]) * 1024
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
manager.close()
print(json.dumps([read, adopted, peak]))
"""


@pytest.mark.slow
def test_a_file_of_50_mb_is_opened_read_and_adopted_within_bounds(tmp_path: Path) -> None:
    text = "All work and no play. " * 230
    owners = [f"s{number}" for number in range(100)]
    messages = [message(f"{owner}m{n}", owner, content=text) for owner in owners for n in range(100)]
    put(tmp_path, store([session(owner, [f"{owner}m{n}" for n in range(100)]) for owner in owners], messages))
    size = path_of(tmp_path).stat().st_size
    assert size > 50e6
    root = Path(nomad_sessions.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", BIG, str(tmp_path)], capture_output=True, text=True, cwd=root, check=True
    )
    read, adopted, peak = json.loads(done.stdout)
    assert read < 10
    assert adopted < 20
    assert peak < 10 * size + 100e6, f"{peak / size:.1f} times the file"
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
