"""Two windows of `examples/qt_chat.py` on one session, and a stopwatch.

`python -m tests.examples.qt_windows <data_dir> <session> [<what the user says in the first>]` says "ready" when both
show the session; ends when a line comes in, which is the seq up to which both are to show it, and says then what was
measured, and whether both windows are equal to the store.

A *turn* is everything that one event of the loop has the windows' thread do: what the library hands over, a frame, Qt's
own painting. Of each it takes the time on the wall and the processor's: on a machine that others use too, the first
says how the machine was, and only the second what the turn cost. The time that a turn spent waiting (for a lock, the
disk) is the wall's alone: so it also tells which calls of the file system the windows' thread made.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage._os import REAL, FileSystem

EXAMPLE = Path(__file__).parents[2] / "examples" / "qt_chat.py"
BEAT_MS = 5


class Turn(NamedTuple):
    """What a turn took, in ms."""

    wall: float
    cpu: float


class Application(QApplication):
    """Takes the time of every turn."""

    def __init__(self) -> None:
        super().__init__(["qt_chat"])
        self.turns: list[Turn] = []
        self._depth = 0

    def notify(self, receiver: QObject, event: QEvent) -> bool:
        if self._depth:
            return super().notify(receiver, event)
        self._depth = 1
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return super().notify(receiver, event)
        finally:
            self._depth = 0
            self.turns.append(Turn((time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3))


class Heartbeat:
    """A timer that should come every few ms: how late it is tells of stalls, whoever makes them."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(self._timer.timerType().PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)

    def begin(self) -> None:
        """Forgets what was before."""
        self.gaps.clear()
        self._last = time.perf_counter()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append((now - self._last) * 1e3)
        self._last = now


class WatchedFiles:
    """The real file system; remembers what the windows' thread asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._windows = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        call = getattr(REAL, name)
        if threading.get_ident() == self._windows and callable(call):
            self.asked.append(name)
        return call


def example() -> ModuleType:
    """The example, as a module."""
    spec = importlib.util.spec_from_file_location("qt_chat", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def when(condition: Callable[[], bool], then: Callable[[], None]) -> None:
    """Calls it as soon as the condition holds."""
    timer = QTimer(QApplication.instance())

    def look() -> None:
        if condition():
            timer.stop()
            then()

    timer.timeout.connect(look)
    timer.start(20)


def highest(values: list[float]) -> dict[str, float]:
    """The median, the 99th percentile and the highest, in ms."""
    ordered = sorted(values) or [0.0]
    return {
        "count": len(values),
        "median": round(ordered[len(ordered) // 2], 3),
        "p99": round(ordered[int(len(ordered) * 0.99)], 3),
        "max": round(ordered[-1], 3),
    }


def main(data_dir: str, session_id: str, text: str = "") -> None:
    app = Application()
    chat = example()
    files = WatchedFiles()
    manager = NativeSessionManager(data_dir, filesystem=_as_files(files))
    store = chat.Store(manager, "ws")
    windows = [chat.open_window(store) for _ in range(2)]
    heart = Heartbeat()
    goal: list[int] = []
    asked_before = len(files.asked)

    def listen() -> None:
        goal.append(int(sys.stdin.readline()))

    def joined() -> None:
        print(json.dumps("ready"), flush=True)
        if text:
            windows[0].line.setText(text)
            windows[0].send()
        threading.Thread(target=listen, daemon=True).start()
        when(lambda: bool(goal) and all(map(has_all, windows)), settle)

    def has_all(window: Any) -> bool:
        transcript = window.transcript
        answered = [each.status for each in transcript.replica.messages[1:]] == ["completed"] if text else True
        return bool(transcript.replica.seq >= goal[0] and answered)

    def settle() -> None:
        QTimer.singleShot(4 * chat.FRAME_MS, end)

    def end() -> None:
        turns, gaps, asked = list(app.turns), list(heart.gaps), files.asked[asked_before:]
        report = {
            "turns_cpu": highest([each.cpu for each in turns]),
            "turns_wall": highest([each.wall for each in turns]),
            "gaps": highest(gaps),
            "gaps_above_16": sum(1 for each in gaps if each > 16),
            "files_asked": sorted(set(asked)),
        }
        stored = list(manager.get_session_messages("ws", session_id))
        told = [each.content for each in stored]
        report["equal"] = [
            each.transcript.replica.messages == stored
            and each.transcript.replica.session == manager.get_session("ws", session_id)
            and [each.transcript.data(each.transcript.index(row)) for row in range(each.transcript.rowCount())] == told
            for each in windows
        ]
        report["connected"] = len(manager.connections("ws", session_id))
        for each in windows:
            each.close()
        app.quit()
        store.close()
        print(json.dumps(report), flush=True)

    def begin() -> None:  # The windows are there, and have been drawn: from now on it counts.
        app.turns.clear()
        heart.begin()
        for each in windows:
            each.show_session(session_id)
        when(lambda: all(each.connection and each.transcript.replica.seq for each in windows), joined)

    QTimer.singleShot(500, begin)
    app.exec()


def _as_files(files: Any) -> FileSystem:
    found: FileSystem = files
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
