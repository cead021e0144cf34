"""The calls on copies elsewhere: kept up to date in the background while the manager is open."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from nomad_sessions.errors import InvalidInputError

# A program that only adds messages starts faster without them.
if TYPE_CHECKING:
    from nomad_sessions.sync.host import Host
    from nomad_sessions.sync.synchronizer import Synchronizer
    from nomad_sessions.sync.target import SyncTarget

__all__ = ["SyncCalls"]


class SyncCalls:
    """The calls on sync; `docs/api.md` has them in a table, `docs/sync.md` says what there is to know."""

    _mutex: threading.Lock
    _synchronizers: list[Synchronizer]

    def start_sync(self, *targets: SyncTarget) -> Synchronizer:
        """Keeps copies of all workspaces up to date from now on, until the manager, or what this returns, is closed.

        No write waits for a target. One that is away is asked again later, and gets what it lacks. Raises
        `InvalidInputError` without targets, and for two of one name. Asks none of them before it returns.
        """
        from nomad_sessions.sync.synchronizer import Synchronizer

        if not targets:
            raise InvalidInputError(field="targets", value=targets, reason="say to which")
        synchronizer = Synchronizer(cast("Host", self), targets)
        with self._mutex:
            self._synchronizers.append(synchronizer)
        synchronizer.start()
        return synchronizer
