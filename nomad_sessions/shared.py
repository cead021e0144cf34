"""The one manager that the parts of a process share, as the original's module-level functions give it."""

from __future__ import annotations

import os
import threading
from typing import Any

from nomad_sessions.manager import NativeSessionManager

__all__ = ["get_session_manager", "init_session_manager"]


class _Default:
    def __init__(self) -> None:
        self.manager: NativeSessionManager | None = None
        self.mutex = threading.Lock()

    def after_fork(self) -> None:
        """In a forked child: another thread, which is not here, may have held the mutex."""
        self.mutex = threading.Lock()


_default = _Default()


def init_session_manager(data_dir: str | os.PathLike[str] | None = None, **options: Any) -> NativeSessionManager:
    """Makes the manager that `get_session_manager` gives from now on; one made before is closed.

    `options` are those of `NativeSessionManager`, and so are the errors.
    """
    with _default.mutex:
        made = NativeSessionManager(data_dir, **options)
        before, _default.manager = _default.manager, made
    if before is not None:
        before.close()
    return made


def get_session_manager(data_dir: str | os.PathLike[str] | None = None) -> NativeSessionManager:
    """The manager of this process, made when it is first asked for, or after it was closed.

    `data_dir` counts only then. Raises as `NativeSessionManager` does.
    """
    with _default.mutex:
        manager = _default.manager
        if manager is None or manager.closed:
            manager = _default.manager = NativeSessionManager(data_dir)
        return manager


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_default.after_fork)
