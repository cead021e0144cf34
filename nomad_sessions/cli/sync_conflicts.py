"""`sync conflicts`: where two machines changed the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console

from nomad_sessions.cli.output import for_people, table, when, write_json
from nomad_sessions.cli.store import AnyWorkspace, AsJson, DataDir
from nomad_sessions.cli.sync_store import Target, opened

__all__ = ["conflicts"]

_WORDS = 40
"""Characters of what each side says."""


def conflicts(
    target: Target = None,
    forget: Annotated[bool, typer.Option("--forget", help="List them no more: somebody has looked at them.")] = False,
    workspace: AnyWorkspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List where two machines changed the same, with what was not kept."""
    with opened(data_dir, workspace) as (_, sync):
        found = sync.conflicts(workspace, target=target)
        if forget:
            sync.forget_conflicts(workspace, target=target)
    if not for_people(as_json):
        items = [
            {
                "kind": each.key.kind,
                "id": each.key.id,
                "field": each.field,
                "kept": each.kept,
                "lost": each.lost,
                "machine": each.machine,
                "changedAt": each.changed_at,
                "at": each.at,
            }
            for each in found
        ]
        write_json({"items": items, "total": len(items)})
        return
    if not found:
        print("No conflict.")
        return
    names = ("kind", "id", "field", "kept", "not kept", "other machine", "found")
    cells = [
        (each.key.kind, each.key.id, each.field, _short(each.kept), _short(each.lost), each.machine, when(each.at))
        for each in found
    ]
    Console().print(table(names, cells))


def _short(fields: Mapping[str, Any] | None) -> str:
    """What a side of a conflict says, in a few words."""
    if fields is None:
        return "deleted"
    said = next((fields[each] for each in ("content", "title", "text") if fields.get(each)), None)
    value = said if said is not None else next(iter(fields.values()), "")
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
