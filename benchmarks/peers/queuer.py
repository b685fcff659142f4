"""pgqueuer as its performance guide has it: one asyncpg connection, autovac, and uvloop as in `pgq run`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import asyncpg  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]
from adapter import expect_runs, main, noop
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.models import Job  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]
from pgqueuer.types import QueueExecutionMode  # type: ignore[import-not-found]

BATCH_SIZE = int(os.environ.get("BATCH_SIZE", "10"))  # 10 is its default; "increase for jobs under 1 s"


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[AsyncpgDriver]:
    connection = await asyncpg.connect(dsn)
    try:
        yield AsyncpgDriver(connection)
    finally:
        await connection.close()


async def setup(dsn: str) -> None:
    async with connect(dsn) as driver:
        await Queries(driver).install()
        await Queries(driver).optimize_autovacuum()


async def enqueue_one(dsn: str, jobs: int) -> float:
    async with connect(dsn) as driver:
        queries = Queries(driver)
        start = perf_counter()
        for _ in range(jobs):
            await queries.enqueue("noop", None)
        return perf_counter() - start


async def enqueue_bulk(dsn: str, jobs: int) -> float:
    async with connect(dsn) as driver:
        start = perf_counter()
        await Queries(driver).enqueue(["noop"] * jobs, [None] * jobs, [0] * jobs)
        return perf_counter() - start


async def drain(dsn: str, jobs: int) -> float:
    """From the call of run() to its return, by when every job is moved to the log as successful."""
    async with connect(dsn) as driver:
        worker = PgQueuer(driver)
        worker.entrypoint("noop")(_process)
        start = perf_counter()
        await worker.run(mode=QueueExecutionMode.drain, batch_size=BATCH_SIZE)
        seconds = perf_counter() - start
    expect_runs(jobs)
    return seconds


async def _process(_job: Job) -> None:
    await noop()


async def teardown(dsn: str) -> None:
    async with connect(dsn) as driver:
        await Queries(driver).uninstall()


if __name__ == "__main__":
    main(setup, enqueue_one, enqueue_bulk, drain, teardown, run=uvloop.run)
