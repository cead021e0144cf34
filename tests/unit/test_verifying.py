"""A comparison of store and target that was cut short goes on where it was, with what it had found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager, TargetUnavailableError
from nomad_sessions.storage.codec import decode
from nomad_sessions.sync import Key, MemoryTarget, Rejected, Stored, Synchronizer, comparing, verifying
from nomad_sessions.sync.comparing import Difference
from nomad_sessions.sync.target import Kind, TargetInfo

WS = "ws"
RANGE = 100
MESSAGES = 3 * RANGE + 10


class Target(MemoryTarget):
    """Goes away after so many scans of messages; `scanned` says from where on it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 1_000
        self.scanned: list[str] = []
        self.at = "here"

    def scan(self, workspace_id: str, kind: Kind, *, after: str = "", limit: int = 1000) -> list[Stored]:
        if kind == "message" and limit > 1:
            self.left -= 1
            if self.left < 0:
                raise TargetUnavailableError(target=self.name, reason="it went away")
            self.scanned.append(after)
        return super().scan(workspace_id, kind, after=after, limit=limit)

    def describe(self) -> TargetInfo:
        return TargetInfo("memory", self.at, {})


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "RANGE", RANGE)
    monkeypatch.setattr(verifying, "RANGE", RANGE)


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        for name in ("a", "s"):
            manager.create_session(WS, id=name)
        manager.add_messages(WS, "s", [{"role": "user", "content": str(n)} for n in range(MESSAGES)])
        yield manager


@pytest.fixture
def target(m: NativeSessionManager) -> Target:
    """One that has all of it, and then not the first message and not the last, and an extra session."""
    target = Target()
    with Synchronizer(m, [target]) as sync:
        sync.push(WS)
    ids = ids_of(m)
    del target.records[WS, Key("message", ids[5])]
    del target.records[WS, Key("message", ids[-1])]
    extra = Key("session", "extra")
    target.records[WS, extra] = target.records[WS, Key("session", "s")]._replace(key=extra)
    return target


def ids_of(m: NativeSessionManager) -> list[str]:
    return sorted(each.id for each in m.get_session_messages(WS, "s"))


def verify(m: NativeSessionManager, target: Target, told: Callable[[int, int], None] | None = None) -> list[Difference]:
    """As a process of its own does."""
    target.scanned.clear()
    with Synchronizer(m, [target]) as sync:
        return sync.verify(WS, target=target.name, progress=told)


def cut_short(m: NativeSessionManager, target: Target, scans: int = 2) -> None:
    target.left = scans
    with pytest.raises(TargetUnavailableError):
        verify(m, target)
    target.left = 1_000


def names(found: list[Difference]) -> list[tuple[str, str]]:
    return [(each.key.id, each.problem) for each in found]


def path(m: NativeSessionManager) -> Path:
    return Path(m.data_dir) / WS / "sync" / "memory-verify.jsonl"


def expected(m: NativeSessionManager) -> list[tuple[str, str]]:
    ids = ids_of(m)
    return [("extra", "extra"), (ids[5], "missing"), (ids[-1], "missing")]


def test_one_that_a_target_cut_short_goes_on_with_what_it_had_found(m: NativeSessionManager, target: Target) -> None:
    cut_short(m, target)
    told: list[tuple[int, int]] = []
    assert names(verify(m, target, lambda done, of: told.append((done, of)))) == expected(m)
    assert target.scanned[0] == ids_of(m)[2 * RANGE - 1], "not from the beginning"
    assert told[0] == (3 * RANGE, MESSAGES)
    assert not path(m).exists()
    assert names(verify(m, target)) == expected(m)
    assert target.scanned[0] == "", "the next one is a new one"


def test_one_that_was_interrupted_again_and_again_comes_to_its_end(m: NativeSessionManager, target: Target) -> None:
    def interrupt(done: int, of: int) -> None:
        if of == MESSAGES:
            raise KeyboardInterrupt

    begins = []
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            verify(m, target, interrupt)
        begins.append(target.scanned[0])
    ids = ids_of(m)
    assert begins == ["", ids[RANGE - 1], ids[2 * RANGE - 1], ids[3 * RANGE - 1]]
    assert names(verify(m, target)) == expected(m)


def test_what_has_changed_here_since_it_was_found_is_not_told(m: NativeSessionManager, target: Target) -> None:
    cut_short(m, target)
    m.update_message(WS, ids_of(m)[5], content="changed")
    assert names(verify(m, target)) == [each for each in expected(m) if each[0] != ids_of(m)[5]]


def test_a_small_one_writes_nothing(m: NativeSessionManager) -> None:
    m.create_session("small", id="x")
    target = Target()
    with Synchronizer(m, [target]) as sync:
        sync.push("small")
        target.left = 0
        with pytest.raises(TargetUnavailableError):
            sync.verify("small", target=target.name)
    assert not (Path(m.data_dir) / "small" / "sync").exists()


def _another_log(m: NativeSessionManager, target: Target) -> None:
    """As where a backup was put back: another workspace of the name, in which the place of the target is kept."""
    folder = Path(m.data_dir) / WS
    kept = {each: (folder / each).read_bytes() for each in ("sync/memory-verify.jsonl", "cursors/sync-memory.json")}
    messages = [{"role": "user", "content": str(n), "id": each} for n, each in enumerate(ids_of(m))]
    m.delete_workspace(WS)
    m.create_session(WS, id="s")
    m.add_messages(WS, "s", messages)
    for each, data in kept.items():
        (folder / each).parent.mkdir(exist_ok=True)
        (folder / each).write_bytes(data)


def _reset(m: NativeSessionManager, target: Target) -> None:
    with Synchronizer(m, [target]) as sync:
        sync.reset(WS, target="memory")


def _repair(m: NativeSessionManager, target: Target) -> None:
    with Synchronizer(m, [target]) as sync:
        key = Key("message", ids_of(m)[5])
        sync.with_carrier(WS, "memory", lambda box: box.repair([Difference(key, "missing", 1, None)]))


def _retry(m: NativeSessionManager, target: Target) -> None:
    refused = Rejected(Key("message", ids_of(m)[5]), 1, "no room")
    with Synchronizer(m, [target]) as sync:
        sync.with_carrier(WS, "memory", lambda box: box.dead.note([refused], [], 0))
        assert sync.retry(WS).confirmed == 1


def _another_place(m: NativeSessionManager, target: Target) -> None:
    target.at = "there"


def _spoilt(m: NativeSessionManager, target: Target) -> None:
    path(m).write_bytes(path(m).read_bytes().replace(b'"', b"'"))


def _another_version(m: NativeSessionManager, target: Target) -> None:
    path(m).write_bytes(b'{"format": 2}\n')


@pytest.mark.parametrize(
    "change",
    [_another_log, _reset, _repair, _retry, _another_place, _spoilt, _another_version],
    ids=lambda each: each.__name__,
)
def test_it_begins_anew_where_what_it_knew_says_nothing(
    m: NativeSessionManager, target: Target, change: Callable[[NativeSessionManager, Target], None]
) -> None:
    cut_short(m, target)
    change(m, target)
    assert (WS, Key("message", ids_of(m)[-1])) not in target.records or change is _another_log
    found = names(verify(m, target))
    assert target.scanned[-4 if change in (_another_log, _reset) else 0] == "", target.scanned
    if change in (_another_log, _reset):
        assert found == [], "it was compared as a whole, and made right"
    else:
        assert found == expected(m)[: 1 if change in (_repair, _retry) else 2] + expected(m)[2:]


def test_it_begins_anew_after_a_comparison_that_found_nothing(m: NativeSessionManager) -> None:
    target = Target()
    with Synchronizer(m, [target]) as sync:
        sync.push(WS)
    cut_short(m, target)
    assert path(m).exists()
    _reset(m, target)
    with Synchronizer(m, [target]) as sync:
        sync.push(WS)
    assert not path(m).exists()


def test_it_begins_anew_after_a_day(m: NativeSessionManager, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    for day, anew in ((24 * 3600 * 1000, False), (0, True)):
        cut_short(m, target)
        monkeypatch.setattr(verifying, "_DAY", day)
        assert names(verify(m, target)) == expected(m)
        assert (target.scanned[0] == "") == anew


def test_a_line_that_was_cut_is_none_and_is_written_over(m: NativeSessionManager, target: Target) -> None:
    cut_short(m, target)
    whole = path(m).read_bytes()
    for length in (len(whole) - 1, whole.index(b"\n") + 5):
        path(m).write_bytes(whole[:length])
        cut_short(m, target)
        assert [decode(line)[0] for line in path(m).read_bytes().splitlines()[1:]] == [2, 2]
        assert names(verify(m, target)) == expected(m)
