"""How a workspace is kept."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Durability", "Options"]

Durability = Literal["full", "batch", "os"]


class Options(NamedTuple):
    """`durability`, and `lock_timeout` and `batch_interval` in seconds."""

    durability: Durability = "full"
    lock_timeout: float = 10.0
    batch_interval: float = 0.05
