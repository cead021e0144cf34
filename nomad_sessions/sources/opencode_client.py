"""A client of a running OpenCode server: its sessions, their messages, and its stream of events, as they are.

What it asks and gets is of OpenCode 1.18's HTTP API (its `GET /doc`), read only. Needs httpx and httpx-sse: the extra
`opencode`. Verified by `tests/contract/test_opencode_server.py` against the real program, and, for what the real one
does not do when asked, by `tests/unit/test_opencode_client.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlsplit

from nomad_sessions.errors import InvalidInputError, SourceUnavailableError
from nomad_sessions.forking import Mutex
from nomad_sessions.storage.codec import decode_text

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenCodeClient", "OpenCodeEvent", "OpenCodeEvents"]

T = TypeVar("T")
_URL = "http://127.0.0.1:4096"
_SECONDS = 10.0
_SILENCE = 30.0
"""The server sends a heartbeat every 10 s: one that says nothing for this long, in seconds, is gone."""
_ALL = 1_000_000_000
"""The server lists 100 sessions unless told otherwise, and has no word for all of them."""


class OpenCodeEvent(NamedTuple):
    """One event of the server, as it was sent; `id` is "" where it has none."""

    id: str
    type: str
    properties: Mapping[str, Any]


class OpenCodeEvents:
    """The stream of events of one connection: to be iterated, and ended by `close`, from any thread."""

    def __init__(self, name: str, response: httpx.Response) -> None:
        self._name = name
        self._response = response
        self._owner = os.getpid()

    def __iter__(self) -> Iterator[OpenCodeEvent]:
        """The events, as they come, the first of them `server.connected`. Raises `SourceUnavailableError` when the
        connection is over, whatever the reason: a server that lives does not end it."""
        import httpx
        from httpx_sse import EventSource, SSEError

        try:
            for each in EventSource(self._response).iter_sse():
                if each.data:
                    yield _event(self._name, each.data)
        except (httpx.HTTPError, httpx.StreamError, SSEError) as error:
            raise SourceUnavailableError(source=self._name, reason=_said(error)) from error
        raise SourceUnavailableError(source=self._name, reason="it ended the stream of events")

    def close(self) -> None:
        """Ends the connection, also while another thread waits for an event. In a forked child it does nothing: it is
        the parent's."""
        if self._owner != os.getpid():
            return
        there = self._response.extensions["network_stream"].get_extra_info("socket")
        if there is not None:
            try:
                there.shutdown(socket.SHUT_RDWR)
            except OSError:  # The other side was first.
                return


class OpenCodeClient:
    """Asks one server. Safe for several threads, and in a forked child. A context manager.

    `url` defaults to OPENCODE_SERVER_URL, or http://127.0.0.1:4096. `token` (OPENCODE_AUTH_TOKEN) is sent as a bearer;
    else `password` (OPENCODE_SERVER_PASSWORD) with `username` (OPENCODE_SERVER_USERNAME, or "opencode"), as the server
    itself has them. `timeout` is in seconds (OPENCODE_TIMEOUT is in ms; 10 s). `directory` is the project folder that
    is asked for, on the server's machine; None is the one that it was started in.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        directory: str | None = None,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Raises `InvalidInputError` for an address or a time that is none, and without httpx. Asks nobody."""
        env = os.environ
        given = url or env.get("OPENCODE_SERVER_URL") or _URL
        self.url = _checked_url(given)
        self.directory = directory
        self._where: str | None = None
        self._timeout = _seconds(timeout, env.get("OPENCODE_TIMEOUT"))
        self._token = token or env.get("OPENCODE_AUTH_TOKEN")
        self._basic = (
            username or env.get("OPENCODE_SERVER_USERNAME") or "opencode",
            password or env.get("OPENCODE_SERVER_PASSWORD") or "",
        )
        self._mutex = Mutex()
        self._owner = os.getpid()
        self._http: httpx.Client | None = _http(self.url, self._timeout, self._token, self._basic)

    @property
    def name(self) -> str:
        """What it is called in messages: its address, without secrets."""
        return self.url

    def ping(self) -> None:
        """Asks it whether it is there. Raises `SourceUnavailableError`."""
        self._get("/global/health", dict)

    def path(self) -> dict[str, Any]:
        """The folders of the server: `directory`, `worktree`, `home` and others."""
        return self._get("/path", dict)

    def where(self) -> str:
        """The directory, as the server spells it, from then on: asked to list without one, it lists those of the whole
        project, but it tells what happens in one only, and under that name. Raises `SourceUnavailableError`."""
        if self._where is None:
            asked = {} if self.directory is None else {"directory": self.directory}
            found = self._get("/path", dict, asked).get("directory")
            if not isinstance(found, str) or not found:
                raise SourceUnavailableError(source=self.name, reason="it does not say which directory it is in")
            self._where = self.directory = found
        return self._where

    def sessions(self, *, search: str | None = None) -> list[dict[str, Any]]:
        """All sessions of the directory, archived ones too, the last changed first; with `search`, those whose title
        has it, whatever the case. Raises `SourceUnavailableError`."""
        asked: dict[str, Any] = {"limit": _ALL}
        if search is not None:
            asked["search"] = search
        return _mappings(self.name, self._get("/session", list, {"directory": self.where(), **asked}))

    def session(self, session_id: str) -> dict[str, Any] | None:
        """One session, whatever its directory, or None. Raises `SourceUnavailableError`."""
        return self._get_or_none(("session", session_id), dict)

    def messages(self, session_id: str) -> list[dict[str, Any]] | None:
        """A session's messages with their parts, `{"info", "parts"}`, the oldest first; those that a revert hides too.
        None where there is no such session. Raises `SourceUnavailableError`."""
        found = self._get_or_none(("session", session_id, "message"), list)
        return None if found is None else _mappings(self.name, found)

    def message(self, session_id: str, message_id: str) -> dict[str, Any] | None:
        """One message with its parts, or None. Raises `SourceUnavailableError`."""
        return self._get_or_none(("session", session_id, "message", message_id), dict)

    def todos(self, session_id: str) -> list[dict[str, Any]]:
        """What a session has to do; nothing for one that is not there. Raises `SourceUnavailableError`."""
        found = self._get_or_none(("session", session_id, "todo"), list)
        return [] if found is None else _mappings(self.name, found)

    @contextmanager
    def events(self) -> Iterator[OpenCodeEvents]:
        """The stream of what happens in the directory from now on. The server repeats nothing: what happened while
        nobody listened is to be read afresh. Raises `SourceUnavailableError`."""
        import httpx

        asked = {"directory": self.where()}
        self.ping()  # A server that is just starting lets requests hang: here that costs `timeout`, not the silence.
        times = httpx.Timeout(self._timeout, read=_SILENCE)
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        try:
            with self._connected().stream("GET", "/event", params=asked, headers=headers, timeout=times) as response:
                _check(self.name, response)
                yield OpenCodeEvents(self.name, response)
        except httpx.HTTPError as error:
            raise SourceUnavailableError(source=self.name, reason=_said(error)) from error

    def close(self) -> None:
        """Gives the connections back; who asks again makes new ones. May be called twice."""
        with self._mutex:
            http, self._http = self._http, None
        if http is not None and self._owner == os.getpid():
            http.close()

    def _connected(self) -> httpx.Client:
        with self._mutex:
            if self._http is None or self._owner != os.getpid():  # A parent's connections are the parent's.
                self._owner = os.getpid()
                self._http = _http(self.url, self._timeout, self._token, self._basic)
            return self._http

    def _get(self, path: str, kind: type[T], asked: Mapping[str, Any] | None = None) -> T:
        found = self._get_or_none(tuple(path.strip("/").split("/")), kind, asked)
        if found is None:
            raise SourceUnavailableError(source=self.name, reason=f"it has no {path}: is it an OpenCode server?")
        return found

    def _get_or_none(self, place: Sequence[str], kind: type[T], asked: Mapping[str, Any] | None = None) -> T | None:
        import httpx

        if any(
            each in ("", ".", "..") for each in place
        ):  # Of a path these name another place, however they are spelt.
            return None
        path = "".join(f"/{_segment(each)}" for each in place)
        try:
            response = self._connected().get(path, params=asked)
        except httpx.HTTPError as error:
            raise SourceUnavailableError(source=self.name, reason=_said(error)) from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        _check(self.name, response)
        try:
            value = decode_text(response.text)
        except ValueError as error:  # What it does not know it answers with a page.
            raise SourceUnavailableError(source=self.name, reason=f"{path} gives no JSON") from error
        if not isinstance(value, kind):
            raise SourceUnavailableError(source=self.name, reason=f"{path} gives no {kind.__name__}")
        return value

    def __enter__(self) -> OpenCodeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"OpenCodeClient({self.url!r}, directory={self.directory!r})"


def _http(url: str, seconds: float, token: str | None, basic: tuple[str, str]) -> httpx.Client:
    try:
        import httpx
        import httpx_sse  # noqa: F401
    except ImportError as error:
        reason = 'needs httpx and httpx-sse: pip install "nomad-sessions[opencode]"'
        raise InvalidInputError(field="source", value="opencode", reason=reason) from error
    headers = {"authorization": f"Bearer {token}"} if token else {}
    auth = httpx.BasicAuth(*basic) if basic[1] and not token else None
    return httpx.Client(base_url=url, timeout=seconds, headers=headers, auth=auth, follow_redirects=False)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError(field="url", value=url, reason="must be an address, as http://127.0.0.1:4096")
    if parts.username or parts.password:
        reason = "must not hold a password: set OPENCODE_SERVER_PASSWORD"
        raise InvalidInputError(field="url", value=f"{parts.scheme}://…@{parts.hostname}", reason=reason)
    return url.rstrip("/")


def _seconds(given: float | None, variable: str | None) -> float:
    try:
        seconds = given if given is not None else float(variable) / 1000 if variable else _SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InvalidInputError(field="timeout", value=variable if given is None else given, reason="must be a time")
    return seconds


def _segment(identifier: str) -> str:
    return quote(identifier.encode("utf-8", "surrogatepass"), safe="")


def _check(name: str, response: httpx.Response) -> None:
    status = response.status_code
    if status == 401:
        reason = "it wants a password: set OPENCODE_SERVER_PASSWORD"
        raise SourceUnavailableError(source=name, reason=reason)
    if status != 200:
        raise SourceUnavailableError(source=name, reason=f"it answers {status} {response.reason_phrase}")


def _mappings(name: str, values: list[Any]) -> list[dict[str, Any]]:
    if not all(isinstance(each, dict) for each in values):
        raise SourceUnavailableError(source=name, reason="a list holds what is no object")
    return values


def _event(name: str, data: str) -> OpenCodeEvent:
    try:
        value = decode_text(data)
    except ValueError as error:
        raise SourceUnavailableError(source=name, reason="an event is no JSON") from error
    found = value if isinstance(value, dict) else {}
    kind, properties, identifier = found.get("type"), found.get("properties", {}), found.get("id")
    if not isinstance(kind, str) or not isinstance(properties, dict):
        raise SourceUnavailableError(source=name, reason="an event has no type")
    return OpenCodeEvent(identifier if isinstance(identifier, str) else "", kind, properties)


def _said(error: Exception) -> str:
    """What went wrong; some errors of httpx are without words."""
    return str(error) or type(error).__name__
