"""What an import is asked to take in: what is found on this computer, a tool's history, files and folders."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import FORMATS, IMPORTERS, Computer, Importer, importer_of
from nomad_sessions.formats.event_documents import NAME as EVENTS
from nomad_sessions.formats.importing import STDIN

__all__ = ["NAMES", "Source", "sources_of", "tools_to_complete"]

_TOOLS = {importer.name: importer for importer in IMPORTERS}
_FORMS = (*(each.name for each in FORMATS), EVENTS)
NAMES = ", ".join(dict.fromkeys((*_TOOLS, *_FORMS)))
_ALL = "auto"
_ENDINGS = (".json", ".jsonl")


class Source(NamedTuple):
    """Something to import: a tool's history, or, without an importer, a document; of a certain form, where that was
    named. A document that is `one_of_several` may be none: the others are imported all the same."""

    importer: Importer | None
    path: Path
    form: str | None = None
    one_of_several: bool = False


def tools_to_complete(incomplete: str) -> list[str]:
    """What the shell may complete to."""
    return [each for each in (_ALL, *NAMES.split(", ")) if each.startswith(incomplete)]


def sources_of(what: Sequence[str]) -> Iterator[Source]:
    """What these arguments name. Raises `InvalidInputError` and `FileNotFoundError`, before the first is given."""
    first, *rest = what
    if first == _ALL:
        if rest:
            raise InvalidInputError(
                field="path", value=rest[0], reason="auto takes no path: it looks at the usual places"
            )
        return iter([Source(importer, path) for importer in IMPORTERS for path in _usual(importer)])
    if first in _TOOLS:
        return iter(_several(_of_tool(_TOOLS[first], rest)))
    if first in _FORMS:
        if not rest:
            raise InvalidInputError(field="tool", value=first, reason="has no usual place: say which file")
        return iter(_several(each for name in rest for each in _documents(name, first)))
    return iter(_several(each for name in what for each in _unnamed(name)))


def _several(sources: Iterable[Source]) -> list[Source]:
    found = list(sources)
    return found if len(found) == 1 else [each._replace(one_of_several=True) for each in found]


def _usual(importer: Importer) -> list[Path]:
    return [path for path in importer.locate(Computer.here()) if path.exists()]


def _of_tool(importer: Importer, names: Sequence[str]) -> list[Source]:
    if not names:
        found = _usual(importer)
        if not found:
            places = ", ".join(str(path) for path in importer.locate(Computer.here()))
            reason = f"keeps nothing at {places}: say where" if places else "has no usual place: say where it is"
            raise InvalidInputError(field="tool", value=importer.name, reason=reason)
        return [Source(importer, path) for path in found]
    return [each for name in names for each in _of_tool_at(importer, name)]


def _of_tool_at(importer: Importer, name: str) -> list[Source]:
    path = _existing(name)
    other = importer_of(path)
    if other is importer or (path.is_dir() and importer.sniff(path)):
        return [Source(importer, path)]
    if other is None and importer.name in _FORMS:
        return _documents(name, importer.name)
    hint = f": it looks like {other.label}'s" if other is not None else ""
    raise InvalidInputError(field="path", value=name, reason=f"holds nothing of {importer.label}'s{hint}")


def _documents(name: str, form: str | None) -> list[Source]:
    """The document of this name, or those in the folder of this name."""
    path = Path(name) if name == STDIN else _existing(name)
    if name == STDIN or not path.is_dir():
        return [Source(None, path, form)]
    files = sorted(each for each in path.glob("*.json*") if each.suffix in _ENDINGS)
    files = files or sorted(path.glob("*/sessions.json"))  # As NomadArch and we keep them, a folder for each workspace.
    if not files:
        reason = f"holds no history of a tool that we know, and no {' or '.join(_ENDINGS)} files"
        raise InvalidInputError(field="path", value=name, reason=reason)
    return [Source(None, each, form, one_of_several=True) for each in files]


def _unnamed(name: str) -> list[Source]:
    path = Path(name)
    importer = importer_of(path) if name != STDIN else None
    if importer is None:
        return _documents(name, None)
    if path.is_dir() and len(several := [each.name for each in IMPORTERS if each.sniff(path)]) > 1:
        reason = f"holds what several tools wrote ({', '.join(several)}): import each with its name, or its own folder"
        raise InvalidInputError(field="path", value=name, reason=reason)
    return [Source(importer, path)]


def _existing(name: str) -> Path:
    path = Path(name)
    if path.exists():
        return path
    if path.name != name or path.suffix:
        raise FileNotFoundError(2, "No such file or folder", name)
    names = [_ALL, *NAMES.split(", ")]
    part = name.lower()
    near = [each for each in names if len(part) > 2 and part in each] or difflib.get_close_matches(part, names, 1)
    meant = f"; {near[0]} is one" if near else ""
    raise FileNotFoundError(2, f"No such file or folder, and no tool ({', '.join(names)}) of that name{meant}", name)
