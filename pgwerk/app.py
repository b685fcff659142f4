"""`Werk`, the app: its connection to one database and everything that enqueues."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pgwerk import embedded, logs, migrate
from pgwerk.config import WerkConfig
from pgwerk.control import Control, number_of
from pgwerk.db import Database
from pgwerk.errors import InvalidOption, InvalidType, JobError, JobTimeout, NotConnected
from pgwerk.inserter import Inserter
from pgwerk.job import Job, JobStatus
from pgwerk.params import EnqueueParams, Spec, specify, split_options
from pgwerk.serializers import JSONSerializer, Serializer
from pgwerk.sql import check_schema
from pgwerk.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from psycopg import AsyncConnection
    from psycopg_pool import AsyncConnectionPool

    from pgwerk.db import Connect
    from pgwerk.params import Seconds
    from pgwerk.store.enqueue import Inserted

T = TypeVar("T")

LONGEST_WAIT = 86400.0  # seconds that a waiter is remembered by the database if it names no timeout
_NOT_CONNECTED = "this Werk is not connected; use `async with app:` or `await app.connect()` first"


class Werk(Control):
    """An app on one database. It holds no pool: each operation opens a short connection, unless the user's own pool
    (or a factory of connections) is given.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        config: WerkConfig | None = None,
        schema: str | None = None,
        serializer: Serializer | None = None,
        auto_migrate: bool | None = None,
        pool: AsyncConnectionPool[Any] | None = None,
        connect: Connect | None = None,
        log_level: str | None = None,
        log_format: str | None = None,
    ) -> None:
        self.config = (config or WerkConfig.from_env()).changed(
            dsn=dsn, schema=schema, auto_migrate=auto_migrate, log_level=log_level, log_format=log_format
        )
        self.serializer = serializer or JSONSerializer()
        self._pool, self._connect = pool, connect
        self._database: Database | None = None
        self._inserting: Inserter | None = None
        self._server: embedded.Server | None = None
        self._connecting = asyncio.Lock()
        self._users, self._is_kept = 0, False
        self._waiters: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Waiters] = weakref.WeakKeyDictionary()
        check_schema(self.config.schema)
        if self.config.dsn and embedded.is_embedded(self.config.dsn):
            embedded.folder_of(self.config.dsn)
        if log_level or log_format:
            logs.configure_logging(self.config.log_level, self.config.log_format)

    @property
    def database(self) -> Database:
        if self._database is None:
            raise NotConnected(_NOT_CONNECTED)
        return self._database

    @property
    def is_connected(self) -> bool:
        return self._database is not None

    async def connect(self) -> None:
        """Starts the embedded server if that is what the DSN asks for, and brings the schema up to date. Again: no
        effect.
        """
        await self._open()
        self._is_kept = True

    async def _open(self) -> None:
        async with self._connecting:
            if self._database is not None:
                return
            try:
                database = await self.reach()
                if self.config.auto_migrate:
                    await migrate.migrate(database)
                await migrate.check(database)
            except BaseException:
                self._let_go()
                raise
            self._database = database
            self._inserting = Inserter(database)

    async def reach(self) -> Database:
        """The database, whatever its schema; an embedded server runs until `disconnect()`."""
        return Database(await self._resolve(), self.config.schema, self._pool, self._connect)

    async def disconnect(self) -> None:
        waiters = self._waiters.pop(asyncio.get_running_loop(), None)
        if waiters is not None:
            await waiters.close()
        if self._inserting is not None:
            await self._inserting.close()
        self._database, self._inserting, self._is_kept = None, None, False
        self._let_go()

    def _let_go(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def __aenter__(self) -> Self:
        """May be entered again, by a handler or a worker: the last one out disconnects what no `connect()` keeps."""
        await self._open()
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0 and not self._is_kept:
            await self.disconnect()

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
        spec = specify(EnqueueParams(func, args, arguments, **options), self.serializer)
        return _job(spec, await self._inserter.insert(spec, _conn))

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
        """All or nothing, in order, in one round trip."""
        specs = [specify(each, self.serializer) for each in params]
        inserted = await self._inserter.insert_all(specs, _conn)
        return [_job(spec, each) for spec, each in zip(specs, inserted, strict=True)]

    async def apply(
        self, func: Callable[..., Any] | str, /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Any:
        """Enqueues and waits: the result, or `JobError` with the job that failed, or `TimeoutError` after so many
        seconds (the job goes on).
        """
        arguments, options = split_options(kwargs)
        (job,) = await self._run_all([EnqueueParams(func, args, arguments, **options)], timeout)
        return _result(job)

    async def map(
        self,
        func: Callable[..., Any] | str,
        inputs: Iterable[Mapping[str, Any] | Sequence[Any]],
        /,
        *,
        timeout: float | None = None,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[Any]:
        """`apply` for many inputs (a mapping is keywords, a sequence positional arguments): one bulk, results in
        order.
        """
        arguments, options = split_options(options)
        params = [_with_input(func, each, arguments, options) for each in inputs]
        if options.get("key") is not None and len(params) > 1:
            raise InvalidOption(
                f"_key names one job, got {options['key']!r} for {len(params)} inputs; use apply for each"
            )
        jobs = await self._run_all(params, timeout)
        failed = next((job for job in jobs if job.status != JobStatus.Complete), None)
        if failed is not None and not return_exceptions:
            raise JobError(failed)
        return [job.result if job.status == JobStatus.Complete else JobError(job) for job in jobs]

    async def wait_for(self, job: Job | int | str, timeout: float | None = None) -> Job:
        """The job as it ended; `JobNotFound`, or `TimeoutError` after so many seconds."""
        number = number_of(job)
        return await _in_time(self._wait_for(number, timeout or LONGEST_WAIT), f"job {number}", timeout)

    async def _wait_for(self, number: int, seconds: float) -> Job:
        await self.get_job(number)
        waiters = self._waiters_here()
        await waiters.listen()
        (ended,) = await waiters.ended([number], watch_for=seconds)
        return ended

    async def _run_all(self, params: Sequence[EnqueueParams], timeout: float | None) -> list[Job]:
        specs = [specify(each, self.serializer) for each in params]
        for spec in specs:
            spec.columns["waited"] = timeout or LONGEST_WAIT
        what = f"the job of {specs[0].columns['function']}" if len(specs) == 1 else f"{len(specs)} jobs"
        return await _in_time(self._insert_and_wait(specs), what, timeout)

    async def _insert_and_wait(self, specs: Sequence[Spec]) -> list[Job]:
        waiters = self._waiters_here()
        await waiters.listen()
        inserted = await self._inserter.insert_all(specs)
        taken = next((spec for spec, each in zip(specs, inserted, strict=True) if not each.fresh), None)
        if taken is not None:
            raise InvalidOption(
                f"there is a job with the key {taken.columns['key']!r} already; wait_for that one instead"
            )
        return await waiters.ended([each.id for each in inserted])

    @property
    def _inserter(self) -> Inserter:
        if self._inserting is None:
            raise NotConnected(_NOT_CONNECTED)
        return self._inserting

    def _waiters_here(self) -> Waiters:
        return self._waiters.setdefault(asyncio.get_running_loop(), Waiters(self.database, self.serializer))

    async def _resolve(self) -> str:
        """The DSN of a server that runs: an embedded one is started, or joined."""
        dsn = self.config.dsn or ""
        if not dsn and self._pool is None and self._connect is None:
            raise InvalidOption('there is no database to connect to; give Werk("postgresql://…") or set PGWERK_DSN')
        if not embedded.is_embedded(dsn):
            return dsn
        self._server = await asyncio.to_thread(embedded.start, embedded.folder_of(dsn))
        return self._server.dsn


def _job(spec: Spec, inserted: Inserted) -> Job | None:
    if not inserted.fresh:
        return None
    columns = spec.columns
    return Job(
        id=inserted.id,
        status=JobStatus.Scheduled if inserted.is_scheduled else JobStatus.Queued,
        attempts=0,
        enqueued_at=inserted.enqueued_at,
        scheduled_at=inserted.scheduled_at,
        payload=spec.payload,
        meta=spec.meta,
        timeout_secs=columns["timeout"],
        **{
            name: columns[name]
            for name in ("function", "queue", "priority", "max_attempts", "key", "ttl", "retry_intervals")
        },
    )


def _result(job: Job) -> Any:
    if job.status != JobStatus.Complete:
        raise JobError(job)
    return job.result


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
                f"an input of map is a dict of keywords or a list of positional arguments, got {value!r:.80}"
            )
