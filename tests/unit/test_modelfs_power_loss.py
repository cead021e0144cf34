"""The model file system loses what a power loss may take, keeps what it must not, and so finds careless writers."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nomad_sessions.storage._os import FileSystem
from tests.support.drawing import Draw, at_random, every, mildest
from tests.support.modelfs import CREATE, MUTATING, Killed, ModelDisk, ModelFS, put


def outcomes(disk: ModelDisk, path: str, *, thin: int = 5) -> set[bytes | None]:
    """Everything that the file may hold after a power loss now; None where it may be missing."""
    return {image.tree().get(path) for image in every(disk.crash, thin=thin)}


def test_what_is_synced_with_its_folder_survives_every_power_loss() -> None:
    disk = ModelDisk()
    put(disk.process(), "/f", b"safe", sync=True, folder="/")
    assert outcomes(disk, "/f") == {b"safe"}


def test_a_synced_file_in_an_unsynced_folder_may_be_missing() -> None:
    disk = ModelDisk()
    put(disk.process(), "/f", b"data", sync=True)
    assert outcomes(disk, "/f") == {b"data", None}


def test_a_name_in_a_synced_folder_may_lead_to_an_empty_torn_nul_filled_or_damaged_file() -> None:
    disk = ModelDisk(page=4)
    put(disk.process(), "/f", b"abcdefgh", folder="/")
    found = outcomes(disk, "/f", thin=9)
    assert {b"abcdefgh", b"", b"abc", bytes(8), b"abcd\0\0\0\0", b"\0\0\0\0efgh", b"abcdefgi"} <= found
    assert None not in found


def test_durable_bytes_before_an_unsynced_append_are_never_touched() -> None:
    disk = ModelDisk(page=4)
    disk.write("/f", b"123456")
    fs = disk.process()
    fd = fs.open("/f", os.O_RDWR)
    fs.pwrite_all(fd, b"789abc", 6)
    found = outcomes(disk, "/f")
    assert {b"123456", b"123456789abc", b"123456\0\0\0\0\0\0"} <= found
    assert all(content is not None and content.startswith(b"123456") for content in found)


def test_an_overwritten_page_may_be_the_old_one() -> None:
    disk = ModelDisk(page=2)
    disk.write("/f", b"aabbcc")
    fs = disk.process()
    fd = fs.open("/f", os.O_RDWR)
    fs.pwrite_all(fd, b"112233", 0)
    assert {b"11bb33", b"aa2233", b"1122cc", b"aabbcc", b"112233"} <= outcomes(disk, "/f", thin=6)


def test_pages_of_one_unsynced_group_may_arrive_in_any_order() -> None:
    disk = ModelDisk(page=4)
    put(disk.process(), "/f", b"", sync=True, folder="/")
    fs = disk.process()
    fd = fs.open("/f", os.O_RDWR)
    for number in range(3):
        fs.pwrite_all(fd, bytes([65 + number]) * 4, number * 4)
    assert b"\0\0\0\0BBBB\0\0\0\0" in outcomes(disk, "/f")


def test_an_unsynced_truncation_may_not_have_happened() -> None:
    disk = ModelDisk()
    disk.write("/f", b"abcdef")
    fs = disk.process()
    fd = fs.open("/f", os.O_RDWR)
    fs.truncate(fd, 2)
    assert outcomes(disk, "/f") == {b"ab", b"abcdef"}
    fs.sync(fd)
    assert outcomes(disk, "/f") == {b"ab"}


def test_a_power_loss_keeps_a_prefix_of_the_name_changes() -> None:
    disk = ModelDisk()
    fs = disk.process()
    for name in "abc":
        put(fs, f"/{name}", b"", sync=True)
    fs.unlink("/a")
    found = {"".join(sorted(image.tree())) for image in every(disk.crash)}
    assert found == {"", "/a", "/a/b", "/a/b/c", "/b/c"}


def test_a_rename_may_survive_without_the_bytes_of_its_file() -> None:
    disk = ModelDisk()
    disk.write("/f", b"old")
    fs = disk.process()
    put(fs, "/tmp", b"new")
    fs.replace("/tmp", "/f")
    assert {b"old", b"new", b""} <= outcomes(disk, "/f")


def test_a_rename_of_a_synced_file_gives_old_or_new_and_after_the_folders_sync_new() -> None:
    disk = ModelDisk()
    disk.write("/f", b"old")
    fs = disk.process()
    put(fs, "/tmp", b"new", sync=True)
    fs.replace("/tmp", "/f")
    assert outcomes(disk, "/f") == {b"old", b"new"}
    fs.sync_dir("/")
    assert outcomes(disk, "/f") == {b"new"}


def test_an_exchange_happens_whole_or_not_at_all() -> None:
    disk = ModelDisk()
    disk.write("/a", b"1")
    disk.write("/b", b"2")
    assert disk.process().exchange("/a", "/b")
    found = {(image.read("/a"), image.read("/b")) for image in every(disk.crash)}
    assert found == {(b"1", b"2"), (b"2", b"1")}


def test_syncing_one_folder_keeps_no_names_of_another() -> None:
    disk = ModelDisk()
    fs = disk.process()
    for folder in ("/x", "/y"):
        fs.mkdir(folder)
    fs.sync_dir("/")
    put(fs, "/x/f", b"1", sync=True)
    put(fs, "/y/f", b"2", sync=True, folder="/y")
    assert outcomes(disk, "/x/f") == {b"1", None}
    assert outcomes(disk, "/y/f") == {b"2"}


def test_a_synced_move_between_folders_never_loses_the_file() -> None:
    disk = ModelDisk()
    disk.write("/x/f", b"1")
    disk.write("/y/keep", b"")
    fs = disk.process()
    put(fs, "/x/g", b"2", sync=True)
    fs.replace("/x/f", "/y/f")
    for image in every(disk.crash):
        assert sum(path in image.tree() for path in ("/x/f", "/y/f")) == 1
    fs.sync_dir("/y")
    assert outcomes(disk, "/x/f") == {None}
    assert outcomes(disk, "/y/f") == {b"1"}
    assert outcomes(disk, "/x/g") == {b"2"}


def test_a_hard_link_shares_one_outcome() -> None:
    disk = ModelDisk()
    fs = disk.process()
    put(fs, "/a", b"data")
    fs.link("/a", "/b")
    fs.sync_dir("/")
    for image in every(disk.crash):
        assert image.read("/a") == image.read("/b")
        found = image.process().stat("/a")
        assert found is not None
        assert found.nlink == 2


def test_after_a_failed_sync_no_later_sync_makes_the_bytes_durable() -> None:
    disk = ModelDisk()
    disk.write("/f", b"old")
    fs = disk.process()
    fd = fs.open("/f", os.O_RDWR)
    fs.pwrite_all(fd, b"new", 0)
    with fs.inject(errno.EIO, op="datasync"), pytest.raises(OSError, match="/f"):
        fs.datasync(fd)
    fs.datasync(fd)
    assert fs.pread(fd, 3, 0) == b"new"
    assert outcomes(disk, "/f") == {b"old"}


def test_a_crash_changes_nothing_on_the_disk_that_crashed_and_its_image_is_settled() -> None:
    disk = ModelDisk()
    put(disk.process(), "/f", b"data")
    before = disk.tree()
    images = list(every(disk.crash))
    assert disk.tree() == before
    assert len(images) > 10
    for image in images:
        assert {str(again.tree()) for again in every(image.crash)} == {str(image.tree())}


def test_the_first_choices_lose_nothing() -> None:
    disk = ModelDisk()
    fs = disk.process()
    fs.mkdir("/d")
    put(fs, "/d/f", b"data")
    assert disk.crash(mildest).tree() == disk.tree()


def test_settle_makes_everything_durable() -> None:
    disk = ModelDisk()
    put(disk.process(), "/f", b"data")
    disk.settle()
    assert outcomes(disk, "/f") == {b"data"}


def test_a_random_draw_repeats_itself() -> None:
    disk = ModelDisk()
    put(disk.process(), "/f", bytes(range(200)), folder="/")
    assert disk.crash(at_random(7)).tree() == disk.crash(at_random(7)).tree()
    assert len({str(disk.crash(at_random(seed)).tree()) for seed in range(20)}) > 3


# What it is for: a careless writer is found


def replace_file(fs: FileSystem, data: bytes, *, file_sync: bool, folder_sync: bool) -> None:
    fd = fs.open("/tmp", CREATE | os.O_TRUNC)
    fs.pwrite_all(fd, data, 0)
    if file_sync:
        fs.datasync(fd)
    fs.close(fd)
    fs.replace("/tmp", "/f")
    if folder_sync:
        fs.sync_dir("/")


def crash_while_replacing(draw: Draw, *, file_sync: bool, folder_sync: bool) -> tuple[bytes | None, set[bytes]]:
    """What is there after the crash, and what may be."""
    disk = ModelDisk()
    disk.write("/f", b"version 0")
    fs: ModelFS = disk.process()
    acked = 0
    fault = fs.die_at(draw(range(20, 0, -1)), op=MUTATING, effect=draw(("all", "part", "none")))
    try:
        for version in range(1, 4):
            replace_file(fs, f"version {version}".encode(), file_sync=file_sync, folder_sync=folder_sync)
            acked = version
    except Killed:
        fault.assert_fired()
    left = disk.crash(draw).tree().get("/f")
    return left, {f"version {acked}".encode(), f"version {acked + 1}".encode()}


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_careful_replacement_survives_a_power_loss_at_any_call(data: st.DataObject) -> None:
    left, allowed = crash_while_replacing(
        lambda choices: data.draw(st.sampled_from(choices)), file_sync=True, folder_sync=True
    )
    assert left in allowed


@pytest.mark.parametrize(("file_sync", "folder_sync"), [(False, True), (True, False), (False, False)])
def test_a_replacement_without_one_of_its_syncs_is_found_out(file_sync: bool, folder_sync: bool) -> None:
    results = [
        crash_while_replacing(at_random(seed), file_sync=file_sync, folder_sync=folder_sync) for seed in range(200)
    ]
    assert any(left not in allowed for left, allowed in results)
