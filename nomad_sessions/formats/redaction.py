"""What one does not want to show with a conversation: keys and passwords, and where one's home folder is.

By known forms: those of providers' keys, tokens and certificates, values that are named as secrets, and home folders.
What has no known form is not found, so read what you share. Pure.

The work grows with the text and not with its square: a form begins with something that is sought for, and what may be
repeated is bounded or ends the search. Verified by `tests/unit/test_redaction.py`, with the texts that are worst.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Redactor"]

_QUOTE = r"\\{0,3}[\"']"  # Also as JSON inside of JSON has it.
_IS = rf"(?:{_QUOTE})?\s{{0,3}}[:=]\s{{0,3}}"
_PLAIN = r"[^\s\"',;\\]"
_VALUE = rf"(?:(?P<q>{_QUOTE})(?:(?!(?P=q))[^\n]){{4,400}}|(?!\\{{0,3}}[\"'])"
_NAMES = r"password|passwd|passphrase|secret|credential|(?:api|access|private)[_-]?key|auth[_-]?token"

# The kind of what is found, and its form; where a form has a group `kept`, that much of it stays.
_SECRETS: tuple[tuple[str, str], ...] = (
    ("private key", r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY[A-Z ]{0,9}-----[\s\S]*?(?:-----END [^-\n]{0,60}-----|\Z)"),
    ("API key", r"\b(?:sk|rk|pk)-(?:ant-|proj-|or-|live-|test-)?[A-Za-z0-9_-]{16,}"),
    ("API key", r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}"),
    ("API key", r"\bAIza[0-9A-Za-z_-]{30,}"),
    ("token", r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{16,})"),
    ("token", r"\b(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}|pypi-[A-Za-z0-9_-]{30,})"),
    ("AWS key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("token", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    ("token", r"(?i)(?P<kept>\bbearer\s{1,3})[A-Za-z0-9._~+/=-]{16,}"),
    ("token", rf"(?i)(?P<kept>authorization{_IS}(?:{_QUOTE})?(?:[a-z]{{1,20}}\s{{1,3}})?){_PLAIN}{{6,}}"),
    ("password", r"(?P<kept>://[^\s/:@'\"]{0,100}:)[^\s/@'\"]{1,200}(?=@)"),
    ("secret", rf"(?i)(?P<kept>(?:{_NAMES})[\w-]{{0,20}}{_IS}){_VALUE}{_PLAIN}{{6,200}})"),
    # A token may also be a piece of language: it has to be named as a value is, or to look like none.
    ("secret", rf"(?P<kept>(?:[_-](?i:token)|(?<=[a-z])Token){_IS}){_VALUE}{_PLAIN}{{6,200}})"),
    ("secret", rf"(?i)(?P<kept>{_QUOTE}token{_IS}){_VALUE}{_PLAIN}{{6,200}})"),
    ("secret", rf"(?i)(?P<kept>\btoken{_IS}){_VALUE}(?=[^\s\d]{{0,200}}\d){_PLAIN}{{6,200}})"),
)
_NAMED = re.compile(rf"(?:[\w.-]{{0,60}})(?:{_NAMES}|token|authorization)", re.IGNORECASE)

_DATA = re.compile(r"data:[\w.+/-]{0,200}(?:;[^,;\s]{1,200}){0,20};base64,[A-Za-z0-9+/=_%\s-]*")

# A folder of that name in a project, or in a URL, is nobody's home: where it begins has to be a beginning.
_BEGINS = r"(?:(?<![\w.~)\]}-])|(?<=\\[nrt])|(?<=-[IL]))"
_ROOTS = r"(?:/var|/export|/mnt/[a-z]|/cygdrive/[a-z]|/[a-z]|/System/Volumes/Data)?/(?:home|Users)/"
_DRIVE = r"\b[A-Za-z]:(?:\\{1,2}|/)Users(?:\\{1,2}|/)"
_SEPARATED = r"[^\s/\\:\"'<>|,;)\]}`*?]"
# A name with spaces in it is one where a folder follows.
_NAME = rf"(?:{_SEPARATED}{{1,100}}(?: [A-Z]{_SEPARATED}{{0,100}}){{1,3}}(?=[/\\])|{_SEPARATED}{{1,255}})"
_SLUG = r"(?<![\w-])(?:-(?:home|Users)|[A-Za-z]--Users)-[A-Za-z0-9]{1,100}"
_HOME = re.compile(rf"(?:{_BEGINS}{_ROOTS}|{_DRIVE}){_NAME}|{_SLUG}")
_WHOLE = re.compile(rf"(?:{_ROOTS}|[A-Za-z]:[\\/]Users[\\/])[^/\\\n]{{1,255}}")


class Redactor:
    """Takes such things out of values, and counts them by kind in `found`. The same thing is taken out the same way, so
    that a text stays readable, and ids go on to agree: `[redacted API key]`, a home folder as `~`."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()
        self._forms = [(kind, re.compile(form)) for kind, form in _SECRETS]
        self._homes: list[re.Pattern[str]] = []

    def learn(self, folder: object) -> None:
        """Says which folder a conversation was held in: if that is in a home folder, this one is found wherever it
        stands, whatever its name."""
        found = _WHOLE.match(folder) if isinstance(folder, str) else None
        if found is not None:
            home = found[0]
            slug = re.sub(r"[^A-Za-z0-9]", "-", home)
            self._homes.append(re.compile(rf"{re.escape(home)}(?![\w.-]*\w)|{re.escape(slug)}(?![A-Za-z0-9])"))

    def value(self, value: Any) -> Any:
        """The value with all texts in it redacted, keys too; nothing is changed in place."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            found: dict[str, Any] = {}
            numbers: dict[str, int] = {}
            for key, each in value.items():
                found[_unlike(found, self.text(key), numbers)] = self._named(key, each)
            return found
        if isinstance(value, list):
            return [self.value(each) for each in value]
        return value

    def _named(self, key: str, value: Any) -> Any:
        """What stands under a key; a text under the name of a secret is one, whatever its form."""
        if not isinstance(value, str) or not value or _NAMED.fullmatch(key) is None:
            return self.value(value)
        self.found["secret"] += 1
        return "[redacted secret]"

    def text(self, text: str) -> str:
        """The text, redacted. The bytes of a file in a `data:` URL are left alone, and counted."""
        if text.startswith("data:") and _DATA.fullmatch(text):
            self.found["files not looked into"] += 1
            return text
        for kind, form in self._forms:
            text = form.sub(lambda match, kind=kind: self._taken(match, kind), text)  # type: ignore[misc]
        for home in self._homes:
            text = home.sub(self._home, text)
        return _HOME.sub(self._home, text)

    def _taken(self, match: re.Match[str], kind: str) -> str:
        groups = match.groupdict()
        kept, quote = groups.get("kept") or "", groups.get("q") or ""
        if match[0][len(kept) + len(quote) :].startswith("[redacted"):
            return match[0]
        self.found[kind] += 1
        return f"{kept}{quote}[redacted {kind}]"

    def _home(self, _: re.Match[str]) -> str:
        self.found["home folder"] += 1
        return "~"


def _unlike(taken: Mapping[str, Any], key: str, numbers: dict[str, int]) -> str:
    """The key, or one with a number where another has become the same. `numbers` are the last that keys were given."""
    found = key
    while found in taken:
        numbers[key] = numbers.get(key, 1) + 1
        found = f"{key} ({numbers[key]})"
    return found
