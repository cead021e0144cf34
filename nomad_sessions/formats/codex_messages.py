"""The lines of a Codex session as messages: answers put together, turns that were rolled back taken out.

The assistant's items in succession are one message, until an output or a prompt. A rollback drops the last turns that
a user began. Where Codex notes when a turn starts and ends, a turn is all in between, a compaction that runs by itself
and prompts into a running turn included; elsewhere it goes from one prompt to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nomad_sessions.formats.codex_forks import Told
from nomad_sessions.formats.codex_items import SHELL, answer_of, prompt_of, result_of, summary_of
from nomad_sessions.formats.codex_rollout import TOOL, Head
from nomad_sessions.formats.report import ImportReport
from nomad_sessions.formats.values import as_json, count, mapping, objects, text
from nomad_sessions.ids import derive_id

__all__ = ["Conversation"]

_NOTHING = "an item that holds nothing to be read, as encrypted reasoning"
_STARTS = ("task_started", "turn_started")
_ENDS = ("task_complete", "turn_complete", "turn_aborted")
_USAGE = (
    ("output", "output_tokens"),
    ("reasoning", "reasoning_output_tokens"),
    ("cacheRead", "cached_input_tokens"),
    ("cacheWrite", "cache_write_input_tokens"),
)


class Conversation:
    """The messages of a session, made from its lines in order. `prompt` is what a user first said in it."""

    def __init__(self, head: Head, lines: Iterable[Told], report: ImportReport) -> None:
        self.messages: list[dict[str, Any]] = []
        self.places: list[str] = []
        self.model: dict[str, str] | None = None
        self._head = head
        self._report = report
        self._answers: list[int] = []  # Where they stand among the messages.
        self._turns: list[_Turn] = []
        self._prompted = 0  # How many of the turns a user began.
        self._is_running = False
        self._open: dict[str, Any] | None = None  # The answer that the next item belongs to.
        self._names: dict[str, str] = {}
        self._counted = ""
        self._written = self._time = head.time
        self._is_timed = False
        for line in lines:
            self._take(line)

    @property
    def prompt(self) -> str:
        """The text of the first prompt, "" where there is none."""
        for message in self.messages:
            told = _text_of(message)
            if message["role"] == "user" and told.strip() and not told.startswith(SHELL):
                return told
        return ""

    def _take(self, line: Told) -> None:
        kind, payload = line.record.kind, line.record.payload
        if line.record.time is not None:
            self._written = line.record.time
            self._time = line.record.time if line.time is None else line.time
            self._is_timed = True
        elif not self._is_timed:  # The first generation has no times.
            self._written = self._time = self._head.time + line.record.number
        if kind == "response_item":
            self._item(line)
        elif kind == "compacted":
            self._add(line, summary_of(payload))
        elif kind == "turn_context" and text(payload.get("model")):
            self.model = {"providerId": self._head.provider or "", "modelId": payload["model"]}
        elif kind == "token_usage_record":
            self._use(payload.get("usage"), payload.get("response_id"))
        elif kind == "event_msg":
            self._event(line)
        elif kind not in ("session_meta", "turn_context"):
            self._report.ignore(f"Codex's own record: {kind}")

    def _item(self, line: Told) -> None:
        item = line.record.payload
        parts = answer_of(item, line.key)
        result = result_of(item)
        if parts is not None:
            self._answer(line, parts)
        elif result is not None:
            name = self._names.get(result["toolCallId"])
            self._add(line, {**result, "toolName": name} if name else result)
        elif item.get("type") == "message" and item.get("role") == "user":
            self._prompt(line)
        elif item.get("type") == "message":
            self._report.ignore("instructions that Codex gives the model")
        else:
            self._report.ignore(f"Codex's own record: {text(item.get('type')) or 'no type'}")

    def _answer(self, line: Told, parts: list[dict[str, Any]]) -> None:
        if not parts:
            self._report.ignore(_NOTHING)
            return
        for part in parts:
            if "toolCall" in part:
                self._names[part["toolCall"]["id"]] = part["toolCall"]["function"]["name"]
        if self._open is not None:
            self._open["parts"] += parts
            self._open["updatedAt"] = max(self._time, self._open["updatedAt"])
            return
        self._answers.append(len(self.messages))
        message = {"role": "assistant", "parts": parts, "status": "completed"}
        self._open = self._add(line, {**message, "model": self.model} if self.model else message)

    def _prompt(self, line: Told) -> None:
        parts, injected = prompt_of(line.record.payload.get("content"))
        for _ in range(injected):
            self._report.ignore("context that Codex gives the model")
        self._open = None
        if not parts:
            if not injected:
                self._report.ignore(_NOTHING)
            return
        alone = len(parts) == 1 and parts[0]["type"] == "text" and "content" in parts[0]
        if not (alone and parts[0]["content"].lstrip().startswith(SHELL)):
            if not (self._is_running and self._turns):
                self._turns.append(_Turn(len(self.messages)))
            self._prompted += not self._turns[-1].is_prompted
            self._turns[-1].is_prompted = True
        said = {"content": parts[0]["content"]} if alone else {"parts": parts}
        self._add(line, {"role": "user", **said})

    def _add(self, line: Told, message: dict[str, Any]) -> dict[str, Any]:
        """Adds a message, after which nothing belongs to the answer before it. Its id is made of what its own file
        says of it, so that it is the same whether its origin is there or not."""
        self._open = None
        message["id"] = derive_id(self._written, TOOL, self._head.name, line.key, "0")
        message |= {"createdAt": self._time, "updatedAt": self._time}
        message["imported"] = {"tool": TOOL, "messageId": text(line.record.payload.get("id")) or line.key}
        self.messages.append(message)
        self.places.append(line.place)
        return message

    def _event(self, line: Told) -> None:
        payload = line.record.payload
        kind = payload.get("type")
        if kind in _STARTS:
            self._open = None
            self._turns.append(_Turn(len(self.messages)))
            self._is_running = True
        elif kind in _ENDS:
            self._is_running = False
        elif kind == "thread_rolled_back":
            self._roll_back(payload.get("num_turns"), line.place)
        elif kind == "token_count" and line.record.ordinal is None:  # Generation 4 has a record of its own for it.
            spent = mapping(payload.get("info"))
            self._use(spent.get("last_token_usage"), spent.get("total_token_usage"))
        else:
            self._report.ignore(f"Codex's own record: {text(kind) or 'event_msg'}")

    def _roll_back(self, turns: Any, place: str) -> None:
        if type(turns) is not int or turns < 0:
            self._report.warn(place, "a rollback that does not say of how many turns")
            return
        left = max(0, self._prompted - turns)
        start = len(self.messages)
        while self._prompted > left:
            turn = self._turns.pop()
            start = turn.start
            self._prompted -= turn.is_prompted
        for _ in self.messages[start:]:
            self._report.ignore("in a turn that was rolled back")
        del self.messages[start:], self.places[start:]
        while self._answers and self._answers[-1] >= start:
            self._answers.pop()
        self._open, self._is_running = None, False

    def _use(self, given: Any, mark: Any) -> None:
        """Notes the tokens of a response with the answer that it gave, once: with the same `mark` it is told again."""
        told = as_json(mark)  # as text: nested too deep, two values that are the same cannot be compared
        if mark is not None and told == self._counted:
            return
        self._counted = told
        spent = mapping(given)
        usage = {ours: found for ours, theirs in _USAGE if (found := count(spent.get(theirs))) is not None}
        read = count(spent.get("input_tokens"))
        if read is not None:  # Codex counts what came from the cache twice.
            usage = {"input": max(0, read - usage.get("cacheRead", 0)), **usage}
        if self._answers and usage:
            answer = self.messages[self._answers[-1]]
            before: Mapping[str, int] = answer.get("usage", {})
            answer["usage"] = {key: before.get(key, 0) + usage.get(key, 0) for key in {**before, **usage}}


class _Turn:
    """A turn: where its messages begin, and whether a user began it."""

    __slots__ = ("is_prompted", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.is_prompted = False


def _text_of(message: Mapping[str, Any]) -> str:
    parts = objects(message.get("parts")) or [{"type": "text", "content": message.get("content")}]
    return "\n".join(str(part.get("content") or "") for part in parts if part.get("type") == "text")
