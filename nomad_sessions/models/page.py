"""Page: what every list method returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")


class Page(Sequence[T], Generic[T]):
    """Some rows of a list, or all of them: an immutable sequence that knows how many there are and where to go on.

    `total` counts all rows that match, not those of this page. `next_cursor` is what to pass as `cursor` for the next
    page, None on the last one. Equal to another page with the same three, and to a list or tuple of the same items.
    """

    __slots__ = ("_items", "_next_cursor", "_total")

    _items: tuple[T, ...]
    _next_cursor: str | None
    _total: int

    def __init__(self, items: Iterable[T] = (), *, total: int | None = None, next_cursor: str | None = None) -> None:
        # Around __setattr__, which refuses: a page may be shared between threads.
        object.__setattr__(self, "_items", tuple(items))
        object.__setattr__(self, "_total", len(self._items) if total is None else total)
        object.__setattr__(self, "_next_cursor", next_cursor)

    @property
    def items(self) -> tuple[T, ...]:
        """The rows of this page."""
        return self._items

    @property
    def total(self) -> int:
        """How many rows match in all."""
        return self._total

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins; None when this is the last."""
        return self._next_cursor

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return list(self._items[index]) if isinstance(index, slice) else self._items[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            mine = (self._items, self._total, self._next_cursor)
            return mine == (other._items, other._total, other._next_cursor)
        if isinstance(other, list | tuple):
            return self._items == tuple(other)
        return NotImplemented

    # Equal to lists, which have no hash.
    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Page cannot be changed: {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Page cannot be changed: {name}")

    def __repr__(self) -> str:
        return f"Page({list(self._items)!r}, total={self._total}, next_cursor={self._next_cursor!r})"

    def __reduce__(self) -> tuple[Callable[..., Page[T]], tuple[Any, ...]]:
        return _page, (self._items, self._total, self._next_cursor)


def _page(items: tuple[T, ...], total: int, next_cursor: str | None) -> Page[T]:
    return Page(items, total=total, next_cursor=next_cursor)
