"""`docs/api.md` says what the code says: every method, its signature, its return, and errors that exist."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nomad_sessions
from nomad_sessions import NativeSessionManager, Transaction, errors
from nomad_sessions.sessions_api import SessionCalls
from nomad_sessions.task_api import TaskCalls

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ROW = re.compile(r"^\| `(\w+)(\(.*?\))` \| `(.*?)` \| (.*) \| (.*) \|$", re.MULTILINE)
FUNCTION = re.compile(r"^\| `(\w+)(\(.*?\))` \| `([^`]*?)` \| ([^|]*) \|$", re.MULTILINE)
ROWS = {match[1]: match.groups()[1:] for match in ROW.finditer(DOC)}


def written(call: Callable[..., Any]) -> tuple[str, str]:
    """The parameters and the return of a function, as the tables write them."""
    signature = inspect.signature(call)
    own = [each for each in signature.parameters.values() if each.name != "self"]
    text = str(signature.replace(parameters=own, return_annotation=inspect.Signature.empty))
    text = text.replace("'", "").replace("<Unset.UNSET: UNSET>", "UNSET")
    return text.replace("|", "\\|"), str(signature.return_annotation).replace("'", "").replace("|", "\\|")


def test_every_method_is_in_a_table_with_its_signature_and_return() -> None:
    methods = {
        name: each
        for name, each in inspect.getmembers(NativeSessionManager, inspect.isfunction)
        if not name.startswith("_")
    }
    assert set(ROWS) == set(methods)
    assert {name: ROWS[name][:2] for name in ROWS} == {name: written(each) for name, each in methods.items()}


def test_the_functions_are_there_too() -> None:
    found = {match[1]: (match[2], match[3]) for match in FUNCTION.finditer(DOC)}
    for name in ("init_session_manager", "get_session_manager"):
        assert found[name] == written(getattr(nomad_sessions, name))


def test_every_error_named_exists_and_every_error_of_the_store_is_named() -> None:
    named = set(re.findall(r"`(\w+Error)`", DOC))
    known = {name for name in vars(errors) if name.endswith("Error") and name[0] != "_"}
    builtins = {"KeyError", "ValueError", "OSError"}
    assert named - builtins <= known
    # Bases are caught, not raised.
    assert known - named == {"NotFoundError", "StorageError"}


def test_a_change_is_durable_and_a_look_writes_nothing() -> None:
    for name, (_, _, _, durable) in ROWS.items():
        doc = inspect.getdoc(getattr(NativeSessionManager, name)) or ""
        says = "durable" in doc.lower()
        assert durable.startswith(("yes", "reads", "writes nothing", "each piece soon")), name
        if durable.startswith("reads"):
            assert not says, name
        elif durable.startswith("yes"):
            assert says or name in ("close", "move_session"), name


def test_what_a_transaction_has_is_what_the_page_says() -> None:
    calls = {name for name in vars(SessionCalls) if not name.startswith("_")}
    assert calls <= set(dir(Transaction))
    first, _, rest = DOC.partition("## Events")
    tables = {match[1] for match in ROW.finditer(first)}
    assert tables - calls == {"move_session", "stream_message", "interrupted_messages", "read_attachment"}
    assert not calls & {match[1] for match in ROW.finditer(rest)}
    on_tasks = [name for name in vars(TaskCalls) if not name.startswith("_")]
    assert set(on_tasks) <= set(dir(Transaction))
    listed = [match[1] for match in ROW.finditer(DOC.partition("## Tasks")[2].partition("## ")[0])]
    assert listed[:10] == on_tasks
    assert not set(listed[10:]) & set(dir(Transaction))
