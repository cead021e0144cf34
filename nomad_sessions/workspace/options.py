"""How a workspace is kept."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["UNTOLD", "Durability", "Options"]

Durability = Literal["full", "batch", "os"]
UNTOLD: dict[Durability, int] = {"full": 16 << 10}
"""How many bytes at the end of the log, of others, may be written on before they are known to be synced: where several
write in turn, each would else sync what the one before has synced. Without an entry as many as there are."""


class Options(NamedTuple):
    """`durability`, and `lock_timeout` and `batch_interval` in seconds."""

    durability: Durability = "full"
    lock_timeout: float = 10.0
    batch_interval: float = 0.05
