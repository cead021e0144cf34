"""Workspaces: which one a project folder has, listing, deleting, clearing, settings."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from nomad_sessions import CorruptionError, NativeSessionManager, WorkspaceNotFoundError
from nomad_sessions.config import validate_workspace_id


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "My Projekt (ö)"
    (folder / "src" / "deep").mkdir(parents=True)
    return folder


def test_a_project_has_one_workspace_from_every_subfolder(m: NativeSessionManager, project: Path) -> None:
    found = m.workspace_for(project)
    assert validate_workspace_id(found) == found
    assert found.startswith("my-projekt")
    file = project / "src" / "file.py"
    file.touch()
    for place in (
        project,
        str(project),
        project / "src" / "deep",
        file,
        project / "not" / "yet",
        project / "src" / "..",
    ):
        assert m.workspace_for(place) == found
    with NativeSessionManager(m.data_dir) as other:
        assert other.workspace_for(project / "src", create=False) == found
    assert m.workspace_for(project.parent / "another") != found


def test_the_git_root_is_the_project_of_what_lies_in_it(m: NativeSessionManager, project: Path) -> None:
    (project / ".git").mkdir()
    found = m.workspace_for(project / "src" / "deep")
    assert m.workspace_for(project) == found
    worktree = project.parent / "worktree"
    (worktree / "src").mkdir(parents=True)
    (worktree / ".git").write_text("gitdir: elsewhere")
    assert m.workspace_for(worktree / "src") == m.workspace_for(worktree) != found


def test_the_nearest_known_folder_goes_before_the_git_root(m: NativeSessionManager, project: Path) -> None:
    (project / ".git").mkdir()
    m.link_workspace("inner", project / "src")
    assert m.workspace_for(project / "src" / "deep") == "inner"
    assert m.workspace_for(project) != "inner"


def test_asking_without_creating_writes_nothing(m: NativeSessionManager, project: Path) -> None:
    found = m.workspace_for(project, create=False)
    assert not os.path.exists(m.data_dir)
    assert m.workspace_for(project) == found


def test_a_symlink_leads_to_the_same_workspace(m: NativeSessionManager, project: Path) -> None:
    link = project.parent / "link"
    link.symlink_to(project)
    found = m.workspace_for(link)
    assert m.workspace_for(link / "src") == m.workspace_for(project) == found


def test_a_moved_project_is_linked_again_and_its_old_place_gets_another(m: NativeSessionManager, project: Path) -> None:
    found = m.workspace_for(project)
    m.create_session(found, id="s")
    moved = project.rename(project.parent / "moved")
    m.link_workspace(found, moved)
    assert m.workspace_for(moved / "src") == found
    project.mkdir()
    fresh = m.workspace_for(project)
    assert fresh != found
    assert m.workspace_for(project, create=False) == fresh
    assert m.workspace_for(moved) == found, "a new project in the old place takes nothing away"
    assert m.get_session(found, "s") is not None


def test_the_root_and_odd_names_have_ids_that_are_safe(m: NativeSessionManager, tmp_path: Path) -> None:
    ids = {m.workspace_for("/", create=False)}
    for name in ("con", "日本", "...", " ", "a" * 200, "x.", "-"):
        ids.add(m.workspace_for(tmp_path / "odd" / name, create=False))
    assert [validate_workspace_id(each) for each in ids]
    assert len(ids) == 8


def test_a_damaged_registry_is_an_error_and_not_forgotten(m: NativeSessionManager, project: Path) -> None:
    m.workspace_for(project)
    path = Path(m.data_dir) / "workspaces.json"
    for bad in (b"", b"{", b'{"folders": 5}', b"[]"):
        path.write_bytes(bad)
        with pytest.raises(CorruptionError) as caught:
            m.workspace_for(project)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == bad


def _link(data_dir: str, folder: str, count: int) -> None:
    with NativeSessionManager(data_dir) as m:
        for number in range(count):
            m.workspace_for(f"{folder}-{number}")


def test_processes_and_threads_that_link_at_once_lose_no_folder(m: NativeSessionManager, project: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_link, args=(m.data_dir, f"{project}/{n}", 10)) for n in range(2)]
    threads = [threading.Thread(target=_link, args=(m.data_dir, f"{project}/t{n}", 10)) for n in range(2)]
    workers: list[BaseProcess | threading.Thread] = [*children, *threads]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    known = (Path(m.data_dir) / "workspaces.json").read_text()
    for prefix in ("0", "1", "t0", "t1"):
        assert all(f"{prefix}-{number}" in known for number in range(10))


# Listing, deleting, clearing


def test_workspaces_are_listed_once_they_have_something(m: NativeSessionManager) -> None:
    assert m.list_workspaces() == []
    m.list_sessions("only-read")
    m.create_session("b")
    m.create_session("a")
    (Path(m.data_dir) / "empty-folder").mkdir()
    (Path(m.data_dir) / "file").touch()
    assert m.list_workspaces() == ["a", "b"]
    m.checkpoint("a")
    with NativeSessionManager(m.data_dir) as other:
        assert other.list_workspaces() == ["a", "b"]


def test_a_deleted_workspace_is_gone_with_everything_and_can_be_made_again(m: NativeSessionManager) -> None:
    m.create_session("a", id="s")
    m.add_message("a", "s", role="user", parts=[{"type": "file", "file": {"data": bytes(99_999)}}])
    with m.stream_message("a", "s"):
        pass
    m.checkpoint("a")
    m.create_session("b")
    m.delete_workspace("a")
    assert os.listdir(m.data_dir) == ["b"]
    assert m.list_workspaces() == ["b"]
    for name in ("a", "never"):
        with pytest.raises(WorkspaceNotFoundError) as caught:
            m.delete_workspace(name)
        assert caught.value.workspace_id == name
    assert not m.list_sessions("a")
    m.create_session("a", id="new")
    assert [each.id for each in m.list_sessions("a")] == ["new"]
    assert m.check("a").ok


def test_a_deleted_workspace_is_gone_for_another_handle_too(m: NativeSessionManager) -> None:
    m.create_session("a", id="s")
    with NativeSessionManager(m.data_dir) as other:
        assert other.get_session("a", "s") is not None
        m.delete_workspace("a")
        assert other.get_session("a", "s") is None
        other.create_session("a", id="new")
        assert [each.id for each in m.list_sessions("a")] == ["new"]
        assert m.check("a").ok


def test_files_of_somebody_else_stay_when_a_workspace_is_deleted(m: NativeSessionManager) -> None:
    m.create_session("a")
    mine = Path(m.data_dir) / "a" / "notes.txt"
    mine.write_text("mine")
    m.delete_workspace("a")
    assert mine.read_text() == "mine"
    assert m.list_workspaces() == []


def test_clearing_drops_what_is_in_memory_and_no_data(m: NativeSessionManager) -> None:
    m.create_session("a", id="s")
    m.add_message("a", "s", role="user", content="x")
    before = m.get_session_messages("a", "s")
    m.clear_workspace("a")
    m.clear_workspace("never-opened")
    assert m.get_session_messages("a", "s") == before
    m.add_message("a", "s", role="user", content="y")
    assert m.get_session_messages("a", "s").total == 2


def test_settings_are_kept_and_given_back_as_a_copy(m: NativeSessionManager) -> None:
    given = {"bytes": 0, "days": 1}
    settings = m.configure_workspace("a", fold="always", retention=given)
    assert settings == {"fold": "always", "retention": {"bytes": 0, "days": 1}}
    settings["retention"]["bytes"] = given["bytes"] = 5
    m.create_session("a")
    assert m.status("a").unfolded_records == 0
    with NativeSessionManager(m.data_dir) as other:
        assert other.configure_workspace("a", fold="auto") == {"fold": "auto", "retention": {"bytes": 0, "days": 1}}
