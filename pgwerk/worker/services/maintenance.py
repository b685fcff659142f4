"""What the clock asks for: takes back the jobs of dead workers, ends what has expired, tidies up."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.errors import ServerUnreachable
from pgwerk.execution import Attempt, Outcome, Verdict, decide, expired
from pgwerk.store.ending import EndingStore
from pgwerk.store.maintenance import BATCH, Lost, MaintenanceStore

if TYPE_CHECKING:
    from pgwerk.db import Database
    from pgwerk.wire import Session


class Maintenance:
    """Runs in every worker, over short connections of its own, so that it never holds up a claim. Any number may do
    the same at once: every ending is guarded by what it must still find.
    """

    def __init__(self, database: Database, interval: float) -> None:
        self._database, self._interval = database, interval
        self._store = MaintenanceStore(database.schema)
        self._endings = EndingStore(database.schema)
        self._nudged = asyncio.Event()

    def nudge(self) -> None:
        """A round now, not at the next interval."""
        self._nudged.set()

    async def run(self) -> None:
        while True:
            try:
                await self.tick()
            except ServerUnreachable:
                pass  # the worker's own conversation tells of the outage
            except Exception as error:  # noqa: BLE001 - a round that fails must not be the last
                events.emit(events.DutyFailed("maintenance", events.one_line(error)))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval * random.uniform(0.8, 1.2)):  # noqa: S311
                    await self._nudged.wait()
            self._nudged.clear()

    async def tick(self) -> None:
        """One round; returns when there is nothing left to do."""
        async with self._database.session() as session:
            duties = await session.single(self._store.duties())
            if duties.rescue:
                await self._rescue(session)
            if duties.expire:
                await self._expire(session)
            if duties.tidy:
                await session.transact(self._store.forget_workers(), self._store.forget_waiters())

    async def _rescue(self, session: Session) -> None:
        while lost := await session.run(self._store.lost()):
            outcomes = [_lost(job) for job in lost]
            settled = await self._settle(session, outcomes)
            requeued = sum(outcome.returns for outcome in outcomes if outcome.job_id in settled)
            if settled:
                events.emit(events.JobsRescued(requeued, len(settled) - requeued))
            if len(lost) < BATCH:
                break

    async def _expire(self, session: Session) -> None:
        while expired := await session.run(self._store.expired()):
            await self._settle(session, [expiry(job.job_id, job.ttl) for job in expired])
            if len(expired) < BATCH:
                break

    async def _settle(self, session: Session, outcomes: list[Outcome]) -> set[int]:
        return set().union(*await session.transact(*self._endings.end(outcomes)))


def expiry(job_id: int, ttl: float | None) -> Outcome:
    """Of a job that waits; what a worker has claimed it settles by its claim."""
    return Outcome(job_id, None, None, "aborted", error=expired(ttl), expired=True)


def _lost(job: Lost) -> Outcome:
    decision = decide(Verdict.LOST, Attempt(job.attempt, job.max_attempts or 1), random.random())  # noqa: S311
    error = f"worker {job.worker_name or job.worker_id} lost"
    return Outcome(job.job_id, job.worker_id, job.claim_no, decision.status, decision.delay, error=error)
