"""What an importer found and what became of it.

Invariant: for messages `read == imported + updated + unchanged + skipped`, so a report accounts for every record of its
file. Verified by `tests/unit/test_formats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ImportReport", "ParsedSession", "Tally"]

_MAX_WARNINGS = 1000
_FAILED = "a session whose workspace cannot be used"


@dataclass
class Tally:
    """Counts of one kind of record. `updated` were there already and had changed in the source since."""

    read: int = 0
    imported: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0


@dataclass
class ImportReport:
    """One import: counts of sessions, messages and recorded events, what was left out and why, and where.

    `workspaces` says how many of the sessions are in which workspace. `skipped` maps a reason to how many records it
    cost; each of them has its place in `warnings` as well (the first thousand: `warnings_omitted` counts the rest).
    `failed` names the workspaces that could not be used, damaged ones for instance, and why: none of the sessions that
    belong there was stored, or not all. `ignored` counts, by what it is, what the source keeps beside its conversations
    and an import is not meant to take.
    """

    source: str = ""
    format: str = ""
    session_ids: list[str] = field(default_factory=list)
    workspaces: dict[str, int] = field(default_factory=dict)
    sessions: Tally = field(default_factory=Tally)
    messages: Tally = field(default_factory=Tally)
    events: Tally = field(default_factory=Tally)
    skipped: dict[str, int] = field(default_factory=dict)
    ignored: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    warnings_omitted: int = 0

    @property
    def complete(self) -> bool:
        """True when nothing in the source was left out."""
        return not self.skipped and not self.failed

    def stored(self, session_id: str, workspace_id: str) -> None:
        """Note that a session is in this workspace, now or since an earlier import."""
        self.session_ids.append(session_id)
        self.workspaces[workspace_id] = self.workspaces.get(workspace_id, 0) + 1

    def fail(self, workspace_id: str, reason: str, sessions: int) -> None:
        """Note that a workspace cannot be used, for which so many sessions were still to be read. What was read and is
        not stored is left out with them."""
        self.sessions.read += sessions
        for tally in (self.sessions, self.messages):
            lost = tally.read - tally.imported - tally.updated - tally.unchanged - tally.skipped
            tally.skipped += lost
            if tally is self.sessions and lost:
                self.skipped[_FAILED] = self.skipped.get(_FAILED, 0) + lost
        self.failed[workspace_id] = reason
        self.warn_of_workspace(workspace_id, reason)

    def warn_of_workspace(self, workspace_id: str, reason: str) -> None:
        """Note, once, that a workspace cannot be used."""
        text = f"this workspace cannot be used: {reason}"
        if f"{workspace_id}: {text}" not in self.warnings:
            self.warn(workspace_id, text)

    def warn(self, place: str, text: str) -> None:
        """Note something worth knowing about a record that was read all the same."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(f"{place}: {text}")
        else:
            self.warnings_omitted += 1

    def ignore(self, what: str) -> None:
        """Count something that is no part of a conversation."""
        self.ignored[what] = self.ignored.get(what, 0) + 1

    def skip(self, place: str, reason: str) -> None:
        """Note that what stands at `place` was left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.warn(place, f"left out, {reason}")

    def skip_message(self, place: str, reason: str) -> None:
        """As `skip`, for a message that was counted as read."""
        self.messages.skipped += 1
        self.skip(place, reason)

    def objects(self, given: Any, place: str) -> list[Mapping[str, Any]]:
        """The objects in a list; whatever else stands there is noted as left out."""
        if given is not None and not isinstance(given, list):
            self.skip(place, "not a list")
            return []
        found: list[Mapping[str, Any]] = []
        for number, each in enumerate(given or ()):
            if isinstance(each, dict):
                found.append(each)
            else:
                self.skip(f"{place}[{number}]", "not an object")
        return found

    def add(self, other: ImportReport) -> None:
        """Take in what another report says, of a part of the same import."""
        self.session_ids += other.session_ids
        for mine, theirs in (
            (self.workspaces, other.workspaces),
            (self.skipped, other.skipped),
            (self.ignored, other.ignored),
            (vars(self.sessions), vars(other.sessions)),
            (vars(self.messages), vars(other.messages)),
            (vars(self.events), vars(other.events)),
        ):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        self.failed |= other.failed
        fit = _MAX_WARNINGS - len(self.warnings)
        self.warnings += other.warnings[:fit]
        self.warnings_omitted += len(other.warnings[fit:]) + other.warnings_omitted

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values, in camelCase."""
        return {
            "source": self.source,
            "format": self.format,
            "sessionIds": list(self.session_ids),
            "workspaces": dict(self.workspaces),
            "sessions": vars(self.sessions).copy(),
            "messages": vars(self.messages).copy(),
            "events": vars(self.events).copy(),
            "skipped": dict(self.skipped),
            "ignored": dict(self.ignored),
            "failed": dict(self.failed),
            "warnings": list(self.warnings),
            "warningsOmitted": self.warnings_omitted,
        }


@dataclass
class ParsedSession:
    """One session as a format's parser gives it: mappings in the store's own camelCase shape, nothing stored yet.

    `session` has `id`, `createdAt`, `updatedAt`, no `messageIds`, and no `revert`; `messages` are in order, those that
    the source hides included; those of a very large session are made anew each time they are asked for. `visible` says
    how many of them, from the first, are not hidden by a revert. `reason` is why they are hidden, where the source says
    so. `places[i]` is where `messages[i]` stands in the source, for reports. `inner` are sessions that the source keeps
    inside of this one (the sub-agents of an old Claude Code): children, to be stored after it. `read_from` are the
    bytes of its original, where they are at hand. `keeping` ends when the original that `session` names is durable.
    """

    session: dict[str, Any]
    messages: Sequence[dict[str, Any]]
    places: list[str]
    visible: int
    reason: str = ""
    inner: list[ParsedSession] = field(default_factory=list)
    read_from: bytes | None = None
    keeping: Future[object] | None = None

    @property
    def reverted(self) -> bool:
        """Whether the source hides messages at the end."""
        return self.visible < len(self.messages)

    def await_original(self) -> None:
        """To be called before a record that names the original is written. Raises what went wrong with it."""
        if self.keeping is not None:
            self.keeping.result()
