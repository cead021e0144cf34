"""What the tests of searches share: a short talk, and the ids of what is found."""

from __future__ import annotations

from typing import Any

from nomad_sessions import ManualClock, NativeSessionManager
from nomad_sessions.search import Hit

__all__ = ["add", "ids", "talking"]


def add(m: NativeSessionManager, session: str, text: str, **more: Any) -> str:
    """Adds a message of the user's; its id."""
    return m.add_message("ws", session, {"role": "user", "content": text, **more}).id


def ids(hits: tuple[Hit, ...]) -> list[str | None]:
    """The messages of hits."""
    return [hit.message_id for hit in hits]


def talking(m: NativeSessionManager, clock: ManualClock) -> dict[str, str]:
    """A session `s` with three messages a second apart; their ids by name."""
    m.create_session("ws", id="s", title="Trailing dashes", agent="build")
    found = {}
    for name, role, text in (
        ("asked", "user", "The slugify test fails. Can you fix it?"),
        ("looked", "assistant", "Trailing dashes stay: look at `re.sub` in slug.py."),
        ("fixed", "assistant", "Fixed: the dashes are stripped, naïvely."),
    ):
        clock.advance(1000)
        found[name] = m.add_message("ws", "s", role=role, content=text).id
    return found
