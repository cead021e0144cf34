"""The files of a history: all that a folder has, also behind links to projects, each once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nomad_sessions.formats import ImportReport
from nomad_sessions.formats.source import files_below

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links to folders need rights on Windows")


def made(*names: Path) -> None:
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_text("")


def test_projects_behind_links_are_found_each_once_and_circles_end(tmp_path: Path) -> None:
    history, elsewhere = tmp_path / "history", tmp_path / "elsewhere"
    made(history / "a" / "one.jsonl", history / "a" / "deep" / "two.jsonl", history / "a" / "other.txt")
    made(elsewhere / "three.jsonl", elsewhere / "deep" / "four.jsonl", tmp_path / "beside" / "five.jsonl")
    (history / "link").symlink_to(elsewhere)
    (history / "again").symlink_to(history / "a")
    (history / "circle").symlink_to(tmp_path / "history")
    (history / "gone").symlink_to(tmp_path / "nowhere")
    (history / "a" / "inner").symlink_to(tmp_path / "beside")
    (history / "a" / "six.jsonl").symlink_to(elsewhere / "three.jsonl")
    (history / "a" / "seven.jsonl").symlink_to(tmp_path / "nowhere")
    report = ImportReport()
    found = [path.relative_to(history).as_posix() for path in files_below(history, "*.jsonl", report)]
    assert found == ["a/deep/two.jsonl", "a/one.jsonl", "a/six.jsonl", "link/deep/four.jsonl", "link/three.jsonl"]
    assert report.complete
    assert [path.name for path in files_below(history, "*.jsonl")] == ["two.jsonl", "one.jsonl", "six.jsonl"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    report = ImportReport()
    assert files_below(tmp_path / "gone", "*", report) == []
    assert report.skipped == {"the folder cannot be read: No such file or directory": 1}
