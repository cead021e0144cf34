"""One suite for every `FileSystem`: the real one of this platform, the model, and Windows's code run here."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from nomad_sessions.storage._os import REAL, FileSystem
from nomad_sessions.storage._os_windows import WindowsFileSystem
from tests.support.modelfs import ModelDisk

CREATE = os.O_RDWR | os.O_CREAT


class Place(NamedTuple):
    fs: FileSystem
    folder: str

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def put(self, name: str, data: bytes) -> str:
        path = self.path(name)
        fd = self.fs.open(path, CREATE | os.O_TRUNC)
        self.fs.pwrite_all(fd, data, 0)
        self.fs.close(fd)
        return path

    def get(self, name: str) -> bytes:
        fd = self.fs.open(self.path(name), os.O_RDONLY)
        data = self.fs.pread(fd, 1 << 20, 0)
        self.fs.close(fd)
        return data


def real(folder: Path) -> Place:
    return Place(REAL, folder.as_posix())


def model(folder: Path) -> Place:
    disk = ModelDisk()
    fs = disk.process()
    fs.mkdir("/data")
    return Place(fs, "/data")


def simulated_windows(folder: Path) -> Place:
    return Place(WindowsFileSystem(), folder.as_posix())


@pytest.fixture(params=[real, model, simulated_windows])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    made = request.param(tmp_path)
    assert isinstance(made, Place)
    return made


def test_what_is_written_at_an_offset_is_read_there(place: Place) -> None:
    fd = place.fs.open(place.path("f"), CREATE)
    place.fs.pwrite_all(fd, b"hello world", 0)
    place.fs.pwrite_all(fd, bytearray(b"W"), 6)
    place.fs.pwrite_all(fd, memoryview(b"xx!yy")[2:3], 11)
    place.fs.pwrite_all(fd, b"", 3)
    assert place.fs.pread(fd, 5, 0) == b"hello"
    assert place.fs.pread(fd, 100, 6) == b"World!"
    assert place.fs.pread(fd, 10, 500) == b""
    place.fs.close(fd)


def test_newlines_are_not_translated(place: Place) -> None:
    place.put("f", b"a\nb\r\nc\x1a\n")
    assert place.get("f") == b"a\nb\r\nc\x1a\n"


def test_a_hole_reads_as_nul(place: Place) -> None:
    fd = place.fs.open(place.path("f"), CREATE)
    place.fs.pwrite_all(fd, b"x", 4)
    assert place.fs.pread(fd, 10, 0) == b"\0\0\0\0x"
    place.fs.close(fd)


def test_truncate_cuts_and_extends(place: Place) -> None:
    fd = place.fs.open(place.path("f"), CREATE)
    place.fs.pwrite_all(fd, b"abcdef", 0)
    place.fs.truncate(fd, 3)
    place.fs.truncate(fd, 5)
    assert place.fs.pread(fd, 10, 0) == b"abc\0\0"
    assert place.fs.fstat(fd).size == 5
    place.fs.datasync(fd)
    place.fs.sync(fd)
    place.fs.uncache(fd)
    place.fs.close(fd)
    place.fs.sync_dir(place.folder)


def test_stat_of_a_missing_path_is_none_and_through_a_file_an_error(place: Place) -> None:
    place.put("f", b"")
    assert place.fs.stat(place.path("none")) is None
    assert place.fs.stat(place.path("none/deeper")) is None
    with pytest.raises(NotADirectoryError):
        place.fs.stat(place.path("f/x"))


def test_stat_and_fstat_name_the_same_inode(place: Place) -> None:
    path = place.put("f", b"123")
    fd = place.fs.open(path, os.O_RDONLY)
    found = place.fs.stat(path)
    assert found == place.fs.fstat(fd)
    assert found is not None
    assert (found.size, found.nlink, found.mode & 0o777) == (3, 1, 0o600)
    place.fs.close(fd)


def test_opening_what_is_missing_or_must_be_new_fails_by_name(place: Place) -> None:
    path = place.path("f")
    with pytest.raises(FileNotFoundError) as caught:
        place.fs.open(path, os.O_RDWR)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, path)
    with pytest.raises(FileNotFoundError):
        place.fs.open(place.path("no/f"), CREATE)
    place.put("f", b"")
    with pytest.raises(FileExistsError):
        place.fs.open(path, CREATE | os.O_EXCL)
    with pytest.raises(IsADirectoryError):
        place.fs.open(place.folder, os.O_RDWR)


def test_a_descriptor_allows_only_what_it_was_opened_for_and_ends_with_close(place: Place) -> None:
    path = place.put("f", b"1")
    fd = place.fs.open(path, os.O_RDONLY)
    with pytest.raises(OSError, match="Bad file descriptor"):
        place.fs.pwrite_all(fd, b"x", 0)
    place.fs.close(fd)
    for use in (lambda: place.fs.pread(fd, 1, 0), lambda: place.fs.close(fd), lambda: place.fs.datasync(fd)):
        with pytest.raises(OSError, match="Bad file descriptor"):
            use()


def test_replace_gives_the_target_the_source_and_keeps_open_readers_on_the_old(place: Place) -> None:
    old, new = place.put("old", b"old"), place.put("new", b"new")
    reader = place.fs.open(old, os.O_RDONLY)
    place.fs.replace(new, old)
    assert place.get("old") == b"new"
    assert place.fs.stat(new) is None
    assert place.fs.pread(reader, 10, 0) == b"old"
    assert place.fs.fstat(reader).nlink == 0
    place.fs.close(reader)
    with pytest.raises(FileNotFoundError):
        place.fs.replace(new, old)


def test_replacing_one_name_of_an_inode_by_another_does_nothing(place: Place) -> None:
    a, b = place.put("a", b"1"), place.path("b")
    place.fs.link(a, b)
    place.fs.replace(a, b)
    assert sorted(place.fs.listdir(place.folder)) == ["a", "b"]


def test_link_shares_the_inode_and_refuses_an_existing_name(place: Place) -> None:
    a, b = place.put("a", b"1"), place.path("b")
    place.fs.link(a, b)
    first, second = place.fs.stat(a), place.fs.stat(b)
    assert first is not None
    assert second is not None
    assert (first.ino, first.nlink) == (second.ino, 2)
    with pytest.raises(FileExistsError):
        place.fs.link(a, b)
    with pytest.raises(FileNotFoundError):
        place.fs.link(place.path("none"), place.path("c"))


def test_exchange_swaps_or_says_that_it_cannot(place: Place) -> None:
    a, b = place.put("a", b"1"), place.put("b", b"2")
    swapped = place.fs.exchange(a, b)
    assert (place.get("a"), place.get("b")) == ((b"2", b"1") if swapped else (b"1", b"2"))
    if swapped:
        with pytest.raises(FileNotFoundError):
            place.fs.exchange(a, place.path("none"))


def test_removing_says_whether_there_was_something(place: Place) -> None:
    path = place.put("f", b"1")
    assert place.fs.unlink(path) is True
    assert place.fs.unlink(path) is False
    with pytest.raises((IsADirectoryError, PermissionError)):
        place.fs.unlink(place.folder)


def test_folders_are_made_listed_and_removed_only_when_empty(place: Place) -> None:
    folder = place.path("d")
    assert place.fs.listdir(folder) == []
    assert place.fs.mkdir(folder) is True
    assert place.fs.mkdir(folder) is False
    place.put("d/f", b"")
    assert place.fs.listdir(folder) == ["f"]
    with pytest.raises(OSError, match="not empty"):
        place.fs.remove_dir(folder)
    place.fs.unlink(place.path("d/f"))
    assert place.fs.remove_dir(folder) is True
    assert place.fs.remove_dir(folder) is False


def test_a_file_where_a_folder_should_be_is_not_a_directory(place: Place) -> None:
    path = place.put("f", b"")
    for use in (place.fs.mkdir, place.fs.listdir, lambda p: place.fs.mkdir(p + "/x")):
        with pytest.raises(NotADirectoryError):
            use(path)
    with pytest.raises(FileNotFoundError):
        place.fs.mkdir(place.path("no/parent"))


def test_a_lock_excludes_other_descriptors_until_unlocked_or_closed(place: Place) -> None:
    path = place.put("lock", b"")
    first, second = place.fs.open(path, os.O_RDWR), place.fs.open(path, os.O_RDWR)
    assert place.fs.lock(first) is True
    assert place.fs.lock(first) is True
    assert place.fs.lock(second) is False
    place.fs.unlock(second)
    assert place.fs.lock(second) is False
    place.fs.unlock(first)
    assert place.fs.lock(second) is True
    place.fs.close(second)
    assert place.fs.lock(first) is True
    place.fs.close(first)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are access control lists there")
def test_chmod_like_gives_the_mode_of_another_file(place: Place) -> None:
    if isinstance(place.fs, WindowsFileSystem):
        pytest.skip("nothing to do on Windows")
    fd = place.fs.open(place.path("f"), CREATE)
    like = place.fs.fstat(fd)._replace(mode=0o100640)
    place.fs.chmod_like(fd, like)
    assert place.fs.fstat(fd).mode == 0o100640
    place.fs.close(fd)


def test_a_write_moves_the_time_of_the_file_once_the_clock_ticked(place: Place) -> None:
    fd = place.fs.open(place.path("f"), CREATE)
    before = place.fs.fstat(fd).mtime_ns
    place.fs.sleep(0.02)
    place.fs.pwrite_all(fd, b"x", 0)
    assert place.fs.fstat(fd).mtime_ns > before
    place.fs.close(fd)


def test_the_monotonic_clock_covers_what_was_slept(place: Place) -> None:
    start = place.fs.monotonic()
    place.fs.sleep(0.001)
    assert place.fs.monotonic() - start >= 0.00099


def test_a_file_that_is_renewed_has_the_time_of_now_and_its_bytes(place: Place) -> None:
    path = place.put("f", b"as it was")
    before = place.fs.stat(path)
    place.fs.sleep(0.02)
    assert place.fs.renew(path)
    after = place.fs.stat(path)
    assert before is not None
    assert after is not None
    assert after.mtime_ns > before.mtime_ns
    assert after._replace(mtime_ns=before.mtime_ns) == before
    assert place.get("f") == b"as it was"
    assert not place.fs.renew(place.path("none"))
