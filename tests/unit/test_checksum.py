"""The checksum is that of zlib, whoever computes it: files are the same with the extra `fast` and without."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions import NativeSessionManager
from nomad_sessions.storage import checksum


@pytest.fixture(autouse=True)
def _afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "crc32", zlib.crc32)


@given(pieces=st.lists(st.binary(max_size=300), max_size=5), many=st.integers(1, 400))
def test_in_a_hurry_it_is_zlib_s_of_any_bytes_whole_and_in_pieces(pieces: list[bytes], many: int) -> None:
    checksum.hurry()
    assert checksum.crc32 is not zlib.crc32, "the extra is not installed: in CI all are"
    data = b"".join(pieces) * many
    assert checksum.crc32(data) == zlib.crc32(data)
    assert checksum.crc32(memoryview(data)[1:]) == zlib.crc32(data[1:])
    value = expected = 0
    for piece in pieces:
        value, expected = checksum.crc32(piece, value), zlib.crc32(piece, expected)
    assert value == expected


def test_it_hurries_only_where_there_is_much_to_do(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path, durability="os") as manager:
        manager.create_session("ws", id="s")
        manager.checkpoint("ws")
        assert checksum.crc32 is zlib.crc32, "loading it takes longer than this"
        manager.add_message("ws", "s", role="user", content="x" * (2 << 20))
        manager.checkpoint("ws")
        assert checksum.crc32 is not zlib.crc32


WITHOUT = """
import sys, zlib
sys.modules["isal"] = None
from nomad_sessions import NativeSessionManager
from nomad_sessions.storage import checksum
with NativeSessionManager(sys.argv[1]) as manager:
    with manager.workspace("ws").bulk():
        (message,) = manager.get_session_messages("ws", "s")
        manager.add_message("ws", "s", role="user", content=message.content[::-1])
    assert manager.check("ws").ok
assert checksum.crc32 is zlib.crc32
"""


@pytest.mark.processes
def test_a_store_goes_back_and_forth_between_an_installation_with_it_and_one_without(tmp_path: Path) -> None:
    text = "written with it" * 100_000
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", id="s")
        manager.add_message("ws", "s", role="user", content=text)
        manager.checkpoint("ws")
        command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [each.content for each in manager.get_session_messages("ws", "s")] == [text, text[::-1]]
        assert manager.check("ws").ok
