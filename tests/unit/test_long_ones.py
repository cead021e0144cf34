"""Long chains, long sessions, long messages: each step costs what it does, not what has been there before it.

Work is counted, or there is so much that it would take minutes if it grew with the square; it is never timed.
"""

from __future__ import annotations

import pytest

from nomad_sessions import NativeSessionManager
from nomad_sessions.operations import sessions
from nomad_sessions.workspace.state import SessionState

WS = "ws"


def test_to_delete_what_has_a_long_chain_of_forks_looks_at_each_a_few_times(
    m: NativeSessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = m.create_session(WS).id
    forks = [root]
    with m.transaction(WS) as tx:
        for _ in range(200):
            forks.append(tx.fork_session(WS, forks[-1]).id)
        child = tx.create_session(WS, parent_id=root).id
    looked = 0
    origin = sessions._origin

    def counted(state: SessionState) -> str:
        nonlocal looked
        looked += 1
        return origin(state)

    monkeypatch.setattr(sessions, "_origin", counted)
    assert m.delete_session(WS, root, children=True) == [root, child]
    assert looked < 5 * len(forks)
    assert [each.id for each in m.list_sessions(WS)] == forks[:0:-1]
