"""Every store that can be given the work, by a short key that a child process can be started with."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from benchmarks import baselines, peers
from benchmarks.work import RECORD_BYTES, Appender, PeerMissing

KEYS = ("ours", "ours-os", "raw", "flocked", "sqlite-full", "sqlite-normal", "json", "openai", "strands", "tinydb")


def appender_type(key: str) -> type[Appender]:
    """The class behind a key. Our own package is imported only for our own keys: a peer's child must not carry it."""
    if key in {"ours", "ours-os"}:
        from benchmarks import ours

        return ours.Ours if key == "ours" else ours.OursOs
    others: dict[str, type[Appender]] = {
        "raw": baselines.RawAppend,
        "flocked": baselines.FlockedAppend,
        "sqlite-full": peers.SqliteWalFull,
        "sqlite-normal": peers.SqliteWalNormal,
        "json": peers.JsonRewrite,
        "openai": peers.OpenAISession,
        "strands": peers.StrandsSession,
        "tinydb": peers.TinyDbFile,
    }
    return others[key]


def make(key: str, folder: Path, size: int = RECORD_BYTES) -> Appender:
    """A store on `folder`. `size` is what the raw appends write for a message, in bytes."""
    return appender_type(key)(folder, size)


def installed(key: str) -> str:
    """The version of the library behind a key, `built in` where there is none. Raises PeerMissing."""
    distribution = appender_type(key).distribution
    if key in {"ours", "ours-os"}:
        return "this checkout"
    if not distribution:
        return "built in"
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise PeerMissing("not installed") from error
