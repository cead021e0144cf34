"""Settings of targets: the environment before the file, a wrong one named, a secret never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import InvalidInputError
from nomad_sessions.sync.settings import SyncSettings, config_path, read_settings

FILE = """
[sync]
agent = "owl"
[sync.mongo]
uri = "mongodb://me:secret@there/"
two_way = true
[sync.chroma]
path = "vectors"
[embedding]
driver = "openai"
function = "small"
"""


def test_what_nobody_says_is_not_there(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none.toml", {}) == SyncSettings()
    (tmp_path / "empty.toml").write_text("")
    assert read_settings(tmp_path / "empty.toml", {"MONGODB_URI": ""}) == SyncSettings()


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    assert read_settings(path, {}) == SyncSettings(
        "mongodb://me:secret@there/", "database", "true", None, "vectors", "owl", "openai", "small"
    )
    given = {"MONGODB_URI": "mongodb://here", "MONGODB_DATABASE": "mine", "CHROMA_URL": "http://c", "OTHER": "x"}
    found = read_settings(path, given)
    assert (found.mongo_uri, found.mongo_database, found.chroma_url) == ("mongodb://here", "mine", "http://c")
    assert found.agent == "owl"


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(FILE)
    assert "secret" not in repr(read_settings(path, {}))
    assert "mongo_uri" in repr(read_settings(path, {}))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[sync", "no TOML"),
        ("\udc80", "no TOML"),
        ("[sync.mongo]\nurl = 'x'", r"sync\.mongo\.url"),
        ("[sync]\nagent = 3", "agent"),
        ("[sync]\nagent = true", "agent"),
        ("[sync.mongo]\ntwo_way = 2", "two_way"),
        ("loose = 1", "loose"),
    ],
)
def test_what_is_wrong_is_named_and_what_it_says_is_not_shown(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidInputError, match=named):
        read_settings(path, {})


def test_where_the_file_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOMAD_SESSIONS_CONFIG", raising=False)
    assert config_path().name == "config.toml"
    assert config_path().is_absolute()
    monkeypatch.setenv("NOMAD_SESSIONS_CONFIG", "~/mine.toml")
    assert config_path() == Path("~/mine.toml").expanduser()
    monkeypatch.setenv("NOMAD_SESSIONS_CONFIG", str(tmp_path / "x.toml"))
    (tmp_path / "x.toml").write_text("[sync]\nagent = 'here'")
    assert read_settings().agent == "here"
