"""A bar on stderr for what takes longer than a second, and nothing for what does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

__all__ = ["working"]

DELAY = 1.0  # seconds


@contextmanager
def working(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `label` once the block has run for a second; gives a function to call with (done, total)."""
    console = Console(stderr=True)
    if not console.is_interactive:
        yield lambda done, total: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(label, total=None)
    timer = threading.Timer(DELAY, progress.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: progress.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()  # it may be starting the display just now
        progress.stop()
