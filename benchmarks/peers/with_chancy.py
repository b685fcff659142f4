"""chancy with its executor for coroutines, and eager polling, as a job that ends is followed by others."""

import logging

import psycopg
from adapter import job, play
from chancy import Chancy, Job, Queue, Worker

UNFINISHED = "SELECT count(*) FROM chancy_jobs WHERE state NOT IN ('succeeded', 'failed')"
IMPORTED = "with_chancy.run"  # a worker imports what it runs by its name


class OnChancy:
    def __init__(self, where: str) -> None:
        self._where = where
        self._app = Chancy(where)
        logging.getLogger("chancy").setLevel(logging.WARNING)

    async def setup(self) -> None:
        async with self._app:
            await self._app.migrate()
            await self._declare(10)

    async def _declare(self, concurrency: int) -> None:
        queue = Queue(
            "default", concurrency=concurrency, executor=Chancy.Executor.Async, polling_interval=1, eager_polling=True
        )
        await self._app.declare(queue, upsert=True)

    async def open(self) -> None:
        await self._app.pool.open()

    async def enqueue(self, sent: float) -> None:
        await self._app.push(Job(func=IMPORTED, kwargs={"sent": sent}))

    async def enqueue_bulk(self, jobs: int) -> None:
        async for _ in self._app.push_many([Job(func=IMPORTED, kwargs={"sent": 0.0})] * jobs):
            pass

    async def unfinished(self) -> int:
        async with await psycopg.AsyncConnection.connect(self._where) as connection:
            row = await (await connection.execute(UNFINISHED)).fetchone()
        return int(row[0]) if row else 0

    async def work(self, concurrency: int) -> None:
        async with self._app:
            await self._declare(concurrency)
            async with Worker(self._app, register_signal_handlers=False) as worker:
                await worker.wait_for_shutdown()


async def run(*, sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(OnChancy)
