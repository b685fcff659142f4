"""`Werk`, the app: everything that enqueues, and that waits for what was enqueued."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pgwerk import checks
from pgwerk.control import number_of
from pgwerk.errors import DependencyFailed, InvalidOption, InvalidType, JobError, JobTimeout, brief
from pgwerk.hooks import answer_of, checked
from pgwerk.job import Job, JobStatus
from pgwerk.lifecycle import Lifecycle
from pgwerk.overview import Overview
from pgwerk.params import EnqueueParams, split_options
from pgwerk.scheduling import Scheduling
from pgwerk.specifying import Spec, specify, specify_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection

    from pgwerk.checks import Seconds
    from pgwerk.schedule import Schedule

T = TypeVar("T")

LONGEST_WAIT = 86400.0  # seconds that a waiter is remembered by the database if it names no timeout


class Werk(Lifecycle, Overview, Scheduling):
    """An app on one database. It holds no pool: each operation opens a short connection, unless the user's own pool
    (or a factory of connections) is given.
    """

    async def enqueue(
        self,
        func: Callable[..., Any] | str,
        /,
        *args: Any,
        _conn: AsyncConnection[Any] | None = None,
        **kwargs: Any,
    ) -> Job | None:
        """The job, or None where its `_key` is taken. Options start with an underscore (see `EnqueueParams`), every
        other argument is the handler's. With `_conn`, the job commits or rolls back with that transaction.
        """
        arguments, options = split_options(kwargs)
        params = EnqueueParams(func, args, arguments, **options)
        await self._ask([params])
        spec = specify(params, self.serializer, self.config.allow)
        return await self._inserter.insert(spec, _conn)

    async def enqueue_at(
        self, at: datetime, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Job | None:
        return await self.enqueue(func, *args, _at=at, **kwargs)

    async def enqueue_in(
        self, delay: Seconds, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Job | None:
        return await self.enqueue(func, *args, _delay=delay, **kwargs)

    async def enqueue_many(
        self, params: Iterable[EnqueueParams], *, _conn: AsyncConnection[Any] | None = None
    ) -> list[Job | None]:
        """All or nothing, in order, in one round trip. A job may depend on another one of the call, named by its
        `EnqueueParams`.
        """
        several = checks.several("params", params)
        await self._ask(several)
        if _conn is None:
            return await self._inserter.insert_many(several, self.serializer, self.config.allow)
        return await self._inserter.insert_all(specify_all(several, self.serializer, self.config.allow), _conn)

    async def apply(
        self, func: Callable[..., Any] | str, /, *args: Any, timeout: Seconds | None = None, **kwargs: Any
    ) -> Any:
        """Enqueues and waits: the result, or `JobError` with the job that failed, or `TimeoutError` after so many
        seconds (the job goes on).
        """
        arguments, options = split_options(kwargs)
        (ended,) = await self.enqueue_and_wait([EnqueueParams(func, args, arguments, **options)], timeout)
        return result_of(ended)

    async def map(
        self,
        func: Callable[..., Any] | str,
        inputs: Iterable[Mapping[str, Any] | Sequence[Any]],
        /,
        *,
        timeout: Seconds | None = None,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[Any]:
        """`apply` for many inputs (a mapping is keywords, a sequence positional arguments): one bulk, results in
        order.
        """
        arguments, options = split_options(options)
        params = [_with_input(func, each, arguments, options) for each in checks.several("inputs", inputs)]
        if options.get("key") is not None and len(params) > 1:
            raise InvalidOption(
                f"_key names one job, got {brief(options['key'])} for {len(params)} inputs; use apply for each"
            )
        ended = await self.enqueue_and_wait(params, timeout)
        return [(_result_or_error if return_exceptions else result_of)(each) for each in ended]

    async def wait_for(self, job: Job | int | str, timeout: Seconds | None = None) -> Job:
        """The job as it ended; `JobNotFound`, or `TimeoutError` after so many seconds."""
        number, limit = number_of(job), _limit(timeout)
        return await _in_time(self._wait_for(number, limit or LONGEST_WAIT), f"job {number}", limit)

    async def _wait_for(self, number: int, seconds: float) -> Job:
        await self.get_job(number)
        waiters = self._waiters_here()
        async with waiters.expecting(1) as (row,):
            (ended,) = await waiters.ended({number: row}, watch_for=seconds)
        return _known(ended)

    async def enqueue_and_wait(
        self,
        params: Iterable[EnqueueParams],
        timeout: Seconds | None = None,
        *,
        enqueued: Callable[[Job], None] | None = None,
    ) -> list[Job | BaseException]:
        """The jobs as they ended, or why that is not known, in order. None of them is purged before it was read here,
        whatever its `_result_ttl`. `enqueued` hears of each as soon as it has an id.
        """
        limit, several = _limit(timeout), checks.several("params", params)
        heard = checked(_unheard if enqueued is None else enqueued)
        await self._ask(several)
        specs = specify_all(several, self.serializer, self.config.allow)
        what = f"the job of {specs[0].columns['function']}" if len(specs) == 1 else f"{len(specs)} jobs"
        return await _in_time(self._insert_and_wait(specs, limit or LONGEST_WAIT, heard), what, limit)

    async def _insert_and_wait(
        self, specs: Sequence[Spec], seconds: float, heard: Callable[[Job], None]
    ) -> list[Job | BaseException]:
        waiters = self._waiters_here()
        async with waiters.expecting(len(specs)) as rows:
            jobs = await self._inserter.insert_all(list(map(partial(_waited, seconds), specs, rows)))
            taken = next((spec for spec, job in zip(specs, jobs, strict=True) if job is None), None)
            if taken is not None:
                raise InvalidOption(
                    f"there is a job with the key {taken.columns['key']!r} already; wait_for that one instead"
                )
            known = [job for job in jobs if job is not None]
            for job in known:
                heard(job)
            return await waiters.ended({job.id: row for job, row in zip(known, rows, strict=True)})

    async def run(
        self, queues: Sequence[str] | None = None, concurrency: int | None = None, worker_type: str | None = None
    ) -> None:
        """Runs a worker until it is told to stop: `async`, `thread`, `process` or `fork`. What is not given comes from
        the config.
        """
        from pgwerk.worker.worker import worker_of  # noqa: PLC0415 - an app needs no worker but for this

        kind = self.config.worker_type if worker_type is None else worker_type
        await worker_of(kind)(self, queues, concurrency).run()

    async def trigger_schedule(self, name: str) -> Job:
        """One job at once, whatever its ticks, its pause and its overlap say. Raises `ScheduleNotFound`."""
        specs = await self.specify_scheduled(await self.get_schedule(name), [None])
        (job,) = await self._inserter.insert_all(specs)
        if job is None:
            raise InvalidOption(f"the job of the schedule {name!r} was given a key that is taken; see the hooks")
        return job

    async def specify_scheduled(self, schedule: Schedule, ticks: Sequence[datetime | None]) -> list[Spec]:
        """The jobs of these ticks; None is one at once."""
        params = [schedule.job(tick) for tick in ticks]
        await self._ask(params)
        return [
            spec._replace(columns={**spec.columns, "schedule_name": schedule.name})
            for spec in specify_all(params, self.serializer, self.config.allow)
        ]

    async def _ask(self, params: Sequence[EnqueueParams]) -> None:
        for each in params if self._before_enqueue else ():
            for hook in self._before_enqueue:
                await answer_of(hook, each)


def _limit(timeout: Seconds | None) -> float | None:
    return None if timeout is None else checks.seconds("timeout", timeout)


def _failure(job: Job) -> JobError:
    is_doomed = job.started_at is None and (job.error or "").startswith("dependency ")
    return (DependencyFailed if is_doomed else JobError)(job)


def _unheard(_: Job) -> None: ...


def _waited(seconds: float, spec: Spec, row: int) -> Spec:
    return spec._replace(columns={**spec.columns, "waited": seconds, "waiter": row})


def _known(ended: Job | BaseException) -> Job:
    if isinstance(ended, BaseException):
        raise ended
    return ended


def result_of(ended: Job | BaseException) -> Any:
    """Of what `enqueue_and_wait` answers: what `apply` would return or raise."""
    job = _known(ended)
    if job.status != JobStatus.Complete:
        raise _failure(job)
    return job.result


def _result_or_error(ended: Job | BaseException) -> Any:
    try:
        return result_of(ended)
    except Exception as error:  # noqa: BLE001 - it is the answer
        return error


async def _in_time(ended: Awaitable[T], what: str, timeout: float | None) -> T:
    try:
        async with asyncio.timeout(timeout) as limit:
            return await ended
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobTimeout(f"{what} had not ended after {timeout} s; if it was enqueued, it goes on") from error


def _with_input(func: Any, value: Any, arguments: dict[str, Any], options: dict[str, Any]) -> EnqueueParams:
    match value:
        case dict():
            return EnqueueParams(func, (), arguments | value, **options)
        case list() | tuple():
            return EnqueueParams(func, value, arguments, **options)
        case _:
            raise InvalidType(
                f"an input of map is a dict of keywords or a list of positional arguments, got {brief(value)}"
            )
