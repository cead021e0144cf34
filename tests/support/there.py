"""For tests that know that something is there, and want to go on with it."""

from __future__ import annotations

from typing import TypeVar

__all__ = ["there"]

T = TypeVar("T")


def there(found: T | None) -> T:
    """What was found; fails the test where nothing was."""
    assert found is not None, "nothing was found"
    return found
