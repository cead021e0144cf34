"""A lock that a forked child has anew."""

from __future__ import annotations

import os
import threading

import pytest

from nomad_sessions.forking import Mutex


def test_one_thread_at_a_time() -> None:
    mutex = Mutex()
    entered = threading.Event()

    def enter() -> None:
        with mutex:
            entered.set()

    with mutex:
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.02)
    thread.join()
    assert entered.is_set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_in_a_forked_child_it_is_free() -> None:
    mutex = Mutex()
    with mutex:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                with mutex:
                    status = 0
            finally:
                os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
