"""pgwerk, this one and the reference: one quickstart fits both, so one file runs in either environment.

With BENCH_POOL the application gives its own pool, as one with a pool would (this pgwerk alone).
"""

import importlib.util
import os

import psycopg
from adapter import job, play

from pgwerk import AsyncWorker, EnqueueParams, Werk

# The reference's environment has no uvloop, and its documentation says nothing of it.
run_loop = importlib.import_module("uvloop" if importlib.util.find_spec("uvloop") else "asyncio").run

UNFINISHED = "SELECT count(*) FROM {} WHERE status NOT IN ('complete', 'failed', 'aborted')"


class Pgwerk:
    def __init__(self, where: str) -> None:
        self._where = where
        self._app = Werk(where)

    async def setup(self) -> None:
        async with self._app:  # connecting creates the schema
            pass

    async def open(self) -> None:
        if "BENCH_POOL" in os.environ:
            from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415 - the reference has none

            pool = AsyncConnectionPool(self._where, min_size=1, max_size=10, open=False)
            await pool.open(wait=True)
            self._app = Werk(pool=pool)
        await self._app.connect()

    async def enqueue(self, sent: float) -> None:
        await self._app.enqueue(run, sent)

    async def enqueue_bulk(self, jobs: int) -> None:
        await self._app.enqueue_many([EnqueueParams(func=run, args=(0.0,)) for _ in range(jobs)])

    async def unfinished(self) -> int:
        async with await psycopg.AsyncConnection.connect(self._where) as connection:
            cursor = await connection.execute(UNFINISHED.format(os.environ.get("BENCH_TABLE", "pgwerk.jobs")))
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def work(self, concurrency: int) -> None:
        await self._app.connect()
        await AsyncWorker(app=self._app, queues=["default"], concurrency=concurrency).run()


async def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Pgwerk, run=run_loop)
