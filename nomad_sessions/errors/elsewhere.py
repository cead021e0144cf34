"""Errors of what lies outside of the store: sources that are read through, copies that are waited for."""

from __future__ import annotations

from collections.abc import Mapping

from nomad_sessions.errors.base import NomadSessionsError, plain, short


class SourceUnavailableError(NomadSessionsError, RuntimeError):
    """A place that sessions are read from (`source`, its name) cannot be reached, refuses, or answers with what is no
    answer: `reason`."""

    def __init__(self, *, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(message=f"the source {plain(source)} is not available: {plain(reason)}")


class SourcesFailedError(NomadSessionsError, RuntimeError):
    """None of the sources could say: `errors` has the reason of each, by its name, for what was `wanted`."""

    def __init__(self, *, wanted: str, errors: Mapping[str, str]) -> None:
        self.wanted = wanted
        self.errors = dict(errors)
        said = "; ".join(f"{plain(name)}: {plain(reason)}" for name, reason in errors.items())
        super().__init__(message=f"no source could give {plain(wanted)}: {said}")


class NotConfirmedError(NomadSessionsError, RuntimeError):
    """A record is in the store, and copies of it elsewhere are not confirmed: `targets` has the reason of each, by its
    name. `id` is the record's; what is lacking is sent later."""

    def __init__(self, *, id: str, targets: Mapping[str, str]) -> None:
        self.id = id
        self.targets = dict(targets)
        said = "; ".join(f"{plain(name)}: {plain(reason)}" for name, reason in targets.items())
        super().__init__(message=f"{short(id)} is kept here, and not confirmed by {said}")
