"""File parts: bytes above 64 KiB go to `attachments/`, smaller ones stay in the message as a data: URL."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from nomad_sessions.errors import InvalidInputError

__all__ = ["INLINE_BYTES", "Keep", "data_url", "detach_files"]

INLINE_BYTES = 64 * 1024
_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*?)(;base64)?,", re.ASCII)


Keep = Callable[[bytes], str]
"""Stores the bytes of an attachment and gives their SHA-256."""


def data_url(mime: str, data: bytes) -> str:
    """A file as one URL that holds its bytes (RFC 2397)."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def detach_files(body: dict[str, Any], keep: Keep) -> None:
    """Puts the bytes of a message's file parts where they belong, in place.

    A part's `file` may have `data`: bytes. A large base64 data: URL becomes an attachment too. Raises
    `InvalidInputError` for `data` that is not bytes and base64 that is none.
    """
    for part in body["parts"]:
        file = part.get("file")
        if not isinstance(file, dict):
            continue
        data = _given(file)
        if data is None:
            continue
        file["size"] = len(data)
        if len(data) > INLINE_BYTES:
            file["sha256"] = keep(data)
            file.pop("url", None)  # Whatever it named, the bytes are here now.
        elif "url" not in file:
            file["url"] = data_url(file.get("mime") or "application/octet-stream", data)


def _given(file: dict[str, Any]) -> bytes | None:
    """The bytes that came with the part, if any did."""
    if "data" in file:
        data = file.pop("data")
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidInputError(field="file.data", value=data, reason="must be bytes")
        return bytes(data)
    url = file.get("url")
    match = _DATA_URL.match(url) if isinstance(url, str) and len(url) > INLINE_BYTES else None
    if match is None or not match[3]:
        return None
    try:
        data = base64.b64decode(str(url)[match.end() :], validate=True)
    except binascii.Error as error:
        raise InvalidInputError(field="file.url", value=url, reason=f"is no valid base64: {error}") from error
    if match[1] and not file.get("mime"):
        file["mime"] = match[1]
    return data
