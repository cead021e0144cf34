"""The manager and the clock that most tests of this folder work with. A module that needs more builds on them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_sessions import ManualClock, NativeSessionManager
from tests.support.samples import unpack_opencode

__all__ = ["START"]

START = 1_750_000_000_000


@pytest.fixture
def clock() -> ManualClock:
    """It stands still at START until a test advances it."""
    return ManualClock(START)


@pytest.fixture
def m(tmp_path: Path, clock: ManualClock) -> Iterator[NativeSessionManager]:
    """On an empty store beside which a test has room for folders of its own."""
    with NativeSessionManager(tmp_path / "data", durability="os", clock=clock) as manager:
        yield manager


@pytest.fixture
def kept(m: NativeSessionManager) -> NativeSessionManager:
    """The same, with a session `s` and its message `m`, which whatever is refused must leave alone."""
    m.create_session("ws", id="s", metadata={"k": 1})
    m.add_message("ws", "s", id="m", role="assistant", content="kept", parts=[{"type": "text", "content": "kept"}])
    return m


@pytest.fixture(scope="session")
def opencode_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two versions of OpenCode wrote, unpacked; tests that write work on a copy of what they need."""
    return unpack_opencode(tmp_path_factory.mktemp("opencode"))


@pytest.fixture
def opencode_home(opencode_data: Path, tmp_path: Path) -> Path:
    """OpenCode's data folder as it is after the move to the database: that, and the files left behind."""
    folder = tmp_path / "opencode"
    shutil.copytree(opencode_data / "json-tree", folder)
    shutil.copy(opencode_data / "opencode.db", folder)
    return folder
