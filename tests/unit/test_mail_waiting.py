"""Who waits for a message is woken by what happens, and by the time that something is due."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager, StoreClosedError
from tests.support.mail import BOB, WS, lease_of, received


def test_who_waits_gets_what_comes_within_moments(m: NativeSessionManager) -> None:
    m.send(WS, "eve", "not for bob")
    threading.Timer(0.1, lambda: m.send(WS, BOB, "x")).start()
    began = time.monotonic()
    mail = received(m, wait=20)
    assert (mail.content, time.monotonic() - began < 5) == ("x", True)


def test_who_waits_in_vain_is_told_in_time_and_looks_seldom(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    taken = NativeSessionManager._taken

    def counted(self: NativeSessionManager, *args: Any, **options: Any) -> Any:
        nonlocal looks
        looks += 1
        return taken(self, *args, **options)

    monkeypatch.setattr(NativeSessionManager, "_taken", counted)
    began = time.monotonic()
    assert m.receive(WS, BOB, wait=0.3) is None
    assert 0.3 <= time.monotonic() - began < 5
    assert looks <= 4


def test_who_waits_gets_each_retry_when_it_is_due_by_the_real_clock_until_it_is_dead(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as m:
        m.send(WS, BOB, "poison", backoff=0.1, max_attempts=3)
        mail = received(m)
        for _ in range(2):
            began = time.monotonic()
            delay = m.nack(WS, lease_of(mail)).retry_delay
            mail = received(m, wait=20)
            assert delay - 2 <= (time.monotonic() - began) * 1000 < delay + 2_000
        m.nack(WS, lease_of(mail))
        assert [dead.attempts for dead in m.dead_letters(WS)] == [3]


def test_a_manager_that_is_closed_ends_the_wait(tmp_path: Path) -> None:
    m = NativeSessionManager(tmp_path)
    m.send(WS, "eve", 1)
    threading.Timer(0.1, m.close).start()
    with pytest.raises(StoreClosedError):
        m.receive(WS, BOB, wait=20)
