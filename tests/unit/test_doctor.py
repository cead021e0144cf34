"""`doctor` finds the places where files are not safe: network mounts, cloud folders, copies, no locks, wrong rights."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nomad_sessions import (
    DoctorReport,
    ManualClock,
    NativeSessionManager,
    StoreReadOnlyError,
    WorkspaceNotFoundError,
    doctor,
)
from nomad_sessions.storage import surroundings
from nomad_sessions.storage._os import REAL
from nomad_sessions.storage.surroundings import (
    Mount,
    cloud_client,
    is_network,
    looks_copied,
    mount_of,
    mounts_of_linux,
    mounts_of_macos,
)
from tests.support.tiers import needs_linux, needs_mounts

# Lines of real machines; the folder of the third has a space, that of the fourth a backslash.
MOUNTINFO = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
98 22 0:45 / /mnt/nas rw,relatime shared:51 - nfs4 nas.example:/export/home rw,vers=4.2,hard
99 22 0:46 / /mnt/my\040share rw,relatime - cifs //server/share rw,vers=3.1.1
100 22 0:47 / /mnt/back\134slash rw - fuse.sshfs me@host:/data rw
101 22 0:48 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs
102 22 0:49 / /home/me/drive rw - fuse.gocryptfs /home/me/.cipher rw
103 98 8:2 /local /mnt/nas/scratch rw - xfs /dev/sdb1 rw
not a mount
"""


Make = Callable[[str], Path]
NETWORK = ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "macfuse.x", "afpfs"]
LOCAL = ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.gocryptfs"]


def kinds(report: DoctorReport) -> list[str]:
    return [finding.kind for finding in report.findings]


@pytest.fixture
def store(tmp_path: Path) -> Make:
    def make(where: str) -> Path:
        data_dir = tmp_path / where
        with NativeSessionManager(data_dir) as manager:
            manager.add_message("ws", manager.create_session("ws", title="t").id, role="user", content="hi")
        return data_dir

    return make


def examined(data_dir: Path) -> DoctorReport:
    with NativeSessionManager(data_dir) as manager:
        return manager.doctor()


def test_a_store_on_a_disk_of_this_computer_has_nothing(store: Make, tmp_path: Path) -> None:
    assert examined(store("data")) == DoctorReport(str(tmp_path / "data"), 1, [])


def test_a_data_folder_that_is_not_there_yet_has_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert examined(tmp_path / "a" / "b").ok
    assert list(tmp_path.iterdir()) == []


def test_examining_changes_no_file(store: Make) -> None:
    data_dir = store("data")
    before = {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")}
    examined(data_dir)
    assert {path: path.stat().st_mtime_ns for path in data_dir.rglob("*")} == before


@pytest.mark.parametrize(
    ("folder", "client"),
    [
        ("Dropbox/agents", "Dropbox"),
        ("Dropbox (Personal)/agents", "Dropbox"),
        ("OneDrive - Example Ltd/data", "OneDrive"),
        ("Library/CloudStorage/GoogleDrive-me@example.org/My Drive", "a cloud client"),
        ("Library/Mobile Documents/com~apple~CloudDocs", "iCloud Drive"),
        ("Nextcloud/notes", "Nextcloud"),
    ],
)
def test_a_folder_that_a_cloud_client_syncs_is_found_by_its_name(store: Make, folder: str, client: str) -> None:
    (finding,) = examined(store(folder)).findings
    assert (finding.level, finding.kind) == ("warning", "cloud-sync")
    assert finding.detail.startswith(client)


def test_a_folder_that_syncthing_syncs_is_found_by_its_marker_above(store: Make, tmp_path: Path) -> None:
    data_dir = store("shared/deep/data")
    (tmp_path / "shared" / ".stfolder").mkdir()
    (finding,) = examined(data_dir).findings
    assert finding.kind == "cloud-sync"
    assert "Syncthing" in finding.detail


def test_a_link_into_a_cloud_folder_is_followed(store: Make, tmp_path: Path) -> None:
    real = store("Dropbox/data")
    (tmp_path / "plain").symlink_to(real)
    assert kinds(examined(tmp_path / "plain")) == ["cloud-sync"]


@pytest.mark.parametrize("name", ["Dropbox-notes", "dropbox", "box", "Boxes", "megaphone", "OneDriver"])
def test_a_folder_that_only_sounds_like_a_cloud_is_none(name: str) -> None:
    assert cloud_client(f"/home/{name}/data") is None


@pytest.mark.parametrize(
    "name",
    [
        "sessions (Anna's conflicted copy 2026-01-01).json",
        "sessions (conflicted copy 2026-01-01 101010).json",
        "sessions.sync-conflict-20260101-101010-ABCDEFG.json",
        "sessions_conflict-20260101-101010.json",
        "sessions-DESKTOP-AB12.json",
        "sessions (1).json",
        "sessions 2.json",
        "sessions - Copy.json",
        "sessions.json.sync-conflict-20260101-101010-ABCDEFG",
    ],
)
def test_a_conflict_copy_of_the_snapshot_is_found(store: Make, name: str) -> None:
    data_dir = store("data")
    (data_dir / "ws" / name).write_text("{}")
    (finding,) = examined(data_dir).findings
    assert (finding.level, finding.kind, finding.path) == ("warning", "conflict-copy", str(data_dir / "ws" / name))
    assert "sessions.json" in finding.detail


def test_conflict_copies_of_segments_and_of_the_list_of_folders_are_found(store: Make) -> None:
    data_dir = store("data")
    with NativeSessionManager(data_dir) as manager:
        manager.workspace_for(data_dir)
    (segment,) = (data_dir / "ws" / "journal").iterdir()
    (segment.parent / f"{segment.stem} (1).jsonl").write_text("x")
    (data_dir / "workspaces (1).json").write_text("{}")
    assert kinds(examined(data_dir)) == ["conflict-copy", "conflict-copy"]


@pytest.mark.parametrize(
    "name", ["sessions.json", "sessions.json.prev", "sessionsfoo.json", "notes.json", "quarantine", "lock", "old.lock"]
)
def test_what_is_no_copy_of_ours_is_not_taken_for_one(name: str) -> None:
    assert looks_copied(name, ["sessions.json", "sessions.json.prev", "lock"]) is None


def test_the_mount_of_a_path_is_the_longest_that_holds_it() -> None:
    mounts = mounts_of_linux(MOUNTINFO)
    assert len(mounts) == 7
    on = {path: mount_of(path, mounts) for path in ("/home/x", "/mnt/nas/a", "/mnt/nasty", "/mnt/nas/scratch/b")}
    assert [mount.kind if mount else None for mount in on.values()] == ["ext4", "nfs4", "ext4", "xfs"]
    assert mount_of("/mnt/my share/x", mounts) == Mount("/mnt/my share", "cifs", "//server/share")
    assert mount_of("/mnt/back\\slash", mounts) == Mount("/mnt/back\\slash", "fuse.sshfs", "me@host:/data")
    assert mount_of("/x", []) is None


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "macfuse.x", "afpfs"]
)
def test_file_systems_of_other_machines_are_known(kind: str) -> None:
    assert is_network(kind)


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuseblk", "fuse.gocryptfs"]
)
def test_file_systems_of_this_machine_are_not_suspected(kind: str) -> None:
    assert not is_network(kind)


def test_the_mounts_of_macos_are_read_as_it_prints_them() -> None:
    output = (
        "/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)\n"
        "//me@nas._smb._tcp.local/home on /Volumes/my home (smbfs, nodev, nosuid, mounted by me)\n"
        "map auto_home on /System/Volumes/Data/home (autofs, automounted, nobrowse)\n"
    )
    mounts = mounts_of_macos(output)
    assert [mount.kind for mount in mounts] == ["apfs", "smbfs", "autofs"]
    assert mount_of("/Volumes/my home/data", mounts) == mounts[1]


class Elsewhere(type(REAL)):  # type: ignore[misc]  # The real one, whichever it is here.
    """The file system of this machine, with another table of mounts."""

    table = ""

    def open(self, path: str, flags: int, mode: int = 0o600, /) -> int:
        fd: int = super().open(self.table if path == surroundings.MOUNTINFO else path, flags, mode)
        return fd


def test_a_data_folder_on_a_network_mount_is_a_warning(store: Make, tmp_path: Path) -> None:
    needs_linux()
    data_dir = store("nas/data")
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTINFO.replace("/mnt/nas", str(tmp_path / "nas")))
    elsewhere = Elsewhere()
    elsewhere.table = str(table)
    with NativeSessionManager(data_dir, filesystem=elsewhere) as manager:
        (finding,) = manager.doctor().findings
    assert (finding.level, finding.kind) == ("warning", "network")
    assert "nas.example:/export/home" in finding.detail
    assert "nfs4" in finding.detail


class NoLocks(type(REAL)):  # type: ignore[misc]
    """The file system of this machine, were it one without locks."""

    def lock(self, fd: int, /) -> bool:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_a_file_system_without_locks_is_an_error(store: Make) -> None:
    data_dir = store("data")
    with NativeSessionManager(data_dir, filesystem=NoLocks()) as manager:
        (finding,) = manager.doctor().findings
    assert (finding.level, finding.kind) == ("error", "no-locks")


def test_a_damaged_workspace_is_an_error_that_names_it_and_the_others_are_looked_at(
    store: Make,
) -> None:
    data_dir = store("data")
    with NativeSessionManager(data_dir) as manager:
        manager.create_session("other", title="t")
    (data_dir / "ws" / "sessions.json").unlink()
    for segment in (data_dir / "ws" / "journal").iterdir():
        segment.unlink()
    (data_dir / "ws" / "journal" / "0000000000000009.jsonl").write_bytes(b"")
    (data_dir / "other" / "sessions (1).json").write_text("{}")
    report = examined(data_dir)
    assert [(finding.kind, Path(finding.path).parent.name) for finding in report.findings] == [
        ("conflict-copy", "other"),
        ("damaged", "data"),
    ]


def test_a_newer_format_is_an_error_that_says_to_update(store: Make) -> None:
    data_dir = store("data")
    snapshot = data_dir / "ws" / "sessions.json"
    newer = snapshot.read_bytes().replace(b'"trailer":"nomad1 ', b'"trailer":"nomad2 ')
    snapshot.write_bytes(newer)
    (finding,) = examined(data_dir).findings
    assert (finding.level, finding.kind) == ("error", "newer-format")


def test_a_snapshot_that_is_no_json_is_a_warning(store: Make) -> None:
    data_dir = store("data")
    (data_dir / "ws" / "sessions.json").write_text('{"sessions": {')
    assert kinds(examined(data_dir)) == ["unreadable-snapshot"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such rights")
def test_rights_of_other_users_are_a_warning(store: Make) -> None:
    data_dir = store("data")
    (data_dir / "ws").chmod(0o755)
    (finding,) = examined(data_dir).findings
    assert finding.kind == "permissions"
    assert "755" in finding.detail


def test_a_clock_behind_the_newest_change_is_a_warning(tmp_path: Path) -> None:
    clock = ManualClock(1_800_000_000_000)
    with NativeSessionManager(tmp_path, clock=clock) as manager:
        manager.create_session("ws", title="t")
        assert manager.doctor().ok
        clock.set(1_700_000_000_000)
        assert kinds(manager.doctor()) == ["clock"]


def test_a_quarantine_that_has_grown_large_is_a_warning(store: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir = store("data")
    kept = data_dir / "ws" / "quarantine"
    kept.mkdir()
    (kept / "sessions.json.foreign").write_bytes(bytes(3 << 20))
    assert examined(data_dir).ok
    monkeypatch.setattr(doctor, "LARGE_QUARANTINE", 2 << 20)
    (finding,) = examined(data_dir).findings
    assert (finding.kind, finding.path) == ("quarantine", str(kept))
    assert "3 MiB in 1 files" in finding.detail


def test_one_workspace_can_be_looked_at_alone(store: Make) -> None:
    data_dir = store("data")
    with NativeSessionManager(data_dir) as manager:
        manager.create_session("other", title="t")
        (data_dir / "ws" / "sessions (1).json").write_text("{}")
        assert manager.doctor("other").ok
        assert kinds(manager.doctor("ws")) == ["conflict-copy"]
        with pytest.raises(WorkspaceNotFoundError):
            manager.doctor("none")


def test_a_data_folder_that_is_a_file_and_one_that_became_one_are_said(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path / "data") as manager:
        (tmp_path / "data").write_text("not a folder")
        (finding,) = manager.doctor().findings
    assert (finding.level, finding.kind) == ("error", "not-a-folder")


AS_NOBODY = """
import os, sys
sys.path[:0] = {path!r}
import nomad_sessions
os.setgid(65534); os.setuid(65534)
try:
    nomad_sessions.NativeSessionManager({folder!r})
except nomad_sessions.{error} as error:
    print(error)
"""


def test_a_data_folder_that_may_not_be_entered_says_so_and_not_that_reading_works(
    store: Make,
) -> None:
    needs_mounts()  # Root, to become somebody else.
    data_dir = store("data")
    data_dir.parent.chmod(0o700)
    code = AS_NOBODY.format(path=sys.path, folder=str(data_dir), error=StoreReadOnlyError.__name__)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "permission denied" in done.stdout
    assert str(data_dir) in done.stdout
    assert "reading works" not in done.stdout


@pytest.mark.parametrize("text", ["", "{", "[]", '{"folders": 3}'])
def test_a_damaged_list_of_folders_is_an_error_that_says_what_to_do(store: Make, text: str) -> None:
    data_dir = store("data")
    (data_dir / "workspaces.json").write_text(text)
    (finding,) = examined(data_dir).findings
    assert (finding.kind, finding.path) == ("damaged-registry", str(data_dir / "workspaces.json"))
    assert "relink" in finding.hint


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")
@pytest.mark.parametrize("name", ["sessions.json", "lock", "journal", "../workspaces.json"])
def test_a_link_to_itself_is_found_and_the_others_are_looked_at(store: Make, name: str) -> None:
    data_dir = store("data")
    with NativeSessionManager(data_dir) as manager:
        manager.create_session("other", title="t")
    (data_dir / "other" / "sessions (1).json").write_text("{}")
    path = data_dir / "ws" / name
    if path.is_dir():
        path.rename(data_dir.parent / "aside")
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(path)
    report = examined(data_dir)
    assert report.workspaces == 2
    assert "conflict-copy" in kinds(report)
    assert any(name.rpartition("/")[2] in f"{finding.path} {finding.detail}" for finding in report.findings)
    with NativeSessionManager(data_dir) as manager:
        assert manager.list_workspaces() == ["other", "ws"]
        manager.check("ws")
