"""The command that takes a session out: export."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from nomad_sessions.cli.completion import forms_to_complete
from nomad_sessions.cli.exits import guarded
from nomad_sessions.cli.output import write_bytes
from nomad_sessions.cli.progress import working
from nomad_sessions.cli.store import DataDir, SessionId, Workspace, find_anywhere, open_store
from nomad_sessions.errors import InvalidInputError
from nomad_sessions.formats import original_of
from nomad_sessions.formats.exporting import EXPORTS, export_session
from nomad_sessions.formats.keeping import is_outdated
from nomad_sessions.formats.redaction import Redactor
from nomad_sessions.formats.resumable import place_of
from nomad_sessions.models import dump

__all__ = ["register"]

_ENDINGS = {".md": "markdown", ".txt": "markdown", ".html": "html", ".htm": "html", ".jsonl": "jsonl"}
_ENDINGS[".json"] = "nomadarch"  # Whole, and `import` takes it.
_FORMS = "; ".join(f"{name}: {export.label}" for name, export in EXPORTS.items())


def register(app: typer.Typer) -> None:
    """Adds this group's commands."""
    app.command()(guarded(export))


def export(
    session: SessionId,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help=f"{_FORMS}. Default: what the file's name ends in, or markdown.",
            autocompletion=forms_to_complete,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write. Default: stdout.", metavar="FILE")
    ] = None,
    redact: Annotated[
        bool, typer.Option("--redact", help="Take out keys, passwords and home folders; says on stderr how many.")
    ] = False,
    original: Annotated[
        bool, typer.Option("--original", help="What the session was imported from, byte for byte, in place of a form.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    workspace: Workspace = None,
    data_dir: DataDir = None,
) -> None:
    """Write a session as Markdown, as a page, for a model, for another tool; or as it was before it was imported."""
    output = None if output == Path("-") else output
    if original:
        if form is not None or redact:
            reason = "gives what was there as it was: leave --format and --redact out"
            raise InvalidInputError(field="original", value=form or "--redact", reason=reason)
        _export_original(session, output, force, workspace, data_dir)
        return
    with open_store(data_dir, workspace) as (manager, here), working("Exporting"):
        ws, found = find_anywhere(manager, here, session, named=workspace is not None)
        redactor = _redactor() if redact else None
        form = form or _form_of(output)
        data = export_session(manager, ws, found.id, form, redactor=redactor)
    if redactor is not None:
        told = ", ".join(f"{kind}: {count}" for kind, count in redactor.found.most_common())
        print(f"redacted: {told or 'nothing'}", file=sys.stderr)
    _write([data], output, force)
    place = place_of(form, dump(found))
    if place is not None:
        print(f"nomad-sessions: to go on with it: as {place[0]}, then: {place[1]}", file=sys.stderr)


def _redactor() -> Redactor:
    redactor = Redactor()
    redactor.learn(f"{Path.home()}/")
    return redactor


def _export_original(
    session: str, output: Path | None, force: bool, workspace: str | None, data_dir: Path | None
) -> None:
    with open_store(data_dir, workspace) as (manager, here):
        with working("Exporting"):
            ws, found = find_anywhere(manager, here, session, named=workspace is not None)
            for _ in original_of(manager, ws, found.id):
                pass  # Nothing is written of an original that is not whole.
        if is_outdated(found):
            print("nomad-sessions: the session was imported again since, without its original", file=sys.stderr)
        _write(original_of(manager, ws, found.id), output, force)


def _write(pieces: Iterable[bytes], output: Path | None, force: bool) -> None:
    if output is None:
        write_bytes(pieces)
        return
    if output.exists() and not output.is_file():  # A device or a pipe, which nothing can take the place of.
        with output.open("wb") as file:
            file.writelines(pieces)
        return
    there = Path(os.path.realpath(output))
    if force:
        _replace(pieces, there)
    else:
        try:
            _fill(pieces, there)
        except FileExistsError:
            reason = "is there already: --force replaces"
            raise InvalidInputError(field="output", value=str(output), reason=reason) from None


def _replace(pieces: Iterable[bytes], path: Path) -> None:
    """Puts a new file in the place of one, whole, or leaves what is there."""
    beside = path.with_name(f".{path.name[:100]}.{os.getpid()}.tmp")
    _fill(pieces, beside)
    try:
        if path.exists():
            beside.chmod(path.stat().st_mode & 0o777)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _fill(pieces: Iterable[bytes], path: Path) -> None:
    """Writes a new file; what could not be finished is removed."""
    with path.open("xb") as file:
        try:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _form_of(output: Path | None) -> str:
    if output is None:
        return "markdown"
    form = _ENDINGS.get(output.suffix.lower())
    if form is None:
        reason = f"does not say which form: give --format, or a name that ends in {', '.join(_ENDINGS)}"
        raise InvalidInputError(field="output", value=str(output), reason=reason)
    return form
