"""The real file system: what the contract suite cannot see from outside."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nomad_sessions
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage._os_posix import DarwinFileSystem, PosixFileSystem
from nomad_sessions.storage._os_windows import WindowsFileSystem, retry_sharing

CREATE = os.O_RDWR | os.O_CREAT


@pytest.fixture
def fd(tmp_path: Path) -> int:
    return REAL.open(str(tmp_path / "f"), CREATE)


def test_a_new_file_is_private_to_its_owner(tmp_path: Path, fd: int) -> None:
    assert REAL.fstat(fd).mode & 0o777 == 0o600
    folder = str(tmp_path / "d")
    REAL.mkdir(folder)
    assert (found := REAL.stat(folder)) is not None
    assert found.mode & 0o777 == 0o700
    REAL.close(fd)


def test_stat_tells_what_the_system_says(tmp_path: Path, fd: int) -> None:
    REAL.pwrite_all(fd, b"123", 0)
    real = os.stat(tmp_path / "f")
    assert REAL.fstat(fd)._asdict() == {
        "dev": real.st_dev,
        "ino": real.st_ino,
        "size": 3,
        "mtime_ns": real.st_mtime_ns,
        "mode": real.st_mode,
        "nlink": 1,
        "uid": real.st_uid,
        "gid": real.st_gid,
    }
    REAL.close(fd)


def test_programs_that_are_started_do_not_inherit_descriptors(fd: int) -> None:
    assert os.get_inheritable(fd) is False
    script = f"import os\ntry: os.fstat({fd})\nexcept OSError as e: print(e.errno)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, close_fds=False, check=True)
    assert done.stdout.strip() == str(errno.EBADF)
    REAL.close(fd)


def test_a_short_write_is_completed_where_it_stopped(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    real, steps = os.pwrite, list[int]()

    def short(fd: int, data: bytes, offset: int) -> int:
        steps.append(offset)
        return real(fd, bytes(data)[:3], offset)

    monkeypatch.setattr(os, "pwrite", short)
    REAL.pwrite_all(fd, b"0123456789", 5)
    assert steps == [5, 8, 11, 14]
    assert REAL.pread(fd, 100, 5) == b"0123456789"
    REAL.close(fd)


@pytest.mark.skipif(sys.platform != "linux", reason="the hint is Linux's")
@pytest.mark.parametrize("refused", [False, True])
def test_much_is_written_in_parts_each_of_which_the_disk_may_begin_with(
    monkeypatch: pytest.MonkeyPatch, fd: int, refused: bool
) -> None:
    told: list[tuple[int, int, int]] = []

    def advise(fd: int, offset: int, length: int, advice: int) -> None:
        told.append((offset, length, advice))
        if refused:
            raise OSError(errno.ENOSYS, "no such call")

    monkeypatch.setattr(os, "posix_fadvise", advise)
    data = os.urandom((5 << 20) // 2)
    REAL.pwrite_all(fd, data, 7)
    assert REAL.pread(fd, len(data) + 1, 7) == data
    assert {advice for _, _, advice in told} == {os.POSIX_FADV_DONTNEED}
    assert [(offset, length) for offset, length, _ in told] == [
        (7, 1 << 20),
        (7 + (1 << 20), 1 << 20),
        (7 + (2 << 20), 1 << 19),
    ]
    told.clear()
    REAL.pwrite_all(fd, b"little", 0)
    assert told == []
    REAL.close(fd)


def test_a_write_without_progress_is_an_error(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    answers = iter([3, 0])
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: next(answers))
    with pytest.raises(OSError, match="no progress") as caught:
        REAL.pwrite_all(fd, b"0123456789", 0)
    assert caught.value.errno == errno.EIO
    assert next(answers, None) is None
    REAL.close(fd)


def test_a_short_read_is_not_taken_for_the_end(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    REAL.pwrite_all(fd, b"0123456789", 0)
    real, calls = os.pread, list[int]()

    def short(fd: int, n: int, offset: int) -> bytes:
        calls.append(n)
        return real(fd, min(n, 4), offset)

    monkeypatch.setattr(os, "pread", short)
    assert REAL.pread(fd, 10, 0) == b"0123456789"
    assert REAL.pread(fd, 20, 0) == b"0123456789"
    assert calls == [10, 6, 2, 20, 16, 12, 10]
    REAL.close(fd)


def test_a_write_beyond_the_size_limit_leaves_a_part_and_says_so(tmp_path: Path) -> None:
    script = """
import errno, os, resource, signal, sys
from nomad_sessions.storage._os import REAL
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
fd = REAL.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
try:
    REAL.pwrite_all(fd, b"x" * 5000, 3000)
except OSError as error:
    print(errno.errorcode[error.errno], REAL.fstat(fd).size)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "f")], capture_output=True, text=True, check=True, cwd=_root()
    )
    assert done.stdout.split() == ["EFBIG", "6000"]


def test_a_symlink_resolves_to_what_must_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    assert REAL.resolve(str(tmp_path / "link")) == str(tmp_path.resolve() / "real")


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is a Linux call")
def test_exchange_keeps_both_inodes(tmp_path: Path) -> None:
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    for path in (a, b):
        REAL.close(REAL.open(path, CREATE))
    before = REAL.stat(a), REAL.stat(b)
    if not REAL.exchange(a, b):
        pytest.skip("this file system or C library has no RENAME_EXCHANGE")
    after = REAL.stat(b), REAL.stat(a)
    assert [s and s.ino for s in before] == [s and s.ino for s in after]


def test_a_file_system_that_cannot_sync_a_folder_is_not_an_error_and_a_failed_sync_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for code, raises in ((errno.EINVAL, False), (errno.EIO, True)):

        def refuse(fd: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(PosixFileSystem, "sync", staticmethod(refuse))
        before = _open_descriptors()
        if raises:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                REAL.sync_dir(str(tmp_path))
        else:
            REAL.sync_dir(str(tmp_path))
        assert _open_descriptors() == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_chmod_like_keeps_owner_group_and_mode(tmp_path: Path, fd: int) -> None:
    REAL.chmod_like(fd, REAL.fstat(fd)._replace(uid=1234, gid=2345, mode=0o100664))
    found = REAL.fstat(fd)
    assert (found.uid, found.gid, found.mode) == (1234, 2345, 0o100664)
    REAL.close(fd)


def test_rights_of_another_group_do_not_become_those_of_ours(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    def refuse(fd: int, uid: int, gid: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refuse)
    like = REAL.fstat(fd)
    REAL.chmod_like(fd, like._replace(gid=like.gid + 1, mode=0o100664))
    assert REAL.fstat(fd).mode & 0o777 == 0o604
    REAL.close(fd)


def test_a_signal_during_a_sync_or_write_loses_nothing(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from nomad_sessions.storage._os import REAL
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
fd = REAL.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
block, at = os.urandom(1 << 20), 0
while ticks < 50:
    REAL.pwrite_all(fd, block, at % (8 << 20))
    REAL.datasync(fd)
    assert REAL.pread(fd, 1 << 20, at % (8 << 20)) == block
    at += 1 << 20
signal.setitimer(signal.ITIMER_REAL, 0)
print("whole")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "f")], capture_output=True, text=True, check=True, cwd=_root()
    )
    assert done.stdout == "whole\n"


def test_simulated_macos_syncs_reach_the_drive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fd: int) -> None:
    commands: list[int] = []
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: commands.append(command))
    fs = DarwinFileSystem()
    fs.datasync(fd)
    fs.sync(fd)
    fs.sync_dir(str(tmp_path))
    assert commands == [51, 51, 51]
    REAL.close(fd)


def test_simulated_macos_without_full_sync_syncs_plainly_and_an_io_error_comes_out(
    monkeypatch: pytest.MonkeyPatch, fd: int
) -> None:
    plain: list[int] = []
    monkeypatch.setattr(os, "fsync", plain.append)

    def refuse(code: int) -> Callable[[int, int], int]:
        def call(fd: int, command: int) -> int:
            raise OSError(code, os.strerror(code))

        return call

    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.ENOTSUP))
    DarwinFileSystem().datasync(fd)
    assert plain == [fd]
    monkeypatch.setattr(fcntl, "fcntl", refuse(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        DarwinFileSystem().datasync(fd)
    assert plain == [fd]
    REAL.close(fd)


def sharing_error(code: int) -> PermissionError:
    error = PermissionError(errno.EACCES, "in use")
    error.winerror = code  # type: ignore[attr-defined,unused-ignore]  # only Windows's OSError declares it
    return error


def test_simulated_windows_sharing_errors_are_retried_for_a_bounded_time() -> None:
    slept: list[float] = []
    failures = [sharing_error(5), sharing_error(32), sharing_error(33)]

    def call() -> None:
        if failures:
            raise failures.pop()

    retry_sharing(call, slept.append)
    assert slept == [0.001, 0.002, 0.004]

    def never() -> None:
        raise sharing_error(32)

    slept.clear()
    with pytest.raises(PermissionError):
        retry_sharing(never, slept.append)
    assert 1.0 <= sum(slept) < 1.1


def test_simulated_windows_other_errors_are_not_retried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slept: list[float] = []
    monkeypatch.setattr(WindowsFileSystem, "sleep", staticmethod(slept.append))

    def full(src: str, dst: str) -> None:
        raise sharing_error(112)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(PermissionError):
        WindowsFileSystem().replace("a", "b")
    assert slept == []


def test_simulated_windows_short_writes_are_completed(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:4]))
    WindowsFileSystem().pwrite_all(fd, b"0123456789", 2)
    assert REAL.pread(fd, 100, 2) == b"0123456789"
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(OSError, match="no progress"):
        WindowsFileSystem().pwrite_all(fd, b"x", 0)
    REAL.close(fd)


FORBIDDEN = frozenset(
    {"open", "os.open", "os.fdopen", "os.close", "os.read", "os.write", "os.pread", "os.pwrite", "os.fsync"}
    | {"os.fdatasync", "os.replace", "os.rename", "os.renames", "os.link", "os.symlink", "os.unlink", "os.remove"}
    | {"os.mkdir", "os.makedirs", "os.rmdir", "os.removedirs", "os.truncate", "os.ftruncate", "os.chmod", "os.fchmod"}
    | {"os.chown", "os.fchown", "os.sendfile", "os.copy_file_range", "fcntl.flock", "time.sleep"}
)


def test_only_the_seam_calls_the_system_on_files_of_the_store() -> None:
    package = Path(nomad_sessions.__file__).parent
    found = []
    for layer in ("storage", "workspace", "manager.py", "aio.py", "streaming.py"):
        place = package / layer
        for source in [place] if place.suffix else sorted(place.rglob("*.py")):
            if not source.exists() or source.name.startswith("_os"):
                continue
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and (name := ast.unparse(node.func)) in FORBIDDEN:
                    found.append(f"{source.relative_to(package)}:{node.lineno} {name}")
    assert found == []


def _open_descriptors() -> list[str]:
    folder = "/proc/self/fd"
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def _root() -> Path:
    return Path(nomad_sessions.__file__).parent.parent
