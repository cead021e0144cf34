"""One HTTP address that is asked for vectors: requests in JSON, and answers, or errors that say what is wrong.

Invariant: no message, and no repr, has the key in it. Verified by `tests/unit/test_http_embedders.py`.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nomad_sessions.errors import EmbedderError, EmbeddingRefusedError, InvalidInputError
from nomad_sessions.forking import Mutex

if TYPE_CHECKING:
    import httpx

__all__ = ["Endpoint", "checked_secret", "checked_url", "is_local"]

_REFUSED = frozenset({400, 413, 422})
_LATER = frozenset({429, 503})
_ATTEMPTS = 4
_SAID = 300


def checked_url(field: str, url: str) -> str:
    """`url` without a slash at its end. Raises `InvalidInputError` unless it is of http or https, without a password
    and without `?` and `#`: what may be a secret would be shown wherever the address is, and a path comes after it."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # Half a bracket, a port that is no number.
        is_address = False
    if not is_address or not url.isprintable() or " " in url:
        raise InvalidInputError(field=field, value=None, reason="must be an address: http://host:port")
    if parts.username is not None:
        raise InvalidInputError(field=field, value=parts.hostname, reason="must have no user and password in it")
    if parts.query or parts.fragment:
        raise InvalidInputError(field=field, value=parts.hostname, reason="must have no ? and # in it")
    return url.rstrip("/")


def checked_secret(field: str, secret: str) -> str:
    """`secret` without blanks around it. Raises `InvalidInputError`, which does not show it, unless a header can have
    it: printable ASCII."""
    secret = secret.strip()
    if not (secret.isascii() and secret.isprintable()):
        raise InvalidInputError(field=field, value=None, reason="must be printable ASCII, and is not shown here")
    return secret


def is_local(url: str) -> bool:
    """Whether an address is of this computer: no proxy is asked for it."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Endpoint:
    """Answers to POSTs of JSON. Safe for several threads."""

    def __init__(self, model: str, url: str, *, key: str | None = None, timeout: float, patience: float) -> None:
        """`timeout` is for one answer, `patience` how long a server that says "later" is waited for, in seconds.

        Raises `InvalidInputError` for a key that no header can have, and where httpx is missing. Connects to nobody
        yet.
        """
        if importlib.util.find_spec("httpx") is None:
            reason = "needs httpx: pip install 'nomad-sessions[chroma]'"
            raise InvalidInputError(field="embedder", value=model, reason=reason)
        self.url = url
        self._model = model
        self._key = None if key is None else checked_secret("key", key)
        self._timeout = timeout
        self._patience = patience
        self._mutex = Mutex()
        self._client: httpx.Client | None = None
        self._owner = 0

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """What a POST gives. Raises `EmbeddingRefusedError` where the server says that what was sent is wrong, and
        `EmbedderError` for all else but an answer in JSON. One that says when to come back (`Retry-After`) is asked
        again, as far as the patience goes."""
        until = time.monotonic() + self._patience
        for attempt in range(_ATTEMPTS):
            response = self._sent(path, body)
            pause = _pause(response) if attempt < _ATTEMPTS - 1 else None
            if response.status_code not in _LATER or pause is None or time.monotonic() + pause > until:
                break
            time.sleep(pause)
        if response.status_code in _REFUSED:
            raise EmbeddingRefusedError(model=self._model, reason=self._said(response))
        if not response.is_success:
            raise self._failed(self._said(response))
        try:
            return response.json()
        except ValueError as error:
            raise self._failed("its answer is not JSON") from error

    def _sent(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        import httpx

        try:
            return self._connected().post(f"{self.url}{path}", json=body)
        except httpx.TimeoutException as error:
            raise self._failed(f"{self.url} did not answer within {self._timeout:g} s") from error
        except httpx.HTTPError as error:
            raise self._failed(f"{self.url}: {self._without_key(str(error))}") from error

    def _connected(self) -> httpx.Client:
        import httpx

        with self._mutex:
            if self._client is None or self._owner != os.getpid():  # A parent's connection is the parent's.
                self._owner = os.getpid()
                headers = {} if self._key is None else {"Authorization": f"Bearer {self._key}"}
                # What is asked on this computer is for no proxy's eyes.
                self._client = httpx.Client(timeout=self._timeout, headers=headers, trust_env=not is_local(self.url))
            return self._client

    def _said(self, response: httpx.Response) -> str:
        text = " ".join(response.text.split())[:_SAID]
        return self._without_key(f"{self.url} answered {response.status_code}: {text}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _failed(self, reason: str) -> EmbedderError:
        return EmbedderError(model=self._model, reason=reason)

    def close(self) -> None:
        """Gives the connection back; another call makes a new one."""
        with self._mutex:
            client, self._client = self._client, None
        if client is not None:
            client.close()


def _pause(response: httpx.Response) -> float | None:
    """How long a server asks to be left alone, in seconds; None where it does not say so in seconds."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None
