"""A running OpenCode changed as its own clients do it, and what a store that captured it has of it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

import httpx

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats.exporting import export_session

__all__ = ["WS", "Api", "change", "the_same", "until"]

WS = "ws"


class Api:
    """Changes what the server has, as its own clients do."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return self._http.request(method, path, json=body).raise_for_status().json()

    def session(self, title: str, **fields: Any) -> str:
        return str(self.ask("POST", "/session", {"title": title, **fields})["id"])

    def say(self, session: str, *texts: str) -> dict[str, Any]:
        parts = [{"type": "text", "text": text} for text in texts]
        found: dict[str, Any] = self.ask("POST", f"/session/{session}/message", {"noReply": True, "parts": parts})
        return found

    def ask_for_answer(self, session: str) -> None:
        """Has the model answer, without waiting for it."""
        body = {"model": {"providerID": "local", "modelID": "m"}, "parts": [{"type": "text", "text": "hi"}]}
        self._http.post(f"/session/{session}/prompt_async", json=body).raise_for_status()

    def whole(self) -> dict[str, Any]:
        """All that it has, by session."""
        sessions = self.ask("GET", f"/session?limit=100000&directory={self.ask('GET', '/path')['directory']}")
        return {
            each["id"]: {"info": each, "messages": self.ask("GET", f"/session/{each['id']}/message")}
            for each in sessions
        }

    def close(self) -> None:
        self._http.close()


def here(m: NativeSessionManager) -> dict[str, Any]:
    """What the store has, as the server would say it."""
    return {each.id: json.loads(export_session(m, WS, each.id, "opencode")) for each in m.list_sessions(WS)}


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def the_same(m: NativeSessionManager, api: Api) -> None:
    """Comes to pass, soon."""
    whole = api.whole()
    end = time.monotonic() + 30
    while here(m) != whole and time.monotonic() < end:
        time.sleep(0.02)
    found = here(m)
    assert found.keys() == whole.keys()
    for name, session in whole.items():
        assert found[name]["info"] == session["info"]
        assert found[name]["messages"] == session["messages"]


def change(api: Api, drawn: random.Random) -> None:
    """One change of whatever kind."""
    whole = api.whole()
    if not whole or drawn.random() < 0.15:
        api.say(api.session(f"session {drawn.random()}", metadata={"n": drawn.random()}), "first")
        return
    name = drawn.choice(sorted(whole))
    messages = whole[name]["messages"]
    what = drawn.choice(["say", "say", "title", "patch", "part", "unpart", "unsay", "fork", "revert", "back", "drop"])
    message = drawn.choice(messages) if messages else None
    path = f"/session/{name}"
    if what == "say":
        api.say(name, f"said {drawn.random()}", "and more")
    elif what == "title":
        api.ask("PATCH", path, {"title": f"title {drawn.random()}"})
    elif what == "fork":
        api.ask("POST", f"{path}/fork", {})
    elif what == "drop" and len(whole) > 3:
        api.ask("DELETE", path)
    elif what == "back":
        api.ask("POST", f"{path}/unrevert")
    elif message is None:
        return
    elif what == "revert":
        api.ask("POST", f"{path}/revert", {"messageID": message["info"]["id"]})
    elif what == "unsay":
        api.ask("DELETE", f"{path}/message/{message['info']['id']}")
    elif what == "patch" and message["parts"]:
        part = {**message["parts"][0], "text": f"patched {drawn.random()}"}
        api.ask("PATCH", f"{path}/message/{part['messageID']}/part/{part['id']}", part)
    elif what == "part":
        part = {"id": f"prt_{drawn.randrange(10**9)}", "type": "text", "text": "new"}
        part |= {"sessionID": name, "messageID": message["info"]["id"]}
        api.ask("PATCH", f"{path}/message/{part['messageID']}/part/{part['id']}", part)
    elif what == "unpart" and message["parts"]:
        api.ask("DELETE", f"{path}/message/{message['info']['id']}/part/{message['parts'][0]['id']}")
