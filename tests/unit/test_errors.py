from __future__ import annotations

import copy
import errno
import inspect
import pickle
from typing import Any

import pytest

from nomad_sessions import ConnectionInfo, errors
from nomad_sessions.errors import NomadSessionsError
from nomad_sessions.models import Message

PATH = "some folder/sessions.json"

HOLDER = ConnectionInfo("1-a", "w", "s1", "a\nwindow", True, 7, "here", 1, None, 0.0)

# One call for each class: the keyword fields, and the built-ins that callers catch already.
CALLS: dict[str, tuple[dict[str, Any], tuple[type[Exception], ...]]] = {
    "NomadSessionsError": ({"message": "it broke: repair it"}, ()),
    "NotFoundError": ({"kind": "session", "id": "s1"}, (KeyError,)),
    "SessionNotFoundError": ({"session_id": "s1"}, (KeyError,)),
    "MessageNotFoundError": ({"message_id": "m1"}, (KeyError,)),
    "WorkspaceNotFoundError": ({"workspace_id": "w1"}, (KeyError,)),
    "TaskNotFoundError": ({"task_id": "t1"}, (KeyError,)),
    "MailNotFoundError": ({"mail_id": "m1", "hint": "it is leased"}, (KeyError,)),
    "LeaseNotFoundError": ({"lease_id": "l1"}, (KeyError,)),
    "OriginalNotFoundError": ({"session_id": "s1", "hint": "it was not imported"}, (KeyError,)),
    "InvalidInputError": ({"field": "role", "value": "boss", "reason": "is unknown"}, (ValueError,)),
    "InvalidWorkspaceIdError": ({"workspace_id": "a/b", "reason": "must not contain '/'"}, (ValueError,)),
    "ProtectedFieldError": ({"field": "id"}, (ValueError,)),
    "InvalidCursorError": ({"cursor": "xyz"}, (ValueError,)),
    "ConflictError": ({"current": Message(id="m1", rev=7), "expected_rev": 5}, ()),
    "AlreadyExistsError": ({"kind": "message", "id": "m1", "current": Message(id="m1")}, ()),
    "IllegalTransitionError": (
        {"kind": "task", "id": "t1", "before": "completed", "after": "running", "hint": "completed is final"},
        (RuntimeError,),
    ),
    "TransactionError": ({"message": "transactions do not nest: finish the outer one first"}, (RuntimeError,)),
    "SessionStateError": ({"session_id": "s1", "state": "closed", "hint": "resume it"}, (RuntimeError,)),
    "SessionInUseError": ({"session_id": "s1", "holders": (HOLDER,)}, ()),
    "ConnectionClosedError": ({"message": "the connection is closed"}, (RuntimeError,)),
    "SubscriptionClosedError": ({"message": "the cursor is held here no more"}, (RuntimeError,)),
    "StoreClosedError": ({"path": PATH}, (RuntimeError,)),
    "EventsPrunedError": ({"path": PATH, "since": 5, "first": 9}, (LookupError,)),
    "TargetUnavailableError": ({"target": "mongo", "reason": "connection refused"}, (RuntimeError,)),
    "EmbedderError": ({"model": "m", "reason": "connection refused"}, (RuntimeError,)),
    "EmbeddingRefusedError": ({"model": "m", "reason": "too long"}, (ValueError,)),
    "NoRouteError": ({"type": "task.done", "rules": 2}, (LookupError,)),
    "StorageError": ({"path": PATH, "message": f"{PATH} broke"}, ()),
    "DiskFullError": ({"path": PATH, "errno": errno.EDQUOT}, (OSError,)),
    "DurabilityLostError": ({"path": PATH}, (OSError,)),
    "StoreReadOnlyError": ({"path": PATH, "errno": errno.EROFS}, (PermissionError, OSError)),
    "DataDirError": ({"path": PATH}, (NotADirectoryError, OSError)),
    "LockTimeoutError": ({"path": PATH, "waited": 10.0}, (TimeoutError, OSError)),
    "LockUnsupportedError": ({"path": PATH}, (OSError,)),
    "CrossDeviceError": ({"path": PATH}, (OSError,)),
    "UnsupportedFormatError": ({"path": PATH, "found": 9, "supported": 1}, ()),
    "CorruptionError": ({"path": PATH, "reason": "bad"}, ()),
    "JournalCorruptError": ({"path": PATH, "offset": 10, "length": 20, "reason": "bad checksum"}, ()),
    "JournalGapError": ({"path": PATH, "expected_seq": 3, "found_seq": 5}, ()),
    "SnapshotUnreadableError": ({"path": PATH, "reason": "is empty"}, ()),
    "AttachmentMissingError": ({"path": PATH, "sha256": "ab" * 32}, (FileNotFoundError, OSError)),
}
CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, NomadSessionsError) and cls.__module__.startswith(errors.__name__)
}


def made(name: str) -> NomadSessionsError:
    return CLASSES[name](**CALLS[name][0])


def facts(error: NomadSessionsError) -> dict[str, Any]:
    found = dict(error.__dict__)
    if isinstance(error, OSError):
        found |= {"errno": error.errno, "filename": error.filename, "strerror": error.strerror}
    return found


def test_every_error_is_listed_here_and_drawn_in_the_tree() -> None:
    assert set(CALLS) == set(CLASSES)
    assert errors.__doc__ is not None
    assert [name for name in CLASSES if name not in errors.__doc__] == []


@pytest.mark.parametrize("name", CALLS)
def test_an_error_has_a_docstring_of_its_own(name: str) -> None:
    assert CLASSES[name].__dict__.get("__doc__")


@pytest.mark.parametrize("name", CALLS)
def test_an_error_is_caught_as_the_built_in_that_callers_know(name: str) -> None:
    for builtin in CALLS[name][1]:
        with pytest.raises(builtin):
            raise made(name)


@pytest.mark.parametrize("name", CALLS)
def test_an_error_carries_its_fields(name: str) -> None:
    given = {**CALLS[name][0], "errno": CALLS[name][0].get("errno", getattr(made(name), "errno", None))}
    if issubclass(CLASSES[name], errors.InvalidInputError):
        given.pop("value", None)  # kept as a repr: tested below
    for field, value in given.items():
        assert getattr(made(name), field, None) == value


@pytest.mark.parametrize("name", CALLS)
def test_an_error_survives_pickling_and_copying_with_all_its_facts(name: str) -> None:
    error = made(name)
    error.add_note("while importing")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (facts(again), again.args, str(again)) == (facts(error), error.args, str(error))


@pytest.mark.parametrize("name", CALLS)
def test_an_error_prints_as_one_line_that_names_the_thing(name: str) -> None:
    error = made(name)
    text = str(error)
    assert text
    assert len(text.splitlines()) == 1
    named = ("path", "id", "session_id", "message_id", "task_id", "workspace_id", "field", "cursor")
    things = [value for key, value in CALLS[name][0].items() if key in named]
    assert [thing for thing in things if thing not in text] == []


def test_an_os_error_keeps_number_path_and_text_where_plain_handlers_look() -> None:
    error = errors.DiskFullError(path=PATH, errno=errno.EFBIG)
    assert (error.errno, error.filename, error.strerror) == (errno.EFBIG, PATH, str(error))
    assert errors.DiskFullError(path=PATH).errno == errno.ENOSPC


def test_hostile_values_neither_break_the_message_nor_make_it_long() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    for value in ("x" * 10_000_000, "line\nbreak\u2028\ud83d", nested, {"a": nested}):
        text = str(errors.InvalidInputError(field="content", value=value, reason="is bad"))
        assert len(text) < 300
        assert len(text.splitlines()) == 1
        text.encode()
    text = str(errors.SnapshotUnreadableError(path="a\nb\ud800", reason="is empty"))
    assert len(text.splitlines()) == 1
    text.encode()


def test_the_value_of_an_input_error_is_a_short_repr() -> None:
    error = errors.InvalidInputError(field="role", value="boss", reason="is unknown")
    assert error.value == "'boss'"
    assert str(error) == "role: is unknown (got 'boss')"


def test_a_conflict_says_where_the_record_stands() -> None:
    error = errors.ConflictError(current=Message(id="m1", rev=7), expected_rev=5)
    assert str(error) == "message 'm1' is at rev 7, expected 5: read it again and repeat the change"
