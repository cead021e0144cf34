"""Redaction takes out what has a known form, says how much, and leaves the rest as it is."""

from __future__ import annotations

import json
import time
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
        ("/home/John Smith/x and C:\\Users\\Ann Lee\\y", "~/x and ~\\y"),
        ("in `/home/ann` or file:///home/ann/x", "in `~` or file://~/x"),
        (r'{"cmd": "ls\n/home/ann/x -I/home/ann/y"}', r'{"cmd": "ls\n~/x -I~/y"}'),
        ("/var/home/ann/x /mnt/c/Users/Ann/x", "~/x ~/x"),
        ("/p/.claude/projects/-home-dev-demo/x and C--Users-Ann-demo", "/p/.claude/projects/~-demo/x and ~-demo"),
        ("DB_TOKEN=abcdefgh", "DB_TOKEN=[redacted secret]"),
        (
            '{"token":"abcdefgh", "accessToken": "xyz 12"}',
            '{"token":"[redacted secret]", "accessToken": "[redacted secret]"}',
        ),
        ("token: abcdef01", "token: [redacted secret]"),
        (r'"{\"password\": \"hunter22\", \"a\": \"b\"}"', r'"{\"password\": \"[redacted secret]\", \"a\": \"b\"}"'),
        ("password='correct horse battery' x", "password='[redacted secret]' x"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted token]"),
        ("redis://:hunter22@host", "redis://:[redacted password]@host"),
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
        "https://example.com/home/page1/x",
        "src/home/page1/x and ./home/y and --home-dir z",
        "max_tokens=100000, tokens: 123456",
        "Unexpected token: identifier",
        "user@example.org",
    ],
)
def test_what_is_none_is_left_alone(text: str) -> None:
    redactor = Redactor()
    assert redactor.text(text) == text
    assert not redactor.found


def test_bytes_stay_and_are_counted_and_other_data_is_looked_into() -> None:
    redactor = Redactor()
    secret = SECRETS[0][1]
    file = {"type": "file", "file": {"url": "data:image/png;name=x.png;base64,aGVsbG8="}}
    stream = f'data: {{"key":"{secret}"}}'
    value = {"id": "msg_1", "parts": [file, {"content": stream}, {"url": f"data:text/plain,{secret}"}]}
    assert redactor.value(value) == {
        "id": "msg_1",
        "parts": [
            file,
            {"content": 'data: {"key":"[redacted API key]"}'},
            {"url": "data:text/plain,[redacted API key]"},
        ],
    }
    assert redactor.found == {"API key": 2, "files not looked into": 1}


def test_keys_and_what_stands_under_any_of_them_are_looked_into() -> None:
    redactor = Redactor()
    secret = SECRETS[0][1]
    value = {"id": secret, "type": f"x {secret}", "/home/ann/x": 1, "/home/bob/x": 2, "dbPassword": "a b", "token": 3}
    assert redactor.value(value) == {
        "id": "[redacted API key]",
        "type": "x [redacted API key]",
        "~/x": 1,
        "~/x (2)": 2,
        "dbPassword": "[redacted secret]",
        "token": 3,
    }
    assert redactor.found == {"API key": 2, "home folder": 2, "secret": 1}


def test_a_home_folder_that_is_known_is_found_whatever_its_name() -> None:
    redactor = Redactor()
    redactor.learn("/home/john smith/work")
    redactor.learn("/srv/app")
    text = "in /home/john smith, $ROOT/home/john smith/x, -home-john-smith-work, /home/john smithson"
    assert redactor.text(text) == "in ~, $ROOT~/x, ~-work, ~ smithson"


# What made a form start again and again, at each place of a text, to search the rest of it.
WORST = [
    "a-",
    "a",
    "-",
    " ",
    '"',
    "\\",
    "/",
    "://",
    "://a:",
    "eyJaaaaaaaa-",
    "eyJaaaaaaaa.",
    "password",
    "token",
    "_token",
]
WORST += [
    'password="',
    "authorization:",
    "bearer ",
    "-----BEGIN ",
    "data:;",
    "/home/",
    "/home/a A",
    "-home-",
    "C:\\Users\\",
]


@pytest.mark.parametrize("piece", WORST)
def test_the_work_grows_with_the_text_and_not_with_its_square(piece: str) -> None:
    def work(length: int) -> float:
        """Of the processor, for this thread alone: what else the machine does is not in it."""
        text = (piece * length)[:length]
        began = time.thread_time()
        Redactor().text(text)
        return time.thread_time() - began

    short = min(work(10_000) for _ in range(3))
    assert min(work(80_000) for _ in range(2)) < 8 * 3 * short + 0.02


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
