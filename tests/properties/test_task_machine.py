"""Random calls on tasks through two managers of one folder, with a clock that jumps, against plain dicts."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nomad_sessions import IllegalTransitionError, ManualClock, NativeSessionManager, TaskNotFoundError
from nomad_sessions.models import TASK_STATUSES, TASK_TRANSITIONS, dump

WS = "ws"
SESSIONS = ("s0", "s1")
TASKS = tuple(f"t{number}" for number in range(5))
IDLE = 30 * 60_000
JUMPS = [0, 1, 1000, IDLE - 1, IDLE, -1, -IDLE, 400 * 86_400_000, -400 * 86_400_000]

task_ids = st.sampled_from(TASKS)
statuses = st.sampled_from(sorted(TASK_STATUSES))


class Tasks(RuleBasedStateMachine):
    """Each rule does one thing to the store and to `rows`; after each, both say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.clock = ManualClock()
        self.managers = [self.opened(), self.opened()]
        self.rows: dict[str, dict[str, Any]] = {}
        self.sessions = set(SESSIONS)
        for each in SESSIONS:
            self.managers[0].create_session(WS, id=each)

    def opened(self) -> NativeSessionManager:
        return NativeSessionManager(self.folder, durability="os", clock=self.clock)

    def teardown(self) -> None:
        for manager in self.managers:
            assert manager.check(WS).ok
            manager.close()
        shutil.rmtree(self.folder)

    def step(self, task_id: str, after: str, call: Any, **more: Any) -> None:
        """A call that leads to a status, or must not; "alive" needs a task that runs."""
        row, now = self.rows.get(task_id), self.clock.now()
        seq = self.managers[0].status(WS).seq
        if row is None:
            with pytest.raises(TaskNotFoundError):
                call()
        elif after == "alive" and row["status"] != "running":
            with pytest.raises(IllegalTransitionError):
                call()
        elif after != "alive" and after not in TASK_TRANSITIONS[row["status"]]:
            with pytest.raises(IllegalTransitionError) as raised:
                call()
            assert (raised.value.before, raised.value.after) == (row["status"], after)
        else:
            row |= {"lastActivity": now, "updatedAt": max(row["updatedAt"], now), **more}
            if after != "alive":
                row["status"] = after
            if after == "running":
                row["startTime"] = now
            call()
            return
        assert self.managers[0].status(WS).seq == seq, "an error writes nothing"

    @rule(who=st.integers(0, 1), task_id=task_ids, session=st.sampled_from(SESSIONS), status=statuses)
    def create(self, who: int, task_id: str, session: str, status: str) -> None:
        if session not in self.sessions or task_id in self.rows:
            return
        now = self.clock.now()
        self.managers[who].create_task(WS, session, id=task_id, status=status, mark=now)
        row = {"id": task_id, "sessionId": session, "status": status, "progress": 0, "mark": now}
        row |= {"createdAt": now, "updatedAt": now}
        if status == "running":
            row |= {"startTime": now, "lastActivity": now}
        elif status == "completed":
            row["progress"] = 100
        self.rows[task_id] = row

    @rule(who=st.integers(0, 1), task_id=task_ids, status=statuses)
    def update(self, who: int, task_id: str, status: str) -> None:
        if task_id in self.rows and self.rows[task_id]["status"] == status:
            return
        done = {"progress": 100} if status == "completed" else {}
        self.step(task_id, status, lambda: self.managers[who].update_task(WS, task_id, status=status), **done)

    @rule(who=st.integers(0, 1), task_id=task_ids)
    def start(self, who: int, task_id: str) -> None:
        self.step(task_id, "running", lambda: self.managers[who].start_task(WS, task_id))

    @rule(who=st.integers(0, 1), task_id=task_ids)
    def touch(self, who: int, task_id: str) -> None:
        self.step(task_id, "alive", lambda: self.managers[who].touch_task(WS, task_id))

    @rule(who=st.integers(0, 1), task_id=task_ids, progress=st.integers(0, 100))
    def progress(self, who: int, task_id: str, progress: int) -> None:
        call = self.managers[who].progress_task
        self.step(task_id, "alive", lambda: call(WS, task_id, progress), progress=progress)

    @rule(who=st.integers(0, 1), task_id=task_ids, output=st.sampled_from([0, "", {"k": [None]}]))
    def complete(self, who: int, task_id: str, output: Any) -> None:
        call = self.managers[who].complete_task
        self.step(task_id, "completed", lambda: call(WS, task_id, output), outputData=output, progress=100)

    @rule(who=st.integers(0, 1), task_id=task_ids)
    def fail(self, who: int, task_id: str) -> None:
        call = self.managers[who].fail_task
        self.step(task_id, "failed", lambda: call(WS, task_id, "why"), errorMessage="why")

    @rule(who=st.integers(0, 1), task_id=task_ids)
    def delete(self, who: int, task_id: str) -> None:
        if self.rows.pop(task_id, None) is not None:
            self.managers[who].delete_task(WS, task_id)

    @rule(who=st.integers(0, 1))
    def give_up(self, who: int) -> None:
        now = self.clock.now()
        due = [row for row in self.rows.values() if row["status"] == "running" and now - row["lastActivity"] >= IDLE]
        assert {task.id for task in self.managers[who].fail_overdue_tasks(WS)} == {row["id"] for row in due}
        for row in due:
            said = {"status": "failed", "errorMessage": "timed out: no activity for 30 min"}
            row |= {**said, "updatedAt": max(row["updatedAt"], now)}

    @rule(ms=st.sampled_from(JUMPS))
    def jump(self, ms: int) -> None:
        self.clock.advance(ms)

    @precondition(lambda self: len(self.sessions) > 1)
    @rule(who=st.integers(0, 1), session=st.sampled_from(SESSIONS))
    def lose_a_session(self, who: int, session: str) -> None:
        self.sessions.discard(session)
        self.managers[who].delete_session(WS, session)

    @rule(who=st.integers(0, 1))
    def fold(self, who: int) -> None:
        self.managers[who].checkpoint(WS)

    @rule(who=st.integers(0, 1))
    def reopen(self, who: int) -> None:
        self.managers[who].close()
        self.managers[who] = self.opened()

    @invariant()
    def both_say_the_same(self) -> None:
        for manager in self.managers:
            tasks = list(manager.list_tasks(WS))
            assert {task.id: {k: v for k, v in dump(task).items() if k != "rev"} for task in tasks} == self.rows
            assert [(-task.updated_at, -task.rev) for task in tasks] == sorted(
                (-task.updated_at, -task.rev) for task in tasks
            )
            orphans = {task.id for task in manager.list_tasks(WS, orphaned=True)}
            assert orphans == {key for key, row in self.rows.items() if row["sessionId"] not in self.sessions}


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
