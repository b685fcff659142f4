"""Enqueueing: ours, and what raw SQL does with the same statement or without any."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from harness import SCHEMA
from jobs import noop
from place import Figures, Place
from psycopg_pool import AsyncConnectionPool

from pgwerk import EnqueueParams, Werk
from pgwerk.serializers import JSONSerializer
from pgwerk.specifying import specify
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.values import as_text

TASKS = 50
KEPT = 10  # connections of the raw tasks: more only wait for each other
WARM_UP = 20


async def one_by_one(place: Place) -> Figures:
    async with Werk(place.dsn) as app:
        place.inspector.checkpoint()
        wal = place.inspector.wal_from_here()
        seconds = await timed(place.jobs.singles, lambda: app.enqueue(noop))
        return {"one": place.jobs.singles / seconds, "one wal": wal() / (place.jobs.singles + WARM_UP)}


async def one_by_one_from_a_pool(place: Place) -> Figures:
    async with (
        AsyncConnectionPool(place.dsn, min_size=1, max_size=1, open=False) as pool,
        Werk(pool=pool) as app,
    ):
        return {"one pooled": place.jobs.singles / await timed(place.jobs.singles, lambda: app.enqueue(noop))}


async def raw_one_by_one(place: Place) -> Figures:
    values = statement_for(1)
    with connect(place.dsn) as connection:
        for _ in range(WARM_UP):
            connection.execute(*values)
        start = time.perf_counter()
        for _ in range(place.jobs.singles):
            connection.execute(*values).fetchall()
        return {"raw one": place.jobs.singles / (time.perf_counter() - start)}


async def tasks(place: Place) -> Figures:
    async with Werk(place.dsn) as app:
        return {"tasks": await rate_of_tasks(place, lambda: app.enqueue(noop))}


async def raw_tasks(place: Place) -> Figures:
    """As many callers, each with the statement for its own job, on kept connections."""
    values = statement_for(1)

    async def enqueue() -> None:
        async with pool.connection() as connection:
            await psycopg.AsyncRawCursor(connection).execute(*values, prepare=True)

    kwargs = {"autocommit": True}
    async with AsyncConnectionPool(place.dsn, min_size=KEPT, max_size=KEPT, kwargs=kwargs, open=False) as pool:
        await pool.wait()
        return {"raw tasks": await rate_of_tasks(place, enqueue)}


async def raw_batches(place: Place) -> Figures:
    """What batching by hand gives: one connection, a statement for as many jobs as there are tasks."""
    values, turns = statement_for(TASKS), max(1, place.jobs.concurrent // TASKS)
    with connect(place.dsn) as connection:
        connection.execute(*values)
        start = time.perf_counter()
        for _ in range(turns):
            connection.execute(*values).fetchall()
        return {"raw batches": turns * TASKS / (time.perf_counter() - start)}


async def bulk(place: Place) -> Figures:
    async with Werk(place.dsn) as app:
        start = time.perf_counter()
        found = await app.enqueue_many([EnqueueParams(noop) for _ in range(place.jobs.bulk)])
        return {"bulk": len(found) / (time.perf_counter() - start)}


async def raw_bulk(place: Place) -> Figures:
    values = statement_for(place.jobs.bulk)
    with connect(place.dsn) as connection:
        start = time.perf_counter()
        connection.execute(*values).fetchall()
        return {"raw bulk": place.jobs.bulk / (time.perf_counter() - start)}


async def copy(place: Place) -> Figures:
    """The same rows, and no answer but their ids."""
    with connect(place.dsn) as connection:
        start = time.perf_counter()
        with connection.transaction():
            query = f"SELECT nextval('{SCHEMA}.job_id_seq') FROM generate_series(1, $1)"
            ids = [number for (number,) in connection.execute(query, [place.jobs.bulk])]
            jobs = [(number, "jobs.noop", '{"args": [], "kwargs": {}}', "default", 0, 1) for number in ids]
            copy_rows(connection, "job (id, function, payload, queue, priority, max_attempts)", jobs)
            places = [("default", 0, number, number, 1) for number in ids]
            copy_rows(connection, "ready (queue, priority, seq, job_id, attempt)", places)
        return {"copy": len(ids) / (time.perf_counter() - start)}


def copy_rows(connection: psycopg.Connection[Any], columns: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor().copy(f"COPY {SCHEMA}.{columns} FROM STDIN") as target:
        for row in rows:
            target.write_row(row)


def connect(dsn: str) -> psycopg.Connection[Any]:
    """Kept, and preparing what it is given from the first time on."""
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=0, cursor_factory=psycopg.RawCursor)


def statement_for(jobs: int) -> tuple[str, list[Any]]:
    """The engine's own statement, with ready-made JSON."""
    spec = specify(EnqueueParams(noop), JSONSerializer())
    call = EnqueueStore(SCHEMA).enqueue([spec] * jobs, always_notify=False)
    return call.statement.text, [as_text(value) for value in call.values]


async def timed(jobs: int, enqueue: Callable[[], Awaitable[object]]) -> float:
    for _ in range(WARM_UP):
        await enqueue()
    start = time.perf_counter()
    for _ in range(jobs):
        await enqueue()
    return time.perf_counter() - start


async def rate_of_tasks(place: Place, enqueue: Callable[[], Awaitable[object]]) -> float:
    each = max(1, place.jobs.concurrent // TASKS)
    start = time.perf_counter()
    await asyncio.gather(*(several(each, enqueue) for _ in range(TASKS)))
    return each * TASKS / (time.perf_counter() - start)


async def several(jobs: int, enqueue: Callable[[], Awaitable[object]]) -> None:
    for _ in range(jobs):
        await enqueue()
