"""A Chroma that is a folder or a server: opened when it is first asked, and its errors as ours.

Invariant: whatever keeps Chroma from an answer is a `TargetUnavailableError`, with no header in it; after one
everything is opened anew, and so it is in a forked child, and where another process has written to a folder. Verified
by `tests/contract/test_chroma_away.py` and `tests/contract/test_chroma_folder.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nomad_sessions.embedders.endpoint import checked_secret, checked_url, is_local
from nomad_sessions.errors import EmbedderError, InvalidInputError, TargetUnavailableError
from nomad_sessions.sync.chroma_folder import Folder

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI

__all__ = ["Connection"]

_PATIENCE = 5.0
"""Seconds that a question waits for who is writing; a write waits as long as for an answer."""
_DATABASE = "/api/v2/tenants/default_tenant/databases/default_database"
_SAID = 300
_OF_PARENTS: list[Any] = []
"""Chroma's clients that a forked child has inherited: even their end waits for threads that are not there."""


class Connection:
    """One Chroma. Safe for several threads, one after the other."""

    def __init__(
        self, target: str, path: str | None, url: str | None, headers: Mapping[str, str], timeout: float
    ) -> None:
        """One of `path` and `url` is given. `headers` go with every request to a server, and are never shown.

        Raises `InvalidInputError` for an address or a header that is none, and where chromadb is missing. Asks nobody
        yet.
        """
        if (path is None) == (url is None):
            raise InvalidInputError(field="path", value=path, reason="either it or url says where Chroma is")
        if importlib.util.find_spec("chromadb") is None:
            reason = "needs chromadb: pip install 'nomad-sessions[chroma]'"
            raise InvalidInputError(field="target", value=target, reason=reason)
        self._target = target
        self._folder = None if path is None else Folder(path)
        self._url = "" if url is None else checked_url("url", url)
        self._headers = {name: checked_secret(f"headers.{name}", value) for name, value in headers.items()}
        self._timeout = timeout
        self._forget()

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._busy = threading.Lock()
        self._client: ClientAPI | None = None

    @property
    def place(self) -> str:
        """Where it is."""
        return self._url if self._folder is None else self._folder.path

    @property
    def exists(self) -> bool:
        """Whether there is such a folder; a server may be there."""
        return self._folder is None or self._folder.exists

    @contextlib.contextmanager
    def client(self, *, asks: bool = False) -> Iterator[ClientAPI]:
        """Chroma's own client, while the block runs, which `asks` if it writes nothing: then no folder is made. It is
        another one than before where what the other knows is no longer so.

        Raises `TargetUnavailableError` for what keeps Chroma, or an embedder, from an answer.
        """
        import httpx
        from chromadb.errors import ChromaError

        if self._owner != os.getpid():
            self._leave_to_parent()
        try:
            with self._turn(asks):
                try:
                    if self._client is None:
                        self._client = self._opened()
                    yield self._client
                except (ChromaError, httpx.HTTPError, OSError):
                    self._drop()
                    raise
        except EmbedderError as error:
            raise TargetUnavailableError(target=self._target, reason=str(error)) from error
        except (ChromaError, httpx.HTTPError, OSError) as error:
            raise self._away(error) from error

    @contextlib.contextmanager
    def _turn(self, asks: bool) -> Iterator[None]:
        patience = _PATIENCE if asks else self._timeout
        if not self._busy.acquire(timeout=patience):
            raise TimeoutError("another thread is using it")
        try:
            if self._folder is None:
                yield
                return
            if asks and not self.exists:
                raise FileNotFoundError("nothing was pushed to it yet (`sync push` does)")
            with self._folder.turn(patience, writes=not asks) as is_same:
                if not is_same:
                    self._drop()
                yield
        finally:
            self._busy.release()

    def _leave_to_parent(self) -> None:
        _OF_PARENTS.append(self._client)
        self._forget()

    def _opened(self) -> ClientAPI:
        import chromadb
        from chromadb.config import Settings

        settings = Settings(anonymized_telemetry=False)
        try:
            if self._folder is not None:
                return chromadb.PersistentClient(self._folder.name(), settings=settings)
            self._look()
            client = chromadb.HttpClient(
                self._url,  # With its port, in place of theirs.
                ssl=self._url.startswith("https:"),
                headers=dict(self._headers),
                settings=settings,
            )
        except ValueError as error:  # Its word for "could not connect", among others.
            raise OSError(str(error)) from error
        import httpx

        for session in _http_sessions(client):
            session.timeout = httpx.Timeout(self._timeout)
            session.event_hooks = {"response": [_check]}
        return client

    def _look(self) -> None:
        """Whether a server answers as one: Chroma's client waits for ever, and begins with a question."""
        import httpx

        parts = urlsplit(self._url)
        host = parts.hostname or ""
        proxies = {parts.scheme, "all"} & urllib.request.getproxies().keys()
        if is_local(self._url) and proxies and not urllib.request.proxy_bypass(host):
            raise OSError(f"the environment names a proxy, which Chroma's client would ask: NO_PROXY must have {host}")
        with httpx.Client(headers=self._headers, timeout=self._timeout, event_hooks={"response": [_check]}) as client:
            client.get(f"{self._url}{_DATABASE}").raise_for_status()

    def _away(self, error: Exception) -> TargetUnavailableError:
        said = str(error) or type(error).__name__
        for secret in filter(None, self._headers.values()):
            said = said.replace(secret, "***")
        return TargetUnavailableError(target=self._target, reason=f"{self.place}: {said[:_SAID]}")

    def close(self) -> None:
        """Gives it back; another use opens it again."""
        if self._owner != os.getpid():
            self._leave_to_parent()
        self._drop()
        if self._folder is not None:
            self._folder.close()

    def _drop(self) -> None:
        client: Any = self._client
        self._client = None
        if client is not None:
            sessions = _http_sessions(client)
            client.close()
            for session in sessions:  # Which Chroma's own close leaves open.
                session.close()


def _check(response: httpx.Response) -> None:
    """Raises `HTTPStatusError` for an answer that is none of Chroma's: its client raises a bare `Exception` for one of
    somebody between, or reads what is no JSON."""
    import httpx
    from chromadb.errors import error_types

    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    if response.is_success and is_json:
        return
    response.read()
    try:
        told = response.json()
    except ValueError:
        told = None
    if response.is_success or not isinstance(told, dict) or told.get("error") not in error_types:
        said = f"it answered {response.status_code}: {' '.join(response.text.split())}"
        raise httpx.HTTPStatusError(said, request=response.request, response=response)


def _http_sessions(client: Any) -> list[httpx.Client]:
    """What Chroma's client of a server asks through: it has no public way to say how long it waits, or to end it."""
    servers = (vars(client)["_server"], vars(vars(client)["_admin_client"])["_server"])
    return [vars(each)["_session"] for each in servers if "_session" in vars(each)]
