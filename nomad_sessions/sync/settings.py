"""Which targets there are to be: from the environment, and from `config.toml` in the user's folder for settings.

| variable | in the file | |
|---|---|---|
| `MONGODB_URI` | `[sync.mongo] uri` | a MongoDB; with a password it is a secret, and is never shown |
| `MONGODB_DATABASE` | `[sync.mongo] database` | default `database`, as the original's |
| `MONGODB_TWO_WAY` | `[sync.mongo] two_way` | whether several machines have their workspaces in common there |
| `CHROMA_URL` | `[sync.chroma] url` | a Chroma server |
| `CHROMA_PATH` | `[sync.chroma] path` | or a folder of Chroma's own |
| `AGENT_NAME` | `[sync] agent` | what collections are called by, default `duck` |
| `EMBEDDING_DRIVER`, `EMBEDDING_FUNCTION` | `[embedding] driver`, `function` | who makes vectors of texts |

The environment goes before the file. Verified by `tests/unit/test_sync_settings.py`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nomad_sessions.errors import InvalidInputError

__all__ = ["CONFIG_VARIABLE", "SyncSettings", "config_path", "read_settings"]

CONFIG_VARIABLE = "NOMAD_SESSIONS_CONFIG"
_SOURCES = {
    ("sync", "mongo", "uri"): ("mongo_uri", "MONGODB_URI"),
    ("sync", "mongo", "database"): ("mongo_database", "MONGODB_DATABASE"),
    ("sync", "mongo", "two_way"): ("mongo_two_way", "MONGODB_TWO_WAY"),
    ("sync", "chroma", "url"): ("chroma_url", "CHROMA_URL"),
    ("sync", "chroma", "path"): ("chroma_path", "CHROMA_PATH"),
    ("sync", "agent"): ("agent", "AGENT_NAME"),
    ("embedding", "driver"): ("embedding_driver", "EMBEDDING_DRIVER"),
    ("embedding", "function"): ("embedding_function", "EMBEDDING_FUNCTION"),
}

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


class SyncSettings(NamedTuple):
    """What is said of targets; None for what is not."""

    mongo_uri: str | None = None
    mongo_database: str = "database"
    mongo_two_way: str = "false"
    chroma_url: str | None = None
    chroma_path: str | None = None
    agent: str = "duck"
    embedding_driver: str | None = None
    embedding_function: str | None = None

    def is_two_way(self) -> bool:
        """Whether several machines have their workspaces in common in MongoDB. Raises `InvalidInputError` for what is
        neither true nor false."""
        said = self.mongo_two_way.strip().lower()
        if said not in _TRUTHS:
            raise InvalidInputError(field="MONGODB_TWO_WAY", value=said, reason="must be true or false")
        return _TRUTHS[said]

    def environment(self) -> dict[str, str]:
        """The environment of this process, with what these settings say in it."""
        said = {variable: getattr(self, field) for field, variable in _SOURCES.values()}
        return {**os.environ, **{variable: value for variable, value in said.items() if value is not None}}

    def __repr__(self) -> str:
        """Without what may be a secret."""
        shown = {name: value for name, value in self._asdict().items() if not name.endswith(("uri", "url"))}
        hidden = [name for name, value in self._asdict().items() if name not in shown and value is not None]
        return f"SyncSettings({shown}, and {', '.join(hidden) or 'no server'})"


def config_path() -> Path:
    """The file of settings: `$NOMAD_SESSIONS_CONFIG`, or `config.toml` where the user's settings lie. It need not be
    there."""
    chosen = os.environ.get(CONFIG_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_config_path("nomad-sessions") / "config.toml"


def read_settings(path: Path | None = None, environment: Mapping[str, str] | None = None) -> SyncSettings:
    """The settings of the file and the environment, by default those of this process.

    Raises `InvalidInputError` for a file that is no TOML, and for a key that is none of ours or has no text.
    """
    path = config_path() if path is None else path
    given = os.environ if environment is None else environment
    found = _of_file(path)
    found |= {field: given[variable] for field, variable in _SOURCES.values() if given.get(variable)}
    return SyncSettings(**found)


def _of_file(path: Path) -> dict[str, str]:
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(field=str(path), value=path.name, reason=f"is no TOML: {error}") from error
    found = {}
    for keys, text in _leaves(value):
        name = ".".join(keys)
        if keys not in _SOURCES:
            known = ", ".join(".".join(each) for each in _SOURCES)
            raise InvalidInputError(field=name, value=path.name, reason=f"is no setting: {known}")
        if keys[-1] == "two_way" and isinstance(text, bool):
            found[_SOURCES[keys][0]] = str(text).lower()
        elif isinstance(text, str):
            found[_SOURCES[keys][0]] = text
        else:
            raise InvalidInputError(field=name, value=path.name, reason="must be text")
    return found


def _leaves(value: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, child in value.items():
        if isinstance(child, dict):
            found += _leaves(child, (*above, key))
        else:
            found.append(((*above, key), child))
    return found
