"""`nomad-sessions demo`: the store in one minute, on real conversations, in a folder that goes away afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from nomad_sessions.cli.demo_measure import Survival, kill_a_writer, time_writes
from nomad_sessions.cli.exits import Exit, guarded
from nomad_sessions.cli.files import report_table
from nomad_sessions.cli.output import conversation, counted, sessions_table, size, table
from nomad_sessions.formats import import_file
from nomad_sessions.manager import NativeSessionManager

__all__ = ["examples_folder", "register"]

WORKSPACE = "demo"
_KILLED_AFTER = (0.05, 0.11, 0.23)  # seconds of writing


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(guarded(demo))


def examples_folder() -> Path:
    """The example conversations: inside an installed package, or in the checkout that it runs from."""
    package = Path(__file__).parents[1]
    for folder in (package / "_examples", package.parent / "examples"):
        if (folder / "opencode").is_dir():
            return folder
    raise FileNotFoundError(2, "the example conversations are missing: install nomad-sessions again", str(package))


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder there, to look around in.")] = False,
    writes: Annotated[int, typer.Option(min=1, help="How many writes to time.")] = 300,
) -> None:
    """Show what the store does, on real conversations.

    Works in a temporary folder: nothing of yours is touched.
    """
    console = Console(highlight=False)
    with _folder(keep) as folder:
        data_dir = folder / "data"
        with NativeSessionManager(data_dir) as manager:
            _import(console, manager)
            _look(console, manager)
            _fork_and_revert(console, manager)
        kept = _kill(console, data_dir)
        with NativeSessionManager(data_dir) as manager:
            _time(console, manager, folder / "raw", writes)
        _files(console, data_dir / WORKSPACE)
        if keep:
            console.print(f"\nThe data folder stays: {data_dir}", soft_wrap=True)
    if not kept:
        raise typer.Exit(Exit.STORAGE)


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="nomad-sessions-demo-"))
        return
    with tempfile.TemporaryDirectory(prefix="nomad-sessions-demo-") as name:
        yield Path(name)


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold underline"))


def _import(console: Console, manager: NativeSessionManager) -> None:
    examples = examples_folder()
    _heading(console, "1. Real conversations of two other tools are imported, each with all its fields")
    files = [*sorted((examples / "opencode").glob("*.json")), examples / "nomadarch" / "sessions.json"]
    console.print(report_table([import_file(manager, WORKSPACE, file) for file in files]))


def _look(console: Console, manager: NativeSessionManager) -> None:
    _heading(console, "2. What is there now")
    console.print(sessions_table(manager.list_sessions(WORKSPACE), console.width))
    session = next(s for s in manager.list_sessions(WORKSPACE) if s.title == "Fix the failing slugify test")
    _heading(console, "3. One of them")
    conversation(console, session, manager.get_session_messages(WORKSPACE, session.id))


def _fork_and_revert(console: Console, manager: NativeSessionManager) -> None:
    _heading(console, "4. Fork, revert, unrevert, delete")

    def count(session_id: str) -> int:
        return manager.get_session_messages(WORKSPACE, session_id).total

    original = next(s for s in manager.list_sessions(WORKSPACE) if s.title == "Slow category page")
    copy = manager.fork_session(WORKSPACE, original.id)
    rows = [("fork", f"{copy.title!r} has {counted(count(copy.id), 'message')} of its own")]
    manager.revert(WORKSPACE, copy.id, copy.message_ids[2], reason="wrong turn")
    rows.append(("revert", f"the fork shows {count(copy.id)}, the original still {count(original.id)}"))
    manager.unrevert(WORKSPACE, copy.id)
    rows.append(("unrevert", f"the fork shows {count(copy.id)} again"))
    manager.delete_session(WORKSPACE, original.id)
    rows.append(("delete", f"the original is gone, the fork has {count(copy.id)}"))
    console.print(table(("", ""), rows))


def _kill(console: Console, data_dir: Path) -> bool:
    _heading(console, "5. A process that writes is killed (SIGKILL) in the middle of it, three times")
    results: list[Survival] = []
    for seconds in _KILLED_AFTER:
        with NativeSessionManager(data_dir) as manager:
            session = manager.create_session(WORKSPACE, title=f"Killed after {seconds} s")
        results.append(kill_a_writer(data_dir, WORKSPACE, session.id, seconds))
    rows = (
        (str(r.acked), str(r.found), str(max(0, r.acked - r.found)), "ok" if not r.problems else "damaged")
        for r in results
    )
    console.print(
        table(
            ("acknowledged", "found after reopening", "lost", "check"),
            rows,
            right=("acknowledged", "found after reopening", "lost"),
        )
    )
    kept = all(result.kept for result in results)
    text = "Nothing that was acknowledged is missing." if kept else "Acknowledged messages are missing: this is a bug."
    console.print(
        Text(f"{text} (One more than acknowledged: it was stored, and killed before it said so.)", style="dim")
    )
    return kept


def _time(console: Console, manager: NativeSessionManager, raw_file: Path, writes: int) -> None:
    _heading(console, f"6. What a synced write of 1 KB costs, median of {writes}")
    found = time_writes(manager, WORKSPACE, raw_file, writes)
    rows = (
        ("add_message, durable when it returns", f"{found.stored:.3f} ms", f"{found.stored / found.raw:.2f}"),
        (f"raw os.write of {found.size} bytes + os.fdatasync", f"{found.raw:.3f} ms", "1.00"),
    )
    console.print(table(("", "time", "ratio"), rows, right=("time", "ratio")))


def _files(console: Console, folder: Path) -> None:
    _heading(console, "7. All of it is in plain files")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = ((str(path.relative_to(folder)), size(path.stat().st_size)) for path in files)
    console.print(table(("file", "size"), rows, right=("size",)))
