"""Event: one committed change, or one that somebody recorded, as subscribers see it."""

from __future__ import annotations

from pydantic import Field

from .base import FreeForm, Millis, Model, Text, no_dict


class Event(Model):
    """What happened, in the order of `seq`, which is contiguous in a workspace. `timestamp` (ms) may jump.

    `recorded` says that somebody told the store of it (`record_event`); the others are changes of the store itself.
    """

    seq: int = 0
    id: Text = ""
    timestamp: Millis = 0
    type: Text = ""
    session_id: Text | None = None
    message_id: Text | None = None
    properties: FreeForm = Field(default_factory=no_dict)
    workspace_id: Text = ""
    recorded: bool = False
