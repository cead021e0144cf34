"""A window of `examples/qt_chat.py` that is closed while something is under way for it: `python -m
tests.examples.qt_closing <data_dir> <session> <case>`. Another window stays, and the program with it.

Says who is connected when all that was asked for has come to its end, what went wrong, whether the window is destroyed,
and which threads looked for garbage in cycles: it is looked for as often as can be.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from shiboken6 import isValid

from nomad_sessions import NativeSessionManager
from tests.examples.qt_windows import example, when

LONGEST_MS = 20_000


class Held:
    """Holds calls up until it is let go, and counts those that came to their end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.ended = 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, held up."""

        def held(*args: Any) -> Any:
            assert self.go.wait(30)
            try:
                return call(*args)
            finally:
                self.ended += 1

        return held


def main(data_dir: str, session_id: str, case: str) -> None:
    app = QApplication(["qt_chat"])
    chat = example()
    manager = NativeSessionManager(data_dir)
    store = chat.Store(manager, "ws")
    collected_by = set[str]()
    gc.callbacks.append(lambda _phase, _info: collected_by.add(threading.current_thread().name))
    gc.set_threshold(1, 1, 1)
    chat.open_window(store)
    window = chat.open_window(store)
    held, told, errors = Held(), Held(), list[str]()
    told.go.set()
    store.bridge.failed.connect(errors.append)

    def no_following(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no following")

    def settled() -> bool:
        return held.ended > 0 and manager.connections("ws") == [] and (told.ended > 0 or case != "making")

    def end() -> None:
        connected = [each.session_id for each in manager.connections("ws")]
        facts = {"connected": connected, "errors": errors, "destroyed": not isValid(window)}
        print(json.dumps({**facts, "collected_by": sorted(collected_by)}), flush=True)
        for each in list(chat.WINDOWS):
            each.close()
        app.quit()

    def begin() -> None:
        if case == "connecting":
            store.connect = held.around(store.connect)
            window.show_session(session_id)
        elif case == "making":
            store.new_session = held.around(store.new_session)
            window.show_session = told.around(window.show_session)
            window.new.click()
        else:
            manager.follow_session = no_following  # type: ignore[method-assign]
            store.connect = held.around(store.connect)
            window.show_session(session_id)
        if case != "failing":
            window.close()
        held.go.set()
        QTimer.singleShot(LONGEST_MS, end)
        when(settled, lambda: QTimer.singleShot(300, end))  # Whatever follows from it has its time too.

    QTimer.singleShot(0, begin)
    app.exec()
    store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
