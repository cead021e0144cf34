"""Commands on what is kept: prune, config."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import SHORT_ID, WIDE, counted, for_people, pairs, size, table, when, write_json
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import AsJson, DataDir, Workspace, open_store
from nomad_sessions.cli.times import span
from nomad_sessions.clock import SystemClock
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.pruning import (
    Rule,
    Victim,
    find_unreferenced,
    find_victims,
    remove,
    remove_unreferenced,
)

__all__ = ["register"]

_GRACE = "14d"
_WHY = {"old": "age", "beyond the number": "number", "beyond the size": "size"}
_LEAST_GRACE = "1h"  # What is attached is named a moment later: by a session that is being imported, say.
_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    for command in (prune, config):
        app.command()(guarded(command))


def prune(
    older_than: Annotated[str | None, typer.Option(help="Sessions not changed for so long: 12h, 90d, 8w.")] = None,
    keep: Annotated[int | None, typer.Option(min=0, help="All but the newest, this many.")] = None,
    max_size: Annotated[
        str | None, typer.Option(help="The oldest, until the rest takes at most so much: 500M, 2G.")
    ] = None,
    archived: Annotated[bool, typer.Option("--archived", help="Only archived sessions; the others stay.")] = False,
    attachments: Annotated[
        bool, typer.Option("--attachments", help=f"Not sessions but files that nothing names, for {_GRACE} or so long.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Without it nothing is removed, only shown.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show which sessions a rule would remove; with --yes, remove them.

    The journal keeps what was removed for as long as it is kept (see config), attachments stay. What was imported comes
    back with the next import of its source, as long as that is there. With --attachments: which of those nothing names
    any more, neither a session nor the journal, and that are older than --older-than.
    """
    if attachments:
        if keep is not None or max_size is not None or archived:
            reason = "goes with --older-than only: sessions are removed by themselves"
            raise InvalidInputError(field="attachments", value=True, reason=reason)
        _prune_attachments(older_than or _GRACE, yes, workspace, data_dir, as_json)
        return
    if older_than is None and keep is None and max_size is None:
        raise InvalidInputError(field="prune", value=None, reason="say what goes: --older-than, --keep or --max-size")
    before = None if older_than is None else SystemClock().now() - span("older-than", older_than)
    rule = Rule(before, keep, None if max_size is None else _bytes("max-size", max_size), archived)
    with open_store(data_dir, workspace) as (manager, ws), working("Looking"):
        victims = find_victims(manager, ws, rule)
        gone = remove(manager, ws, victims) if yes and victims else []
    if for_people(as_json):
        _print(Console(), victims, gone, yes)
    else:
        rows = [
            {"id": v.session.id, "title": v.session.title, "updatedAt": v.session.updated_at, "reason": v.reason}
            | {"bytes": v.bytes, "removed": v.session.id in gone}
            for v in victims
        ]
        write_json(rows)


def _prune_attachments(grace: str, yes: bool, workspace: str | None, data_dir: Path | None, as_json: bool) -> None:
    length = span("older-than", grace)
    if length < span("older-than", _LEAST_GRACE):
        raise InvalidInputError(field="older-than", value=grace, reason=f"{_LEAST_GRACE} at least, for attachments")
    before = SystemClock().now() - length
    with open_store(data_dir, workspace) as (manager, ws), working("Looking"):
        found = (remove_unreferenced if yes else find_unreferenced)(manager, ws, before=before)
    if not for_people(as_json):
        write_json([{**each._asdict(), "removed": yes} for each in found])
        return
    whole = f"{len(found)} attachments, {size(sum(each.bytes for each in found))}, "
    told = f"{whole}removed" if yes else f"{whole}would go: --yes removes them"
    Console().print(Text(told if found else "nothing would go", style="yellow" if found else ""))


def _print(console: Console, victims: list[Victim], gone: list[str], yes: bool) -> None:
    if not victims:
        console.print("nothing would go")
        return
    cut = 0 if console.width >= WIDE else -SHORT_ID
    rows = (
        (v.session.id[cut:], v.session.title, when(v.session.updated_at), size(v.bytes), _WHY.get(v.reason, v.reason))
        for v in victims
    )
    console.print(table(("id", "title", "updated", "size", "why"), rows, right=("size",)))
    whole = size(sum(v.bytes for v in victims))
    found = counted(len(victims), "session")
    told = f"{len(gone)} removed" if yes else f"{found}, {whole}, would go: --yes removes them"
    console.print(Text(told, style="yellow"))


def config(
    fold: Annotated[
        str | None, typer.Option(help="auto, or always: after each change, for tools that read only sessions.json.")
    ] = None,
    retention_days: Annotated[
        float | None, typer.Option(min=0, help="How long the journal is kept for replay.")
    ] = None,
    retention_size: Annotated[str | None, typer.Option(help="How much of it at most: 64M, 1G.")] = None,
    workspace: Workspace = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show a workspace's settings, or change them."""
    changes: dict[str, Any] = {} if fold is None else {"fold": fold}
    with open_store(data_dir, workspace) as (manager, ws):
        there = manager.settings(ws)
        retention = dict(there.get("retention") or {})
        if retention_days is not None:
            retention["days"] = retention_days
        if retention_size is not None:
            retention["bytes"] = _bytes("retention-size", retention_size)
        if retention_days is not None or retention_size is not None:
            changes["retention"] = retention
        if changes:
            there = manager.configure_workspace(ws, **changes)
    if not for_people(as_json):
        write_json(there)
        return
    kept = there.get("retention") or {}
    most = size(kept["bytes"]) if "bytes" in kept else "as much as sessions.json, at least 64 MiB"
    days = f"{kept.get('days', 30):g} days"
    Console().print(pairs([("fold", there.get("fold", "auto")), ("journal kept", f"{days}, {most}")]))


def _bytes(field: str, text: str) -> int:
    found = re.fullmatch(r"(\d{1,12})\s*([BKMG]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise InvalidInputError(field=field, value=text, reason="write it as 500M or 2G")
    return int(found[1]) * _UNITS[found[2].upper()]
