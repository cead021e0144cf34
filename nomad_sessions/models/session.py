"""Session: one conversation of a workspace, in the shape that NomadArch writes, and what we add to it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import FreeForm, Millis, Model, NullableText, NullAs, Text, no_dict, no_list

PROTECTED_SESSION = frozenset({"id", "workspaceId", "createdAt", "messageIds", "rev"})


class ModelRef(Model):
    """A language model: who provides it and what they call it."""

    provider_id: Text = ""
    model_id: Text = ""


class ForkedFrom(Model):
    """Where a fork came from: the session, and the last message that was copied (none: all of them)."""

    session_id: Text = ""
    message_id: Text | None = None


class Revert(Model):
    """A revert in force: everything after this message is hidden until `unrevert`, or gone with the next message.

    Spelt `messageID` in the file, as NomadArch and OpenCode do; unknown fields (their `partID`, `diff`) are kept.
    """

    message_id: Text = Field(default="", validation_alias="messageID", serialization_alias="messageID")
    reason: Text | None = None


class Session(Model, defer_build=False):
    """One conversation. Times are milliseconds since the epoch, 0 where a foreign file says none.

    `message_ids` lists the visible messages in order; `rev` is the seq of the last change.
    """

    id: Text = ""
    workspace_id: Text = ""
    title: NullableText = "New Session"
    parent_id: Text | None = None
    created_at: Millis = 0
    updated_at: Millis = 0
    message_ids: Annotated[list[Text], NullAs(list)] = Field(default_factory=no_list)
    model: ModelRef | None = None
    agent: Text | None = None
    revert: Revert | None = None
    description: Text | None = None
    directory: Text | None = None
    forked_from: ForkedFrom | None = None
    closed_at: int | None = None
    archived_at: int | None = None
    metadata: FreeForm = Field(default_factory=no_dict)
    rev: int = 0
