"""What a search gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Hit", "Results"]


@dataclass(frozen=True)
class Hit:
    """One message that was found, or, where `message_id` is None, a session by its title, description, id or agent.

    `title` is the session's. `snippet` is the text around what was found, with `marks`, the places in it (start and
    end, in characters) to be marked. `copies` counts the copies of the message in forks of its session. `created_at` is
    in ms.
    """

    workspace_id: str
    session_id: str
    title: str
    message_id: str | None
    role: str | None
    created_at: int | None
    snippet: str
    marks: tuple[tuple[int, int], ...]
    copies: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able values, in camelCase."""
        found = asdict(self)
        words = {
            name: name.split("_")[0] + "".join(each.capitalize() for each in name.split("_")[1:]) for name in found
        }
        return {
            words[name]: [list(each) for each in value] if name == "marks" else value for name, value in found.items()
        }


@dataclass(frozen=True)
class Results:
    """A page of hits, best first. `total` counts all of them; `next_offset` is where the next page begins, None on the
    last. `stale` names workspaces whose index could not be brought up to date, because another process was at it;
    `unreadable` those that could not be searched, each with the reason."""

    hits: tuple[Hit, ...]
    total: int
    next_offset: int | None
    stale: tuple[str, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able values, in camelCase."""
        hits = [hit.as_dict() for hit in self.hits]
        unreadable = [{"workspaceId": workspace, "error": error} for workspace, error in self.unreadable]
        state = {"stale": list(self.stale), "unreadable": unreadable}
        return {"hits": hits, "total": self.total, "nextOffset": self.next_offset, **state}
