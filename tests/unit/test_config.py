from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nomad_sessions.config import DATA_DIR_VARIABLE, default_data_dir, validate_workspace_id
from nomad_sessions.errors import InvalidWorkspaceIdError

GOOD = [
    "default",
    "ws-demo",
    "my project",
    "a",
    "x" * 128,
    "ünïcode",
    "日本語",
    "a.b.c",
    "-",
    "_x",
    "console",
    "com",
    "com10",
    "nul1",
    "aux-1",
    "v1.con",
    "01KDWFZY80000000000000000A",
    "~",
    "a&b;c$d'e`f",
]
BAD = {
    "empty": "",
    "dot": ".",
    "dots": "..",
    "hidden": ".git",
    "slash": "a/b",
    "absolute": "/etc",
    "up": "../x",
    "backslash": "a\\b",
    "drive": "C:",
    "star": "a*",
    "question": "a?",
    "quote": 'a"',
    "less": "a<",
    "more": "a>",
    "pipe": "a|",
    "nul": "a\0b",
    "newline": "a\nb",
    "tab": "a\tb",
    "del": "a\x7f",
    "c1": "a\x85b",
    "separator": "a\u2028b",
    "surrogate": "a\ud800",
    "leading space": " a",
    "trailing space": "a ",
    "only space": " ",
    "ideographic space": "a\u3000",
    "trailing dot": "a.",
    "129 characters": "x" * 129,
    "too many bytes": "語" * 86,
    "con": "con",
    "CON": "CON",
    "nul device": "Nul",
    "aux": "aux.txt",
    "com1": "COM1",
    "lpt9": "lpt9.tar.gz",
    "superscript": "com¹",
    "spaced device": "con .txt",
    "conin": "CONIN$",
    "the list of folders": "Workspaces.json",
    "its lock": "workspaces.json.lock",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_every_system_takes_is_given_back(name: str, tmp_path: Path) -> None:
    assert validate_workspace_id(name) == name
    (tmp_path / name).mkdir()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", BAD.values(), ids=BAD.keys())
def test_a_name_that_is_no_safe_folder_is_refused(name: str) -> None:
    with pytest.raises(InvalidWorkspaceIdError) as caught:
        validate_workspace_id(name)
    assert caught.value.workspace_id == name
    assert caught.value.reason
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [None, 7, b"ws", Path("ws")])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidWorkspaceIdError, match="must be a str"):
        validate_workspace_id(value)  # type: ignore[arg-type]  # the mistake under test


@given(st.text(max_size=20))
def test_an_accepted_name_is_one_segment_below_its_parent(name: str) -> None:
    try:
        validate_workspace_id(name)
    except InvalidWorkspaceIdError:
        return
    path = Path("data") / name
    assert (path.parent, path.name) == (Path("data"), name)


def test_the_environment_names_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "elsewhere"))
    assert default_data_dir() == tmp_path / "elsewhere"
    assert not (tmp_path / "elsewhere").exists()
    monkeypatch.setenv(DATA_DIR_VARIABLE, "~/sessions")
    assert default_data_dir() == Path.home() / "sessions"


@pytest.mark.parametrize("value", [None, ""])
def test_without_it_the_users_data_folder_is_taken(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(DATA_DIR_VARIABLE, value)
    assert default_data_dir() == platformdirs.user_data_path("nomad-sessions")
