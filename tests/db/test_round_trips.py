"""What is said in one breath: a proxy counts the turns from question to answer, while every packet takes its time."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from pgwerk import EnqueueParams, JobStatus, Werk
from pgwerk.db import Database, conninfo
from pgwerk.execution import Outcome
from pgwerk.sql import Statement
from pgwerk.store.workers import WorkerStore
from pgwerk.wire import Call
from pgwerk.worker.exchange import Exchange
from pgwerk.worker.lanes import Lanes
from tests import handlers
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pgwerk.wire import Session

DELAY = 0.05  # seconds, each way
_KEY_DATA = b"K\x00\x00\x00\x0c"  # BackendKeyData: the process that the client takes for its own


@pytest.fixture
async def proxy(dsn: str) -> AsyncIterator[Proxy]:
    async with Proxy(dsn) as wire:
        wire.delay = DELAY
        yield wire


@pytest.fixture
async def pooled(app: Werk, proxy: Proxy) -> AsyncIterator[Werk]:
    """The app over a pool that keeps one connection open."""
    async with AsyncConnectionPool(conninfo(proxy.dsn), min_size=1, max_size=1, open=False) as pool:
        await pool.wait()
        async with Werk(pool=pool, schema=app.config.schema, auto_migrate=False) as through:
            yield through


async def test_an_enqueue_is_one_round_trip(pooled: Werk, proxy: Proxy) -> None:
    before = proxy.round_trips
    assert await pooled.enqueue(handlers.noop) is not None
    assert proxy.round_trips - before == 1


async def test_an_enqueue_with_a_key_is_one_round_trip_taken_or_not(pooled: Werk, proxy: Proxy) -> None:
    for is_fresh in (True, False):
        before = proxy.round_trips
        assert (await pooled.enqueue(handlers.noop, _key="k") is not None) is is_fresh
        assert proxy.round_trips - before == 1


async def test_ten_thousand_jobs_are_one_round_trip(pooled: Werk, proxy: Proxy, query: Any) -> None:
    before = proxy.round_trips
    jobs = await pooled.enqueue_many([EnqueueParams(handlers.square, (n,)) for n in range(10_000)])
    assert proxy.round_trips - before == 1
    assert query("select count(*) from ready") == [(10_000,)]
    assert [job.payload["args"] for job in jobs[::999] if job and job.payload] == [[n] for n in range(0, 10_000, 999)]


async def test_a_connection_of_its_own_adds_its_greeting_and_nothing_else(app: Werk, proxy: Proxy) -> None:
    async with Werk(proxy.dsn, schema=app.config.schema, auto_migrate=False) as through:
        before = proxy.round_trips
        async with await psycopg.AsyncConnection.connect(proxy.dsn):
            greeting = proxy.round_trips - before
        before = proxy.round_trips
        await through.enqueue(handlers.noop)
        assert proxy.round_trips - before == greeting + 1


@pytest.mark.parametrize("is_own", [True, False], ids=["own", "behind a pooler"])
async def test_an_exchange_is_one_round_trip(app: Werk, proxy: Proxy, is_own: bool) -> None:
    """Claim and settle, with and without statements to prepare, with and without something to do; behind a pooler, one
    for each of the two.
    """
    if not is_own:
        proxy.on_answer = _as_of_another_process
    database = Database(proxy.dsn, app.config.schema)
    worker = await _registered(app)
    exchange = Exchange(database, Lanes(["default"]), worker)
    await exchange.connect()
    with contextlib.closing(exchange):
        for count in (1, 3, 0):
            jobs = [job for _ in range(count) if (job := await app.enqueue(handlers.noop))]
            ended = await _one_turn_each(exchange, proxy, worker, count, 1 if is_own or not count else 2)
            assert ended == {job.id for job in jobs}
            assert all([(await app.get_job(job)).status == JobStatus.Complete for job in jobs])


async def _one_turn_each(exchange: Exchange, proxy: Proxy, worker: int, count: int, trips: int) -> set[int]:
    """Claims; then settles what was claimed and claims again."""
    before = proxy.round_trips
    turn = await exchange.take_turn([], 10, thorough=True, announce=True)
    while turn.more:  # a priority that was not known was seen by the way
        before = proxy.round_trips
        turn = await exchange.take_turn([], 10, thorough=True)
    assert proxy.round_trips - before == 1
    assert len(turn.claimed) == count
    outcomes = [Outcome(row.job_id, worker, turn.claim_no, "complete", result=b"1") for row in turn.claimed]
    before = proxy.round_trips
    found = (await exchange.take_turn(outcomes, 10)).ended.found
    assert proxy.round_trips - before == trips
    return found


async def _registered(app: Werk) -> int:
    async with app.database.session() as session:
        return await session.run(WorkerStore(app.config.schema).register("w", "AsyncWorker", ["default"], 10, 10.0))


def _as_of_another_process(answer: bytes) -> bytes:
    """What a pooler does: the client is told of a process that is not the one which answers it."""
    at = answer.find(_KEY_DATA) + len(_KEY_DATA)
    if at < len(_KEY_DATA):
        return answer
    return answer[:at] + struct.pack("!i", 1) + answer[at + 4 :]


async def _prepared(session: Session) -> int:
    count = Statement("prepared", "select count(*) from pg_prepared_statements", (), is_pinned=False)
    return await session.single(Call(count, (), lambda rows: int(rows[0]["count"])))


async def test_a_session_behind_a_pooler_knows_that_it_is_not_alone(app: Werk, proxy: Proxy) -> None:
    with contextlib.closing(await Database(proxy.dsn, app.config.schema).keep()) as own:
        assert await _prepared(own) > 0
    proxy.on_answer = _as_of_another_process
    with contextlib.closing(await Database(proxy.dsn, app.config.schema).keep()) as shared:
        assert await _prepared(shared) == 0, "the next one to use that process would stumble over it"


async def test_a_proxy_on_a_unix_socket_counts_alike(app: Werk, dsn: str, tmp_path: Path) -> None:
    async with Proxy(dsn, folder=tmp_path) as proxy, await psycopg.AsyncConnection.connect(proxy.dsn) as connection:
        before = proxy.round_trips
        await connection.execute("select 1")
        await connection.execute("select 2")
        assert proxy.round_trips - before == 3, "begin, and the two"
