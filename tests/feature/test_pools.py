"""An app on a pool that the user owns."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from pgwerk import AsyncWorker, InvalidOption, JobStatus, ThreadWorker, Werk
from pgwerk.wire import Session
from tests import handlers
from tests.feature.test_cli import NOWHERE
from tests.feature.test_worker_kinds import enqueue_another

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection


@contextlib.asynccontextmanager
async def on_a_pool(dsn: str, schema: str, **options: Any) -> AsyncIterator[Werk]:
    async with (
        AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False, **options) as pool,
        Werk(pool=pool, schema=schema) as app,
    ):
        yield app


async def test_what_keeps_a_connection_goes_where_the_pool_goes(dsn: str, own_dsn: str, schema: str) -> None:
    elsewhere = {"dbname": conninfo_to_dict(own_dsn)["dbname"], "autocommit": True, "row_factory": dict_row}
    async with on_a_pool(dsn, schema, kwargs=elsewhere) as app, asyncio.timeout(20):
        job = await app.enqueue(handlers.noop)
        assert job is not None
        await AsyncWorker(app, burst=True).run()
        assert (await app.get_job(job)).status == JobStatus.Complete


async def test_a_pool_beats_the_dsn_of_the_environment(dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGWERK_DSN", NOWHERE)
    async with on_a_pool(dsn, schema) as app, asyncio.timeout(20):
        job = await app.enqueue(handlers.noop)
        assert job is not None
        await AsyncWorker(app, burst=True).run()
        assert (await app.get_job(job)).status == JobStatus.Complete


@pytest.mark.parametrize("what", ["conninfo", "kwargs"])
async def test_a_pool_that_asks_a_function_where_to_go_needs_a_dsn_beside_it(dsn: str, schema: str, what: str) -> None:
    async with AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False) as pool:
        setattr(pool, what, lambda: dsn if what == "conninfo" else {})
        with pytest.raises(InvalidOption, match="conninfo or kwargs are a function"):
            await Werk(pool=pool, schema=schema).connect()
        async with Werk(dsn, pool=pool, schema=schema) as app:
            assert await app.enqueue(handlers.noop)


async def test_coroutines_in_threads_leave_the_pool_to_its_own_loop(dsn: str, schema: str) -> None:
    async with on_a_pool(dsn, schema) as app, asyncio.timeout(20):
        for _ in range(20):
            await app.enqueue(enqueue_another)
        await ThreadWorker(app, concurrency=4, burst=True).run()
        assert [job.status for job in await app.list_jobs()] == [JobStatus.Complete] * 40


async def test_a_pool_that_discards_what_was_prepared_pays_for_it_once(
    dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Any] = []
    converse = Session.converse

    async def noted(self: Session, *transactions: Any) -> Any:
        said.append(transactions)
        return await converse(self, *transactions)

    async def discard(connection: AsyncConnection[Any]) -> None:
        await connection.execute("discard all", prepare=False)

    async with on_a_pool(dsn, schema, kwargs={"autocommit": True}, reset=discard) as app:
        for _ in range(2):
            await app.enqueue(handlers.noop)
        monkeypatch.setattr(Session, "converse", noted)
        for _ in range(3):
            await app.enqueue(handlers.noop)
        assert len(said) == 3


async def test_a_connection_that_its_pool_gave_up_is_not_kept(dsn: str, schema: str) -> None:
    async with AsyncConnectionPool(dsn, min_size=1, open=False) as pool, Werk(pool=pool, schema=schema) as app:
        await app.enqueue(handlers.noop)
        async with pool.connection() as connection:
            given_up = weakref.ref(connection)
        del connection
        await pool.close()
        gc.collect()
        assert given_up() is None
