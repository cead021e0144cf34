"""The targets that the settings name, made."""

from __future__ import annotations

from collections.abc import Callable

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.sync.settings import SyncSettings
from nomad_sessions.sync.target import SyncTarget

__all__ = ["configured_targets"]


def configured_targets(
    settings: SyncSettings, data_dir: str, progress: Callable[[int, int], None] | None = None
) -> list[SyncTarget]:
    """The targets of these settings; asks none of them. `data_dir` is where what they keep for themselves lies:
    there Chroma's folder is too, where only an embedder is named. `progress` is told of vectors that are made anew.

    Raises `InvalidInputError` for an address that is none, and where an extra is missing, with what to install.
    """
    targets: list[SyncTarget] = []
    if settings.mongo_uri is not None:
        from nomad_sessions.sync.mongo import MongoTarget

        uri, two_way = settings.mongo_uri, settings.is_two_way()
        targets.append(MongoTarget(uri, database=settings.mongo_database, agent=settings.agent, two_way=two_way))
    if settings.chroma_url is not None and settings.chroma_path is not None:
        raise InvalidInputError(field="chroma", value="url, path", reason="is either a server or a folder")
    if any((settings.chroma_url, settings.chroma_path, settings.embedding_driver)):
        from nomad_sessions.sync.chroma_settings import chroma_target

        targets.append(chroma_target(settings.environment(), data_dir, progress=progress))
    return targets
