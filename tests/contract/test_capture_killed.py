"""A capture that is killed at any moment, again and again, on the genuine OpenCode: it goes on without gap and without
duplicate; and an event that is told twice is one."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

from nomad_sessions import NativeSessionManager
from nomad_sessions.sources import Capture, OpenCodeClient, OpenCodeEvent
from nomad_sessions.sources.mirror import Mirror
from tests.support.opencode import OpenCode, free_port, needs_opencode
from tests.support.opencode_api import WS, Api, change, the_same
from tests.support.scripted_model import scripted_model

_KILLS = 3


def test_killed_at_random_moments_it_has_in_the_end_what_the_server_has(tmp_path: Path) -> None:
    needs_opencode()
    program, data, drawn = OpenCode(tmp_path), tmp_path / "data", random.Random(11)
    with program.serve(free_port()) as server:
        api = Api(server.url)
        for _ in range(8):
            change(api, drawn)
        for _ in range(_KILLS):
            command = [sys.executable, "-m", "nomad_sessions", "capture", "opencode", server.url, "-w", WS]
            running = subprocess.Popen(
                [*command, "--data-dir", str(data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            end = time.monotonic() + drawn.uniform(0.5, 1.5)
            while time.monotonic() < end:
                change(api, drawn)
            assert running.poll() is None
            running.kill()
            running.communicate()
            for _ in range(3):  # While nobody listens.
                change(api, drawn)
        with NativeSessionManager(data) as m, OpenCodeClient(server.url) as client:
            with Capture(m, client, workspace_id=WS) as capture:
                capture.once()
                the_same(m, api)
                seq = m.status(WS).seq
                capture.once()
                assert m.status(WS).seq == seq
            assert m.check(WS).ok
        api.close()


def test_an_event_that_is_told_twice_is_one(tmp_path: Path) -> None:
    needs_opencode()
    program = OpenCode(tmp_path)
    with (
        scripted_model() as model,
        contextlib.ExitStack() as stack,
        NativeSessionManager(tmp_path / "data", durability="os") as m,
    ):
        model.configure(program.project)
        server = stack.enter_context(program.serve(free_port()))
        api, client = Api(server.url), stack.enter_context(OpenCodeClient(server.url))
        mirror = Mirror(m, WS, client)
        heard: list[OpenCodeEvent] = []
        with client.events() as events:
            for number, event in enumerate(events):
                if number == 0:
                    mirror.everything()
                    name = api.session("answered")
                    api.ask_for_answer(name)
                for _ in range(2):
                    mirror.event(event)
                heard.append(event)
                if event.type == "message.part.delta":
                    said = [part.content for each in m.get_session_messages(WS, name) for part in each.parts]
                    assert str(event.properties["delta"]) in str(said[-1])
                    assert str(said[-1]).count(str(event.properties["delta"])) == 1
                    model.go_on.set()
                if event.type == "session.idle":
                    break
        assert sum(each.type == "message.part.delta" for each in heard) > 2
        page = m.get_session_messages(WS, name)
        assert "".join(model.words) in [part.content for each in page for part in each.parts]
        recorded = list(m.events(WS, recorded=True))
        assert len({each.id for each in recorded}) == len(recorded)
        assert "session.idle" in [each.type for each in recorded]
        api.close()
