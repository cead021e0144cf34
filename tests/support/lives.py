"""Steps that a tested process takes with a store, and what must be visible after each: an oracle of plain dicts.

`perform` does a step with the real manager, `predict` says what it means, without any code of the store. `state_of`
reads the store in the same terms. A crash in step n must leave `predict` of the first n - 1 steps, or of all n.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from nomad_sessions import NativeSessionManager, Session

__all__ = [
    "LIFE",
    "WS",
    "Seen",
    "State",
    "Step",
    "as_state",
    "perform",
    "predict",
    "predictions",
    "random_step",
    "state_of",
]

WS = "w"


class Seen(NamedTuple):
    """What a session shows: contents of its messages, and of those that a revert hides."""

    visible: list[str]
    hidden: list[str]


State: TypeAlias = dict[str, Seen]
"""All sessions by title; titles are unique in these tests."""


def as_state(said: dict[str, list[list[str]]]) -> State:
    """A state that a job of another process said, as JSON keeps it."""
    return {title: Seen(*seen) for title, seen in said.items()}


class Step(NamedTuple):
    """One call. `at` counts visible messages; `texts` are contents; `other` is a second title."""

    do: str
    title: str = ""
    texts: Sequence[str] = ()
    at: int = 0
    other: str = ""


LIFE = [
    Step("create", "one"),
    Step("add", "one", ["first"]),
    Step("add", "one", ["second \u2028 \ud83d" * 3]),
    Step("many", "one", ["third", "fourth", "fifth"]),
    Step("checkpoint"),
    Step("fork", "one", other="two"),
    Step("revert", "one", at=1),
    Step("add", "two", ["x" * 700]),
    Step("unrevert", "one"),
    Step("revert", "one", at=2),
    Step("checkpoint"),
    Step("add", "one", ["after the revert"]),
    Step("edit", "two", ["edited"], at=1),
    Step("append", "two", [" and more"], at=0),
    Step("transaction", "three", ["in one", "group"]),
    Step("attach", "three", ["with a picture"]),
    Step("drop", "two", at=2),
    Step("reopen"),
    Step("add", "three", ["y" * 900]),
    Step("delete", "one"),
    Step("checkpoint"),
    Step("rename", "three", other="four"),
    Step("add", "four", ["last"]),
    Step("reopen"),
]
"""Every kind of call, three checkpoints over a file of ours, two clean closes; with small segments also rotations."""


def predict(state: State, step: Step) -> State:
    """What is visible after `step`, by the rules of the model alone."""
    after = {title: Seen([*seen.visible], [*seen.hidden]) for title, seen in state.items()}
    title, texts = step.title, [*step.texts]
    match step.do:
        case "create" | "transaction":
            after[title] = Seen(texts, [])
        case "add" | "many" | "attach":
            after[title] = Seen([*after[title].visible, *texts], [])
        case "fork":
            after[step.other] = Seen([*state[title].visible], [])
        case "revert":
            visible, hidden = state[title]
            after[title] = Seen(visible[: step.at + 1], visible[step.at + 1 :] + hidden)
        case "unrevert":
            after[title] = Seen(state[title].visible + state[title].hidden, [])
        case "edit":
            after[title].visible[step.at] = texts[0]
        case "append":
            after[title].visible[step.at] += texts[0]
        case "drop":
            del after[title].visible[step.at]
        case "rename":
            after[step.other] = after.pop(title)
        case "delete":
            del after[title]
        case "checkpoint" | "reopen" | "flush":
            pass
        case unknown:
            raise AssertionError(unknown)
    return after


def predictions(steps: Iterable[Step], start: State | None = None) -> list[State]:
    """The states before the first step and after each."""
    states: list[State] = [start or {}]
    for step in steps:
        states.append(predict(states[-1], step))
    return states


def perform(manager: NativeSessionManager, step: Step) -> None:
    """Does `step`. A `reopen` is the caller's: it has the manager."""
    m, texts = manager, step.texts
    bodies: list[dict[str, Any]] = [{"role": "user", "content": text} for text in texts]
    match step.do:
        case "create":
            m.create_session(WS, title=step.title)
        case "add":
            m.add_message(WS, _session(m, step.title).id, bodies[0])
        case "many":
            m.add_messages(WS, _session(m, step.title).id, bodies)
        case "attach":
            picture = {"type": "file", "file": {"mime": "image/png", "name": "p.png", "data": b"\x89PNG" * 17_000}}
            parts = [{"type": "text", "content": texts[0]}, picture]
            m.add_message(WS, _session(m, step.title).id, {"role": "user", "parts": parts})
        case "transaction":
            with m.transaction(WS) as all_or_none:
                session = all_or_none.create_session(WS, title=step.title)
                for body in bodies:
                    all_or_none.add_message(WS, session.id, body)
        case "fork":
            m.fork_session(WS, _session(m, step.title).id, title=step.other)
        case "unrevert":
            m.unrevert(WS, _session(m, step.title).id)
        case "rename":
            m.update_session(WS, _session(m, step.title).id, title=step.other)
        case "delete":
            m.delete_session(WS, _session(m, step.title).id)
        case "checkpoint":
            m.checkpoint(WS)
        case "flush":
            m.flush()
        case _:
            _with_message(m, step)


def _with_message(m: NativeSessionManager, step: Step) -> None:
    session = _session(m, step.title)
    message = session.message_ids[step.at]
    match step.do:
        case "revert":
            m.revert(WS, session.id, message)
        case "edit":
            m.update_message(WS, message, content=step.texts[0])
        case "append":
            m.append_to_message(WS, message, step.texts[0])
        case "drop":
            m.delete_message(WS, message)
        case unknown:
            raise AssertionError(unknown)


def _session(manager: NativeSessionManager, title: str) -> Session:
    return next(session for session in manager.list_sessions(WS) if session.title == title)


def state_of(manager: NativeSessionManager, workspace: str = WS) -> State:
    """What the store shows, in the oracle's terms. Fails on a title that is there twice."""
    state: State = {}
    for session in manager.list_sessions(workspace):
        every = manager.get_session_messages(workspace, session.id, include_reverted=True)
        visible = manager.get_session_messages(workspace, session.id)
        shown = {message.id for message in visible}
        assert [message.id for message in visible] == session.message_ids
        assert session.title not in state, session.title
        hidden = [message.content for message in every if message.id not in shown]
        state[session.title] = Seen([message.content for message in visible], hidden)
    return state


def random_step(rng: random.Random, state: State, name: str) -> Step:
    """A step that is possible in `state`; `name` is unique and becomes a title or a content."""
    live = sorted(state)
    if not live or rng.random() < 0.04:
        return Step("create", name)
    title = rng.choice(live)
    visible, hidden = state[title]
    text = f"{name} {'z' * rng.choice((0, 10, 200, 1500))}"
    at = rng.randrange(len(visible)) if visible else 0
    draw = rng.random()
    if draw < 0.62 or not visible:
        return Step("add", title, [text])
    choices = [
        Step("many", title, [f"{text}{n}" for n in range(rng.randrange(1, 5))]),
        Step("edit", title, [text], at=at),
        Step("append", title, [text], at=at),
        Step("revert", title, at=at) if at < len(visible) - 1 else Step("checkpoint"),
        Step("unrevert", title) if hidden else Step("checkpoint"),
        Step("fork", title, other=name) if not hidden and len(live) < 8 else Step("add", title, [text]),
        Step("transaction", name, [text, text]) if len(live) < 8 else Step("add", title, [text]),
        Step("attach", title, [text]) if draw > 0.97 else Step("add", title, [text]),
        Step("delete", title) if len(live) > 5 else Step("add", title, [text]),
        Step("checkpoint"),
    ]
    return rng.choice(choices)
