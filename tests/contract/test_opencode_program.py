"""The genuine OpenCode takes what we export, gives it back the same, and what it stores comes in again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats import import_file, import_history, importer_of
from nomad_sessions.formats.exporting import export_session
from nomad_sessions.formats.opencode_history import IMPORTER
from tests.support.opencode import OpenCode, needs_opencode
from tests.support.samples import unpack_opencode

FIXTURES = Path(__file__).parents[1] / "fixtures"
# It files what it imports under the project it is run in, and counts nothing.
ITS_OWN = ("projectID", "directory", "path", "cost", "tokens")


@pytest.fixture
def program(tmp_path: Path) -> OpenCode:
    needs_opencode()
    return OpenCode(tmp_path)


@pytest.fixture
def m(tmp_path: Path) -> Iterator[NativeSessionManager]:
    with NativeSessionManager(tmp_path / "data", durability="os") as manager:
        yield manager


def through(program: OpenCode, exported: dict[str, Any]) -> dict[str, Any]:
    """What the program gives back of an export that it has taken."""
    file = program.project / "export.json"
    file.write_text(json.dumps(exported), encoding="utf-8")
    program.run("import", str(file))
    returned: dict[str, Any] = json.loads(program.run("export", exported["info"]["id"]))
    return returned


def without_its_own(info: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in info.items() if key not in ITS_OWN}


def every_session(m: NativeSessionManager) -> list[tuple[str, str]]:
    return [(ws, session.id) for ws in m.list_workspaces() for session in m.list_sessions(ws)]


def test_what_came_from_its_database_goes_back_into_it(
    m: NativeSessionManager, program: OpenCode, tmp_path: Path
) -> None:
    import_history(m, IMPORTER, unpack_opencode(tmp_path / "A") / "opencode.db", workspace_id="ws")
    for _, name in every_session(m):
        exported = json.loads(export_session(m, "ws", name, "opencode"))
        returned = through(program, exported)
        assert without_its_own(returned["info"]) == without_its_own(exported["info"]), name
        assert returned["messages"] == exported["messages"], name


@pytest.mark.parametrize(
    "source", ["claude/projects", "gemini/tmp", "crush", "aider", "strands", "openai-agents/sessions.db"]
)
def test_it_takes_sessions_of_other_tools(m: NativeSessionManager, program: OpenCode, source: str) -> None:
    importer = importer_of(FIXTURES / source)
    assert importer is not None
    import_history(m, importer, FIXTURES / source, workspace_id="ws")
    assert every_session(m)
    for _, name in every_session(m):
        exported = json.loads(export_session(m, "ws", name, "opencode"))
        returned = through(program, exported)
        assert returned["info"]["title"] == exported["info"]["title"]
        assert returned["messages"] == exported["messages"], name


def nasty(m: NativeSessionManager) -> str:
    """A session in which everything that the program does not expect happens."""
    session = m.create_session("ws", title='Ünïcode / "quotes"', agent="plan").id
    m.add_message("ws", session, role="assistant", content="The assistant begins.")
    m.add_message("ws", session, role="system", content="A rule.")
    image = {"mime": "image/png", "name": "a.png", "url": "data:image/png;base64," + "iVBORw0KGgo=" * 1}
    large = {"mime": "image/png", "url": "data:image/png;base64," + "QUJD" * 40_000}
    m.add_message(
        "ws", session, role="user", parts=[{"type": "text", "content": "see"}, {"type": "file", "file": image}]
    )
    m.add_message("ws", session, role="user", parts=[{"type": "file", "file": large}])
    function = {"name": "bash", "arguments": "not json"}
    calls = [
        {"type": "tool_call", "toolCall": {"id": name, "type": "function", "function": function}} for name in ("a", "b")
    ]
    thought = {"type": "thinking", "content": "hm"}
    code = {"type": "code", "content": "x = 1"}
    failed = {"name": "Overloaded", "message": "try later"}
    m.add_message("ws", session, role="assistant", parts=[thought, *calls, code], status="error", error=failed)
    m.add_message("ws", session, role="tool", toolCallId="b", content="second first")
    m.add_message("ws", session, role="tool", toolCallId="unknown", content="no call")
    m.add_message("ws", session, role="user", content="")
    m.add_message("ws", session, role="user", content="hidden")
    m.revert("ws", session)
    return session


def test_it_takes_what_it_would_never_have_written(m: NativeSessionManager, program: OpenCode) -> None:
    session = nasty(m)
    exported = json.loads(export_session(m, "ws", session, "opencode"))
    returned = through(program, exported)
    assert returned["messages"] == exported["messages"]
    assert returned["info"]["revert"] == exported["info"]["revert"]
    texts = json.dumps(exported, ensure_ascii=False)
    for kept in ("The assistant begins.", "A rule.", "QUJDQUJD", "second first", "no call", "x = 1", "hm", "try later"):
        assert kept in texts


def test_what_was_added_here_to_one_of_its_sessions_goes_back_with_it(
    m: NativeSessionManager, program: OpenCode
) -> None:
    path = sorted((Path(__file__).parents[2] / "examples" / "opencode").glob("*.json"))[0]
    report = import_file(m, "ws", path)
    (name,) = report.session_ids
    m.unrevert("ws", name)
    m.add_message("ws", name, role="user", content="One more question.")
    m.add_message("ws", name, role="assistant", content="One more answer.")
    exported = json.loads(export_session(m, "ws", name, "opencode"))
    returned = through(program, exported)
    assert returned["messages"] == exported["messages"]
    assert [message["parts"][-2]["text"] for message in returned["messages"][-1:]] == ["One more answer."]
    # And it comes in again as the same session, with the same messages.
    with NativeSessionManager(m.data_dir + "-again") as again:
        import_history(again, IMPORTER, program.data, workspace_id="ws")
        assert len(again.get_session_messages("ws", name)) == len(exported["messages"])
