"""What people do with jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgwerk import checks
from pgwerk.dependencies import Dependency
from pgwerk.ending import Endings
from pgwerk.errors import InvalidOption, JobNotFound, brief
from pgwerk.execution import Outcome
from pgwerk.filters import status_of, values_of
from pgwerk.job import FINAL, PENDING, Job, JobExecution, JobStatus, job_id
from pgwerk.maintenance import Maintenance
from pgwerk.specifying import specify_update
from pgwerk.store.control import ControlStore
from pgwerk.store.maintenance import BATCH, MaintenanceStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from typing import Unpack

    from pgwerk.checks import Seconds
    from pgwerk.config import WerkConfig
    from pgwerk.db import Database
    from pgwerk.filters import Filters
    from pgwerk.serializers import Serializer
    from pgwerk.wire import Session

    OnBatch = Callable[[int], object]

MOST_LISTED = 10_000


class Control:
    """The part of an app that asks and steers jobs. An id is accepted as the Job, its number, or that as a text. What
    changes a job says whether it took effect: it touches none in another state than it is for.
    """

    config: WerkConfig
    serializer: Serializer

    @property
    def database(self) -> Database:
        raise NotImplementedError

    async def get_job(self, job: Job | int | str) -> Job:
        """Raises `JobNotFound`."""
        number = number_of(job)
        async with self._session() as session:
            rows = await session.run(self._control.get_jobs([number]))
        if not rows:
            raise not_found(number)
        return Job.from_row(rows[0], self.serializer)

    async def list_jobs(
        self,
        *,
        before: Job | int | str | None = None,
        limit: int = 50,
        offset: int = 0,
        **filters: Unpack[Filters],
    ) -> list[Job]:
        """Newest first. The next page is the one `before` the last job of this one. A payload or result that cannot be
        read is the `NotSerializable` that says why.
        """
        below = None if before is None else number_of(before)
        page = checks.count("limit", limit, 1, MOST_LISTED), checks.count("offset", offset, 0, 2**63 - 1)
        async with self._session() as session:
            rows = await session.run(self._control.list_jobs(below, *page, **values_of(filters)))
        return [Job.from_row(row, self.serializer, is_one_of_many=True) for row in rows]

    async def list_ids(
        self, *, before: Job | int | str | None = None, limit: int = 50, **filters: Unpack[Filters]
    ) -> list[int]:
        """Of what `list_jobs` gives, and nothing else of it: arguments and results may be large, or unreadable here."""
        below, most = None if before is None else number_of(before), checks.count("limit", limit, 1, MOST_LISTED)
        async with self._session() as session:
            return await session.run(self._control.list_ids(below, most, **values_of(filters)))

    async def get_executions(self, job: Job | int | str) -> list[JobExecution]:
        """One for each attempt that started, in order."""
        async with self._session() as session:
            rows = await session.run(self._control.executions(number_of(job)))
        return [JobExecution.from_row(row, self.serializer) for row in rows]

    async def get_job_dependencies(self, job: Job | int | str) -> list[Dependency]:
        """What the job waits for, or has waited for."""
        async with self._session() as session:
            edges = await session.run(self._control.dependencies(number_of(job)))
        return [Dependency(on_id, allow_failure=allow_failure) for on_id, allow_failure in edges]

    async def cancel_job(self, job: Job | int | str) -> bool:
        """Aborts a job that has not started, or waits for its next attempt."""
        return await self._end_pending(number_of(job), "cancelled before it ran")

    async def abort_job(self, job: Job | int | str) -> bool:
        """Asks for the end of a job that runs: a coroutine is cancelled, a process killed. It is `aborting` until its
        worker has done so.
        """
        async with self._session() as session:
            return await session.run(self._control.abort(number_of(job)))

    async def requeue_job(self, job: Job | int | str) -> bool:
        """Runs a failed or aborted job again, with as many attempts as it was given at first."""
        return bool(await self._requeue([number_of(job)]))

    async def update_job(
        self,
        job: Job | int | str | None = None,
        *,
        key: str | None = None,
        at: datetime | None = None,
        delay: Seconds | None = None,
        priority: int | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Job | None:
        """Changes a job that does not run yet, named by its id or its key; None if it took no effect."""
        if (job is None) == (key is None):
            raise InvalidOption("a job to update is named by its id or by its key, one of them")
        wanted = number_of(job) if key is None else checks.text("key", key)
        change = specify_update(at=at, delay=delay, priority=priority, meta=meta)
        async with self._session() as session:
            number = await session.run(self._control.find_key(wanted)) if isinstance(wanted, str) else wanted
            if number is None:
                return None
            while not await session.run(self._control.update(number, change)):
                if not await session.run(self._control.is_pending(number)):
                    return None
            await self._endings.free(session, [number])
        return await self.get_job(number)

    async def touch_job(self, job: Job | int | str) -> bool:
        """Renews the sign of life of a running job with a `_heartbeat`."""
        async with self._session() as session:
            return await session.run(self._control.touch(number_of(job)))

    async def delete_job(self, job: Job | int | str) -> bool:
        """Deletes a job that does not run, and everything about it; one that had not run is cancelled first. The row
        stays until its callbacks have ended; whoever waits for the job may find it gone (`JobNotFound`).
        """
        number, is_cancelled = number_of(job), False
        while True:
            is_cancelled |= await self._end_pending(number, "deleted before it ran")
            if await self._forget([number]):
                return True
            async with self._session() as session:  # somebody may have requeued it in between, or forgotten it
                if not await session.run(self._control.is_pending(number)):
                    return is_cancelled

    async def bulk_cancel_jobs(self, *, on_batch: OnBatch | None = None, **filters: Unpack[Filters]) -> int:
        """Cancels all pending jobs that are there when it begins and that these filters find; how many. `on_batch`
        hears of each batch that is done, as with the others: how many it were.
        """
        return await self._in_batches(self._cancel, PENDING, filters, on_batch)

    async def bulk_requeue_jobs(self, *, on_batch: OnBatch | None = None, **filters: Unpack[Filters]) -> int:
        """Requeues all failed and aborted jobs that these filters find; how many."""
        return await self._in_batches(self._requeue, (JobStatus.Failed, JobStatus.Aborted), filters, on_batch)

    async def bulk_abort_jobs(self, *, on_batch: OnBatch | None = None, **filters: Unpack[Filters]) -> int:
        """Asks for the end of all running jobs that these filters find; how many."""
        return await self._in_batches(self._abort, (JobStatus.Active,), filters, on_batch)

    async def bulk_delete_jobs(self, *, on_batch: OnBatch | None = None, **filters: Unpack[Filters]) -> int:
        """Deletes all jobs that these filters find and that do not run; how many."""
        return await self._in_batches(self._delete, (*PENDING, *FINAL), filters, on_batch)

    async def purge_jobs(
        self, statuses: Iterable[JobStatus | str], older_than_days: float = 0, *, on_batch: OnBatch | None = None
    ) -> int:
        """Deletes jobs that ended so, and at least so many days ago; how many."""
        wanted = [_final(status) for status in checks.several("statuses", statuses)]
        seconds = checks.days("older_than_days", older_than_days)
        return sum([await self._purge(status, seconds, on_batch) for status in wanted])

    async def sweep(self) -> None:
        """A round of maintenance now, as every worker does it: lost jobs are taken back, expired ones ended, old ones
        forgotten.
        """
        maintenance = Maintenance(self.database, self.config)
        while await maintenance.tick():
            pass

    async def _end_pending(self, number: int, why: str) -> bool:
        """A job that is just moving is found in no place by the one who looks too early: look again."""
        async with self._session() as session:
            while True:
                if (await self._endings.end(session, [_cancelled(number, why)])).found:
                    return True
                if not await session.run(self._control.is_pending(number)):
                    return False

    async def _in_batches(
        self, act: Callable[[list[int]], Awaitable[int]], statuses: Iterable[JobStatus], filters: Filters,
        on_batch: OnBatch | None,
    ) -> int:  # fmt: skip
        done = 0
        async for ids in self._pages(filters, statuses):
            count = await act(ids)
            done += count
            if on_batch is not None:
                on_batch(count)
        return done

    async def _cancel(self, ids: list[int]) -> int:
        outcomes = [_cancelled(number, "cancelled before it ran") for number in ids]
        async with self._session() as session:
            return len((await self._endings.end(session, outcomes)).found)

    async def _delete(self, ids: list[int]) -> int:
        """What has ended cannot be cancelled any more."""
        await self._cancel(ids)
        return await self._forget(ids, anew=True)

    async def _abort(self, ids: list[int]) -> int:
        return sum([await self.abort_job(number) for number in ids])

    async def _requeue(self, ids: list[int]) -> int:
        async with self._session() as session:
            requeued: list[Any] = await session.run(self._control.requeue(ids))
        return len(requeued)

    async def _forget(self, ids: list[int], *, anew: bool = False) -> int:
        """What somebody still needs is forgotten when nobody does any more; `anew` counts it the first time alone."""
        async with self._session() as session:
            forget = MaintenanceStore(self.database.schema).forget(ids)
            going, gone = await session.transact(self._control.let_go(ids, anew=anew), forget)
        return len({*going, *gone})

    async def _purge(self, status: str, seconds: float, on_batch: OnBatch | None) -> int:
        purged = 0
        while True:
            async with self._session() as session:
                ids = await session.run(self._control.ended_before(status, seconds, BATCH))
            count = await self._forget(ids) if ids else 0
            purged += count
            if on_batch is not None:
                on_batch(count)
            if len(ids) < BATCH:
                return purged

    async def _pages(self, filters: Filters, statuses: Iterable[JobStatus]) -> AsyncIterator[list[int]]:
        """The ids of what was there when it began, as far as these filters find it in these statuses, a page at a time.
        What comes later is not meant: the callbacks of jobs that are ended here are new jobs themselves.
        """
        behind = 1 + max(await self.list_ids(limit=1), default=0)
        asked = status_of(filters.get("status"))
        looked_at = [status for status in statuses if asked in (None, status)]
        while looked_at:
            found = set()
            for status in looked_at:
                async for ids in self._pages_of(status, behind, filters):
                    found.add(status)
                    yield ids
            # a pending job moves on in time, or by what is done here, and may have come to where it was not looked for
            looked_at = [*PENDING] if asked is None and not found.isdisjoint(PENDING) else []

    async def _pages_of(self, status: JobStatus, before: int, filters: Filters) -> AsyncIterator[list[int]]:
        chosen: Filters = {**filters, "status": status}
        while ids := await self.list_ids(before=before, limit=BATCH, **chosen):
            yield ids
            before = ids[-1]
            if len(ids) < BATCH:
                break

    @property
    def _control(self) -> ControlStore:
        return ControlStore(self.database.schema)

    @property
    def _endings(self) -> Endings:
        return Endings(self.database.schema)

    def _session(self) -> AbstractAsyncContextManager[Session]:
        return self.database.session()


def not_found(number: int) -> JobNotFound:
    return JobNotFound(f"there is no job {number}; it was never committed, or it was deleted")


def number_of(job: Job | int | str | None) -> int:
    try:
        return job_id(job)
    except ValueError as error:
        raise InvalidOption(f"a job is named by its Job, its number, or that as a text, got {brief(job)}") from error


def _cancelled(number: int, why: str) -> Outcome:
    return Outcome(number, None, None, "aborted", error=why)


def _final(status: JobStatus | str) -> str:
    value = status_of(status)
    if value is None or not JobStatus(value).is_final:
        raise InvalidOption(f"only jobs that have ended are purged, got the status {brief(status)}")
    return value
