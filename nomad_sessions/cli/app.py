"""The command's tree: one file for each group of commands, joined here.

A file is loaded when one of its commands is asked for: loading all of them takes as long as what a command does.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from nomad_sessions.cli.exits import EXIT_CODES

__all__ = ["FILES", "app"]

FILES = {
    "sessions": ("new", "ls", "edit", "fork", "revert", "unrevert", "rm"),
    "messages": ("add", "show"),
    "files": ("import",),
    "search": ("search",),
    "events": ("events", "record", "watch"),
    "export": ("export",),
    "organise": ("workspaces", "relink", "move", "archive", "unarchive", "close", "reopen", "tree"),
    "upkeep": ("check", "repair", "checkpoint", "status", "stats", "doctor"),
    "keeping": ("prune", "config"),
    "tasks": ("info", "tasks"),
    "mail": ("mail",),
    "sync": ("sync",),
    "capture": ("capture",),
    "who": ("who",),
    "demo": ("demo",),
}
"""The commands, by the file that has them, in the order in which they are listed."""
_FILE_OF = {command: file for file, commands in FILES.items() for command in commands}


class _Commands(TyperGroup):
    """The commands of all files."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names."""
        return [*_FILE_OF]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, its file being loaded; None where there is none, all being loaded to tell what may be meant."""
        for file in [_FILE_OF[cmd_name]] if cmd_name in _FILE_OF else FILES:
            if FILES[file][0] not in self.commands:
                part = typer.Typer(**_PLAIN)
                import_module(f"nomad_sessions.cli.{file}").register(part)
                self.commands.update(get_group(part).commands)
        return super().get_command(ctx, cmd_name)


_PLAIN: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": None}
app = typer.Typer(
    **_PLAIN,
    cls=_Commands,
    name="nomad-sessions",
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
)


def _print_version(asked: bool) -> None:
    if asked:
        print(installed_version("nomad-sessions"))
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A local-first store of agent sessions, in plain files. One workspace for each project folder."""
