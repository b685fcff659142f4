"""What the clock asks for: takes back the jobs of dead workers, ends what has expired, forgets what is old."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.ending import Endings
from pgwerk.execution import Attempt, Outcome, Verdict, decide, expired
from pgwerk.store.maintenance import BATCH, END, START, Lost, MaintenanceStore, Place

if TYPE_CHECKING:
    from pgwerk.config import WerkConfig
    from pgwerk.db import Database
    from pgwerk.store.maintenance import Duties
    from pgwerk.wire import Call, Session

MOST_FORGOTTEN = 20  # batches of each kind in one round: it never keeps a round from what others wait for
LOOK_BACK = 600.0  # seconds between two looks back


@dataclass(slots=True)
class _Walk:
    """Along the jobs that ended in one way, from the oldest on; most of what is behind it is gone."""

    kept: float | None  # seconds; None: for ever
    reached: Place = START  # the last one that was looked at
    left_from: Place = END  # after it, some could not be forgotten
    reached_before: Place = START  # at the last look back

    def look_back(self) -> None:
        """To what could not be forgotten, and what was committed only after its turn."""
        back = min(self.reached_before, self.left_from)
        self.reached, self.reached_before, self.left_from = back, self.reached, END

    def go_on(self, to: Place, *, has_left: bool) -> None:
        if has_left:
            self.left_from = min(self.left_from, self.reached)
        self.reached = to


class Maintenance:
    """Rounds over short connections of their own, so that no claim is held up. Any number may run at once: every ending
    is guarded by what it must still find.
    """

    def __init__(self, database: Database, config: WerkConfig) -> None:
        self._database = database
        self._store = MaintenanceStore(database.schema)
        self._endings = Endings(database.schema)
        self._watched_to, self._freed_to = 0, ""
        self._walks = {
            "complete": _Walk(_finite(config.result_ttl)), "failed": _Walk(_finite(config.failure_ttl)),
            "aborted": _Walk(_finite(config.failure_ttl)),
        }  # fmt: skip
        self._looked_back_at = time.monotonic()

    async def tick(self) -> bool:
        """One round; returns when there is nothing left to do that anybody waits for. True: there is more to forget."""
        if time.monotonic() - self._looked_back_at > LOOK_BACK:
            self._looked_back_at = time.monotonic()
            for walk in self._walks.values():
                walk.look_back()
        async with self._database.session() as session:
            duties = await session.run(self._duties())
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

    def _duties(self) -> Call[Duties]:
        reached = {status: walk.reached for status, walk in self._walks.items()}
        return self._store.duties(self._walks["complete"].kept, self._walks["failed"].kept, **reached)

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
        has_more = await self._forget_outdated(session)
        for status, walk in self._walks.items():
            if walk.kept is not None:
                has_more |= await self._forget_older(session, status, walk, walk.kept)
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

    async def _forget_older(self, session: Session, status: str, walk: _Walk, seconds: float) -> bool:
        for _ in range(MOST_FORGOTTEN):
            old = await session.run(self._store.outlived(status, seconds, walk.reached))
            gone = await session.run(self._store.forget(old.outlived)) if old.outlived else []
            if old.finished_at is not None and old.job_id is not None:
                has_left = not old.is_all or len(gone) < len(old.outlived)
                walk.go_on(Place(old.finished_at, old.job_id), has_left=has_left)
            if old.seen < BATCH:
                return False
        return True


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
