"""What the store should show, as plain dicts: the model that the state machine compares it with.

Each method is a call of the manager, done to dicts in the way that DESIGN 3 says, with nothing of the store's code.
"""

from __future__ import annotations

import copy
from typing import Any

Body = dict[str, Any]
OWN = {
    "id",
    "title",
    "parentId",
    "createdAt",
    "updatedAt",
    "revert",
    "forkedFrom",
    "closedAt",
    "archivedAt",
    "movedFrom",
}
"""What a fork does not take over from its original."""


class PlainSession:
    """A session: its fields, its visible and hidden messages in order."""

    def __init__(self, fields: Body) -> None:
        self.fields = fields
        self.visible: list[Body] = []
        self.hidden: list[Body] = []

    def touch(self, now: int) -> None:
        self.fields["updatedAt"] = max(self.fields["updatedAt"], now)

    def find(self, message_id: str) -> Body | None:
        return next((each for each in [*self.visible, *self.hidden] if each["id"] == message_id), None)


class PlainWorkspace:
    """Sessions by id. `now` is the time of the call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sessions: dict[str, PlainSession] = {}

    def message(self, message_id: str) -> tuple[PlainSession, Body] | None:
        for session in self.sessions.values():
            found = session.find(message_id)
            if found is not None:
                return session, found
        return None

    def create(self, session_id: str, fields: Body, now: int) -> None:
        if session_id in self.sessions:
            return
        begun = {"id": session_id, "workspaceId": self.name, "title": "New Session", "parentId": None}
        self.sessions[session_id] = PlainSession({**begun, "createdAt": now, "updatedAt": now, **copy.deepcopy(fields)})

    def update(self, session_id: str, changes: Body, now: int) -> None:
        session = self.sessions[session_id]
        before = repr(session.fields)
        for key, value in copy.deepcopy(changes).items():
            if value is None and key != "parentId":
                session.fields.pop(key, None)
            else:
                session.fields[key] = value
        if repr(session.fields) != before:
            session.touch(now)

    def mark(self, session_id: str, field: str, present: bool, now: int) -> None:
        session = self.sessions[session_id]
        if (field in session.fields) != present:
            if present:
                session.fields[field] = now
            else:
                del session.fields[field]
            session.touch(now)

    def delete(self, session_id: str, *, children: bool, forks: bool) -> list[str]:
        gone = [session_id]
        for parent in gone:
            for each, session in self.sessions.items():
                lineage = self._lineage(session)
                fork = bool(lineage) and lineage[0] == parent
                child = session.fields["parentId"] == parent and parent not in lineage and None not in lineage
                if each not in gone and ((forks and fork) or (children and child)):
                    gone.append(each)
        for each in gone:
            del self.sessions[each]
        return gone

    def _lineage(self, session: PlainSession) -> list[str | None]:
        found: list[str | None] = []
        current: PlainSession | None = session
        while current is not None and "forkedFrom" in current.fields:
            origin = current.fields["forkedFrom"]["sessionId"]
            if origin in found:
                return found
            found.append(origin)
            current = self.sessions.get(origin)
        return found if current is not None else [*found, None]

    def fork(self, session_id: str, forked: str, ids: list[str], message_id: str | None, now: int) -> None:
        source = self.sessions[session_id]
        names = [each["id"] for each in source.visible]
        copied = source.visible if message_id is None else source.visible[: names.index(message_id) + 1]
        fields = {key: copy.deepcopy(value) for key, value in source.fields.items() if key not in OWN}
        title = source.fields["title"] or "New Session"
        fields |= {"title": f"{title} (fork)", "parentId": source.fields["parentId"] or session_id}
        fields["forkedFrom"] = {"sessionId": session_id} | ({"messageId": copied[-1]["id"]} if copied else {})
        self.create(forked, fields, now)
        for body, new in zip(copied, ids, strict=True):
            made = {**copy.deepcopy(body), "id": new, "sessionId": forked, "originId": body["id"]}
            self.sessions[forked].visible.append(made)

    def revert(self, session_id: str, message_id: str | None, now: int) -> None:
        session = self.sessions[session_id]
        names = [each["id"] for each in session.visible]
        kept = max(0, len(names) - 1) if message_id is None else names.index(message_id) + 1
        if kept < len(names):
            session.hidden = session.visible[kept:] + session.hidden
            session.visible = session.visible[:kept]
            session.fields["revert"] = {"messageID": names[kept - 1] if kept else ""}
            session.touch(now)

    def unrevert(self, session_id: str, now: int) -> None:
        session = self.sessions[session_id]
        if session.hidden or "revert" in session.fields:
            session.visible, session.hidden = session.visible + session.hidden, []
            session.fields.pop("revert", None)
            session.touch(now)

    def add(self, session_id: str, message_id: str, body: Body, now: int) -> None:
        session = self.sessions[session_id]
        if any(each["id"] == message_id for each in session.visible):
            return
        session.hidden = []
        session.fields.pop("revert", None)
        created = body.get("createdAt", now)
        made = {**copy.deepcopy(body), "id": message_id, "sessionId": session_id, "createdAt": created}
        made |= {"updatedAt": created, "status": body.get("status", "completed")}
        self._canonical(made)
        session.visible.append(made)
        session.touch(created)

    def edit(self, message_id: str, changes: Body, now: int) -> None:
        found = self.message(message_id)
        assert found is not None
        session, body = found
        before = repr(sorted(body.items()))
        texts = [part for part in body.get("parts", ()) if part["type"] == "text"]
        for key, value in copy.deepcopy(changes).items():
            if key == "content" and texts:
                texts[0]["content"] = value or ""
            elif value is None:
                body.pop(key, None)
            else:
                body[key] = value
        self._canonical(body)
        if repr(sorted(body.items())) != before:
            body["updatedAt"] = max(body["updatedAt"], now)
            session.touch(now)

    def append(self, message_id: str, text: str) -> None:
        found = self.message(message_id)
        assert found is not None
        body = found[1]
        texts = [part for part in body.get("parts", ()) if part["type"] == "text"]
        target = texts[-1] if texts else body
        target["content"] = target.get("content", "") + text
        self._canonical(body)

    def remove(self, message_id: str, now: int) -> None:
        found = self.message(message_id)
        assert found is not None
        session, body = found
        session.visible = [each for each in session.visible if each is not body]
        session.hidden = [each for each in session.hidden if each is not body]
        session.touch(now)

    def _canonical(self, body: Body) -> None:
        texts = [part["content"] for part in body.get("parts", ()) if part["type"] == "text"]
        calls = [part["toolCall"] for part in body.get("parts", ()) if part["type"] == "tool_call"]
        if texts:
            body["content"] = "".join(texts)
        if calls:
            body["toolCalls"] = copy.deepcopy(calls)
