"""Importing a history of Claude Code beside reading the same files line by line through `json.loads`."""

from __future__ import annotations

import json
import random
import shutil
from functools import cache
from pathlib import Path
from statistics import median

from benchmarks import children
from benchmarks.bars import row
from benchmarks.model import Context, Row

_MEGABYTES, _QUICK_MEGABYTES, _FILE_BYTES = 1024, 20, 10 << 20
_TIMES = 7  # Shared machines are now quick, now slow, for seconds at a time.
_THINKING, _TEXT = 800, 500


@cache
def _texts() -> list[str]:
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
    return [" ".join(chance.choices(words, k=360)) for _ in range(200)]


def write_history(folder: Path, megabytes: int) -> None:
    """Sessions of 10 MB in ten projects: a prompt, a thought, an answer, a call and its result, over and over."""
    chance = random.Random(2)
    for number in range(max(1, (megabytes << 20) // _FILE_BYTES)):
        project = folder / f"-home-dev-p{number % 10}"
        project.mkdir(parents=True, exist_ok=True)
        name = f"{chance.getrandbits(32):08x}-0000-4000-8000-{number:012x}"
        with (project / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            size, turn, last = 0, 0, None
            while size < _FILE_BYTES:
                turn += 1
                for kind, message in _turn(chance, turn):
                    uuid = f"{number:08x}-{turn:08x}-{chance.getrandbits(48):012x}"
                    line = json.dumps(_record(name, number, turn, kind, message, uuid, last)) + "\n"
                    size += file.write(line)
                    last = uuid


def _turn(chance: random.Random, turn: int) -> list[tuple[str, dict[str, object]]]:
    texts = _texts()
    thought: dict[str, object] = {
        "type": "thinking",
        "thinking": chance.choice(texts)[:_THINKING],
        "signature": "c2ln" * 50,
    }
    said: dict[str, object] = {"type": "text", "text": chance.choice(texts)[:_TEXT]}
    call: dict[str, object] = {
        "type": "tool_use",
        "id": f"t{turn}",
        "name": "Read",
        "input": {"file_path": "/home/dev/x.py"},
    }
    told = "".join(chance.choice(texts) for _ in range(chance.randint(1, 6)))
    result = {"type": "tool_result", "tool_use_id": f"t{turn}", "content": told}
    answers = [("assistant", _answer(turn, block)) for block in (thought, said, call)]
    asked: dict[str, object] = {"role": "user", "content": chance.choice(texts)[:300]}
    return [("user", asked), *answers, ("user", {"role": "user", "content": [result]})]


def _answer(turn: int, block: dict[str, object]) -> dict[str, object]:
    usage = {"input_tokens": 10, "output_tokens": 5}
    return {"id": f"m{turn}", "role": "assistant", "model": "claude-sonnet-4-5", "content": [block], "usage": usage}


def _record(
    session: str, number: int, turn: int, kind: str, message: dict[str, object], uuid: str, parent: str | None
) -> dict[str, object]:
    seconds = number * 1000 + turn
    clock = f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    time = f"2026-01-{1 + seconds // 86400 % 28:02}T{clock}.000Z"
    place = {"cwd": f"/home/dev/p{number % 10}", "sessionId": session, "version": "2.1.39", "gitBranch": "main"}
    envelope = {"parentUuid": parent, "isSidechain": False, "userType": "external", **place}
    return {**envelope, "type": kind, "message": message, "uuid": uuid, "timestamp": time}


def run(context: Context) -> list[Row]:
    """Both in processes of their own, in turns; the files have been read once before."""
    megabytes = context.pick(_MEGABYTES, _QUICK_MEGABYTES)
    source = context.make("claude-history")
    write_history(source, megabytes)
    base, mine = [], []
    for _ in range(context.pick(_TIMES, 1)):
        folder = context.make("claude-imported")
        spec = json.dumps({"source": str(source), "folder": str(folder)})
        base.append(children.run_json("benchmarks.importing", "lines", spec))
        mine.append(children.run_json("benchmarks.importing", "import", spec))
        shutil.rmtree(folder)
    ratios = sorted(theirs["seconds"] / ours["seconds"] for theirs, ours in zip(base, mine, strict=True))
    peak = max(ours["peak"] for ours in mine)
    seconds = median(ours["seconds"] for ours in mine)
    return [
        row(
            "import-history",
            f"import {megabytes:,} MB of Claude Code's files: the speed beside reading them, median of {len(ratios)}",
            median(ratios),
            ours=f"{seconds:.1f} s, {mine[0]['messages']:,.0f} messages; {ratios[0]:.2f} to {ratios[-1]:.2f}",
            baseline=f"{median(theirs['seconds'] for theirs in base):.1f} s, each line through json.loads",
        ),
        row(
            "import-memory",
            "the highest resident memory of those imports",
            peak,
            ours=f"{peak:.0f} MB",
            baseline="nothing",
        ),
    ]
