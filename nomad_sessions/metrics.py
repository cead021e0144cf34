"""Numbers on what a manager does: for a health page, or for Prometheus to scrape."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import NamedTuple

from nomad_sessions.errors import NomadSessionsError
from nomad_sessions.events.hub import Hub
from nomad_sessions.mail.asking import MailCounts, counts
from nomad_sessions.mail.operations import box_of
from nomad_sessions.storage.counters import Counters
from nomad_sessions.workspace.store import Workspace

__all__ = ["Metrics", "SubscriberMetrics", "WorkspaceMetrics", "metrics_of"]

_LOG = logging.getLogger("nomad_sessions")
_PREFIX = "nomad_sessions"
_HELP = {
    "commits": "Groups of records appended to the journal.",
    "records": "Records appended to the journal.",
    "bytes_appended": "Bytes appended to the journal.",
    "syncs": "Syncs of the journal.",
    "sync_seconds": "Seconds spent in syncs of the journal.",
    "checkpoints": "Snapshots written.",
    "checkpoint_seconds": "Seconds spent in writing snapshots.",
    "lock_waits": "Commits that waited for another process's lock.",
    "lock_wait_seconds": "Seconds spent in waiting for it.",
    "body_hits": "Messages found put together.",
    "body_misses": "Messages put together from pieces.",
    "body_evictions": "Messages forgotten to make room.",
    "cached_bytes": "Bytes of messages kept put together.",
    "seq": "The last change.",
    "unfolded_bytes": "Bytes of the journal that the snapshot has not.",
    "mail_queued": "Messages of the mailbox that wait.",
    "mail_leased": "Messages of the mailbox that somebody has.",
    "mail_dead": "Messages of the mailbox that were given up.",
    "mail_oldest_timestamp_seconds": "When the oldest message that is not dealt with was sent.",
}
_GAUGES = ("cached_bytes", "seq", "unfolded_bytes")
_MAIL = ("queued", "leased", "dead")


class WorkspaceMetrics(NamedTuple):
    """What was done with a workspace since this manager opened it, and how it stands. `mail` is None where the files
    cannot be read."""

    counters: Counters
    cached_bytes: int
    seq: int
    unfolded_bytes: int
    mail: MailCounts | None

    def numbers(self) -> Iterator[tuple[str, float]]:
        """All of them, by name."""
        yield from asdict(self.counters).items()
        yield from ((name, getattr(self, name)) for name in _GAUGES)
        if self.mail is not None:
            yield from ((f"mail_{name}", getattr(self.mail, name)) for name in _MAIL)
            if self.mail.oldest is not None:
                yield "mail_oldest_timestamp_seconds", self.mail.oldest / 1000

    @property
    def hit_rate(self) -> float | None:
        """How many of the messages in pieces were found put together, 0 to 1; None where none was asked for."""
        asked = self.counters.body_hits + self.counters.body_misses
        return self.counters.body_hits / asked if asked else None


class SubscriberMetrics(NamedTuple):
    """A subscription: how many events of a workspace it has yet to take."""

    workspace_id: str
    cursor: str | None
    behind: int


class Metrics(NamedTuple):
    """Of the workspaces that are open, and of the subscriptions."""

    workspaces: dict[str, WorkspaceMetrics]
    subscribers: list[SubscriberMetrics]

    def prometheus(self) -> str:
        """The text format that Prometheus scrapes, version 0.0.4.

        Source: https://prometheus.io/docs/instrumenting/exposition_formats/
        """
        lines: list[str] = []
        numbers = {name: dict(each.numbers()) for name, each in self.workspaces.items()}
        for name, said in _HELP.items():
            kind, ending = ("gauge", "") if name in _GAUGES or name.startswith("mail_") else ("counter", "_total")
            found = [({"workspace": each}, values[name]) for each, values in numbers.items() if name in values]
            lines += _family(f"{_PREFIX}_{name}{ending}", kind, said, found)
        behind: dict[tuple[str, str], int] = {}
        for each in self.subscribers:
            key = (each.workspace_id, each.cursor or "")
            behind[key] = max(behind.get(key, 0), each.behind)
        rows = [({"workspace": workspace, "cursor": cursor}, count) for (workspace, cursor), count in behind.items()]
        lines += _family(f"{_PREFIX}_subscriber_behind", "gauge", "Events that the slowest has yet to take.", rows)
        count: list[tuple[dict[str, str], float]] = [({}, len(self.subscribers))]
        lines += _family(f"{_PREFIX}_subscriptions", "gauge", "Subscriptions that there are.", count)
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, said: str, rows: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP {name} {said}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"{name}{{{inner}}} {value}" if inner else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def metrics_of(workspaces: Mapping[str, Workspace], hub: Hub | None) -> Metrics:
    """The numbers as they are now."""
    found = {}
    for name, each in sorted(workspaces.items()):
        with each.guarded():
            mail = _mail_of(each)
            opened = each.opened
            counters = Counters(*(getattr(each.counters, field.name) for field in fields(Counters)))
            seq, pending = (opened.view.seq, opened.view.pending_bytes) if opened is not None else (0, 0)
            found[name] = WorkspaceMetrics(counters, each.bodies.bytes, seq, pending, mail)
    listening = [] if hub is None else hub.listening()
    return Metrics(found, [SubscriberMetrics(*row) for each in listening for row in each.behind()])


def _mail_of(workspace: Workspace) -> MailCounts | None:
    try:
        return workspace.read(lambda view: counts(box_of(view), None))
    except NomadSessionsError as error:  # Who asks how it goes is to be told of the rest.
        _LOG.warning("%s: its mailbox cannot be counted: %s", workspace.folder, error)
        return None
