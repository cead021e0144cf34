"""Stores that may not be written: a read-only mount, and a user who is not the owner (chmod proves nothing to root)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.faults import places
from tests.support.lives import LIFE, as_state, predictions
from tests.support.zygote import Job, Zygote

pytestmark = pytest.mark.tmpfs

REFUSED = {"add", "create", "attach", "checkpoint", "new workspace", "delete", "repair"}


@pytest.mark.parametrize("job", [places.on_a_read_only_mount, places.as_another_user], ids=lambda job: job.__name__)
def test_what_cannot_be_written_can_be_read_and_every_write_says_so_and_changes_nothing(
    job: Job, mounting: Zygote, tmp_path: Path
) -> None:
    (found,) = mounting.run(job, folder=str(reachable(tmp_path))).well()
    assert as_state(found["state"]) == predictions(LIFE[:11])[-1]
    assert found["ok"]
    assert found["unchanged_by_reading"]
    assert found["refused"] == dict.fromkeys(REFUSED, "StoreReadOnlyError")
    assert found["readable_after"]
    assert found["unchanged"], "the tree has the same hash before and after"


def test_what_cannot_be_written_can_be_searched_also_where_there_is_an_index(mounting: Zygote, tmp_path: Path) -> None:
    assert mounting.run(places.searched_on_a_read_only_mount, folder=str(tmp_path)).well() == [[2, 2, 3]]


def test_a_store_that_may_not_be_read_is_an_error_and_never_an_empty_one(mounting: Zygote, tmp_path: Path) -> None:
    (found,) = mounting.run(places.unreadable, folder=str(reachable(tmp_path))).well()
    assert found == dict.fromkeys(("list_sessions", "get_session", "add"), "PermissionError")


def test_a_project_that_may_not_be_read_is_in_the_report_of_an_import(mounting: Zygote, tmp_path: Path) -> None:
    (found,) = mounting.run(places.unreadable_project, folder=str(reachable(tmp_path))).well()
    assert found["imported"] == 1
    assert found["skipped"] == {"the folder cannot be read: Permission denied": 1}
    assert found["warnings"][0].startswith(f"{tmp_path}/projects/theirs: ")


def test_a_workspace_that_may_not_be_entered_is_in_the_way_of_no_other(mounting: Zygote, tmp_path: Path) -> None:
    (found,) = mounting.run(places.unreadable_workspace, folder=str(reachable(tmp_path))).well()
    assert (found["found"], found["imported"]) == (1, 1)
    assert {"mine", "theirs"} < set(found["workspaces"])
    assert "theirs" in str(found["unreadable"])
    assert "theirs" in found["warnings"][0]


def reachable(folder: Path) -> Path:
    """Everybody may walk to it: pytest's own folders are the owner's alone."""
    top = Path(tempfile.gettempdir()).resolve()
    for each in (folder, *folder.parents):
        if each == top or each == each.parent:
            break
        each.chmod(each.stat().st_mode | 0o055)
    return folder
