"""A small desktop chat on a store of sessions: `python examples/qt_chat.py [DATA_DIR]`. Needs PySide6.

Sessions on the left, the conversation on the right; "Another window" opens a second one on the same store, and both
show the same thing, as does any other program that works on it. The model is a pretended one, so that nothing has to
be set up.

The rule that keeps a window smooth: whatever touches files runs on a thread (`Store.ask`), and what is to be shown is
handed to the windows' thread (`Bridge`), where a `SessionReplica` takes it in. A token costs microseconds there, and a
frame is drawn at most every 30 ms. `tests/examples/test_qt_chat.py` measures it.

The rule that keeps it from crashing: what is Qt's is destroyed in the windows' thread, and nowhere else. So Qt owns
what belongs to a window (its parent) and deletes it with the window, and Python looks for garbage there (`Collector`).
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    QRect,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QCloseEvent, QColor, QPainter
from PySide6.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from nomad_sessions import (
    Connection,
    Event,
    NativeSessionManager,
    Session,
    SessionReplica,
    SessionStateError,
    Subscription,
)

WORKSPACE = "chat"
FRAME_MS = 30
COLLECT_MS = 100
COLOURS = {"user": "#dbeafe", "assistant": "#ecfccb"}
Index = QModelIndex | QPersistentModelIndex


class Bridge(QObject):
    """Has what it is given called in the windows' thread: `deliver=bridge` is all that the library has to know."""

    failed = Signal(str)
    _turn = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._turn.connect(self.run, Qt.ConnectionType.QueuedConnection)

    def __call__(self, job: Callable[[], None]) -> None:
        """From any thread."""
        self._turn.emit(job)

    def run(self, job: Callable[[], None]) -> None:
        """One turn, in the windows' thread."""
        job()


class Collector(QTimer):
    """Has Python look for garbage in cycles in the windows' thread alone; from when it is made until `end`.

    Left to itself it looks in whichever thread makes the next object, so also in the store's: and goes there through
    widgets that Qt is changing at that moment, or destroys them. Either ends the program, once in some hundred starts.
    """

    def __init__(self) -> None:
        super().__init__()
        gc.disable()
        gc.freeze()  # What is there stays: modules. To go through them each time would hold a frame up.
        self.timeout.connect(self.collect)
        self.start(COLLECT_MS)

    def collect(self) -> None:
        """The oldest generation of which there is enough, with those that are younger."""
        counts, thresholds = gc.get_count(), gc.get_threshold()
        due = [each for each in range(3) if counts[each] > thresholds[each]]
        if due:
            gc.collect(due[-1])

    def end(self) -> None:
        """From now on any thread may look."""
        self.stop()
        gc.enable()


class Store:
    """The store, used on threads of its own."""

    def __init__(self, manager: NativeSessionManager, workspace_id: str = WORKSPACE) -> None:
        self.manager = manager
        self.workspace_id = workspace_id
        self.bridge = Bridge()
        self._collector = Collector()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="store")

    def ask(self, call: Callable[..., Any], *args: Any, then: Callable[[Any], None] | None = None) -> Future[Any]:
        """Calls it on a thread; its result is handed to `then` in the windows' thread, an error to `bridge.failed`."""

        def done(asked: Future[Any]) -> None:
            error = asked.exception()
            if error is not None:
                self.bridge.failed.emit(str(error))
            elif then is not None:
                self.bridge(lambda: then(asked.result()))

        asked = self._threads.submit(call, *args)
        asked.add_done_callback(done)
        return asked

    def sessions(self) -> list[Session]:
        """The newest sessions."""
        return list(self.manager.list_sessions(self.workspace_id, limit=200, archived=False))

    def new_session(self) -> Session:
        """A new one."""
        return self.manager.create_session(self.workspace_id, title=time.strftime("Chat of %H:%M:%S"))

    def watch(self, changed: Callable[[Event], None]) -> Subscription:
        """Word of every change of a session."""
        return self.manager.subscribe(self.workspace_id, types="session.*", callback=changed, deliver=self.bridge)

    def connect(self, session_id: str, show: Callable[[Event], None]) -> Connection:
        """A window's connection to a session, whose changes it is shown; one that was closed goes on."""
        manager, connection = self.manager, None
        while connection is None:
            for connect in (manager.open_session, manager.resume_session):
                with suppress(SessionStateError):  # Not in this state; the other way, or another window was faster.
                    connection = connect(self.workspace_id, session_id, client="chat window")
                    break
        try:
            connection.follow(callback=show, deliver=self.bridge)
        except BaseException:  # Nobody would hold the connection, and so nobody end it.
            connection.close()
            raise
        return connection

    def say(self, connection: Connection, text: str) -> None:
        """What the user says, and what the pretended model answers. Closing the window waits for the end of it."""
        with connection.busy():
            self.manager.add_message(self.workspace_id, connection.session_id, role="user", content=text)
            with self.manager.stream_message(self.workspace_id, connection.session_id) as answer:
                for word in f"You said {len(text.split())} words. Backwards: {text[::-1]}".split():
                    answer.text(f"{word} ")
                    time.sleep(0.03)

    def close(self) -> None:
        """The end: what was asked for is done, and the manager closes the rest."""
        self._threads.shutdown()
        try:
            self.manager.close()
        finally:
            self._collector.end()


class Transcript(QAbstractListModel):
    """A session's messages for a view: what changed since the last frame is told at the next one."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.replica = SessionReplica()
        self.heights: dict[tuple[str, int], int] = {}
        self._shown: dict[str, tuple[str, str]] = {}
        self._ids: list[str] = []
        self._changed: set[str] = set()

    def take(self, event: Event) -> None:
        """Takes in an event. Nothing is drawn yet."""
        self.replica.apply(event)
        self._changed |= {event.message_id} if event.message_id else set(self.replica.message_ids)

    def frame(self) -> None:
        """Tells the view what is new."""
        ids, changed = self.replica.message_ids, self._changed
        self._changed = set()
        for each in changed:
            self._shown.pop(each, None)
        self.heights = {key: height for key, height in self.heights.items() if key[0] not in changed}
        if ids[: len(self._ids)] != self._ids:
            self.beginResetModel()
            self._ids = ids
            self.endResetModel()
            return
        old = len(self._ids)
        if len(ids) > old:
            self.beginInsertRows(QModelIndex(), old, len(ids) - 1)
            self._ids = ids
            self.endInsertRows()
        for row in (row for row in range(old) if ids[row] in changed):
            self.dataChanged.emit(self.index(row), self.index(row))

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        """How many messages there are."""
        return 0 if parent.isValid() else len(self._ids)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """The text of a message; with the user role, whose it is."""
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.UserRole):
            return None
        whose, text = self.shown(index.row())
        return whose if role == Qt.ItemDataRole.UserRole else text

    def shown(self, row: int) -> tuple[str, str]:
        """Whose a message is, and its text; made once for each change of it."""
        message_id = self._ids[row]
        if message_id not in self._shown:
            message = self.replica.message(message_id)
            if message is None:  # Deleted, and its row goes with the next frame.
                return "", ""
            self._shown[message_id] = message.role, message.content + (" …" if message.status == "streaming" else "")
        return self._shown[message_id]

    def id_of(self, row: int) -> str:
        """The id of a message."""
        return self._ids[row]


class Bubbles(QStyledItemDelegate):
    """Draws a message as a bubble, the user's to the right."""

    margin = 8
    flags = int(Qt.TextFlag.TextWordWrap)

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """As high as its text, with room around it; measured once for each change and width."""
        width = self._width(option)
        model = index.model()
        assert isinstance(model, Transcript)
        key = model.id_of(index.row()), width
        if key not in model.heights:
            model.heights[key] = self._text(option, index, width).height()
        return QSize(0, model.heights[key] + 4 * self.margin)

    def paint(self, painter: QPainter, option: Any, index: Index) -> None:
        """The bubble and its text."""
        text = self._text(option, index, self._width(option))
        bubble = text.adjusted(-self.margin, -self.margin, self.margin, self.margin)
        whose = index.data(Qt.ItemDataRole.UserRole)
        left, right = option.rect.left() + self.margin, option.rect.right() - self.margin - bubble.width()
        bubble.moveTo(right if whose == "user" else left, option.rect.top() + self.margin)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(COLOURS.get(whose, "#e5e7eb")))
        painter.drawRoundedRect(bubble, 10, 10)
        painter.setPen(QColor("#111827"))
        inner = bubble.adjusted(self.margin, self.margin, -self.margin, -self.margin)
        painter.drawText(inner, self.flags, index.data())

    def _width(self, option: Any) -> int:
        return max(80, int(option.widget.viewport().width() * 0.75) - 4 * self.margin)

    def _text(self, option: Any, index: Index, width: int) -> QRect:
        found: QRect = option.fontMetrics.boundingRect(QRect(0, 0, width, 1 << 20), self.flags, index.data() or " ")
        return found


class Window(QWidget):
    """Sessions, the conversation, and a line to write in."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.connection: Connection | None = None
        self.transcript = Transcript(self)
        self._wanted: str | None = None
        self._closed = False
        self._due = self._once(FRAME_MS, self.draw)
        self._relist = self._once(200, lambda: store.ask(store.sessions, then=self.list_sessions))
        self._build()
        self._watching = store.ask(store.watch, self.changed)
        self._relist.start(0)

    def _once(self, ms: int, call: Callable[[], Any]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(ms)
        timer.timeout.connect(call)
        return timer

    def _build(self) -> None:
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Nomad Sessions chat")
        self.resize(900, 600)
        self.list = QListWidget()
        self.list.setMaximumWidth(260)
        self.list.itemClicked.connect(lambda item: self.show_session(item.data(Qt.ItemDataRole.UserRole)))
        self.view = QListView()
        self.view.setItemDelegate(Bubbles(self.view))
        self.view.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.view.setLayoutMode(QListView.LayoutMode.Batched)  # A long conversation is laid out a piece at a time.
        self.view.setBatchSize(20)
        self.view.setModel(self.transcript)
        self.line = QLineEdit(placeholderText="Say something, and press Enter")
        self.line.returnPressed.connect(self.send)
        self.state = QLabel("Choose a session, or begin a new one.")
        self.store.bridge.failed.connect(self.state.setText)
        self.new, another = QPushButton("New session"), QPushButton("Another window")
        self.new.clicked.connect(lambda: self.store.ask(self.store.new_session, then=lambda s: self.show_session(s.id)))
        another.clicked.connect(lambda: open_window(self.store))
        left, right, both = QVBoxLayout(), QVBoxLayout(), QHBoxLayout(self)
        sides: dict[QVBoxLayout, tuple[QWidget, ...]] = {
            left: (self.new, self.list, another),
            right: (self.view, self.line, self.state),
        }
        for side, widgets in sides.items():
            for widget in widgets:
                side.addWidget(widget)
        both.addLayout(left)
        both.addLayout(right, 1)

    def changed(self, _: Event) -> None:
        """A session was made, or is another; several at once are listed once."""
        if not self._closed:
            self._relist.start()

    def list_sessions(self, sessions: list[Session]) -> None:
        """Shows which there are."""
        if self._closed:
            return
        self.list.clear()
        for session in sessions:
            item = QListWidgetItem(session.title)
            item.setData(Qt.ItemDataRole.UserRole, session.id)
            self.list.addItem(item)
            item.setSelected(session.id == self._wanted)

    def show_session(self, session_id: str) -> None:
        """Lets go of the one that it shows, and connects to another."""
        if self._closed:  # It was closed while the session was being made.
            return
        self._wanted = session_id
        self._let_go()
        self.transcript.deleteLater()
        self.transcript = transcript = Transcript(self)
        self.view.setModel(transcript)

        def is_shown() -> bool:  # Not so when the window was closed, or another clicked, while word was on its way.
            return not self._closed and transcript is self.transcript

        def show(event: Event) -> None:
            transcript.take(event)
            if is_shown() and not self._due.isActive():
                self._due.start()

        def connected(connection: Connection) -> None:
            if not is_shown():
                self.store.ask(connection.close)
                return
            self.connection = connection
            self.state.setText(f"Connected to {session_id}")

        self.store.ask(self.store.connect, session_id, show, then=connected)

    def draw(self) -> None:
        """A frame: what has come since the last."""
        bar = self.view.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 40
        self.transcript.frame()
        if at_end:
            self.view.scrollToBottom()

    def send(self) -> None:
        """Says what is in the line."""
        text = self.line.text().strip()
        if text and self.connection is not None:
            self.store.ask(self.store.say, self.connection, text)
            self.line.clear()

    def _let_go(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            self.store.ask(connection.close)

    def closeEvent(self, event: QCloseEvent) -> None:
        """Lets go of the session, in an orderly way and without holding up the other windows; of one that it is still
        connecting to as soon as that is done."""
        self._closed = True
        self._let_go()
        self._watching.add_done_callback(lambda watching: watching.result().close())
        WINDOWS.discard(self)
        super().closeEvent(event)


WINDOWS: set[Window] = set()


def open_window(store: Store) -> Window:
    """One more window."""
    window = Window(store)
    WINDOWS.add(window)
    window.show()
    return window


def main() -> None:
    """Opens a window on the store, and ends with the last one."""
    app = QApplication(sys.argv)
    store = Store(NativeSessionManager(sys.argv[1] if len(sys.argv) > 1 else None))
    open_window(store)
    code = app.exec()
    store.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
