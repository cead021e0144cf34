"""Where the data lies by default, and what may name a workspace. Never looks at the store's files."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import InvalidWorkspaceIdError

DATA_DIR_VARIABLE = "NOMAD_SESSIONS_DIR"
MAX_WORKSPACE_ID = 128
REGISTRY = "workspaces.json"
"""The file beside the workspaces that says whose folder is whose."""

# Windows opens a device for these names in every folder, with any extension, and reads the superscripts as digits.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\..*)?", re.IGNORECASE | re.DOTALL)
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


def default_data_dir() -> Path:
    """The folder for all workspaces: `$NOMAD_SESSIONS_DIR` where set and not empty, else the user's data folder.

    `~` is expanded. Creates nothing.
    """
    chosen = os.environ.get(DATA_DIR_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs  # only here is it needed, and it costs 3 ms

    return platformdirs.user_data_path("nomad-sessions")


def validate_workspace_id(s: str) -> str:
    """`s` itself when it can name a folder on Linux, macOS and Windows alike, and no other folder than one of its own.

    Raises InvalidWorkspaceIdError saying what is wrong. Under 1 us.
    """
    if not isinstance(s, str):
        raise InvalidWorkspaceIdError(workspace_id=s, reason="must be a str")
    reason = _what_is_wrong(s)
    if reason:
        raise InvalidWorkspaceIdError(workspace_id=s, reason=reason)
    return s


def _what_is_wrong(s: str) -> str:
    if not s:
        return "must not be empty"
    # File systems count bytes, 255 of them at most: 128 characters outside of ASCII can be 512.
    if len(s) > MAX_WORKSPACE_ID or len(s.encode("utf-8", "surrogatepass")) > 255:
        return f"must have at most {MAX_WORKSPACE_ID} characters and 255 bytes"
    found = _FORBIDDEN.search(s)
    if found:
        return f"must not contain {found.group()!r}"
    if s.startswith("."):
        return "must not start with a dot"
    if s != s.strip() or s.endswith("."):
        return "must not start or end with a space, nor end with a dot"
    if _RESERVED.fullmatch(s):
        return "is a device name on Windows"
    if s.lower().startswith(REGISTRY):
        return f"is kept for the store's own list of folders, {REGISTRY}"
    return ""
