"""Enqueueing on a real database: order, time, keys, transactions, bulks, batches, waiting."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import json
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import namedtuple_row
from psycopg_pool import AsyncConnectionPool

from pgwerk import (
    AsyncWorker,
    EnqueueParams,
    ExecutionStatus,
    InvalidOption,
    InvalidType,
    Job,
    JobError,
    JobNotFound,
    JobStatus,
    JSONSerializer,
    NotSerializable,
    Retry,
    Werk,
    WerkConfig,
)
from pgwerk.db import Database
from pgwerk.inserter import BULK, Inserter
from pgwerk.maintenance import Maintenance
from pgwerk.store.control import ControlStore
from pgwerk.wire import Session
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Query = Callable[..., list[tuple[Any, ...]]]

DEADLINE = 20.0
WAITS_FOR = "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))"


async def _enqueue(app: Werk, func: Any = handlers.noop, *args: Any, **options: Any) -> Job:
    job = await app.enqueue(func, *args, **options)
    assert job is not None
    return job


async def _work(app: Werk, *queues: str, concurrency: int = 1) -> None:
    """Until nothing is left."""
    async with asyncio.timeout(DEADLINE):
        await AsyncWorker(app=app, queues=queues or None, concurrency=concurrency, burst=True).run()


@contextlib.asynccontextmanager
async def _worker(app: Werk) -> AsyncIterator[AsyncWorker]:
    worker = AsyncWorker(app=app)
    running = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await running


async def _until(found: Callable[[], Awaitable[Any]]) -> Any:
    """Asks until there is something to find."""
    async with asyncio.timeout(DEADLINE):
        while not (value := await found()):
            await asyncio.sleep(0.01)
    return value


async def _answer(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(DEADLINE):
        return await awaitable


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Every session of a short operation."""
    sessions: list[Session] = []
    init = Session.__init__

    def noted(self: Session, *args: Any) -> None:
        sessions.append(self)
        init(self, *args)

    monkeypatch.setattr(Session, "__init__", noted)
    return sessions


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the statements of every conversation."""
    conversations: list[list[str]] = []
    converse = Session.converse

    async def noted(self: Session, *transactions: Any) -> Any:
        said = [[call() if isinstance(call, partial) else call for call in calls] for calls in transactions]
        conversations.append([call.statement.name for calls in said for call in calls])
        return await converse(self, *said)

    monkeypatch.setattr(Session, "converse", noted)
    return conversations


# What comes back.


async def test_the_job_is_what_was_asked(app: Werk) -> None:
    job = await _enqueue(
        app, handlers.echo, 1, _queue="почта", _priority=7, _retry=Retry(3, [1, 2]), _timeout=5, _key="k",
        _meta={"source": "api"}, _ttl=60,
    )  # fmt: skip
    assert job == await app.get_job(job)
    assert (job.function, job.payload) == ("tests.handlers.echo", {"args": [1], "kwargs": {}})
    assert (job.queue, job.priority, job.status, job.attempts) == ("почта", 7, JobStatus.Queued, 0)
    assert (job.max_attempts, job.retry_intervals, job.timeout_secs) == (3, [1.0, 2.0], 5.0)
    assert (job.key, job.meta, job.ttl) == ("k", {"source": "api"}, 60.0)
    assert job.scheduled_at is None
    assert job.enqueued_at.tzinfo is not None


async def test_a_scheduled_job_is_what_the_database_has(app: Werk) -> None:
    job = await _enqueue(app, _delay=timedelta(hours=1))
    assert job == await app.get_job(job)


@pytest.mark.parametrize(
    "meta", [{}, {"a": None, "b": [1, {"c": "日本"}], "n": 1.5}, {"at": datetime(2026, 1, 1, tzinfo=UTC).isoformat()}]
)
async def test_meta_is_kept(app: Werk, meta: dict[str, Any]) -> None:
    assert (await app.get_job(await _enqueue(app, _meta=meta))).meta == meta


# Order.


async def test_the_more_urgent_first_then_first_in_first_out(app: Werk, tmp_path: Path) -> None:
    priorities = [0, 5, -3, 0, 5, 32767, -32768, 0]
    ran = tmp_path / "ran"
    for number, priority in enumerate(priorities):
        await _enqueue(app, handlers.write, str(ran), str(number), _priority=priority)
    await _work(app)
    order = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    assert ran.read_text().split() == [str(number) for number in order]


async def test_a_bulk_runs_in_its_order(app: Werk, tmp_path: Path) -> None:
    """Also where it has keys, which are taken in their own order."""
    ran = tmp_path / "ran"
    await app.enqueue_many([EnqueueParams(handlers.write, [str(ran), str(n)], key=f"{9 - n}") for n in range(10)])
    await _work(app)
    assert ran.read_text().split() == [str(n) for n in range(10)]


async def test_a_worker_leaves_other_queues_alone(app: Werk) -> None:
    mine, theirs = await _enqueue(app, _queue="a"), await _enqueue(app, _queue="A")
    await _work(app, "a")
    assert (await app.get_job(mine)).status == JobStatus.Complete
    assert (await app.get_job(theirs)).status == JobStatus.Queued


# Time.


async def test_a_delayed_job_is_not_run_before_it_is_due(app: Werk, query: Query) -> None:
    job = await _enqueue(app, _delay=3600)
    assert job.status == JobStatus.Scheduled
    assert job.scheduled_at is not None
    assert job.scheduled_at - job.enqueued_at == timedelta(hours=1)
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Scheduled
    query("update scheduled set due = now() - interval '1 second'")
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Complete


async def test_at_is_that_moment_in_any_zone(app: Werk) -> None:
    moment = datetime(2099, 7, 1, 9, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    for job in (await _enqueue(app, _at=moment), await app.enqueue_at(moment, handlers.echo, 1)):
        assert job is not None
        assert job.status == JobStatus.Scheduled
        assert job.scheduled_at == moment


@pytest.mark.parametrize("at", [datetime(2020, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC)])
async def test_a_time_in_the_past_means_now(app: Werk, at: datetime) -> None:
    job = await _enqueue(app, _at=at)
    assert job.status == JobStatus.Queued
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Complete


@pytest.mark.parametrize("delay", [0, 0.0, timedelta(0)])
async def test_no_delay_means_now(app: Werk, delay: Any) -> None:
    assert (await _enqueue(app, _delay=delay)).status == JobStatus.Queued


async def test_the_last_moment_of_the_calendar_can_be_read_again(app: Werk) -> None:
    job = await _enqueue(app, _at=datetime.max.replace(tzinfo=UTC))
    assert (await app.get_job(job)).scheduled_at == datetime.max.replace(tzinfo=UTC)


async def test_enqueue_in_is_a_delay(app: Werk) -> None:
    job = await app.enqueue_in(90, handlers.echo, 1, _priority=3)
    assert job is not None
    assert job.scheduled_at is not None
    assert (job.scheduled_at - job.enqueued_at, job.priority) == (timedelta(seconds=90), 3)
    assert job.payload == {"args": [1], "kwargs": {}}


# Keys.


async def test_a_key_is_taken_while_a_row_has_it_in_whatever_state(app: Werk, query: Query) -> None:
    job = await _enqueue(app, handlers.echo, 1, _key="k")
    assert await app.enqueue(handlers.echo, 2, _key="k") is None
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Complete
    assert await app.enqueue(handlers.echo, 3, _key="k") is None
    assert query("select count(*) from job") == [(1,)]


async def test_a_cancelled_job_keeps_its_key_and_a_deleted_row_frees_it(app: Werk, query: Query) -> None:
    job = await _enqueue(app, _key="k")
    assert await app.cancel_job(job)
    assert await app.enqueue(handlers.noop, _key="k") is None
    query("delete from job")
    assert await app.enqueue(handlers.noop, _key="k") is not None


async def test_a_key_counts_over_all_queues_and_functions_and_by_its_every_letter(app: Werk) -> None:
    await _enqueue(app, _key="k")
    assert await app.enqueue(handlers.echo, 1, _key="k", _queue="other") is None
    assert await app.enqueue(handlers.noop, _key="K") is not None
    assert await app.enqueue(handlers.noop, _key="k ") is not None


async def test_many_at_once_with_one_key_are_one(app: Werk) -> None:
    jobs = await asyncio.gather(*(app.enqueue(handlers.echo, n, _key="k") for n in range(10)))
    assert sum(job is not None for job in jobs) == 1


async def test_a_keyed_enqueue_waits_for_an_open_transaction_and_holds_up_nobody(
    app: Werk, dsn: str, query: Query
) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        await _enqueue(app, _key="k", _conn=connection)
        waiting = asyncio.create_task(app.enqueue(handlers.noop, _key="k"))
        await _until(lambda: asyncio.to_thread(query, WAITS_FOR, connection.info.backend_pid))
        others = await _answer(asyncio.gather(*(app.enqueue(handlers.noop) for _ in range(5))))
        assert all(others)
        assert await _answer(app.enqueue(handlers.noop, _key="another")) is not None
        assert not waiting.done()
        await connection.commit()
        assert await _answer(waiting) is None


async def test_a_keyed_enqueue_gets_the_key_when_that_transaction_rolls_back(app: Werk, dsn: str, query: Query) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        await _enqueue(app, _key="k", _conn=connection)
        waiting = asyncio.create_task(app.enqueue(handlers.noop, _key="k"))
        await _until(lambda: asyncio.to_thread(query, WAITS_FOR, connection.info.backend_pid))
        await connection.rollback()
        assert await _answer(waiting) is not None


# Expiry.


async def test_an_expired_job_is_aborted_by_the_worker_that_claims_it(app: Werk, query: Query) -> None:
    job = await _enqueue(app, handlers.fail, _ttl=60)
    query("update ready set expires_at = now() - interval '1 second'")
    await _work(app)
    await _is_expired(app, job)


async def test_an_expired_job_is_aborted_where_no_worker_claims(app: Werk, query: Query) -> None:
    job, other = await _enqueue(app, _ttl=60), await _enqueue(app, _ttl=60)
    query("update ready set expires_at = now() - interval '1 second' where job_id = %s", job.id)
    await _answer(Maintenance(app.database, WerkConfig()).tick())
    await _is_expired(app, job)
    assert (await app.get_job(other)).status == JobStatus.Queued


async def test_the_time_to_start_counts_from_when_it_became_due(app: Werk, query: Query) -> None:
    job = await _enqueue(app, _ttl=60, _delay=3600)
    query("update scheduled set due = now() - interval '59 seconds'")
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Complete
    job = await _enqueue(app, _ttl=60, _delay=3600)
    query("update scheduled set due = now() - interval '61 seconds'")
    await _work(app)
    await _is_expired(app, job)


async def test_a_job_that_has_started_expires_no_more(app: Werk, query: Query) -> None:
    """A retry has started before."""
    job = await _enqueue(app, handlers.fail_until, 2, _ttl=60, _retry=Retry(2))
    query("update job set ttl = 0.000001")
    await _work(app)
    assert (await app.get_job(job)).status == JobStatus.Complete


async def _is_expired(app: Werk, job: Job) -> None:
    ended = await app.get_job(job)
    assert (ended.status, ended.attempts, ended.started_at) == (JobStatus.Aborted, 0, None)
    assert ended.error == "expired: not started within 60 s after it became due"
    assert await app.get_executions(job) == []


# The caller's transaction.


async def test_a_job_commits_with_the_callers_transaction(app: Werk, dsn: str) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        job = await _enqueue(app, _conn=connection)
        with pytest.raises(JobNotFound):
            await app.get_job(job)
        await connection.commit()
    assert await app.get_job(job) == job


async def test_a_job_rolls_back_with_the_callers_transaction(app: Werk, dsn: str, query: Query) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        await _enqueue(app, _conn=connection)
        await app.enqueue_many([EnqueueParams(handlers.noop)] * 3, _conn=connection)
        await connection.rollback()
    assert query("select (select count(*) from job), (select count(*) from ready)") == [(0, 0)]


async def test_a_savepoint_takes_back_only_its_own(app: Werk, dsn: str) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        kept = await _enqueue(app, _conn=connection)
        async with connection.transaction(force_rollback=True):
            await _enqueue(app, _conn=connection)
        await connection.commit()
    assert [job.id for job in await app.list_jobs()] == [kept.id]


async def test_a_key_taken_in_the_callers_transaction_leaves_it_usable(app: Werk, dsn: str) -> None:
    await _enqueue(app, _key="k")
    async with await AsyncConnection.connect(dsn) as connection:
        assert await app.enqueue(handlers.noop, _key="k", _conn=connection) is None
        other = await _enqueue(app, _conn=connection)
        await connection.commit()
    assert (await app.get_job(other)).status == JobStatus.Queued


async def test_an_autocommit_connection_commits_at_once(app: Werk, dsn: str) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        job = await _enqueue(app, _conn=connection)
        assert await app.get_job(job) == job


@pytest.mark.parametrize("level", list(IsolationLevel))
@pytest.mark.parametrize("autocommit", [True, False])
async def test_nothing_about_the_callers_connection_is_changed(
    app: Werk, dsn: str, level: IsolationLevel, autocommit: bool
) -> None:
    connection = await AsyncConnection.connect(dsn, autocommit=autocommit, row_factory=namedtuple_row)
    async with connection:
        await connection.set_isolation_level(level)
        connection.prepare_threshold = 0
        before = await _facts(connection)
        for _ in range(3):
            await app.enqueue(handlers.noop, _key="k", _conn=connection)
            await app.enqueue_many([EnqueueParams(handlers.noop)], _conn=connection)
        assert await _facts(connection) == before


async def _facts(connection: AsyncConnection[Any]) -> tuple[Any, ...]:
    settings = await connection.execute("select name, setting from pg_settings order by name", prepare=False)
    prepared = await connection.execute("select count(*) from pg_prepared_statements", prepare=False)
    return (
        [tuple(row) for row in await settings.fetchall()],
        await prepared.fetchall(),
        connection.autocommit,
        connection.isolation_level,
        connection.row_factory,
        connection.cursor_factory,
        connection.prepare_threshold,
    )


async def test_workers_hear_of_it_at_its_commit_and_not_before(app: Werk, dsn: str, schema: str) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True) as ear:
        await ear.execute(f'listen "{schema}"')
        async with await AsyncConnection.connect(dsn) as connection:
            await _enqueue(app, _queue="mails", _conn=connection)
            await app.enqueue_many([EnqueueParams(handlers.noop, queue="mails")] * 5, _conn=connection)
            assert [heard async for heard in ear.notifies(timeout=0.05)] == []
            await connection.commit()
        heard = [each.payload async for each in ear.notifies(timeout=DEADLINE, stop_after=1)]
        heard += [each.payload async for each in ear.notifies(timeout=0.05)]
    assert heard == ["ready mails"]


async def test_workers_hear_at_its_commit_of_a_job_whose_dependencies_had_ended(
    app: Werk, dsn: str, schema: str
) -> None:
    first = await _enqueue(app)
    await _work(app)
    async with await AsyncConnection.connect(dsn, autocommit=True) as ear:
        await ear.execute(f'listen "{schema}"')
        async with await AsyncConnection.connect(dsn) as connection:
            second = await _enqueue(app, _queue="mails", _depends_on=first, _conn=connection)
            assert second.status == JobStatus.Queued
        heard = [each.payload async for each in ear.notifies(timeout=DEADLINE, stop_after=1)]
    assert heard == ["ready mails"]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
async def test_the_callers_time_zone_does_not_matter(app: Werk, dsn: str, zone: str) -> None:
    async with await AsyncConnection.connect(dsn, autocommit=True, options=f"-c timezone={zone}") as connection:
        moment = datetime(2099, 7, 1, 12, tzinfo=UTC)
        job = await _enqueue(app, _at=moment, _conn=connection)
    assert (job.scheduled_at, job) == (moment, await app.get_job(job))


async def test_the_callers_own_reading_of_values_does_not_matter(app: Werk, dsn: str) -> None:
    """A program may read bigint or timestamptz in its own way."""

    class Reversed(psycopg.adapt.Loader):
        def load(self, data: Any) -> str:
            return bytes(data).decode()[::-1]

    async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
        for name in ("int8", "bool", "timestamptz"):
            connection.adapters.register_loader(name, Reversed)
        job = await _enqueue(app, _conn=connection)
    assert job == await app.get_job(job)


async def test_a_callers_pipeline_takes_it(app: Werk, dsn: str) -> None:
    async with await AsyncConnection.connect(dsn) as connection:
        async with connection.pipeline():
            job = await _enqueue(app, _conn=connection)
        await connection.commit()
    assert (await app.get_job(job)).status == JobStatus.Queued


# Bulks.


async def test_a_bulk_answers_in_order_with_none_for_taken_keys(app: Werk) -> None:
    await _enqueue(app, _key="b")
    specs = [EnqueueParams(handlers.echo, [n], key=key) for n, key in enumerate(["z", "b", None, "a", "z", None])]
    jobs = await app.enqueue_many(specs)
    assert [job and job.payload and job.payload["args"] for job in jobs] == [[0], None, [2], [3], None, [5]]
    assert [job and job.key for job in jobs] == ["z", None, None, "a", None, None]
    for job in filter(None, jobs):
        assert job == await app.get_job(job)


async def test_a_bulk_may_mix_all_options(app: Werk) -> None:
    specs = [
        EnqueueParams(handlers.noop),
        EnqueueParams(handlers.noop, delay=60, meta={"a": 1}),
        EnqueueParams(handlers.noop, at=datetime(2099, 1, 1, tzinfo=UTC), retry=Retry(2, [1, 2])),
        EnqueueParams("somewhere.else.job", (1,), {"b": 2}, queue="other", priority=-1, timeout=1, ttl=1, key="k"),
    ]
    jobs = await app.enqueue_many(specs)
    assert jobs == [await app.get_job(job) for job in jobs if job]
    assert [job.status for job in jobs if job] == ["queued", "scheduled", "scheduled", "queued"]


async def test_an_empty_bulk_is_no_job_and_no_statement(app: Werk, sent: list[list[str]]) -> None:
    assert await app.enqueue_many([]) == []
    assert sent == []


async def test_a_bulk_takes_any_iterable(app: Werk) -> None:
    assert len(await app.enqueue_many(EnqueueParams(handlers.echo, [n]) for n in range(3))) == 3


@pytest.mark.parametrize(("size", "statements"), [(1, 1), (1000, 1), (1002, 2), (10_000, 10)])
async def test_a_bulk_is_one_round_trip_whatever_its_pages(
    app: Werk, sent: list[list[str]], opened: list[Session], query: Query, size: int, statements: int
) -> None:
    jobs = await app.enqueue_many([EnqueueParams("somewhere.job")] * size)
    assert sent == [["enqueue_one" if size == 1 else "enqueue_now"] * statements]
    assert len(opened) == 1
    assert query("select count(*) from ready") == [(size,)]
    assert len({job.id for job in jobs if job}) == size


async def test_a_bulk_is_all_or_nothing(app: Werk, query: Query) -> None:
    query("alter table job add check (priority <> 13)")
    specs = [EnqueueParams("somewhere.job", priority=13 if n == 10_500 else 0) for n in range(11_000)]
    with pytest.raises(psycopg.errors.CheckViolation):
        await app.enqueue_many(specs)
    assert query("select (select count(*) from job), (select count(*) from ready)") == [(0, 0)]


@pytest.mark.parametrize("place", [0, 999, 1000, 2999])
@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_bulk_with_one_that_is_refused_leaves_nothing(
    app: Werk, dsn: str, query: Query, place: int, is_pooled: bool
) -> None:
    """Also where those before it are on their way when it is looked at; a pool goes on."""
    params = [EnqueueParams(handlers.echo, [n]) for n in range(3000)]
    params[place] = EnqueueParams(handlers.echo, [object()])
    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        some = Werk(pool=pool, schema=app.database.schema) if is_pooled else app
        await some.connect()
        with pytest.raises(NotSerializable, match="positional argument 1"):
            await some.enqueue_many(params)
        assert query("select (select count(*) from job), (select count(*) from ready)") == [(0, 0)]
        assert len(await some.enqueue_many([*params[:place], *params[place + 1 :]])) == 2999
    assert query("select min(payload #>> '{args,0}'), count(*) from job") == [("0" if place else "1", 2999)]


@pytest.mark.parametrize("size", [2, 2000])
async def test_a_bulk_whose_first_page_is_refused_opens_no_connection(
    app: Werk, opened: list[Session], size: int
) -> None:
    with pytest.raises(NotSerializable, match="positional argument 1"):
        await app.enqueue_many([EnqueueParams(handlers.echo, [object()])] * size)
    assert opened == []


async def test_a_large_bulk_on_an_autocommit_connection_is_all_or_nothing(app: Werk, dsn: str, query: Query) -> None:
    query("alter table job add check (priority <> 13)")
    params = [EnqueueParams("somewhere.job", priority=13 if n == BULK else 0) for n in range(BULK + 1)]
    async with await AsyncConnection.connect(dsn, autocommit=True) as conn:
        with pytest.raises(psycopg.errors.CheckViolation):
            await app.enqueue_many(params, _conn=conn)
        assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert query("select count(*) from job") == [(0,)]


class Mail(str, enum.Enum):  # noqa: UP042 - as code before 3.11 has them
    QUEUE = "mail"


class Level(int, enum.Enum):
    HIGH = 3


@pytest.mark.parametrize("several", [1, 2])
async def test_an_enum_is_its_value_alone_and_among_others(app: Werk, query: Query, several: int) -> None:
    params = EnqueueParams("m.f", queue=Mail.QUEUE, group=Mail.QUEUE, priority=Level.HIGH, retry=Level.HIGH)
    await app.enqueue_many([params] * several)
    assert query("select distinct queue, group_key, priority, max_attempts from job") == [("mail", "mail", 3, 3)]
    assert query("select distinct queue, group_key, priority from ready") == [("mail", "mail", 3)]


async def test_nobody_is_notified_where_nobody_is_idle(app: Werk, dsn: str, query: Query) -> None:
    """The commit of a transaction that notifies takes a lock of the whole server."""
    async with await AsyncConnection.connect(dsn, autocommit=True) as ear:
        await ear.execute(f'listen "{app.database.schema}"')
        for several in (1, 2, 2000):
            await app.enqueue_many([EnqueueParams("m.f")] * several)
        query("insert into idle values (1)")
        await app.enqueue_many([EnqueueParams("m.f", queue="last")] * 2)
        heard = [each.payload async for each in ear.notifies(timeout=DEADLINE, stop_after=1)]
    assert heard == ["ready last"]


class Worded:
    """A serializer that takes JSON text to be str."""

    def dumps(self, value: Any) -> bytes:
        return cast("bytes", json.dumps(value))

    def loads(self, text: str | bytes) -> Any:
        return json.loads(text)


async def test_a_serializer_that_gives_no_bytes_is_told(dsn: str, app: Werk, query: Query) -> None:
    other = Werk(dsn, schema=app.database.schema, serializer=Worded())
    with pytest.raises(InvalidType, match="a serializer's dumps gives bytes, got str"):
        await other.enqueue("m.f")
    assert query("select count(*) from job") == [(0,)]


async def test_a_bulk_keeps_its_order_over_its_pages(app: Werk, query: Query) -> None:
    """Jobs that are alike and jobs that are not, in whatever turns."""
    params = [EnqueueParams(handlers.echo, [n], group=f"g{n % 7}" if n % 3 else None) for n in range(2500)]
    jobs = await app.enqueue_many(params)
    assert [job.payload["args"] for job in jobs if job and job.payload] == [[n] for n in range(2500)]
    assert [job.id for job in jobs if job] == sorted(job.id for job in jobs if job)
    written = query(
        "select (payload #>> '{args,0}')::int, j.group_key from job j join ready on job_id = id order by seq"
    )
    assert written == [(n, f"g{n % 7}" if n % 3 else None) for n in range(2500)]


async def test_two_bulks_with_the_same_keys_turned_round_do_not_deadlock(app: Werk) -> None:
    keys = [f"{n:03}" for n in range(200)]
    bulks = [[EnqueueParams(handlers.noop, key=key) for key in order] for order in (keys, keys[::-1])] * 4
    answers = await _answer(asyncio.gather(*(app.enqueue_many(bulk) for bulk in bulks)))
    assert sum(job is not None for jobs in answers for job in jobs) == len(keys)


# Natural batching.


async def test_enqueues_at_the_same_time_share_connections_and_each_gets_its_own(
    app: Werk, opened: list[Session], sent: list[list[str]]
) -> None:
    jobs = await asyncio.gather(*(app.enqueue(handlers.echo, n) for n in range(50)))
    assert len(opened) <= 2
    assert len(sent) <= 3
    assert [job and job.payload and job.payload["args"] for job in jobs] == [[n] for n in range(50)]
    assert len({job.id for job in jobs if job}) == 50
    for job in filter(None, jobs[::10]):
        assert job == await app.get_job(job)


async def test_more_than_one_batch_full(app: Werk, opened: list[Session], query: Query) -> None:
    jobs = await asyncio.gather(*(app.enqueue("somewhere.job") for _ in range(2500)))
    assert len({job.id for job in jobs if job}) == 2500
    assert query("select count(*) from ready") == [(2500,)]
    assert len(opened) <= 3


async def test_what_was_enqueued_first_of_a_batch_runs_first(app: Werk, query: Query) -> None:
    jobs = await asyncio.gather(*(app.enqueue("somewhere.job", n) for n in range(20)))
    assert [n for (n,) in query("select job_id from ready order by seq")] == [job.id for job in jobs if job]


async def test_a_bad_one_among_them_fails_alone(app: Werk, query: Query) -> None:
    query("alter table job add check (priority <> 13)")
    answers = await asyncio.gather(
        *(app.enqueue(handlers.echo, n, _priority=13 if n == 17 else 0) for n in range(50)), return_exceptions=True
    )
    assert isinstance(answers[17], psycopg.errors.CheckViolation)
    assert all(isinstance(answer, Job) for n, answer in enumerate(answers) if n != 17)
    assert query("select count(*) from job") == [(49,)]


class Careless(JSONSerializer):
    """Passes whatever it is given."""

    def dumps(self, value: Any) -> bytes:
        return b'{"args": [oops' if "bad" in str(value) else super().dumps(value)


async def test_a_serializer_that_writes_no_json_harms_its_own_job_alone(app: Werk, dsn: str, schema: str) -> None:
    async with Werk(dsn, schema=schema, serializer=Careless()) as careless:
        answers = await asyncio.gather(
            *(careless.enqueue(handlers.echo, "bad" if n == 3 else n) for n in range(10)), return_exceptions=True
        )
    assert [n for n, answer in enumerate(answers) if not isinstance(answer, Job)] == [3]
    assert len(await app.list_jobs()) == 9


async def test_a_caller_that_is_cancelled_does_not_disturb_the_others(app: Werk) -> None:
    tasks = [asyncio.create_task(app.enqueue(handlers.echo, n)) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    answers = await _answer(asyncio.gather(*tasks, return_exceptions=True))
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert all(isinstance(answer, Job) for answer in answers[1::2])
    assert isinstance(await _enqueue(app), Job)


async def test_a_caller_cancelled_while_its_batch_is_on_the_way(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_way, go_on, converse = asyncio.Event(), asyncio.Event(), Session.converse

    async def held_up(self: Session, *transactions: Any) -> Any:
        on_the_way.set()
        await go_on.wait()
        return await converse(self, *transactions)

    monkeypatch.setattr(Session, "converse", held_up)
    tasks = [asyncio.create_task(app.enqueue(handlers.echo, n)) for n in range(4)]
    await _answer(on_the_way.wait())
    tasks[0].cancel()
    late = asyncio.create_task(app.enqueue(handlers.echo, "late"))
    await asyncio.sleep(0)
    go_on.set()
    answers = await _answer(asyncio.gather(*tasks, late, return_exceptions=True))
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [answer.payload["args"] for answer in answers[1:]] == [[1], [2], [3], ["late"]]


async def test_a_lost_connection_is_told_to_everybody_and_the_next_enqueue_works(app: Werk, query: Query) -> None:
    query("alter table job add check (priority <> 13 or pg_terminate_backend(pg_backend_pid()))")
    answers = await asyncio.gather(
        *(app.enqueue(handlers.echo, n, _priority=13) for n in range(5)), return_exceptions=True
    )
    assert all(isinstance(answer, ConnectionError) for answer in answers), answers
    assert isinstance(await _enqueue(app), Job)


async def test_loops_one_after_the_other_can_use_one_app(dsn: str, schema: str, app: Werk) -> None:
    other = Werk(dsn, schema=schema)

    async def once() -> Job | None:
        async with other:
            return await other.enqueue(handlers.noop)

    jobs = [await asyncio.to_thread(asyncio.run, once()) for _ in range(2)]
    assert all(jobs)


async def test_a_pool_of_the_users_is_used_and_given_back(dsn: str, schema: str, app: Werk) -> None:
    async with AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False) as pool:
        async with Werk(pool=pool, schema=schema) as pooled:
            jobs = await asyncio.gather(*(pooled.enqueue(handlers.echo, n) for n in range(20)))
            assert all(jobs)
            assert len(await pooled.list_jobs()) == 20
        assert pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"]


# Asking.


async def test_an_id_is_a_job_a_number_or_a_text(app: Werk) -> None:
    job = await _enqueue(app)
    assert job == await app.get_job(job.id) == await app.get_job(str(job.id)) == await app.get_job(f" {job.id} ")


@pytest.mark.parametrize(
    "wrong", ["", "x", "1.5", 1.5, None, True, "-", b"1", [1], 0, -1, 2**63, "99999999999999999999"]
)
async def test_what_names_no_job_is_refused(app: Werk, wrong: Any) -> None:
    for ask in (app.get_job, app.get_executions, app.cancel_job, app.wait_for):
        with pytest.raises(InvalidOption, match="a job is named by its Job, its number, or that as a text, got "):
            await ask(wrong)


@pytest.mark.parametrize("number", [1, "2", 2**63 - 1])
async def test_an_unknown_job_is_not_found(app: Werk, number: Any) -> None:
    with pytest.raises(JobNotFound, match=f"there is no job {number}; it was never committed, or it was deleted"):
        await app.get_job(number)
    with pytest.raises(JobNotFound):
        await _answer(app.wait_for(number, timeout=5))
    assert await app.get_executions(number) == []
    assert await app.cancel_job(number) is False


async def test_executions_tell_every_attempt(app: Werk) -> None:
    job = await _enqueue(app, handlers.fail_until, 3, _retry=Retry(5))
    await _work(app)
    first, second, third = await app.get_executions(job)
    assert [each.status for each in (first, second, third)] == ["failed", "failed", "complete"]
    assert [each.attempt for each in (first, second, third)] == [1, 2, 3]
    assert [each.id for each in (first, second)] == [f"{job.id}/1", f"{job.id}/2"]
    assert (third.result, third.error) == (3, None)
    assert first.error is not None
    assert first.error.endswith("ValueError: attempt 1 of 5")
    assert first.completed_at is not None
    assert first.worker_id == third.worker_id
    ended = await app.get_job(job)
    assert (ended.attempts, ended.status, ended.result) == (3, JobStatus.Complete, 3)


async def test_a_failed_job_keeps_the_last_error(app: Werk) -> None:
    job = await _enqueue(app, handlers.fail, "no good", _retry=Retry(2))
    await _work(app)
    ended = await app.get_job(job)
    assert (ended.status, ended.attempts, ended.result) == (JobStatus.Failed, 2, None)
    assert ended.error is not None
    assert ended.error.endswith("ValueError: no good")
    assert [each.status for each in await app.get_executions(job)] == [ExecutionStatus.Failed] * 2


async def test_jobs_are_listed_newest_first_by_filter(app: Werk) -> None:
    a = await _enqueue(app, handlers.echo, 1, _queue="a", _key="k")
    b = await _enqueue(app, handlers.noop, _queue="b")
    c = await _enqueue(app, handlers.echo, 2, _queue="b", _delay=60)
    await _work(app, "a")

    async def ids(**filters: Any) -> list[int]:
        return [job.id for job in await app.list_jobs(**filters)]

    assert await ids() == [c.id, b.id, a.id]
    assert await ids(queue="b") == [c.id, b.id]
    assert await ids(status=JobStatus.Complete) == await ids(status="complete") == [a.id]
    assert await ids(status="scheduled") == [c.id]
    assert await ids(function="tests.handlers.echo") == [c.id, a.id]
    assert await ids(key="k") == [a.id]
    assert await ids(queue="b", status="queued", function="tests.handlers.noop") == [b.id]
    assert await ids(queue="nowhere") == []
    assert await ids(limit=2) == [c.id, b.id]
    assert await ids(limit=1, offset=1) == [b.id]


async def test_jobs_are_listed_page_by_page(app: Werk) -> None:
    jobs = await app.enqueue_many([EnqueueParams("somewhere.job")] * 25)
    seen: list[int] = []
    before: Job | None = None
    while page := await app.list_jobs(before=before, limit=10):
        seen += [job.id for job in page]
        before = page[-1]
    assert seen == sorted((job.id for job in jobs if job), reverse=True)
    assert await app.list_jobs(before=seen[-1]) == []
    assert [job.id for job in await app.list_jobs(before=str(seen[1]), limit=1)] == [seen[2]]


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"status": "running"}, "a status is one of scheduled, queued"),
        ({"limit": 0}, "limit must be from 1 to 10000, got 0"),
        ({"limit": 10_001}, "limit must be from 1 to 10000, got 10001"),
        ({"offset": -1}, "offset must be from 0 to 9223372036854775807, got -1"),
        ({"before": "x"}, "a job is named by"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(app: Werk, filters: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        await app.list_jobs(**filters)


# Cancelling.


async def test_a_job_that_waits_can_be_cancelled(app: Werk) -> None:
    for options in ({}, {"_delay": 60}):
        job = await _enqueue(app, handlers.fail, **options)
        assert await app.cancel_job(job) is True
        ended = await app.get_job(job)
        assert (ended.status, ended.attempts, ended.error) == (JobStatus.Aborted, 0, "cancelled before it ran")
        assert ended.completed_at is not None
        assert await app.cancel_job(job) is False
    await _work(app)
    assert await app.get_executions(job) == []


async def test_a_job_between_two_attempts_can_be_cancelled(app: Werk) -> None:
    job = await _enqueue(app, handlers.fail, _retry=Retry(3, 60))
    await _work(app)
    assert await app.cancel_job(job)
    ended = await app.get_job(job)
    assert (ended.status, ended.attempts) == (JobStatus.Aborted, 1)
    assert [each.status for each in await app.get_executions(job)] == [ExecutionStatus.Failed]


async def test_a_running_job_is_not_cancelled(app: Werk) -> None:
    async with _worker(app) as worker:
        job = await _enqueue(app, handlers.sleep, 600)
        await _until(lambda: app.list_jobs(status=JobStatus.Active))
        assert await app.cancel_job(job) is False
        assert (await app.get_job(job)).status == JobStatus.Active
        (running,) = await app.get_executions(job)
        assert (running.status, running.completed_at) == (ExecutionStatus.Active, None)
        worker.stop()
        worker.stop()
    assert (await app.get_job(job)).status == JobStatus.Queued


async def test_a_finished_job_is_not_cancelled(app: Werk) -> None:
    job = await _enqueue(app, handlers.echo, 1)
    await _work(app)
    assert await app.cancel_job(job) is False
    assert (await app.get_job(job)).result == 1


# Waiting.


@pytest.mark.parametrize(
    "value",
    [
        "123",
        123,
        "",
        None,
        True,
        0,
        1.0,
        1.5,
        [],
        {},
        [1, "1", None, {"a": []}],
        "null",
        "日本",
        2**63 - 1,
        1e300,
        -0.5,
    ],
)
async def test_a_result_comes_back_as_it_was(app: Werk, value: Any) -> None:
    async with _worker(app):
        result = await app.apply(handlers.echo, value, timeout=DEADLINE)
    assert (result, type(result)) == (value, type(value))


async def test_a_large_float_stays_a_float(app: Werk) -> None:
    """jsonb writes 1e16 as an integer."""
    async with _worker(app):
        assert type(await app.apply(handlers.echo, 1e16, timeout=DEADLINE)) is float


async def test_apply_takes_keywords_and_options(app: Werk) -> None:
    async with _worker(app):
        assert await app.apply(handlers.square, number=12, _priority=3, timeout=DEADLINE) == 144
    assert (await app.list_jobs())[0].priority == 3


async def test_apply_raises_what_became_of_the_job(app: Werk) -> None:
    async with _worker(app):
        with pytest.raises(JobError, match="ValueError: on purpose") as caught:
            await app.apply(handlers.fail, timeout=DEADLINE)
    assert caught.value.job.status == JobStatus.Failed
    assert str(caught.value).startswith(f"job {caught.value.job.id} (tests.handlers.fail) failed: Traceback")


async def test_apply_of_a_cancelled_job_raises_too(app: Werk) -> None:
    waiting = asyncio.create_task(app.apply(handlers.noop, timeout=DEADLINE))
    (job,) = await _until(app.list_jobs)
    await app.cancel_job(job)
    with pytest.raises(JobError, match="aborted: cancelled before it ran"):
        await waiting


async def test_apply_gives_up_in_time_and_the_job_goes_on(app: Werk) -> None:
    with pytest.raises(TimeoutError, match=r"had not ended after 0.1 s; if it was enqueued, it goes on"):
        await app.apply(handlers.echo, 5, timeout=0.1)
    (job,) = await app.list_jobs()
    await _work(app)
    assert (await app.wait_for(job, timeout=DEADLINE)).result == 5


async def test_apply_with_a_taken_key_says_so(app: Werk) -> None:
    await _enqueue(app, _key="k")
    with pytest.raises(InvalidOption, match="there is a job with the key 'k' already; wait_for that one instead"):
        await app.apply(handlers.noop, _key="k", timeout=DEADLINE)


async def test_map_answers_in_order(app: Werk, sent: list[list[str]]) -> None:
    async with _worker(app):
        sent.clear()
        assert await app.map(handlers.square, [[n] for n in range(20)], timeout=DEADLINE) == [n * n for n in range(20)]
        assert sent.count(["enqueue"]) == 1
        assert await app.map(handlers.square, [{"number": 3}, (4,)], timeout=DEADLINE) == [9, 16]
        assert await app.map(handlers.square, [], timeout=DEADLINE) == []


async def test_map_raises_the_first_failure_or_returns_them(app: Werk) -> None:
    inputs = [[1], [3], [2]]
    async with _worker(app):
        with pytest.raises(JobError, match="attempt 1 of 1"):
            await app.map(handlers.fail_until, inputs, timeout=DEADLINE)
        one, three, two = await app.map(handlers.fail_until, inputs, timeout=DEADLINE, return_exceptions=True)
    assert one == 1
    assert isinstance(three, JobError)
    assert isinstance(two, JobError)
    assert three.job.payload == {"args": [3], "kwargs": {}}


async def test_map_gives_up_in_time(app: Werk) -> None:
    with pytest.raises(TimeoutError, match=r"2 jobs had not ended after 0.1 s"):
        await app.map(handlers.noop, [[], []], timeout=0.1)


async def test_wait_for_returns_the_job_as_it_ended(app: Werk) -> None:
    job = await _enqueue(app, handlers.fail)
    waits = [asyncio.create_task(app.wait_for(each, timeout=DEADLINE)) for each in (job, job.id, str(job.id))]
    async with _worker(app):
        ended = await _answer(asyncio.gather(*waits))
    assert [each.status for each in ended] == [JobStatus.Failed] * 3
    assert ended[0] == await app.get_job(job)


async def test_wait_for_a_job_that_has_ended_answers_at_once(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the poll, which is only a backstop."""
    monkeypatch.setattr("pgwerk.waiters.POLL", 2 * DEADLINE)
    job = await _enqueue(app, handlers.echo, 7)
    await _work(app)
    async with asyncio.timeout(DEADLINE / 4):
        assert (await app.wait_for(job)).result == 7


async def test_an_end_that_comes_before_anybody_waits_is_not_missed(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick worker's notification can be here before the enqueue has returned."""
    monkeypatch.setattr("pgwerk.waiters.POLL", 2 * DEADLINE)
    has_ended, notifications, insert = asyncio.Event(), Session.notifications, Inserter.insert_all

    async def noted(self: Session, seconds: float) -> list[str]:
        heard = await notifications(self, seconds)
        if any(text.startswith("ended") for text in heard):
            has_ended.set()
        return heard

    async def slow(self: Inserter, *args: Any) -> Any:
        inserted = await insert(self, *args)
        await has_ended.wait()
        return inserted

    monkeypatch.setattr(Session, "notifications", noted)
    monkeypatch.setattr(Inserter, "insert_all", slow)
    async with _worker(app), asyncio.timeout(DEADLINE / 4):
        assert await app.apply(handlers.echo, 7) == 7


async def test_wait_for_gives_up_in_time(app: Werk) -> None:
    job = await _enqueue(app)
    with pytest.raises(TimeoutError, match=f"job {job.id} had not ended after 0.1 s"):
        await app.wait_for(job, timeout=0.1)


async def test_a_result_that_cannot_be_read_ends_the_wait(app: Werk, dsn: str, schema: str) -> None:
    class Unreadable(JSONSerializer):
        def loads(self, text: str | bytes) -> Any:
            if b"poison" in bytes(text if isinstance(text, bytes) else text.encode()):
                raise ValueError("cannot be read here")
            return super().loads(text)

    async with Werk(dsn, schema=schema, serializer=Unreadable()) as other, _worker(app):
        with pytest.raises(NotSerializable, match="the payload of job 1 cannot be read: cannot be read here"):
            await other.apply(handlers.echo, "poison", timeout=20)


async def test_nobody_is_left_waiting_in_the_database(app: Werk, query: Query) -> None:
    async with _worker(app):
        await app.apply(handlers.noop, timeout=DEADLINE)
        await app.map(handlers.square, [[1], [2]], timeout=DEADLINE)
    assert query("select count(*) from waiter") == [(0,)]


async def test_ended_is_told_of_those_that_have(app: Werk, database: Database) -> None:
    done, open_ = await _enqueue(app), await _enqueue(app, _delay=60)
    await _work(app)
    async with database.session() as session:
        ended = await session.run(ControlStore(database.schema).ended_of([done.id, open_.id, 2**40]))
    assert ended == {done.id, 2**40}


@pytest.mark.parametrize(
    "options", [{}, {"on_success": handlers.remember}, {"key": "k"}], ids=["enqueue_one", "enqueue_now", "enqueue"]
)
async def test_a_job_takes_its_number_after_its_transaction_has_one(
    app: Werk, query: Any, options: dict[str, Any]
) -> None:
    """Else a worker could pass its place without knowing of the transaction that still brings it."""
    await app.enqueue(handlers.noop)  # the sequence asks for a transaction's number itself, once in 32 times
    query("create table numbered (was_assigned boolean)")
    query(
        "create function note() returns trigger language plpgsql set search_path from current as "
        "'begin insert into numbered values (pg_current_xact_id_if_assigned() is not null); return new; end'"
    )
    query("create trigger note before insert on job for each row execute function note()")
    await app.enqueue_many([EnqueueParams(handlers.noop, **options)])
    assert query("select was_assigned from numbered") == [(True,)]
