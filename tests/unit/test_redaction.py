"""Redaction takes out what has a known form, says how much, and leaves the rest as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.formats.exporting import EXPORTS, export_session
from nomad_sessions.formats.redaction import Redactor

SECRETS = [
    ("API key", "sk-ant-" + "api03-AbCdEfGhIjKlMnOpQrStUvWx"),
    ("API key", "sk-proj-" + "AbCdEfGhIjKlMnOpQrStUvWx"),
    ("API key", "sk_live_" + "AbCdEfGhIjKlMnOpQrSt"),
    ("API key", "AIza" + "SyA1234567890abcdefghijklmnopqrstuv"),
    ("token", "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    ("token", "xoxb-" + "123456789012-abcdefghij"),
    ("token", "hf_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"),
    ("AWS key", "AKIA" + "IOSFODNN7EXAMPLE"),
    ("token", "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "dozjgNryP4J3jVmNHl0w5N"),
    ("private key", "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----"),
]


@pytest.mark.parametrize(("kind", "secret"), SECRETS, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(SECRETS)])
def test_a_secret_is_taken_out_of_the_middle_of_a_text(kind: str, secret: str) -> None:
    redactor = Redactor()
    assert redactor.text(f"before ({secret}) after") == f"before ([redacted {kind}]) after"
    assert redactor.found == {kind: 1}


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer abcdef0123456789abcdef", "Authorization: Bearer [redacted token]"),
        ("postgres://me:hunter22@host/db", "postgres://me:[redacted password]@host/db"),
        ("DB_PASSWORD=correct-horse", "DB_PASSWORD=[redacted secret]"),
        ('{"apiKey": "0123456789"}', '{"apiKey": "[redacted secret]"}'),
        ("/home/ann/project/x.py", "~/project/x.py"),
        ("see /Users/Ann/x and C:\\Users\\Ann\\y", "see ~/x and ~\\y"),
        ('"C:\\\\Users\\\\Ann\\\\z"', '"~\\\\z"'),
    ],
)
def test_what_is_beside_it_stays(text: str, redacted: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == redacted
    assert redactor.text(redacted) == redacted  # Again changes nothing.


@pytest.mark.parametrize(
    "text",
    [
        "",
        "the password is checked later",
        "sk-learn and sk-image",
        "a task: key = value",
        "/homework/x",
        "user@example.org",
    ],
)
def test_what_is_none_is_left_alone(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert not redactor.found


def test_ids_and_bytes_stay_and_bytes_are_counted() -> None:
    redactor = Redactor()
    secret = SECRETS[0][1]
    file = {"type": "file", "file": {"url": f"data:text/plain,{secret}"}}
    value = {"id": secret, "parts": [file, {"content": secret}]}
    assert redactor.value(value) == {"id": secret, "parts": [file, {"content": "[redacted API key]"}]}
    assert redactor.found == {"API key": 1, "files not looked into": 1}


def test_every_form_is_redacted_and_the_store_is_not(tmp_path: Path) -> None:
    secret = SECRETS[0][1]
    with NativeSessionManager(tmp_path) as m:
        session = m.create_session("ws", title=f"with {secret}", directory="/home/ann/work").id
        m.add_message("ws", session, role="user", content=f"my key is {secret}")
        call = {"id": "c", "type": "function", "function": {"name": "sh", "arguments": json.dumps({"k": secret})}}
        m.add_message("ws", session, role="assistant", parts=[{"type": "tool_call", "toolCall": call}])
        m.add_message("ws", session, role="tool", toolCallId="c", content=f"echo {secret}")
        for form in EXPORTS:
            redactor = Redactor()
            exported = export_session(m, "ws", session, form, redactor=redactor).decode()
            assert secret not in exported, form
            assert "/home/ann" not in exported, form
            assert redactor.found["API key"] >= 4
        assert secret in m.get_session_messages("ws", session)[0].content
