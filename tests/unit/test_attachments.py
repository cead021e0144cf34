"""Attachments: named by what they hold, kept once, given back as they were, and young while somebody asks for them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from nomad_sessions import AttachmentMissingError, NativeSessionManager
from nomad_sessions.storage import attachments
from nomad_sessions.storage._os import REAL

WS = "ws"
DATA = b"some bytes"
NAME = hashlib.sha256(DATA).hexdigest()


def test_bytes_are_kept_once_under_the_name_that_they_have(tmp_path: Path) -> None:
    workspace = f"{tmp_path}/ws"
    assert not attachments.is_kept(REAL, workspace, DATA, NAME)
    assert [attachments.store(REAL, workspace, DATA, NAME) for _ in range(2)] == [NAME, NAME]
    assert attachments.is_kept(REAL, workspace, DATA, NAME)
    assert os.listdir(f"{workspace}/attachments") == [NAME]
    assert attachments.read(REAL, workspace, NAME) == DATA


def test_a_file_of_another_size_is_no_attachment_and_is_replaced(tmp_path: Path) -> None:
    attachments.store(REAL, str(tmp_path), DATA, NAME)
    path = tmp_path / "attachments" / NAME
    path.write_bytes(DATA[:-1])
    assert not attachments.is_kept(REAL, str(tmp_path), DATA, NAME)
    with pytest.raises(AttachmentMissingError):
        attachments.read(REAL, str(tmp_path), NAME)
    attachments.store(REAL, str(tmp_path), DATA, NAME)
    assert attachments.read(REAL, str(tmp_path), NAME) == DATA


def test_to_attach_the_same_bytes_again_makes_them_young(m: NativeSessionManager) -> None:
    m._attach(WS, DATA)
    path = Path(m.data_dir) / WS / "attachments" / NAME
    os.utime(path, (5, 5))
    inode = path.stat().st_ino
    assert m._attach(WS, DATA) == NAME
    assert path.stat().st_mtime > 1_000_000_000
    assert path.stat().st_ino == inode


def test_what_is_no_name_is_not_looked_for(m: NativeSessionManager) -> None:
    for name in ("", "../sessions.json", NAME.upper(), NAME + "\n"):
        with pytest.raises(AttachmentMissingError):
            m.read_attachment(WS, name)
