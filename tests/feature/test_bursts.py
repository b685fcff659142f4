"""Single enqueues: one after the other over a connection that outlives them for a moment, or from the user's pool."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from pgwerk import EnqueueParams, JobNotFound, ServerUnreachable, Werk, batch
from pgwerk.wire import Session
from tests import handlers
from tests.feature.test_running import until

if TYPE_CHECKING:
    from collections.abc import Callable

    Query = Callable[..., list[tuple[Any, ...]]]

PREPARED = "select count(*) from pg_prepared_statements where name like 'pgwerk_enqueue_%'"
OURS = "select pid from pg_stat_activity where application_name = 'pgwerk' and datname = current_database()"

WAITS_FOR = "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))"


@pytest.fixture(autouse=True)
def _a_burst_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pauses do not end it."""
    monkeypatch.setattr(batch, "LINGER", 20)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Sessions, in the order in which they were opened."""
    sessions: list[Session] = []
    begin = Session.__init__

    def note(self: Session, *args: Any) -> None:
        begin(self, *args)
        sessions.append(self)

    monkeypatch.setattr(Session, "__init__", note)
    return sessions


async def gone(session: Session) -> None:
    async with asyncio.timeout(20):
        while session.pgconn.status == psycopg.pq.ConnStatus.OK:
            await asyncio.sleep(0.05)


async def test_a_burst_shares_a_connection_which_then_goes(
    app: Werk, opened: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LINGER", 1)
    for number in range(50):
        await app.enqueue(handlers.echo, number)
    (session,) = opened
    assert session.is_own
    await gone(session)
    await app.enqueue(handlers.echo, 50)
    assert len(opened) == 2
    assert [job.payload["args"] for job in await app.list_jobs(limit=100) if job.payload] == [
        [number] for number in reversed(range(51))
    ]


async def test_what_comes_while_a_caller_sends_goes_together(app: Werk, opened: list[Session]) -> None:
    await app.enqueue(handlers.noop)
    jobs = await asyncio.gather(*(app.enqueue(handlers.echo, number) for number in range(200)))
    assert [job.payload for job in jobs if job] == [{"args": [number], "kwargs": {}} for number in range(200)]
    assert sorted(job.id for job in jobs if job) == [job.id for job in jobs if job]
    assert len(opened) == 1


@pytest.mark.parametrize("enqueued", [0, 1, 2], ids=["a new connection", "a second use", "a burst"])
async def test_a_caller_that_gives_up_takes_nobody_with_it(
    app: Werk, dsn: str, schema: str, query: Query, enqueued: int
) -> None:
    for _ in range(enqueued):
        await app.enqueue(handlers.noop)
    with psycopg.connect(dsn) as connection:
        connection.execute(f'lock table "{schema}".ready in exclusive mode')
        first, *others = [asyncio.create_task(app.enqueue(handlers.echo, number)) for number in range(3)]
        await until(lambda: query(WAITS_FOR, connection.info.backend_pid), "a batch is on its way")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert [job.payload["args"] for job in await asyncio.gather(*others) if job and job.payload] == [[1], [2]]


async def test_what_was_cancelled_before_it_was_sent_is_not_sent(
    app: Werk, dsn: str, schema: str, query: Query
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f'lock table "{schema}".ready in exclusive mode')
        sent = asyncio.create_task(app.enqueue(handlers.echo, 1))
        await until(lambda: query(WAITS_FOR, connection.info.backend_pid), "it is on its way")
        late = asyncio.create_task(app.enqueue(handlers.echo, 2))
        await asyncio.sleep(0)
        late.cancel()
    assert await sent
    assert await app.enqueue(handlers.echo, 3)
    assert query("select payload -> 'args' from job order by id") == [([1],), ([3],)]


async def test_a_disconnect_waits_for_what_is_under_way(app: Werk, dsn: str, schema: str, query: Query) -> None:
    for _ in range(2):
        await app.enqueue(handlers.noop)
    with psycopg.connect(dsn) as connection:
        connection.execute(f'lock table "{schema}".ready in exclusive mode')
        sent = asyncio.create_task(app.enqueue(handlers.noop))
        await until(lambda: query(WAITS_FOR, connection.info.backend_pid), "it is on its way")
        ending = asyncio.create_task(app.disconnect())
        await asyncio.sleep(0)
    await ending
    assert await sent


async def test_a_connection_that_broke_before_anything_was_sent_is_replaced(
    app: Werk, opened: list[Session], query: Query
) -> None:
    await app.enqueue(handlers.noop)
    query(f"select pg_terminate_backend(pid) from ({OURS}) ours")
    assert await app.enqueue(handlers.noop)
    assert len(opened) == 2


async def test_a_connection_that_broke_on_the_way_is_told_once(app: Werk, opened: list[Session], query: Query) -> None:
    for _ in range(2):
        await app.enqueue(handlers.noop)
    query(f"select pg_terminate_backend(pid) from ({OURS}) ours")
    with pytest.raises(ServerUnreachable, match="the connection to Postgres was lost"):
        await app.enqueue(handlers.noop)
    assert await app.enqueue(handlers.noop)
    assert len(opened) == 2


def hold_up_the_loop(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    """For so long that the time of what it keeps is over, and the server has ended that."""
    query(f"select pg_terminate_backend(pid) from ({OURS}) ours")
    monkeypatch.setattr(batch, "LINGER", 0.2)
    time.sleep(batch.LINGER)


@pytest.mark.parametrize("options", [{}, {"_key": "order 1"}], ids=["a single one", "one that goes by itself"])
async def test_a_connection_whose_time_ended_while_the_loop_was_held_up_is_replaced(
    app: Werk, opened: list[Session], query: Query, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    for _ in range(2):
        await app.enqueue(handlers.noop)
    hold_up_the_loop(query, monkeypatch)
    assert await app.enqueue(handlers.noop, **options)
    assert len(opened) == 2


async def test_a_connection_whose_time_ended_while_others_waited_for_it_is_replaced(
    app: Werk, opened: list[Session], query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await app.enqueue(handlers.noop)

    async def send_and_hold_up_the_loop() -> None:
        await app.enqueue(handlers.noop)
        hold_up_the_loop(query, monkeypatch)

    _, job = await asyncio.gather(send_and_hold_up_the_loop(), app.enqueue(handlers.noop))
    assert job
    assert len(opened) == 2


async def test_a_bad_one_fails_alone_on_the_bursts_connection(app: Werk, opened: list[Session]) -> None:
    await app.enqueue(handlers.noop)
    bad, good = await asyncio.gather(
        app.enqueue(handlers.echo, "\0"), app.enqueue(handlers.echo, 1), return_exceptions=True
    )
    assert isinstance(bad, Exception)
    assert not isinstance(good, BaseException)
    assert await app.enqueue(handlers.noop)
    assert len(opened) == 1


async def test_what_goes_by_itself_takes_the_bursts_connection_along(app: Werk, opened: list[Session]) -> None:
    await app.enqueue(handlers.noop)
    for number in range(20):
        await app.enqueue(handlers.noop, _key=f"order {number}")
    assert len(await app.enqueue_many([EnqueueParams(handlers.noop)] * 2500)) == 2500
    await app.enqueue(handlers.noop)
    assert len(opened) == 1


async def test_single_ones_do_not_wait_for_a_bulk(
    app: Werk, opened: list[Session], dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "LINGER", 1)
    await app.enqueue(handlers.noop, _key="mine")
    with psycopg.connect(dsn) as connection:
        connection.execute(
            f'insert into "{schema}".job (function, payload, queue, priority, max_attempts, key) '
            "values ('m.f', '{}', 'q', 0, 1, 'held')"
        )
        held = asyncio.create_task(app.enqueue(handlers.noop, _key="held"))
        await asyncio.sleep(0)
        assert await app.enqueue(handlers.noop)
        assert not held.done()
        connection.rollback()
    assert await held
    assert len(opened) == 2
    await gone(opened[0])
    await gone(opened[1])


async def test_a_bulk_that_finds_the_connection_broken_opens_another(
    app: Werk, opened: list[Session], query: Query
) -> None:
    await app.enqueue(handlers.noop)
    query(f"select pg_terminate_backend(pid) from ({OURS}) ours")
    assert await app.enqueue(handlers.noop, _key="order 1")
    assert len(opened) == 2


async def test_a_bulk_that_is_refused_leaves_nothing_open(app: Werk, opened: list[Session]) -> None:
    with pytest.raises(JobNotFound):
        await app.enqueue(handlers.noop, _depends_on=4711)
    assert [session.pgconn.status for session in opened] == [psycopg.pq.ConnStatus.BAD]


async def test_a_loop_that_ends_takes_the_connection_along(app: Werk, opened: list[Session]) -> None:
    def in_a_loop_of_its_own() -> None:
        asyncio.run(app.detached().enqueue(handlers.noop))

    await asyncio.to_thread(in_a_loop_of_its_own)
    assert [session.pgconn.status for session in opened] == [psycopg.pq.ConnStatus.BAD]


async def test_a_pools_connection_is_prepared_once_if_its_owner_prepares(dsn: str, schema: str, app: Werk) -> None:
    async with (
        AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool,
        Werk(pool=pool, schema=schema) as pooled,
    ):
        for _ in range(3):
            await pooled.enqueue(handlers.noop)
        async with pool.connection() as connection:
            assert await (await connection.execute(PREPARED)).fetchone() == (1,)
            await connection.execute("deallocate all")
        assert await pooled.enqueue(handlers.noop)
        assert await pooled.enqueue(handlers.noop)


async def test_a_pool_that_does_not_prepare_is_left_alone(dsn: str, schema: str, app: Werk) -> None:
    options = {"prepare_threshold": None}
    async with (
        AsyncConnectionPool(dsn, min_size=1, max_size=1, kwargs=options, open=False) as pool,
        Werk(pool=pool, schema=schema) as pooled,
    ):
        for _ in range(3):
            assert await pooled.enqueue(handlers.noop)
        async with pool.connection() as connection:
            assert await (await connection.execute(PREPARED)).fetchone() == (0,)
