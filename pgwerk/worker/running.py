"""An attempt that a worker has under way, and how it came to its end."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pgwerk import events
from pgwerk.execution import Attempt, Outcome, Ran, Verdict, decide

if TYPE_CHECKING:
    from pgwerk.store.exchange import Claimed
    from pgwerk.wire import Row


@dataclass(slots=True)
class Running:
    row: Claimed
    subject: Row | None
    """Of a callback: the job whose end it is told of."""

    claim_no: int
    claimed_at: float
    task: asyncio.Task[None] | None = None
    sign_at: float | None = None
    """When its next sign of life is due; None: it promised none."""

    verdict: Verdict | None = None
    """How it is to end, where that was decided from outside: interrupted, aborted, or lost to somebody else."""

    started_at: float | None = None

    def ran(self, end: End) -> Ran:
        if self.started_at is None or end.verdict is Verdict.EXPIRED:
            return Ran(self.row.queue, str(self.row.function), None)
        return Ran(self.row.queue, str(self.row.function), time.monotonic() - self.started_at)


class End(NamedTuple):
    verdict: Verdict
    result: bytes | None = None
    error: str | None = None
    exception: BaseException | None = None


def end_of(running: Running, text: str, error: BaseException) -> End:
    """Of an attempt that raised: by itself, or because its end was decided from outside; many make a cancellation an
    error of their own.
    """
    if running.verdict is None:
        return End(Verdict.RAISED, error=text, exception=error)
    return told_to_end(running.verdict)._replace(exception=error)


def told_to_end(verdict: Verdict) -> End:
    return End(verdict, error="aborted while it ran" if verdict is Verdict.ABORTED else None)


def outcome_of(worker_id: int, running: Running, end: End) -> Outcome:
    row = running.row
    attempt = Attempt(row.attempt, row.max_attempts or 1, row.retry_intervals, row.attempts_before or 0)
    decision = decide(end.verdict, attempt, random.random())  # noqa: S311
    if end.verdict is Verdict.RAISED:
        retry_in = decision.delay if decision.status == "retry" else None
        events.emit(
            events.AttemptFailed(
                row.job_id, str(row.function), attempt.number, attempt.max_attempts, end.error or "", retry_in
            )
        )
    return Outcome(
        row.job_id, worker_id, running.claim_no, decision.status, decision.delay, end.result, end.error,
        attempt, end.verdict is Verdict.EXPIRED, row.group_key is not None, row.has_sequel is not False,
        running.ran(end),
    )  # fmt: skip


def refused_of(outcome: Outcome, attempt: Attempt, error: str) -> Outcome:
    """What becomes of one that the server would not store: the attempt fails with the server's words."""
    decision = decide(Verdict.RAISED, attempt, random.random())  # noqa: S311
    words = f"the result was refused by Postgres: {error}"
    return outcome._replace(status=decision.status, delay=decision.delay, result=None, error=words)
