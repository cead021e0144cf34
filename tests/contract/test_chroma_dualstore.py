"""`DualStoreManager` with a real Chroma: what it finds by meaning is what comparing with every vector finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.dualstore import DualStoreManager
from nomad_sessions.embedders import OpenAIEmbedder
from nomad_sessions.sync import Synchronizer
from nomad_sessions.sync.chroma import ChromaTarget
from tests.contract.test_chroma_search import TEXTS, brute
from tests.support.embedding_server import embedding_server


def test_the_ten_nearest_are_those_of_brute_force(tmp_path: Path) -> None:
    with embedding_server() as server, NativeSessionManager(tmp_path / "data", durability="os") as manager:

        def target() -> ChromaTarget:
            return ChromaTarget(OpenAIEmbedder("m", url=f"{server.url}/v1", key="k"), path=tmp_path / "chroma")

        session = manager.create_session("ws", title="x")
        manager.add_messages("ws", session.id, [{"id": n, "role": "user", "content": TEXTS[n]} for n in TEXTS])
        with Synchronizer(manager, [target()]) as sync:
            sync.push()
        with DualStoreManager(manager, "ws", [target()]) as both:
            for query in ("aaab", "bad cafe"):
                found = both.get_most_relevant([query], 10)
                assert (found.by, found.failed) == ("chroma", {})
                wanted = dict(brute([query], len(TEXTS)))
                assert [each.score for each in found.hits] == pytest.approx(list(wanted.values())[:10], abs=1e-5)
                assert {each.entry.id: each.score for each in found.hits} == pytest.approx(
                    {each.entry.id: wanted[each.entry.id] for each in found.hits}, abs=1e-5
                )
