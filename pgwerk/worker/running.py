"""An attempt that a worker has under way, and how it came to its end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pgwerk.execution import Ran, Verdict

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
