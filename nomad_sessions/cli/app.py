"""The command's tree: one file for each group of commands, joined here."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from nomad_sessions.cli import (
    capture,
    demo,
    events,
    export,
    files,
    keeping,
    mail,
    messages,
    organise,
    search,
    sessions,
    sync,
    tasks,
    upkeep,
    who,
)
from nomad_sessions.cli.exits import EXIT_CODES

__all__ = ["app"]


def _print_version(asked: bool) -> None:
    if asked:
        print(installed_version("nomad-sessions"))
        raise typer.Exit


app = typer.Typer(
    name="nomad-sessions",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A local-first store of agent sessions, in plain files. One workspace for each project folder."""


sessions.register(app)
messages.register(app)
files.register(app)
search.register(app)
events.register(app)
export.register(app)
organise.register(app)
tasks.register(app)
upkeep.register(app)
keeping.register(app)
mail.register(app)
sync.register(app)
capture.register(app)
who.register(app)
demo.register(app)
