"""pgwerk, this one and the reference: one quickstart fits both, so one file runs in either environment."""

from time import perf_counter

import psycopg
from adapter import expect_runs, main, noop

from pgwerk import AsyncWorker, EnqueueParams, Werk


async def setup(dsn: str) -> None:
    async with Werk(dsn):  # connecting creates the schema
        pass


async def enqueue_one(dsn: str, jobs: int) -> float:
    async with Werk(dsn) as app:
        start = perf_counter()
        for _ in range(jobs):
            await app.enqueue(noop)
        return perf_counter() - start


async def enqueue_bulk(dsn: str, jobs: int) -> float:
    async with Werk(dsn) as app:
        start = perf_counter()
        await app.enqueue_many([EnqueueParams(func=noop) for _ in range(jobs)])
        return perf_counter() - start


async def drain(dsn: str, jobs: int) -> float:
    """From the call of run() to its return, by when every job is recorded as done."""
    async with Werk(dsn) as app:
        worker = AsyncWorker(app=app, queues=["default"], concurrency=10, burst=True)
        start = perf_counter()
        await worker.run()
        seconds = perf_counter() - start
    expect_runs(jobs)
    return seconds


async def teardown(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.execute("DROP SCHEMA pgwerk CASCADE")


if __name__ == "__main__":
    main(setup, enqueue_one, enqueue_bulk, drain, teardown)
