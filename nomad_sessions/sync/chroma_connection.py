"""A Chroma that is a folder or a server: opened when it is first asked, and its errors as ours.

Invariant: whatever keeps Chroma from an answer is a `TargetUnavailableError`, with no header in it; after one
everything is opened anew. Verified by `tests/contract/test_chroma_away.py`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nomad_sessions.embedders.endpoint import checked_url
from nomad_sessions.errors import EmbedderError, InvalidInputError, TargetUnavailableError
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.files import make_folder

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI

__all__ = ["Connection"]


class Connection:
    """One Chroma. Not for several threads at once."""

    def __init__(
        self, target: str, path: str | None, url: str | None, headers: Mapping[str, str], timeout: float
    ) -> None:
        """One of `path` and `url` is given. `headers` go with every request to a server, and are never shown.

        Raises `InvalidInputError` for an address that is none, and where chromadb is missing. Asks nobody yet.
        """
        if (path is None) == (url is None):
            raise InvalidInputError(field="path", value=path, reason="either it or url says where Chroma is")
        if importlib.util.find_spec("chromadb") is None:
            reason = "needs chromadb: pip install 'nomad-sessions[chroma]'"
            raise InvalidInputError(field="target", value=target, reason=reason)
        self._target = target
        self._path = None if path is None else os.path.abspath(path)
        self._url = "" if url is None else checked_url("url", url)
        self._headers = dict(headers)
        self._timeout = timeout
        self._client: ClientAPI | None = None

    @property
    def place(self) -> str:
        """Where it is."""
        return self._url if self._path is None else self._path

    @contextlib.contextmanager
    def client(self, *, create: bool = True) -> Iterator[ClientAPI]:
        """Chroma's own client, while the block runs. Raises `TargetUnavailableError` for what keeps it, or an
        embedder, from an answer; and for a folder that is not there, unless one may be made."""
        import httpx
        from chromadb.errors import ChromaError

        try:
            if self._client is None:
                if not create and self._path is not None and REAL.stat(self._path) is None:
                    raise FileNotFoundError("nothing was pushed to it yet")
                self._client = self._opened()
            yield self._client
        except EmbedderError as error:
            raise TargetUnavailableError(target=self._target, reason=str(error)) from error
        except (ChromaError, httpx.HTTPError, OSError) as error:
            self.close()
            raise self._away(error) from error

    def _opened(self) -> ClientAPI:
        import chromadb
        from chromadb.config import Settings

        settings = Settings(anonymized_telemetry=False)
        if self._path is not None:
            make_folder(REAL, self._path)
            return chromadb.PersistentClient(self._path, settings=settings)
        import httpx

        # Chroma's client waits for ever, and begins with a question: who does not answer is found out before.
        httpx.get(f"{self._url}/api/v2/heartbeat", headers=self._headers, timeout=self._timeout).raise_for_status()
        try:
            client = chromadb.HttpClient(
                self._url,  # With its port, in place of theirs.
                ssl=self._url.startswith("https:"),
                headers=dict(self._headers),
                settings=settings,
            )
        except ValueError as error:  # Its word for "could not connect".
            raise OSError(str(error)) from error
        for session in _http_sessions(client):
            session.timeout = httpx.Timeout(self._timeout)
        return client

    def _away(self, error: Exception) -> TargetUnavailableError:
        said = str(error) or type(error).__name__
        for secret in self._headers.values():
            said = said.replace(secret, "***")
        return TargetUnavailableError(target=self._target, reason=f"{self.place}: {said[:300]}")

    def close(self) -> None:
        """Gives it back; another use opens it again."""
        client: Any = self._client
        self._client = None
        if client is not None:
            sessions = _http_sessions(client)
            client.close()
            for session in sessions:  # Which Chroma's own close leaves open.
                session.close()


def _http_sessions(client: Any) -> list[httpx.Client]:
    """What Chroma's client of a server asks through: it has no public way to say how long it waits, or to end it."""
    servers = (vars(client)["_server"], vars(vars(client)["_admin_client"])["_server"])
    return [vars(each)["_session"] for each in servers if "_session" in vars(each)]
