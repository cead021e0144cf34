"""Which Chroma the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma_settings import CACHE, FOLDER, chroma_target
from nomad_sessions.sync.configured import configured_targets
from nomad_sessions.sync.settings import SyncSettings


def test_without_a_server_it_is_a_folder_in_the_data_folder_that_is_no_workspace(tmp_path: Path) -> None:
    settings = {"EMBEDDING_DRIVER": "hashing", "EMBEDDING_FUNCTION": "16"}
    with NativeSessionManager(tmp_path) as manager:
        manager.create_session("ws", title="t")
        target = chroma_target(settings, manager.data_dir)
        assert target.describe().place == str(tmp_path / FOLDER)
        with Synchronizer(manager, [target]) as sync:
            sync.push()
        assert manager.list_workspaces() == ["ws"]
    assert sorted(each.name for each in tmp_path.iterdir()) == [FOLDER, CACHE, "ws"]


def test_the_settings_name_server_agent_and_embedder(tmp_path: Path) -> None:
    settings = {"CHROMA_URL": "http://box:8000/", "AGENT_NAME": "duck", "EMBEDDING_FUNCTION": "mxbai-embed-large"}
    info = chroma_target(settings, str(tmp_path)).describe()
    assert info.place == "http://box:8000"
    assert info.details == {"agent": "duck", "model": "ollama/mxbai-embed-large", "isSemantic": True}
    with pytest.raises(InvalidInputError, match="agent"):
        chroma_target({"AGENT_NAME": "a b"}, str(tmp_path))


def test_who_names_an_embedder_has_the_folder_in_the_data_folder_to_push_to(tmp_path: Path) -> None:
    assert configured_targets(SyncSettings(), str(tmp_path)) == []
    (target,) = configured_targets(SyncSettings(embedding_driver="hashing"), str(tmp_path))
    assert target.describe().place == str(tmp_path / FOLDER)


def test_a_folder_may_be_named_from_one_s_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    info = chroma_target({"CHROMA_PATH": "~/vectors"}, str(tmp_path)).describe()
    assert info.place == str(tmp_path / "vectors")
