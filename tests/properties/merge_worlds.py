"""Drawn histories for the laws of `merge`: a state that both sides saw, and what one side did since."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from nomad_sessions.workspace.foreign import Content
from nomad_sessions.workspace.merge import Merged, merge
from nomad_sessions.workspace.state import WORKSPACE, Body

SEEN = 100
FIELDS = ("title", "agent", "x")
CONTENT = ("content", "status", "y")


class World:
    """A workspace as values, and what one side did to it."""

    def __init__(self, content: Content, side: str) -> None:
        self.content = copy.deepcopy(content)
        self.side = side
        self.time = 1_000
        self.seq = SEEN
        self.deleted: dict[str, int] = {}
        self.touched: dict[tuple[str, str, str], Any] = {}

    def _name(self, kind: str) -> str:
        self.seq += 1
        return f"{kind}-{self.side}-{self.seq}"

    def add_session(self) -> None:
        name = self._name("s")
        self.content.sessions[name] = {"id": name, "title": name, "updatedAt": self.time}
        self.content.order[name] = []
        self.content.created[name] = self.content.rev[name] = self.seq
        self.add_message(name)

    def add_message(self, session: str) -> None:
        name = self._name("m")
        self.content.messages[name] = {"id": name, "sessionId": session, "content": name, "updatedAt": self.time}
        self.content.owner[name] = session
        self.content.order[session].append(name)
        self.content.created[name] = self.content.rev[name] = self.seq

    def edit(self, kind: str, identifier: str, field: str, value: Any) -> None:
        table = self.content.sessions if kind == "session" else self.content.messages
        self.time += 1
        self.seq += 1
        table[identifier] |= {field: value, "updatedAt": self.time}
        self.content.rev[identifier] = self.seq
        self.touched[kind, identifier, field] = value

    def delete_message(self, name: str) -> None:
        session = self.content.owner.pop(name)
        del self.content.messages[name]
        if session in self.content.order:
            self.content.order[session] = [each for each in self.content.order[session] if each != name]
        self.seq += 1
        self.deleted[name] = self.seq

    def delete_session(self, session: str) -> None:
        for name in [each for each, owner in self.content.owner.items() if owner == session]:
            del self.content.messages[name], self.content.owner[name]
        del self.content.sessions[session], self.content.order[session]
        self.seq += 1
        self.deleted[session] = self.seq

    def reorder(self, session: str) -> None:
        self.content.order[session].reverse()


def base_content() -> Content:
    content = Content({}, {}, {}, {}, {"tasks": {"t": 1}}, {}, {})
    for session in ("s0", "s1", "s2"):
        content.sessions[session] = {"id": session, "title": session, "agent": "a", "updatedAt": 10}
        content.order[session] = [f"{session}m{n}" for n in range(4)]
        content.created[session] = content.rev[session] = 1
        for name in content.order[session]:
            content.messages[name] = {"id": name, "sessionId": session, "content": name, "updatedAt": 10}
            content.owner[name] = session
            content.created[name] = content.rev[name] = 2
    content.messages["orphan"] = {"id": "orphan", "sessionId": "nowhere", "content": "o"}
    content.owner["orphan"] = WORKSPACE
    content.created["orphan"] = content.rev["orphan"] = 3
    return content


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "add_session",
                "add_message",
                "edit_session",
                "edit_message",
                "delete_message",
                "delete_session",
                "reorder",
            ]
        ),
        st.integers(0, 30),
        st.integers(0, 2),
        st.sampled_from([0, 1, True, None, "v", [1], {"k": [True]}]),
    ),
    max_size=8,
)


def play(content: Content, side: str, actions: list[tuple[str, int, int, Any]], time: int = 1_000) -> World:
    world = World(content, side)
    world.time = time
    for action, pick, field, value in actions:
        sessions, messages = list(world.content.sessions), list(world.content.messages)
        if action == "add_session" or not sessions:
            world.add_session()
        elif action == "add_message":
            world.add_message(sessions[pick % len(sessions)])
        elif action == "edit_session":
            world.edit("session", sessions[pick % len(sessions)], FIELDS[field], value)
        elif action == "delete_session":
            world.delete_session(sessions[pick % len(sessions)])
        elif action == "reorder":
            world.reorder(sessions[pick % len(sessions)])
        elif messages and action == "edit_message":
            world.edit("message", messages[pick % len(messages)], CONTENT[field], value)
        elif messages:
            world.delete_message(messages[pick % len(messages)])
    return world


def applied(ours: Content, merged: Merged, seq: int = 1_000) -> Content:
    """`ours` after the changes, as `state.apply` does it."""
    content = copy.deepcopy(ours)
    for change in merged.changes:
        seq += 1
        kind, session = change["type"], change["sessionId"]
        if kind == "session.created":
            assert session not in content.sessions
            content.sessions[session], content.order[session] = dict(change["session"]), []
            content.created[session] = content.rev[session] = seq
        elif kind == "session.deleted":
            del content.sessions[session], content.order[session]
            for name in [each for each, owner in content.owner.items() if owner == session]:
                del content.messages[name], content.owner[name]
        elif kind == "message.deleted":
            name = change["messageId"]
            del content.messages[name], content.owner[name]
            if session != WORKSPACE:
                content.order[session] = [each for each in content.order[session] if each != name]
        elif kind == "message.merged":
            name = change["messageId"]
            assert content.owner.get(name, session) == session, "a message belongs to one session"
            content.created.setdefault(name, seq)
            content.messages[name], content.owner[name] = dict(change["message"]), session
            content.rev[name] = seq
        elif kind == "session.updated":
            content.sessions[session].update(change["set"])
            for key in change.get("unset", ()):
                del content.sessions[session][key]
            content.rev[session] = seq
            if "messageIds" in change:
                assert all(content.owner.get(each) == session for each in change["messageIds"])
                content.order[session] = list(change["messageIds"])
        else:
            assert kind == "workspace.updated"
            content.extras.update(change["set"])
    return content


def table(content: Content, kind: str) -> dict[str, Body]:
    return content.sessions if kind == "session" else content.messages


def visible(content: Content) -> tuple[Any, ...]:
    return content.sessions, content.order, content.messages, content.owner, content.extras


def both(base: Content, mine: World, other: World, **more: Any) -> tuple[Merged, Content]:
    merged = merge(base, mine.content, other.content, seq=SEEN, deleted=mine.deleted, **more)
    return merged, applied(mine.content, merged)
