"""The numbers are what happened, and Prometheus can read them."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.lock import StoreLock

WS = "ws"


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    return NativeSessionManager(tmp_path / "data")


def test_nothing_was_done_yet(m: NativeSessionManager) -> None:
    assert m.metrics().workspaces == {}
    assert m.metrics().subscribers == []
    assert next(each.samples for each in text_string_to_metric_families(m.metrics().prometheus())) == []


def test_appends_syncs_and_checkpoints_are_counted(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.add_messages(WS, "s", [{"role": "user", "content": "a"}] * 3)
    journal = sum(path.stat().st_size for path in (Path(m.data_dir) / WS / "journal").iterdir())
    found = m.metrics().workspaces[WS]
    assert (found.counters.commits, found.counters.records, found.seq) == (2, 4, 4)
    assert 0 < found.counters.bytes_appended == found.unfolded_bytes <= journal
    assert found.counters.syncs == 2
    assert found.counters.sync_seconds > 0
    assert found.hit_rate is None
    m.checkpoint(WS)
    m.checkpoint(WS)
    after = m.metrics().workspaces[WS]
    assert (after.counters.checkpoints, after.unfolded_bytes) == (1, 0)
    assert after.counters.checkpoint_seconds > 0
    assert found.counters.checkpoints == 0, "a snapshot, as everything"


def test_waiting_for_another_s_lock_is_counted(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    lock = StoreLock(REAL, f"{m.data_dir}/{WS}/lock")
    lock.acquire()
    threading.Timer(0.05, lock.release).start()
    m.add_message(WS, "s", role="user", content="a")
    found = m.metrics().workspaces[WS].counters
    assert found.lock_waits == 1
    assert found.lock_wait_seconds > 0.01


def test_how_far_behind_each_subscriber_is(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    with m.subscribe(WS, cursor="indexer") as slow, m.subscribe(WS) as fast:
        last = m.add_messages(WS, "s", [{"role": "user", "content": "a"}] * 3)[-1].rev
        while (event := fast.next(5)) is not None and event.seq != last:
            pass
        found = {each.cursor: each.behind for each in m.metrics().subscribers}
        assert found == {"indexer": 3, None: 0}
        text = m.metrics().prometheus()
        assert slow.next(5) is not None
        assert {each.behind for each in m.metrics().subscribers} == {2, 0}
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    values = {(each.name, *sorted(each.labels.items())): each.value for each in samples}
    assert values["nomad_sessions_commits_total", ("workspace", WS)] == 2
    assert values["nomad_sessions_subscriber_behind", ("cursor", "indexer"), ("workspace", WS)] == 3
    assert values["nomad_sessions_subscriptions",] == 2


def test_names_are_escaped(m: NativeSessionManager) -> None:
    name = "a b'{}=,"
    m.create_session(name, id="s")
    (family,) = [
        each for each in text_string_to_metric_families(m.metrics().prometheus()) if each.name == "nomad_sessions_seq"
    ]
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"workspace": name}, 1)]


def test_the_mailbox_is_counted(m: NativeSessionManager) -> None:
    for number in range(3):
        m.send(WS, "bob", {"n": number})
    lease = m.receive(WS, "bob")
    assert lease is not None
    found = m.metrics().workspaces[WS].mail
    assert found is not None
    assert (found.queued, found.leased, found.dead) == (2, 1, 0)
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(m.metrics().prometheus())
        for sample in family.samples
    }
    assert (values["nomad_sessions_mail_queued"], values["nomad_sessions_mail_leased"]) == (2, 1)
    assert values["nomad_sessions_mail_oldest_timestamp_seconds"] > 1_700_000_000


def test_a_workspace_that_cannot_be_read_hides_no_other(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    m.create_session("broken", id="s")
    m.clear_workspace("broken")
    m.workspace("broken")
    folder = Path(m.data_dir) / "broken"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "sessions.json").write_text("no store")
    found = m.metrics().workspaces
    assert found["broken"].mail is None
    assert found[WS].seq == 1
