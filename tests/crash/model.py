"""What a workspace should contain, in plain lists: the reference that the store is compared with after a crash.

Sessions are known by their title and messages by their text, because ids are drawn by the store. Each `Step` can be
applied to the reference (`expect`) and to a manager (`perform`); one that makes no sense in a state changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from nomad_sessions import NativeSessionManager
from nomad_sessions.sessions_api import SessionCalls
from tests.support.drawing import Draw

WS = "w"


@dataclass(frozen=True)
class Chat:
    """A session: texts in order, hidden texts in order, description."""

    shown: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    description: str | None = None


State: TypeAlias = dict[str, Chat]
RECORDED = ""
"""In place of a title: the events that were recorded, in order, as the shown texts of a chat that is none."""


class Step(NamedTuple):
    """One call: its name, the title of the session it is about, and further arguments."""

    name: str
    title: str
    args: tuple[Any, ...] = ()


@dataclass
class Names:
    """New titles and texts, none used twice."""

    count: int = 0
    sizes: tuple[int, ...] = field(default=(1, 40, 300))

    def fresh(self, draw: Draw, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}" + "." * (draw(self.sizes) if kind == "m" else 0)


def draw_step(draw: Draw, state: State, names: Names) -> Step:
    """A step that does something in this state."""
    titles = sorted(state.keys() - {RECORDED})
    if not titles:
        return Step("create", names.fresh(draw, "s"))
    title = draw(titles)
    chat = state[title]
    kinds = ["add", "add", "add", "add_many", "create", "group", "describe", "fork", "delete", "record"]
    if chat.shown:
        kinds += ["append", "append", "edit", "remove", "revert"]
    if chat.hidden:
        kinds += ["unrevert", "unrevert"]
    kind = draw(kinds)
    if kind == "create":
        return Step(kind, names.fresh(draw, "s"))
    text = names.fresh(draw, "m")
    if kind in ("add_many", "group"):
        return Step(kind, title, (text, names.fresh(draw, "m"), names.fresh(draw, "s")))
    at = draw(range(len(chat.shown))) if chat.shown else 0
    if kind == "fork":
        return Step(kind, title, (names.fresh(draw, "s"), at))
    if kind in ("append", "edit", "remove", "revert"):
        return Step(kind, title, (at, text))
    return Step(kind, title, (text,))


def expect(state: State, step: Step) -> State:
    """The state after the step."""
    new = dict(state)
    _EXPECTED[step.name](new, step.title, *step.args)
    return new


def _change(state: State, title: str, at: int, text: str | None) -> None:
    chat = state[title]
    shown = list(chat.shown)
    if text is None:
        del shown[at]
    else:
        shown[at] = text
    state[title] = Chat(tuple(shown), chat.hidden, chat.description)


def _added(state: State, title: str, *texts: str) -> None:
    chat = state[title]
    state[title] = Chat((*chat.shown, *texts), (), chat.description)


def _grouped(state: State, title: str, first: str, second: str, made: str) -> None:
    _added(state, title, first)
    state[made] = Chat((second,))


def _forked(state: State, title: str, made: str, at: int) -> None:
    chat = state[title]
    state[made] = Chat(chat.shown[: at + 1], (), chat.description)


def _reverted(state: State, title: str, at: int, _: str) -> None:
    chat = state[title]
    state[title] = Chat(chat.shown[: at + 1], chat.shown[at + 1 :] + chat.hidden, chat.description)


def _unreverted(state: State, title: str, _: str) -> None:
    chat = state[title]
    state[title] = Chat(chat.shown + chat.hidden, (), chat.description)


def _described(state: State, title: str, text: str) -> None:
    chat = state[title]
    state[title] = Chat(chat.shown, chat.hidden, text)


def _recorded(state: State, title: str, text: str) -> None:
    state[RECORDED] = Chat((*state.get(RECORDED, Chat()).shown, text))


_EXPECTED: dict[str, Callable[..., None]] = {
    "record": _recorded,
    "create": lambda state, title: state.__setitem__(title, Chat()),
    "add": _added,
    "add_many": lambda state, title, first, second, _: _added(state, title, first, second),
    "group": _grouped,
    "fork": _forked,
    "describe": _described,
    "delete": lambda state, title, _: state.pop(title),
    "append": lambda state, title, at, text: _change(state, title, at, state[title].shown[at] + text),
    "edit": _change,
    "remove": lambda state, title, at, _: _change(state, title, at, None),
    "revert": _reverted,
    "unrevert": _unreverted,
}


def perform(manager: NativeSessionManager, step: Step) -> None:
    """The step on a store."""
    if step.name == "create":
        manager.create_session(WS, title=step.title)
        return
    if step.name == "record":
        manager.record_event(WS, "noted", {"text": step.args[0]})
        return
    session = next(each for each in manager.list_sessions(WS) if each.title == step.title)
    _PERFORMED[step.name](manager, session.id, *step.args)


def _message(calls: SessionCalls, session_id: str, at: int) -> str:
    return calls.get_session_messages(WS, session_id)[at].id


def _group(manager: NativeSessionManager, session_id: str, first: str, second: str, made: str) -> None:
    with manager.transaction(WS) as calls:
        calls.add_message(WS, session_id, role="user", content=first)
        new = calls.create_session(WS, title=made)
        calls.add_message(WS, new.id, role="assistant", content=second)


def _add_many(manager: NativeSessionManager, session_id: str, first: str, second: str, _: str) -> None:
    manager.add_messages(WS, session_id, [{"role": "user", "content": first}, {"role": "user", "content": second}])


_PERFORMED: dict[str, Callable[..., object]] = {
    "add": lambda m, sid, text: m.add_message(WS, sid, role="user", content=text),
    "add_many": _add_many,
    "group": _group,
    "fork": lambda m, sid, made, at: m.fork_session(
        WS, sid, title=made, message_id=_message(m, sid, at) if len(m.get_session_messages(WS, sid)) else None
    ),
    "describe": lambda m, sid, text: m.update_session(WS, sid, description=text),
    "delete": lambda m, sid, _: m.delete_session(WS, sid),
    "append": lambda m, sid, at, text: m.append_to_message(WS, _message(m, sid, at), text),
    "edit": lambda m, sid, at, text: m.update_message(WS, _message(m, sid, at), content=text),
    "remove": lambda m, sid, at, _: m.delete_message(WS, _message(m, sid, at)),
    "revert": lambda m, sid, at, _: m.revert(WS, sid, _message(m, sid, at)),
    "unrevert": lambda m, sid, _: m.unrevert(WS, sid),
}


def contents(manager: NativeSessionManager) -> State:
    """What the store contains, in the reference's terms."""
    found: State = {}
    for session in manager.list_sessions(WS):
        shown = [message.content for message in manager.get_session_messages(WS, session.id)]
        everything = [
            message.content for message in manager.get_session_messages(WS, session.id, include_reverted=True)
        ]
        assert session.title not in found, "two sessions with one title"
        assert list(session.message_ids) == [each.id for each in manager.get_session_messages(WS, session.id)]
        found[session.title] = Chat(tuple(shown), tuple(everything[len(shown) :]), session.description)
    recorded = tuple(event.properties["text"] for event in manager.events(WS, recorded=True))
    return found | ({RECORDED: Chat(recorded)} if recorded else {})
