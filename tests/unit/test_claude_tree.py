"""Which records of a file of Claude Code's are its conversation: in files of many, each looked at a few times only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nomad_sessions.formats import ImportReport
from nomad_sessions.formats.claude_tree import Node, conversation, nodes_of, side_roots

MANY = 120_000
"""So many that a time that grew with their square would be beyond the limit of a test."""


def nodes(records: Sequence[dict[str, Any]]) -> list[Node]:
    """The nodes of a file with these records, all of them prompts."""
    said = {"type": "user", "message": {"role": "user", "content": "x"}}
    lines = b"".join(json.dumps({**said, **each}).encode() + b"\n" for each in records)
    found, _ = nodes_of(Path("file"), ImportReport(), keep=True, read=lines)
    return found


class Once(list[int]):
    """May be gone through once."""

    def __iter__(self) -> Iterator[int]:
        assert not self.gone_through
        self.gone_through = True
        return super().__iter__()

    gone_through = False


def test_of_many_records_whose_parents_are_missing_each_is_said_after_the_one_before() -> None:
    orphans = nodes([{"uuid": f"{n}", "parentUuid": f"missing {n}"} for n in range(MANY)])
    assert conversation(orphans) == list(range(MANY))


def test_the_conversation_is_gone_through_once_to_find_many_side_chains() -> None:
    half = MANY // 2
    main = [{"uuid": f"{n}", "parentUuid": f"{n - 1}" if n else None} for n in range(half)]
    side = [{"uuid": f"s{n}", "parentUuid": f"s{n - 1}" if n % 10 else None, "isSidechain": True} for n in range(half)]
    found = nodes([*main, *side])
    chosen = conversation(found)
    assert chosen == list(range(half))
    chains = side_roots(found, Once(chosen))
    assert [chain[0] for chain in chains] == list(range(half, MANY, 10))
    assert sum(map(len, chains)) == half
