"""What people see of queues, workers and the server."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from pgwerk import checks
from pgwerk.control import Control, not_found, number_of
from pgwerk.explaining import MOST_COUNTED, Explanation, explained
from pgwerk.store.overview import OverviewStore

if TYPE_CHECKING:
    from pgwerk.filters import Filters
    from pgwerk.job import Job


LONGEST_SPAN = 100 * 24 * 60  # minutes: what is older is forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One start of a worker. Those that have ended are remembered for a day."""

    id: int
    name: str
    """Its host and process."""

    kind: str
    queues: list[str]
    concurrency: int
    state: str
    """alive, stopped, or dead."""

    started_at: datetime
    ended_at: datetime | None
    running: int
    """Jobs in its hands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """What has not ended in a queue."""

    queue: str
    queued: int
    scheduled: int
    waiting: int
    active: int
    aborting: int
    oldest_queued_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """What a queue holds and does. No large number is counted to its end: see `at_least`."""

    queue: str
    queued: int
    scheduled: int
    waiting: int
    active: int
    workers: int
    """Alive, that take jobs from it."""

    oldest_queued_at: datetime | None
    rate: float
    """Jobs that ended in a second, over the last minute or two."""

    paused_at: datetime | None
    at_least: list[str]
    """Those of the counts that were cut: so many or more."""

    @property
    def drained_in(self) -> float | None:
        """Seconds, at that rate, for what is counted; None: nothing ends."""
        return self.queued / self.rate if self.rate else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Attempts that ended in one minute (further back than three days: in one hour)."""

    minute: datetime
    complete: int
    failed: int
    aborted: int
    retried: int

    @property
    def ended(self) -> int:
        return self.complete + self.failed + self.aborted


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStats:
    """Attempts of a function that ended in some span of time."""

    function: str
    complete: int
    failed: int
    aborted: int
    retried: int
    run_secs: float
    """Of all of them together."""

    mean_secs: float
    longest_secs: float

    @property
    def ended(self) -> int:
        return self.complete + self.failed + self.aborted


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    version: str
    database_bytes: int
    schema_bytes: int


class Overview(Control):
    @property
    def _overview(self) -> OverviewStore:
        return OverviewStore(self.database.schema)

    async def explain_job(self, job: Job | int | str) -> Explanation:
        """Why it does not run, where it runs, or how it ended. Raises `JobNotFound`."""
        number = number_of(job)
        async with self._session() as session:
            rows = await session.run(self._overview.why(number, MOST_COUNTED))
        if not rows:
            raise not_found(number)
        return explained(rows[0], self.serializer)

    async def list_workers(self) -> list[WorkerInfo]:
        async with self._session() as session:
            rows = await session.run(self._overview.list_workers(None))
        return [WorkerInfo(**{name: row[name] for name in _WORKER}) for row in rows]

    async def get_worker(self, worker_id: int) -> WorkerInfo | None:
        number = checks.count("worker_id", worker_id, 0, checks.LARGEST_ID)
        async with self._session() as session:
            rows = await session.run(self._overview.list_workers(number))
        return WorkerInfo(**{name: rows[0][name] for name in _WORKER}) if rows else None

    async def list_worker_jobs(self, worker: WorkerInfo | int, **filters: Unpack[Filters]) -> list[Job]:
        """Those that it runs, or has ended."""
        theirs: Filters = {**filters, "worker_id": worker.id if isinstance(worker, WorkerInfo) else worker}
        return await self.list_jobs(**theirs)

    async def get_queue_stats(self, *, callbacks: bool = False) -> list[QueueStats]:
        """Of every queue in which something has not ended."""
        shown = checks.flag("callbacks", callbacks)
        async with self._session() as session:
            rows = await session.run(self._overview.queue_stats(callbacks=shown))
        return [QueueStats(**row) for row in rows]

    async def list_queues(self) -> list[QueueInfo]:
        """The queues that hold something, have a worker, are paused, or were at work a minute ago. No large number is
        counted to its end, so that the answer comes at once: of jobs that are not ready only the first 10,000 of each
        state are looked at, whatever queues they are in.
        """
        async with self._session() as session:
            rows = await session.run(self._overview.list_queues(MOST_COUNTED))
        return [QueueInfo(**row) for row in rows]

    async def pause_queue(self, queue: str) -> bool:
        """No worker claims from it until it is resumed; what is claimed already goes on. False: it was paused already.
        A worker of a version before schema 5 does not know of pauses.
        """
        name = checks.name("queue", queue)
        async with self._session() as session:
            return await session.run(self._overview.pause_queue(name))

    async def resume_queue(self, queue: str) -> bool:
        """False: it was not paused."""
        name = checks.name("queue", queue)
        async with self._session() as session:
            return await session.run(self._overview.resume_queue(name))

    async def get_throughput_history(self, minutes: int = 60, queue: str | None = None) -> list[Throughput]:
        """Of those of the last minutes in which something ended; the youngest second may be missing."""
        count, name = _span(minutes, queue)
        async with self._session() as session:
            rows = await session.run(self._overview.throughput(count, name))
        return [Throughput(**row) for row in rows]

    async def get_function_stats(self, minutes: int = 60, queue: str | None = None) -> list[FunctionStats]:
        """Of the last minutes; those functions first that took the most time."""
        count, name = _span(minutes, queue)
        async with self._session() as session:
            rows = await session.run(self._overview.function_stats(count, name))
        return [FunctionStats(**row) for row in rows]

    async def get_server_info(self) -> ServerInfo:
        async with self._session() as session:
            row = await session.run(self._overview.server_info())
        return ServerInfo(**row)

    async def vacuum(self) -> None:
        """Of all tables, with their statistics."""
        async with self._session() as session:
            await session.single(self._overview.vacuum())

    async def truncate(self) -> None:
        """Deletes every job there is, running ones too. There is no way back."""
        async with self._session() as session:
            await session.run(self._control.truncate())


def _span(minutes: object, queue: str | None) -> tuple[int, str | None]:
    return checks.count("minutes", minutes, 1, LONGEST_SPAN), None if queue is None else checks.name("queue", queue)


_WORKER = tuple(field.name for field in fields(WorkerInfo))
