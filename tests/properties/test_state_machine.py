"""Thousands of random calls, through two managers on one folder, against plain dicts; equal after every reopen."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.models import dump
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.workspace import folding, store
from tests.support.plainmodel import Body, PlainWorkspace

TEXTS = ["", "hi", "zwölf\r\n\0", "\ud83d", "emoji 😀", "x" * 300]
METADATA: list[Any] = [{}, {"a": [1, {"b": None}]}, {"flag": True}, {"flag": 1}, {"flag": 1.0}, {"é": "\udc00"}]
CALL = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
PARTS: list[list[Body]] = [
    [{"type": "text", "content": "one"}],
    [{"type": "thinking", "content": "hm"}, {"type": "text", "content": "two"}],
    [{"type": "tool_call", "toolCall": CALL}],
    [{"type": "tool_call", "toolCall": CALL}, {"type": "text", "content": "three"}],
]


class Rollback(Exception):
    """Thrown out of a transaction on purpose."""


class Driver:
    """Does each call to the store and to the model. A step is a name and a seed, so that Hypothesis can shrink them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(1_750_000_000_000)
        self.managers = [self._open(), self._open()]
        self.models = {name: PlainWorkspace(name) for name in ("a", "b")}
        self.counter = 0
        self.done: dict[str, int] = {}

    def _open(self) -> NativeSessionManager:
        return NativeSessionManager(self.folder, durability="os", clock=self.clock)

    def step(self, name: str, seed: int) -> None:
        chance = random.Random(seed)
        if chance.random() < 0.7:
            self.clock.advance(chance.choice([1, 5, 1000, -3000]))
        manager = chance.choice(self.managers)
        model = self.models[chance.choice("aab")]
        if name in WHOLE:
            WHOLE[name](self, manager, model, chance)
        else:
            CALLS[name](self, manager, model, chance)
        self.done[name] = self.done.get(name, 0) + 1

    @property
    def now(self) -> int:
        return self.clock.now()

    def fresh(self, kind: str) -> str:
        self.counter += 1
        return f"{kind}_{self.counter:06d}"

    # Calls that a transaction has too

    def create(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        fields: Body = {}
        if chance.random() < 0.5:
            fields = {"title": chance.choice(TEXTS), "metadata": chance.choice(METADATA), "extra": {"deep": [1]}}
        if model.sessions and chance.random() < 0.4:
            fields["parentId"] = chance.choice(sorted(model.sessions))
        given = dict(fields)
        if chance.random() < 0.3:
            taken = [*model.sessions, "again"]  # "again" comes and goes.
            given["id"] = chance.choice([self.fresh("ses"), chance.choice(taken)])
        made = api.create_session(model.name, copy.deepcopy(given))
        assert made.id == given.get("id", made.id)
        model.create(made.id, fields, self.now)

    def update(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        field = chance.choice(["title", "description", "metadata", "agent"])
        changes = {field: chance.choice(METADATA if field == "metadata" else TEXTS)}
        if field != "title" and chance.random() < 0.3:
            changes[field] = None
        rev = self._rev(api, model, session_id)
        api.update_session(
            model.name, session_id, copy.deepcopy(changes), if_rev=rev if chance.random() < 0.5 else None
        )
        model.update(session_id, changes, self.now)

    def _rev(self, api: SessionCalls, model: PlainWorkspace, session_id: str) -> int:
        found = api.get_session(model.name, session_id)
        assert found is not None
        return found.rev

    def mark(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        name, field, present = chance.choice(
            [
                ("archive_session", "archivedAt", True),
                ("unarchive_session", "archivedAt", False),
                ("close_session", "closedAt", True),
                ("reopen_session", "closedAt", False),
            ]
        )
        getattr(api, name)(model.name, session_id)
        model.mark(session_id, field, present, self.now)

    def delete(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None or chance.random() < 0.5:
            return
        children, forks = chance.random() < 0.3, chance.random() < 0.3
        gone = api.delete_session(model.name, session_id, children=children, forks=forks)
        assert set(gone) == set(model.delete(session_id, children=children, forks=forks))

    def fork(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        names = [each["id"] for each in model.sessions[session_id].visible]
        at = chance.choice(names) if names and chance.random() < 0.6 else None
        made = api.fork_session(model.name, session_id, message_id=at)
        model.fork(session_id, made.id, made.message_ids, at, self.now)

    def revert(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        names = [each["id"] for each in model.sessions[session_id].visible]
        at = chance.choice(names) if names and chance.random() < 0.7 else None
        api.revert(model.name, session_id, at)
        model.revert(session_id, at, self.now)

    def unrevert(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is not None:
            api.unrevert(model.name, session_id)
            model.unrevert(session_id, self.now)

    def _body(self, model: PlainWorkspace, session_id: str, chance: random.Random) -> Body:
        body: Body = {"role": chance.choice(["user", "assistant", "tool"]), "content": chance.choice(TEXTS)}
        if chance.random() < 0.4:
            body |= {"parts": chance.choice(PARTS), "content": ""}
            if not any(part["type"] == "text" for part in body["parts"]):
                body["content"] = "beside"
        if chance.random() < 0.2:
            body |= {"metadata": chance.choice(METADATA), "unknown": [[]]}
        if chance.random() < 0.2:
            body["createdAt"] = 1_600_000_000_000 + chance.randrange(1000)
        if chance.random() < 0.3:
            session = model.sessions[session_id]
            taken = [each["id"] for each in [*session.visible, *session.hidden]]
            body["id"] = chance.choice([self.fresh("msg"), *taken])
        return body

    def add(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        body = self._body(model, session_id, chance)
        made = api.add_message(model.name, session_id, copy.deepcopy(body))
        model.add(session_id, made.id, body, self.now)

    def add_several(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        if session_id is None:
            return
        bodies = [self._body(model, session_id, chance) for _ in range(chance.randrange(4))]
        bodies = [{**body, "id": body.get("id") or self.fresh("msg")} for body in bodies]
        made = api.add_messages(model.name, session_id, copy.deepcopy(bodies))
        assert [each.id for each in made] == [each["id"] for each in bodies]
        # What one of them makes final is gone for all of them.
        for body in bodies:
            model.add(session_id, body["id"], body, self.now)

    def edit(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        message_id = self._message(model, chance)
        if message_id is None:
            return
        field = chance.choice(["content", "status", "metadata", "agent", "parts"])
        values: dict[str, list[Any]] = {
            "content": TEXTS,
            "status": ["error", "completed"],
            "metadata": [*METADATA, None],
            "agent": ["build", None],
            "parts": [[{"type": "text", "content": "new"}]],
        }
        changes = {field: chance.choice(values[field])}
        found = model.message(message_id)
        assert found is not None
        if field == "parts" and not any(part["type"] == "text" for part in found[1].get("parts", ())):
            return
        if field == "parts":
            found[1].pop("toolCalls", None)
            changes["toolCalls"] = None
        api.update_message(model.name, message_id, copy.deepcopy(changes))
        model.edit(message_id, changes, self.now)

    def append(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        message_id = self._message(model, chance)
        if message_id is not None:
            text = chance.choice(["", "more", " 😀", "\0"])
            api.append_to_message(model.name, message_id, text, sync=chance.random() < 0.5)
            model.append(message_id, text)

    def remove(self, api: SessionCalls, model: PlainWorkspace, chance: random.Random) -> None:
        message_id = self._message(model, chance)
        if message_id is not None:
            api.delete_message(model.name, message_id)
            model.remove(message_id, self.now)

    # Calls on the whole

    def transaction(self, manager: NativeSessionManager, model: PlainWorkspace, chance: random.Random) -> None:
        before = copy.deepcopy(model)
        try:
            with manager.transaction(model.name) as tx:
                for _ in range(chance.randrange(6)):
                    CALLS[chance.choice(sorted(CALLS))](self, tx, model, chance)
                self.compare(tx, model)
                if chance.random() < 0.3:
                    raise Rollback
        except Rollback:
            self.models[model.name] = before

    def move(self, manager: NativeSessionManager, model: PlainWorkspace, chance: random.Random) -> None:
        session_id = self._session(model, chance)
        other = self.models["b" if model.name == "a" else "a"]
        if session_id is None or session_id in other.sessions:
            return
        moved = model.sessions[session_id]
        if any(other.message(each["id"]) for each in [*moved.visible, *moved.hidden]):
            return
        manager.move_session(model.name, session_id, to_workspace=other.name)
        other.sessions[session_id] = model.sessions.pop(session_id)
        moved.fields |= {"workspaceId": other.name, "movedFrom": model.name}

    def checkpoint(self, manager: NativeSessionManager, model: PlainWorkspace, chance: random.Random) -> None:
        manager.checkpoint(model.name)

    def clear(self, manager: NativeSessionManager, model: PlainWorkspace, chance: random.Random) -> None:
        manager.clear_workspace(model.name)

    def reopen(self, manager: NativeSessionManager, model: PlainWorkspace, chance: random.Random) -> None:
        before = {name: self.shown(manager, name) for name in self.models}
        number = self.managers.index(manager)
        if chance.random() < 0.7:
            manager.close(checkpoint=chance.random() < 0.3)
        else:  # As after a kill: the file is as it was left.
            manager.flush()
        self.managers[number] = self._open()
        assert {name: self.shown(self.managers[number], name) for name in self.models} == before
        for each in self.models.values():
            self.compare(self.managers[number], each)

    # Comparing

    def shown(self, api: SessionCalls, name: str) -> list[Any]:
        sessions = api.list_sessions(name)
        return [(each, api.get_session_messages(name, each.id, include_reverted=True)) for each in sessions]

    def compare(self, api: SessionCalls, model: PlainWorkspace) -> None:
        page = api.list_sessions(model.name)
        assert page.total == len(page) == len(model.sessions)
        order = [(-each.updated_at, -each.rev) for each in page]
        assert order == sorted(order)
        for session in page:
            expected = model.sessions[session.id]
            fields = {key: value for key, value in dump(session).items() if key not in ("rev", "messageIds")}
            assert fields == expected.fields
            assert session.message_ids == [each["id"] for each in expected.visible]
            everything = api.get_session_messages(model.name, session.id, include_reverted=True)
            bodies = [{key: value for key, value in dump(each).items() if key != "rev"} for each in everything]
            assert bodies == [*expected.visible, *expected.hidden]
            visible = api.get_session_messages(model.name, session.id)
            assert list(visible) == everything[: len(expected.visible)]
            if everything:
                assert api.get_message(model.name, everything[-1].id) == everything[-1]

    def finish(self) -> None:
        for model in self.models.values():
            for manager in self.managers:
                self.compare(manager, model)
        for manager in self.managers:
            manager.close()
        with self._open() as manager:
            for model in self.models.values():
                self.compare(manager, model)
                assert manager.check(model.name).ok

    def _session(self, model: PlainWorkspace, chance: random.Random) -> str | None:
        return chance.choice(sorted(model.sessions)) if model.sessions else None

    def _message(self, model: PlainWorkspace, chance: random.Random) -> str | None:
        names = [each["id"] for session in model.sessions.values() for each in [*session.visible, *session.hidden]]
        return chance.choice(sorted(names)) if names else None


CALLS: dict[str, Callable[[Driver, SessionCalls, PlainWorkspace, random.Random], None]] = {
    "create": Driver.create,
    "update": Driver.update,
    "mark": Driver.mark,
    "delete": Driver.delete,
    "fork": Driver.fork,
    "revert": Driver.revert,
    "unrevert": Driver.unrevert,
    "add": Driver.add,
    "add_several": Driver.add_several,
    "edit": Driver.edit,
    "append": Driver.append,
    "remove": Driver.remove,
}
WHOLE: dict[str, Callable[[Driver, NativeSessionManager, PlainWorkspace, random.Random], None]] = {
    "transaction": Driver.transaction,
    "move": Driver.move,
    "checkpoint": Driver.checkpoint,
    "clear": Driver.clear,
    "reopen": Driver.reopen,
}
NAMES = sorted([*CALLS, *WHOLE])
WEIGHTS = [{"add": 6, "add_several": 3, "edit": 3, "append": 3, "create": 2}.get(name, 1) for name in NAMES]


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that segments fill up and the journal is folded many times."""
    monkeypatch.setattr(store, "SEGMENT_BYTES", 3_000)
    monkeypatch.setattr(folding, "FLOOR", 8_000)
    monkeypatch.setattr(folding, "_ROTATE_ABOVE", 1_000)


@pytest.mark.parametrize("seed", range(4))
def test_five_hundred_random_calls_show_what_plain_dicts_show(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    driver = Driver(tmp_path)
    for name in chance.choices(NAMES, WEIGHTS, k=500):
        driver.step(name, chance.randrange(1 << 30))
    driver.finish()
    assert set(driver.done) == set(NAMES)
    assert list(tmp_path.glob("*/sessions.json.prev")), "nothing was folded"


STEPS = st.tuples(st.sampled_from(NAMES), st.integers(0, 1 << 20))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(steps=st.lists(STEPS, min_size=10, max_size=40))
def test_short_runs_that_shrink_show_what_plain_dicts_show(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    driver = Driver(tmp_path_factory.mktemp("store"))
    for name, seed in steps:
        driver.step(name, seed)
    driver.finish()
