"""What the clock asks for: takes back the jobs of dead workers, ends what has expired, forgets what is old."""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.ending import Endings
from pgwerk.execution import Attempt, Outcome, Verdict, decide, expired
from pgwerk.store.maintenance import BATCH, Lost, MaintenanceStore

if TYPE_CHECKING:
    from pgwerk.config import WerkConfig
    from pgwerk.db import Database
    from pgwerk.wire import Session

MOST_FORGOTTEN = 20  # batches of each kind in one round: it never keeps a round from what others wait for
FULL_LOOK = 600.0  # seconds until completed jobs are looked for from the first on: some could not be forgotten before


class Maintenance:
    """Rounds over short connections of their own, so that no claim is held up. Any number may run at once: every ending
    is guarded by what it must still find.
    """

    def __init__(self, database: Database, config: WerkConfig) -> None:
        self._database, self._config = database, config
        self._store = MaintenanceStore(database.schema)
        self._endings = Endings(database.schema)
        self._watched_to, self._freed_to = 0, ""
        self._forgotten_until = 0.0  # completed jobs that ended before that are gone, or somebody needed them
        self._looked_at_all = time.monotonic()

    async def tick(self) -> bool:
        """One round; returns when there is nothing left to do that anybody waits for. True: there is more to forget."""
        if time.monotonic() - self._looked_at_all > FULL_LOOK:
            self._looked_at_all, self._forgotten_until = time.monotonic(), 0.0
        async with self._database.session() as session:
            duties = await session.run(
                self._store.duties(
                    _finite(self._config.result_ttl), _finite(self._config.failure_ttl), self._forgotten_until
                )
            )
            if duties.rescue:
                await self._rescue(session)
            if duties.expire:
                await self._expire(session)
            if duties.watch:
                await self._watch(session)
            if duties.doom:
                doomed: dict[int, str] = await session.run(self._store.doomed())
                await self._endings.cascade(session, doomed)
            if duties.free:
                await self._free(session)
            has_more = duties.forget and await self._forget(session)
            if duties.tidy:
                await session.transact(self._store.forget_workers(), self._store.forget_waiters())
            if duties.add_up:
                await session.transact(self._store.add_up(), self._store.forget_tally())
            return has_more

    async def _rescue(self, session: Session) -> None:
        while lost := await session.run(self._store.lost()):
            outcomes = [_lost(job) for job in lost]
            found = (await self._endings.end(session, outcomes)).found
            requeued = sum(outcome.returns for outcome in outcomes if outcome.job_id in found)
            if found:
                events.emit(events.JobsRescued(requeued, len(found) - requeued))
            if len(lost) < BATCH:
                break

    async def _expire(self, session: Session) -> None:
        while late := await session.run(self._store.expired()):
            await self._endings.end(session, [expiry(job.job_id, job.ttl) for job in late])
            if len(late) < BATCH:
                break

    async def _watch(self, session: Session) -> None:
        """A batch a round, by turns."""
        watched = await session.run(self._store.watch(self._watched_to))
        self._watched_to = watched.reached
        if watched.ended:
            await self._endings.release(session, watched.ended)

    async def _free(self, session: Session) -> None:
        """A batch of groups a round, by turns."""
        found = await session.run(self._store.stranded(self._freed_to))
        self._freed_to = found.reached or ""
        if found.stranded:
            await self._endings.free(session, found.stranded)

    async def _forget(self, session: Session) -> bool:
        config = self._config
        has_more = await self._forget_outdated(session)
        for status, seconds in (
            ("complete", config.result_ttl), ("failed", config.failure_ttl), ("aborted", config.failure_ttl)
        ):  # fmt: skip
            if (keep := _finite(seconds)) is not None:
                has_more |= await self._forget_older(session, status, keep)
        return has_more

    async def _forget_outdated(self, session: Session) -> bool:
        has_more = False
        for _ in range(MOST_FORGOTTEN):
            ids = await session.run(self._store.outdated())
            gone = await session.run(self._store.forget(ids)) if ids else []
            has_more = bool(gone) and len(ids) == BATCH
            if not has_more:
                break
        return has_more

    async def _forget_older(self, session: Session, status: str, seconds: float) -> bool:
        since = self._forgotten_until if status == "complete" else 0.0
        has_more = False
        for _ in range(MOST_FORGOTTEN):
            old = await session.run(self._store.outlived(status, seconds, since))
            gone = await session.run(self._store.forget([job.job_id for job in old])) if old else []
            has_more = bool(gone) and len(old) == BATCH
            if not old or len(gone) < len(old):  # somebody has the others in hand: they are looked at again
                break
            since = old[-1].finished_at
        if status == "complete":
            self._forgotten_until = since
        return has_more


def expiry(job_id: int, ttl: float | None) -> Outcome:
    """Of a job that waits; what a worker has claimed it settles by its claim."""
    return Outcome(job_id, None, None, "aborted", error=expired(ttl), expired=True)


def _lost(job: Lost) -> Outcome:
    attempt = Attempt(job.attempt, job.max_attempts or 1, before=job.attempts_before or 0)
    verdict = Verdict.ABORTED if job.is_aborting else Verdict.LOST
    decision = decide(verdict, attempt, random.random())  # noqa: S311
    error = f"worker {job.worker_name or job.worker_id} lost"
    if job.is_stale:
        error = f"the attempt gave no sign of life for {max(10, 2 * (job.heartbeat_secs or 0)):g} s; it counts as lost"
    return Outcome(job.job_id, job.worker_id, job.claim_no, decision.status, decision.delay, error=error)


def _finite(seconds: float | None) -> float | None:
    return seconds if seconds is not None and math.isfinite(seconds) else None
