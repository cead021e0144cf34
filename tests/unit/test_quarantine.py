"""What recovery takes out is durable in quarantine first, and nothing there is ever overwritten."""

from __future__ import annotations

import errno

import pytest

from nomad_sessions.storage import quarantine
from tests.support.drawing import every
from tests.support.modelfs import Killed, ModelDisk


def workspace() -> ModelDisk:
    disk = ModelDisk()
    disk.write("/w/lock", b"")
    return disk


def test_the_bytes_are_durable_with_their_name_on_return() -> None:
    disk = workspace()
    path = quarantine.keep(disk.process(), "/w", "tail", b"torn bytes")
    assert path == "/w/quarantine/tail"
    assert {image.tree().get(path) for image in every(disk.crash)} == {b"torn bytes"}


def test_a_name_that_is_taken_gets_a_number() -> None:
    disk = workspace()
    fs = disk.process()
    assert [quarantine.keep(fs, "/w", "tail", bytes([number])) for number in range(3)] == [
        "/w/quarantine/tail",
        "/w/quarantine/tail.1",
        "/w/quarantine/tail.2",
    ]
    assert [disk.read(f"/w/quarantine/tail{end}") for end in ("", ".1", ".2")] == [b"\0", b"\1", b"\2"]


def test_what_cannot_be_kept_whole_leaves_nothing_and_raises() -> None:
    disk = workspace()
    fs = disk.process()
    with fs.inject(errno.ENOSPC, op="pwrite_all", effect="part"), pytest.raises(OSError, match="No space"):
        quarantine.keep(fs, "/w", "tail", b"torn bytes")
    assert disk.names_in("/w/quarantine") == []
    assert not fs.open_paths


def test_a_folder_that_a_dead_process_made_is_made_durable_by_the_next() -> None:
    disk = workspace()
    dead = disk.process()
    with dead.die_at(1, op="sync_dir"), pytest.raises(Killed):
        quarantine.keep(dead, "/w", "a", b"1")
    path = quarantine.keep(disk.process(), "/w", "b", b"2")
    assert {image.tree().get(path) for image in every(disk.crash)} == {b"2"}
