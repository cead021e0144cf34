"""What one does not want to show with a conversation: keys and passwords, and where one's home folder is.

By known forms: those of providers' keys, tokens and certificates, values that are named as secrets, and home folders.
What has no known form is not found, so read what you share. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Redactor"]

# The kind of what is found, and its form; where a form has a group `kept`, that much of it stays.
_SECRETS: tuple[tuple[str, str], ...] = (
    ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    ("API key", r"\b(?:sk|rk|pk)-(?:ant-|proj-|or-|live-|test-)?[A-Za-z0-9_-]{16,}"),
    ("API key", r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("API key", r"\bAIza[0-9A-Za-z_-]{30,}"),
    ("token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,})"),
    ("token", r"\b(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,})"),
    ("AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("token", r"(?i)(?P<kept>\bbearer\s+)[A-Za-z0-9._~+/=-]{16,}"),
    ("password", r"(?P<kept>\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]{1,100}:)[^\s/@'\"]{1,200}(?=@)"),
    (
        "secret",
        r"(?i)(?P<kept>[\w-]{0,40}(?:password|passwd|secret|api[_-]?key|access[_-]?key|auth[_-]?token)[\w-]{0,20}"
        r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?)[^\s\"',;]{6,200}",
    ),
)
_HOME = re.compile(r"(?:/home/|/Users/|\b[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/))[^\s/\\:\"'<>|,;)\]}]+")
_STRUCTURE = frozenset(
    ("id", "sessionId", "parentId", "originId", "toolCallId", "type", "role", "status", "sha256", "mime")
)


class Redactor:
    """Takes such things out of values, and counts them by kind in `found`. The same thing is taken out the same way, so
    that a text stays readable: `[redacted API key]`, a home folder as `~`."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._forms = [(kind, re.compile(form)) for kind, form in _SECRETS]

    def value(self, value: Any) -> Any:
        """The value with all texts in it redacted, but ids and the like; nothing is changed in place."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: each if key in _STRUCTURE else self.value(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return value

    def text(self, text: str) -> str:
        """The text, redacted. The bytes of a file in a `data:` URL are left alone, and counted."""
        if text.startswith("data:"):
            self.found["files not looked into"] += 1
            return text
        for kind, form in self._forms:
            text = form.sub(lambda match, kind=kind: self._taken(match, kind), text)  # type: ignore[misc]
        return _HOME.sub(self._home, text)

    def _taken(self, match: re.Match[str], kind: str) -> str:
        kept = match.groupdict().get("kept") or ""
        if match[0][len(kept) :].startswith("[redacted"):
            return match[0]
        self.found[kind] += 1
        return f"{kept}[redacted {kind}]"

    def _home(self, _: re.Match[str]) -> str:
        self.found["home folder"] += 1
        return "~"
