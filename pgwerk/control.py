"""What people do with jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgwerk.errors import InvalidOption, JobNotFound
from pgwerk.execution import Outcome
from pgwerk.job import Job, JobExecution, JobStatus, job_id
from pgwerk.store.control import ControlStore
from pgwerk.store.ending import EndingStore

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from pgwerk.db import Database
    from pgwerk.serializers import Serializer
    from pgwerk.wire import Session

MOST_LISTED = 10_000


class Control:
    """The part of an app that asks and steers. An id is accepted as the Job, its number, or that as a text."""

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
            raise JobNotFound(f"there is no job {number}; it was never committed, or it was deleted")
        return Job.from_row(rows[0], self.serializer)

    async def list_jobs(
        self,
        queue: str | None = None,
        status: JobStatus | str | None = None,
        function: str | None = None,
        key: str | None = None,
        *,
        before: Job | int | str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Job]:
        """Newest first. The next page is the one `before` the last job of this one."""
        listed = self._control.list_jobs(
            queue=queue, status=_status(status), function=function, key=key,
            before=None if before is None else number_of(before), limit=_count(limit), offset=_offset(offset),
        )  # fmt: skip
        async with self._session() as session:
            rows = await session.run(listed)
        return [Job.from_row(row, self.serializer) for row in rows]

    async def get_executions(self, job: Job | int | str) -> list[JobExecution]:
        """One for each attempt that started, in order."""
        async with self._session() as session:
            rows = await session.run(self._control.executions(number_of(job)))
        return [JobExecution.from_row(row, self.serializer) for row in rows]

    async def cancel_job(self, job: Job | int | str) -> bool:
        """Aborts a job that is not running; True if it took effect."""
        number = number_of(job)
        cancelled = Outcome(number, None, None, "aborted", error="cancelled before it ran")
        (end,) = EndingStore(self.database.schema).end([cancelled])
        async with self._session() as session:
            while True:
                found, is_pending = await session.transact(end, self._control.is_pending(number))
                if found or not is_pending:
                    return bool(found)

    @property
    def _control(self) -> ControlStore:
        return ControlStore(self.database.schema)

    def _session(self) -> AbstractAsyncContextManager[Session]:
        return self.database.session()


def number_of(job: Job | int | str) -> int:
    try:
        return job_id(job)
    except ValueError as error:
        raise InvalidOption(f"a job is named by its Job, its number, or that as a text, got {job!r:.80}") from error


def _offset(offset: int) -> int:
    if offset < 0:
        raise InvalidOption(f"offset must be at least 0, got {offset}")
    return offset


def _status(status: JobStatus | str | None) -> str | None:
    try:
        return None if status is None else JobStatus(status).value
    except ValueError as error:
        raise InvalidOption(f"a status is one of {', '.join(JobStatus)}, got {status!r}") from error


def _count(limit: int) -> int:
    if not 1 <= limit <= MOST_LISTED:
        raise InvalidOption(f"limit must be from 1 to {MOST_LISTED}, got {limit}")
    return limit
