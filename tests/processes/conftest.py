"""The store that the processes of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with an empty session `shared` in workspace `ws`."""
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="shared")
    return tmp_path
