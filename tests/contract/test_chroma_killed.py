"""A process that is killed in the middle of a push, again and again: in the end Chroma has what the store has."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from nomad_sessions import NativeSessionManager
from nomad_sessions.embedders import CachedEmbedder, HashingEmbedder, VectorCache
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget

KILLS = 6
CHANGES_A_ROUND = 60


def target_at(folder: Path) -> ChromaTarget:
    embedder = CachedEmbedder(HashingEmbedder(16), VectorCache(str(folder / "vectors.sqlite")))
    return ChromaTarget(embedder, path=folder / "chroma")


def push(folder: Path) -> None:
    """What the child does: says that it begins, then pushes until it is done, or dead."""
    with NativeSessionManager(folder / "data") as manager, Synchronizer(manager, [target_at(folder)]) as sync:
        manager.list_workspaces()
        sync.targets[0].ping()
        print("begins", flush=True)
        sync.push("ws")


def change(manager: NativeSessionManager, chance: random.Random) -> None:
    """Sessions and messages of all lengths come, change and go."""
    sessions = [each.id for each in manager.list_sessions("ws")]
    with manager.transaction("ws") as edit:
        for number in range(CHANGES_A_ROUND):
            if not sessions or number % 15 == 0:
                sessions.append(edit.create_session("ws", title=f"session {number}").id)
            owner = chance.choice(sessions)
            text = f"{number} {chance.random()} words " * chance.choice((0, 1, 5, 200, 300))
            edit.add_message("ws", owner, role="user", content=text)
    for owner in chance.sample(sessions, min(3, len(sessions))):
        messages = manager.get_session_messages("ws", owner)
        for each in messages[:4]:
            manager.update_message(
                "ws",
                each.id,
                content=chance.choice(("", f"now short {chance.random()}", f"{chance.random()} words " * 150)),
            )
        for each in messages[4:6]:
            manager.delete_message("ws", each.id)
    if len(sessions) > 8:
        manager.delete_session("ws", chance.choice(sessions))


def test_a_push_that_is_killed_again_and_again_ends_with_what_the_store_has(tmp_path: Path) -> None:
    chance = random.Random(7)
    killed = 0
    for _ in range(KILLS):
        with NativeSessionManager(tmp_path / "data", durability="os") as manager:
            change(manager, chance)
        command = [sys.executable, "-m", "tests.contract.test_chroma_killed", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"begins\n"
            time.sleep(chance.random() * 0.25)
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            killed += child.returncode == -signal.SIGKILL
    assert killed >= KILLS / 2
    with NativeSessionManager(tmp_path / "data") as manager, Synchronizer(manager, [target_at(tmp_path)]) as sync:
        sync.push("ws")
        assert sync.verify("ws", target="chroma") == []
        (target,) = sync.targets
        assert isinstance(target, ChromaTarget)
        there = {("message", each.id) for each in target.scan("ws", "message", limit=10_000)}
        found = target.most_relevant(["some words now short"], 5_000, kinds=["message"])
        with_text = {key for key in there if (manager.get_message("ws", key[1]) or found).content.strip()}  # type: ignore[union-attr]
        assert {(each.kind, each.id) for each in found} == with_text
        assert manager.check("ws").ok


if __name__ == "__main__":
    push(Path(sys.argv[1]))
