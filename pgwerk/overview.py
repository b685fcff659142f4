"""What people see of queues, workers and the server."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from pgwerk import checks
from pgwerk.control import Control, not_found, number_of
from pgwerk.explaining import Explanation, explained
from pgwerk.store.control import ControlStore

if TYPE_CHECKING:
    from pgwerk.filters import Filters
    from pgwerk.job import Job


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
class Throughput:
    """What ended in one minute."""

    minute: datetime
    complete: int
    failed: int
    aborted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    version: str
    database_bytes: int
    schema_bytes: int


class Overview(Control):
    async def explain_job(self, job: Job | int | str) -> Explanation:
        """Why it does not run, where it runs, or how it ended. Raises `JobNotFound`."""
        number = number_of(job)
        async with self._session() as session:
            rows = await session.run(self._control.why(number))
        if not rows:
            raise not_found(number)
        return explained(rows[0], self.serializer)

    async def list_workers(self) -> list[WorkerInfo]:
        async with self._session() as session:
            rows = await session.run(self._control.list_workers(None))
        return [WorkerInfo(**{name: row[name] for name in _WORKER}) for row in rows]

    async def get_worker(self, worker_id: int) -> WorkerInfo | None:
        number = checks.count("worker_id", worker_id, 0, 2**63 - 1)
        async with self._session() as session:
            rows = await session.run(self._control.list_workers(number))
        return WorkerInfo(**{name: rows[0][name] for name in _WORKER}) if rows else None

    async def list_worker_jobs(self, worker: WorkerInfo | int, **filters: Unpack[Filters]) -> list[Job]:
        """Those that it runs, or has ended."""
        theirs: Filters = {**filters, "worker_id": worker.id if isinstance(worker, WorkerInfo) else worker}
        return await self.list_jobs(**theirs)

    async def get_queue_stats(self, *, callbacks: bool = False) -> list[QueueStats]:
        """Of every queue in which something has not ended."""
        shown = checks.flag("callbacks", callbacks)
        async with self._session() as session:
            rows = await session.run(self._control.queue_stats(callbacks=shown))
        return [QueueStats(**row) for row in rows]

    async def get_throughput_history(self, minutes: int = 60) -> list[Throughput]:
        """Of those of the last minutes in which something ended, as far as the rows are still there."""
        count = checks.count("minutes", minutes, 1)
        async with self._session() as session:
            rows = await session.run(self._control.throughput(count))
        return [Throughput(**row) for row in rows]

    async def get_server_info(self) -> ServerInfo:
        async with self._session() as session:
            row = await session.run(self._control.server_info())
        return ServerInfo(**row)

    async def vacuum(self) -> None:
        """Of all tables, with their statistics."""
        async with self._session() as session:
            await session.single(ControlStore(self.database.schema).vacuum())

    async def truncate(self) -> None:
        """Deletes every job there is, running ones too. There is no way back."""
        async with self._session() as session:
            await session.run(self._control.truncate())


_WORKER = tuple(field.name for field in fields(WorkerInfo))
