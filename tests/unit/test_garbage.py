"""Looking for cycles rarely, while anybody imports, and as before when nobody does."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from nomad_sessions.formats import garbage
from nomad_sessions.formats.garbage import rarely_collected


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


def test_it_is_rare_while_it_lasts_and_usual_afterwards_also_after_an_error() -> None:
    def fail() -> None:
        with rarely_collected():
            assert gc.get_threshold()[0] > 1_000_000
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert gc.get_threshold() == (700, 10, 10)


def test_the_last_of_several_threads_sets_it_back() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with rarely_collected():
            begun.set()
            assert go_on.wait(10)

    thread = threading.Thread(target=work)
    with rarely_collected():
        thread.start()
        assert begun.wait(10)
    assert gc.get_threshold()[0] > 1_000_000
    go_on.set()
    thread.join()
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("given", [(0, 10, 10), (10_000_000, 5, 5)])
def test_who_looks_more_rarely_still_keeps_that(given: tuple[int, int, int]) -> None:
    gc.set_threshold(*given)
    with rarely_collected():
        assert gc.get_threshold() == given
    assert gc.get_threshold() == given


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_it_as_it_was() -> None:
    with rarely_collected():
        child = os.fork()
        if not child:
            os._exit(gc.get_threshold() != (700, 10, 10))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert gc.get_threshold()[0] > 1_000_000


def test_ctrl_c_as_it_is_set_sets_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    real = garbage._SETTING.want

    def interrupted(who: object) -> None:
        real(who)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(garbage._SETTING, "want", interrupted)
        with pytest.raises(KeyboardInterrupt), rarely_collected():
            pass
    assert gc.get_threshold() == (700, 10, 10)
    with rarely_collected():
        assert gc.get_threshold()[0] > 1_000_000
    assert gc.get_threshold() == (700, 10, 10)


def test_what_the_program_sets_meanwhile_stays() -> None:
    with rarely_collected():
        gc.set_threshold(50_000, 20, 20)
    assert gc.get_threshold() == (50_000, 20, 20)
