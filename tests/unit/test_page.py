from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import pytest

from nomad_sessions.models import Page, Session


def test_a_page_is_a_sequence_of_its_items() -> None:
    page = Page(["a", "b", "c"])
    assert isinstance(page, Sequence)
    assert (len(page), list(page), page[0], page[-1], page[1:]) == (3, ["a", "b", "c"], "a", "c", ["b", "c"])
    assert "b" in page
    assert page.index("c") == 2
    assert list(reversed(page)) == ["c", "b", "a"]
    with pytest.raises(IndexError):
        page[3]


def test_the_total_counts_all_rows_and_the_cursor_says_where_to_go_on() -> None:
    page = Page(iter(["a"]), total=7, next_cursor="after-a")
    assert (page.items, page.total, page.next_cursor) == (("a",), 7, "after-a")
    assert (Page(["a"]).total, Page(["a"]).next_cursor, Page[str]().total) == (1, None, 0)


def test_an_empty_page_is_false() -> None:
    assert not Page[str]()
    assert Page(["a"])


def test_a_page_cannot_be_changed() -> None:
    page = Page(["a"])
    for name in ("items", "total", "next_cursor", "_items", "other"):
        with pytest.raises(AttributeError):
            setattr(page, name, ())
    with pytest.raises(AttributeError):
        del page._items
    assert page == ["a"]


def test_pages_are_equal_by_what_they_hold_and_to_plain_lists() -> None:
    assert Page(["a"], total=7) == Page(["a"], total=7)
    assert Page(["a"], total=7) != Page(["a"])
    assert Page(["a"]) == ["a"]
    assert Page(["a"]) == ("a",)
    assert Page(["a"]) != ["b"]
    assert Page(["a"]) != "a"
    assert Page([Session(id="s")]) == [Session(id="s")]
    with pytest.raises(TypeError):
        hash(Page(["a"]))


def test_a_page_shows_and_pickles_what_it_holds() -> None:
    page = Page(["a"], total=7, next_cursor="x")
    assert repr(page) == "Page(['a'], total=7, next_cursor='x')"
    for again in (pickle.loads(pickle.dumps(page)), copy.copy(page), copy.deepcopy(page)):
        assert again == page
