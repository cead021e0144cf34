"""A session goes out whole: to read, a line each, back to where it came from; a page obeys nothing that it shows."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import InvalidInputError, NativeSessionManager, SessionNotFoundError
from nomad_sessions.formats import import_bytes, import_file
from nomad_sessions.formats.exporting import EXPORTS, export_session
from nomad_sessions.formats.html import to_html
from nomad_sessions.formats.markdown import to_markdown

WS = "ws"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "opencode").glob("*.json"))
NASTY = (
    '<script>alert(1)</script> <img src=x onerror="alert(2)"> [x](javascript:alert(3)) ![y](http://evil.example/y.png)'
)


RESUMABLE = {"claude-code", "codex"}


@pytest.fixture
def m(tmp_path: Path) -> NativeSessionManager:
    return NativeSessionManager(tmp_path)


@pytest.fixture
def talk(m: NativeSessionManager) -> str:
    """A session with a bit of everything."""
    m.create_session(WS, id="s", title="A <b>title</b>", directory="/home/me")
    m.add_message(WS, "s", role="user", content="Look at **this**")
    call = {"id": "c1", "function": {"name": "run", "arguments": '{"command": "ls", "long": "x"}'}}
    parts: list[dict[str, Any]] = [
        {"type": "thinking", "content": "What is it?"},
        {"type": "text", "content": "I look.\n\n```python\nprint(1)\n```"},
        {"type": "tool_call", "toolCall": call},
        {"type": "file", "file": {"mime": "image/png", "name": "a.png", "data": b"\x89PNG" + bytes(100_000)}},
    ]
    m.add_message(WS, "s", role="assistant", parts=parts, model={"provider_id": "p", "model_id": "big-1"})
    m.add_message(WS, "s", role="tool", tool_call_id="c1", content="```\nfences\n```", status="error")
    m.add_message(WS, "s", role="user", content="hidden")
    m.revert(WS, "s")
    return "s"


def text(m: NativeSessionManager, session_id: str, form: str) -> str:
    return export_session(m, WS, session_id, form).decode("utf-8")


def test_markdown_folds_what_is_done_and_shows_what_is_said(m: NativeSessionManager, talk: str) -> None:
    page = text(m, talk, "markdown")
    assert page.startswith("# A <b>title</b>\n")
    assert "- folder: `/home/me`" in page
    assert "Look at **this**" in page
    assert "<details><summary>💭 Thinking</summary>\n\nWhat is it?\n\n</details>" in page
    assert "🔧 run" in page
    assert "— failed</summary>" in page
    assert "Failed:\n\n````\n```\nfences\n```\n````" in page, "a fence is longer than any that it holds"
    assert "📎 `image/png a.png`" in page
    assert "big-1" in page
    assert "hidden" not in page


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_has_everything_in_itself(m: NativeSessionManager, talk: str) -> None:
    page = Page(text(m, talk, "html"))
    assert "A <b>title</b>" in page.text
    assert {"details", "summary", "strong", "pre"} <= set(page.tags)
    assert "script" not in page.tags
    assert "link" not in page.tags
    sources = [value for name, value in page.attributes if name in ("src", "href") and value]
    assert [source.partition(",")[0] for source in sources] == ["data:image/png;base64"]
    assert "hidden" not in page.text
    policy = dict(page.attributes)["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_a_page_shows_what_is_nasty_and_does_not_obey_it() -> None:
    call = {"id": NASTY, "function": {"name": NASTY, "arguments": NASTY}}
    parts: list[dict[str, Any]] = [
        *({"type": kind, "content": NASTY} for kind in ("text", "thinking", "code", NASTY)),
        {"type": "tool_call", "toolCall": call, "toolResult": {"toolCallId": "x", "content": NASTY}},
        {"type": "file", "file": {"mime": "image/png", "name": NASTY, "url": 'data:image/png;base64,"><script>'}},
        {"type": "file", "file": {"mime": "image/svg+xml", "url": "http://evil.example/x.svg"}},
    ]
    messages: list[dict[str, Any]] = [
        {"id": "1", "role": NASTY, "parts": parts, "model": {"modelId": NASTY}, "createdAt": 10**30},
        {"id": "2", "role": "user", "status": NASTY, "error": {"name": NASTY, "message": NASTY}},
    ]
    page = Page(to_html({"id": NASTY, "title": NASTY, "directory": NASTY}, messages, lambda _: b""))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name == "href" and value and value.startswith("javascript")]
    local = [value for name, value in page.attributes if name == "src" and value and value.startswith("data:")]
    assert len(local) == 1
    assert page.text.count("<script>alert(1)</script>") >= 8


@pytest.mark.parametrize("depth", [10, 60, 400])
def test_nothing_of_a_text_is_lost_however_deep_its_lists_and_quotes_are(depth: int) -> None:
    nested = "".join(f"{'  ' * level}- level{level}\n" for level in range(depth))
    for content in (f"{nested}\nTAIL", f"{'>' * depth} level{depth - 1}\n\nTAIL"):
        page = to_html({"id": "s"}, [{"role": "assistant", "content": content}], lambda _: b"")
        assert f"level{depth - 1}" in page
        assert "TAIL" in page


@pytest.mark.parametrize("name", ["make", "typescript", "json"])
def test_code_with_a_very_long_line_is_shown_and_its_colours_take_no_minutes(name: str) -> None:
    line = '["' + "a." * 50_000 + '"]'
    parts = [{"type": "text", "content": f"```{name}\n{line}\n```"}]
    page = to_html({"id": "s"}, [{"role": "assistant", "parts": parts}], lambda _: b"")
    assert line in unescape(re.sub("<[^>]*>", "", page))
    assert ('<pre class="code">' in page) == (name == "json")


@pytest.mark.parametrize("content", ["", "\0\x1b[31m", "\ud800 lone", "a" * 300_000, "`" * 50, "\u2028"])
def test_any_text_can_be_exported(m: NativeSessionManager, content: str) -> None:
    m.create_session(WS, id="s", title=content)
    m.add_message(WS, "s", role="user", content=content)
    m.add_message(WS, "s", role="assistant", parts=[{"type": "code", "content": content}])
    for form in set(EXPORTS) - (set() if content.strip() else RESUMABLE):
        assert export_session(m, WS, "s", form), form


def test_an_empty_session_can_be_exported(m: NativeSessionManager) -> None:
    m.create_session(WS, id="s")
    assert to_markdown({"id": "s"}, []).startswith("# Untitled")
    for form in set(EXPORTS) - RESUMABLE:
        assert export_session(m, WS, "s", form), form
    for form in RESUMABLE:
        with pytest.raises(InvalidInputError, match="nothing to go on with"):
            export_session(m, WS, "s", form)


def test_jsonl_is_the_session_and_then_each_message(m: NativeSessionManager, talk: str) -> None:
    lines = [json.loads(line) for line in text(m, talk, "jsonl").splitlines()]
    assert lines[0]["session"]["id"] == talk
    assert [line["message"]["role"] for line in lines[1:]] == ["user", "assistant", "tool"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_session_of_opencode_goes_back_as_it_came(m: NativeSessionManager, path: Path) -> None:
    (session_id,) = import_file(m, WS, path).session_ids
    assert json.loads(text(m, session_id, "opencode")) == json.loads(path.read_text())


def test_ids_made_for_opencode_are_in_the_order_of_the_conversation_also_where_they_wrap(
    m: NativeSessionManager,
) -> None:
    session = m.create_session(WS).id
    wrap = 1_786_706_395_136  # 2026-08-14T11:19:55.136Z
    for number in range(6):
        time = wrap - 3 + number // 2  # Two in each millisecond.
        m.add_message(WS, session, role="user", content=str(number), createdAt=time)
    made = json.loads(text(m, session, "opencode"))
    assert made["info"]["id"].startswith("ses_")
    infos = [message["info"] for message in made["messages"]]
    assert all(re.fullmatch(r"msg_[0-9a-f]{12}[0-9A-Za-z]{14}", info["id"]) for info in infos)
    assert len({info["id"] for info in infos}) == 6
    ordered = sorted(made["messages"], key=lambda each: (each["info"]["time"]["created"], each["info"]["id"]))
    assert [message["parts"][0]["text"] for message in ordered] == list("012345")
    assert json.loads(text(m, session, "opencode")) == made


def test_for_opencode_a_result_is_in_its_call_and_nothing_is_left_out(m: NativeSessionManager, talk: str) -> None:
    made = json.loads(text(m, talk, "opencode"))
    said = m.get_session_messages(WS, talk)
    (tool,) = [part for message in made["messages"] for part in message["parts"] if part["type"] == "tool"]
    assert (tool["state"]["status"], tool["state"]["error"]) == ("error", said[2].content)
    assert [message["info"]["role"] for message in made["messages"]] == ["user", "assistant", "user"]
    assert made["info"]["revert"] == {"messageID": made["messages"][2]["info"]["id"]}
    assert made["messages"][1]["info"]["parentID"] == made["messages"][0]["info"]["id"]
    order = [part["id"] for part in made["messages"][1]["parts"]]
    assert order == sorted(order)
    report = import_bytes(m, "again", json.dumps(made).encode(), source="export.json")
    assert report.complete


def test_a_nomadarch_file_comes_in_again_the_same(m: NativeSessionManager, talk: str) -> None:
    data = export_session(m, WS, talk, "nomadarch")
    report = import_bytes(m, "other", data, source="sessions.json")
    assert report.session_ids == [talk]
    there, here = m.get_session_messages("other", talk), m.get_session_messages(WS, talk)
    assert [message.content for message in there] == [message.content for message in here]


def test_an_unknown_session_and_an_unknown_form_are_errors(m: NativeSessionManager, talk: str) -> None:
    with pytest.raises(SessionNotFoundError):
        export_session(m, WS, "none", "markdown")
    with pytest.raises(InvalidInputError, match="markdown, html"):
        export_session(m, WS, talk, "docx")
