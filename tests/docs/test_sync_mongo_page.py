"""docs/sync-mongo.md: its code runs against a real mongod, and its tables are what the code has."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from nomad_sessions.sync import MongoTarget
from nomad_sessions.sync.mongo_documents import FACTS, LONGEST_TEXT, NAMES, document_of
from nomad_sessions.sync.target import Change, Key
from tests.support.mongod import running_mongod

PAGE = (Path(__file__).parents[2] / "docs" / "sync-mongo.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())


def test_the_code_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with running_mongod() as mongod:
        uri = "mongodb://127.0.0.1:27017"
        assert uri in first
        exec(compile(first.replace(uri, mongod.uri), "docs/sync-mongo.md", "exec"), {})
    said, hello, nothing = capsys.readouterr().out.splitlines()
    assert said == f"MongoTarget('{mongod.uri}/database', agent='duck', name='mongo')"
    assert (hello, nothing) == ("hello", "[]")
    exec(compile(second, "docs/sync-mongo.md", "exec"), {})
    found = capsys.readouterr().out
    assert "'content': 'First. Second.'" in found
    assert "NotRead(id='m', reason='it names no session')" in found


def test_the_collections_and_their_facts_are_those_of_the_code() -> None:
    for name in NAMES.values():
        assert f"| `{{agent}}_{name}` |" in PAGE
    for kind, facts in FACTS.items():
        named = ", ".join(f"`{theirs}`" for theirs, _ in facts)
        assert not facts or f"| {kind} | {named} |" in PAGE


def test_the_document_of_the_page_is_one() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    shown = json.loads(block)
    shown.pop("record")
    body = {"id": shown["id"], "sessionId": shown["sessionId"], "role": "user", "content": "hello"}
    times = {"createdAt": shown["createdAt"], "updatedAt": shown["updatedAt"]}
    change = Change(
        "my-project", Key("message", shown["id"]), 2, {**body, **times, "status": "completed"}, shown["sessionId"]
    )
    made = document_of(change)
    made.pop("record")
    assert made == shown
    assert list(made) == list(shown)


def test_the_figures_and_the_signature_are_those_of_the_code() -> None:
    parameters = inspect.signature(MongoTarget).parameters
    given = ", ".join(f"{each.name}={each.default!r}" for each in parameters.values() if each.default is not each.empty)
    assert f"MongoTarget(uri, *, {given})".replace("'", '"') in FLAT
    assert f"the first {LONGEST_TEXT:,} characters" in FLAT


def test_every_index_of_the_code_is_on_the_page() -> None:
    from nomad_sessions.sync.mongo_server import INDEXES

    for indexes in INDEXES.values():
        for index in indexes:
            named = ", ".join(f"`{name}`{' descending' if way < 0 else ''}" for name, way in index)
            assert f"| {named} |" in PAGE
