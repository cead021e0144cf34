"""What cannot be done is refused by a typed error that names the thing, and costs nothing that was there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import (
    DataDirError,
    InvalidWorkspaceIdError,
    JournalGapError,
    NativeSessionManager,
    StoreClosedError,
    UnsupportedFormatError,
    WorkspaceNotFoundError,
    get_session_manager,
    init_session_manager,
)
from nomad_sessions.storage.codec import encode, frame
from tests.support.stored import whole

WS = "ws"
Call = Callable[[NativeSessionManager], object]


@pytest.fixture
def m(kept: NativeSessionManager) -> NativeSessionManager:
    return kept


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "CON", "nul.txt", ".hidden", "a\0", " a", "a.", "x" * 129]
)
def test_a_workspace_name_that_is_no_safe_folder_is_refused_by_every_call(m: NativeSessionManager, name: str) -> None:
    calls: list[Call] = [
        lambda m: m.list_sessions(name),
        lambda m: m.create_session(name),
        lambda m: m.get_message(name, "m"),
        lambda m: m.delete_workspace(name),
        lambda m: m.clear_workspace(name),
        lambda m: m.checkpoint(name),
        lambda m: m.check(name),
        lambda m: m.repair(name),
        lambda m: m.stats(name),
        lambda m: m.status(name),
        lambda m: m.transaction(name).__enter__(),
        lambda m: m.stream_message(name, "s").__enter__(),
        lambda m: m.move_session(WS, "s", to_workspace=name),
        lambda m: m.link_workspace(name, "/tmp"),
        lambda m: m.read_attachment(name, "0" * 64),
        lambda m: m.get_active_session_count(name),
    ]
    before = whole(m)
    for call in calls:
        with pytest.raises(InvalidWorkspaceIdError) as caught:
            call(m)
        assert caught.value.workspace_id == name
    assert whole(m) == before
    assert sorted(os.listdir(m.data_dir)) == [WS]


@pytest.mark.parametrize("name", [None, 5, b"ws", ["ws"]])
def test_a_workspace_name_that_is_no_str_is_refused(m: NativeSessionManager, name: Any) -> None:
    with pytest.raises(InvalidWorkspaceIdError):
        m.list_sessions(name)


# The data folder


def test_a_data_folder_that_is_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for folder in (path, path / "below"):
        with pytest.raises(DataDirError) as caught:
            NativeSessionManager(folder).create_session(WS)
        assert isinstance(caught.value, NotADirectoryError)
        assert str(path) in str(caught.value)
    assert path.read_text() == "mine"


def test_a_workspace_that_is_a_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / WS).write_text("mine")
    with NativeSessionManager(tmp_path) as m:
        for call in (lambda: m.list_sessions(WS), lambda: m.create_session(WS), lambda: m.checkpoint(WS)):
            with pytest.raises(DataDirError) as caught:
                call()
            assert str(tmp_path / WS) in str(caught.value)
        assert m.list_workspaces() == []
        with pytest.raises(WorkspaceNotFoundError):
            m.delete_workspace(WS)
    assert (tmp_path / WS).read_text() == "mine"


def test_a_file_in_the_place_of_the_journal_is_named_and_left_alone(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS)
    journal = tmp_path / WS / "journal"
    shutil.rmtree(journal)
    journal.write_text("mine")
    with NativeSessionManager(tmp_path) as again:
        for call in (lambda: again.list_sessions(WS), lambda: again.create_session(WS), lambda: again.repair(WS)):
            with pytest.raises(DataDirError, match="lies in a file") as caught:
                call()
            assert caught.value.path.startswith(str(journal))
    assert journal.read_text() == "mine"


def test_a_newer_snapshot_is_refused_and_left_alone(m: NativeSessionManager) -> None:
    m.close(checkpoint=True)
    path = Path(m.data_dir) / WS / "sessions.json"
    data = path.read_bytes()
    newer = data.replace(b'"trailer":"nomad1 ', b'"trailer":"nomad2 ')
    assert newer != data
    path.write_bytes(newer)
    with NativeSessionManager(m.data_dir) as other:
        for call in (lambda: other.list_sessions(WS), lambda: other.create_session(WS), lambda: other.checkpoint(WS)):
            with pytest.raises(UnsupportedFormatError) as caught:
                call()
            assert (caught.value.found, caught.value.supported) == (2, 1)
            assert str(path) in str(caught.value)
    assert path.read_bytes() == newer
    path.write_bytes(data)
    assert len(whole(m)) == 1


def test_a_newer_journal_is_refused_and_left_alone(m: NativeSessionManager) -> None:
    seq = m.status(WS).seq
    m.close(checkpoint=True)
    folder = Path(m.data_dir) / WS / "journal"
    path = folder / f"{seq + 1:016d}.jsonl"
    for each in folder.iterdir():
        each.unlink()
    path.write_bytes(frame(encode({"journal": 2, "firstSeq": seq + 1})))
    before = path.read_bytes()
    with NativeSessionManager(m.data_dir) as other:
        for call in (lambda: other.list_sessions(WS), lambda: other.create_session(WS)):
            with pytest.raises(UnsupportedFormatError) as caught:
                call()
            assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    assert len(whole(m)) == 1


def test_a_missing_segment_is_a_gap_that_is_named(m: NativeSessionManager) -> None:
    seq = m.status(WS).seq
    m.close(checkpoint=True)
    folder = Path(m.data_dir) / WS / "journal"
    for each in folder.iterdir():
        each.unlink()
    path = folder / f"{seq + 3:016d}.jsonl"
    path.write_bytes(frame(encode({"journal": 1, "firstSeq": seq + 3})))
    with NativeSessionManager(m.data_dir) as other:
        for call in (lambda: other.list_sessions(WS), lambda: other.create_session(WS)):
            with pytest.raises(JournalGapError) as caught:
                call()
            assert (caught.value.expected_seq, caught.value.found_seq) == (seq + 1, seq + 3)
    path.unlink()
    assert len(whole(m)) == 1


READ_ONLY = """
    import sys, errno
    from nomad_sessions import NativeSessionManager, StoreReadOnlyError
    m = NativeSessionManager(sys.argv[1])
    assert [each.id for each in m.list_sessions("ws")] == ["s"]
    assert m.get_message("ws", "m").content == "kept"
    assert m.status("ws").seq and m.stats("ws").messages == 1 and m.check("ws").ok and m.list_workspaces() == ["ws"]
    calls = [lambda: m.add_message("ws", "s", role="user"), lambda: m.create_session("new"),
             lambda: m.delete_session("ws", "s"), lambda: m.delete_workspace("ws"), lambda: m.workspace_for("."),
             lambda: m.stream_message("ws", "s").__enter__(),
             lambda: m.add_message("ws", "s", role="user", parts=[{"type": "x", "file": {"data": bytes(99_999)}}])]
    for number, call in enumerate(calls):
        try:
            call()
        except StoreReadOnlyError as error:
            assert sys.argv[1] in error.path, error.path
        else:
            raise AssertionError(f"call {number} went through")
    assert m.get_message("ws", "m").content == "kept"
    m.close()
    print("read only")
"""


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(each): each.read_bytes() if each.is_file() else None for each in sorted(folder.rglob("*"))}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv to drop it")
@pytest.mark.parametrize("folded", [False, True])
def test_a_folder_of_somebody_else_is_read_and_never_changed(folded: bool) -> None:
    # Not pytest's own folder: it lets nobody else in.
    folder = Path(tempfile.mkdtemp(prefix="nomad-read-only-"))
    with NativeSessionManager(folder) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", id="m", role="user", content="kept")
        if not folded:
            m.workspace(WS).close(fold=False)
    try:
        for each in [folder, *folder.rglob("*")]:
            each.chmod(0o755 if each.is_dir() else 0o644)
        before = tree(folder)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
        _run_read_only(nobody, folder)
        assert tree(folder) == before
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare for a mount")
def test_a_read_only_mount_is_read_and_never_changed(tmp_path: Path) -> None:
    with NativeSessionManager(tmp_path) as m:
        m.create_session(WS, id="s")
        m.add_message(WS, "s", id="m", role="user", content="kept")
    before = tree(tmp_path)
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    probe = ["unshare", "--mount", "sh", "-c", script, str(tmp_path), "true"]
    if subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("this kernel allows no mounts here")
    _run_read_only(probe[:-1], tmp_path)
    assert tree(tmp_path) == before


def _run_read_only(prefix: list[str], folder: Path) -> None:
    program = [sys.executable, "-B", "-c", textwrap.dedent(READ_ONLY), str(folder)]
    result = subprocess.run(
        [*prefix, *program], cwd=str(folder), check=False, capture_output=True, text=True, env=_env()
    )
    if "Permission denied" in result.stderr and "nomad_sessions" not in result.stderr:
        pytest.skip(f"the interpreter itself cannot be read by others: {result.stderr.strip()[-200:]}")
    assert (result.returncode, result.stdout) == (0, "read only\n"), result.stderr


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


# The end


def test_a_closed_manager_refuses_every_call(m: NativeSessionManager) -> None:
    m.close()
    m.close()
    calls: list[Call] = [
        lambda m: m.list_sessions(WS),
        lambda m: m.create_session(WS),
        lambda m: m.get_message("other", "m"),
        lambda m: m.checkpoint(WS),
        lambda m: m.stats(WS),
        lambda m: m.stream_message(WS, "s").__enter__(),
    ]
    for call in calls:
        with pytest.raises(StoreClosedError):
            call(m)


def test_the_manager_of_the_process_is_made_once_and_again_after_it_was_closed(tmp_path: Path) -> None:
    first = init_session_manager(tmp_path / "one", durability="os")
    assert get_session_manager() is first
    assert get_session_manager(tmp_path / "ignored") is first
    second = init_session_manager(tmp_path / "two")
    with pytest.raises(StoreClosedError):
        first.create_session(WS)
    second.close()
    third = get_session_manager(tmp_path / "three")
    assert third.data_dir == str(tmp_path / "three")
    third.close()
