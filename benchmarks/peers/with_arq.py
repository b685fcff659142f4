"""arq on uvloop, which polls: the documented `poll_delay` is shortened, as a poll starts no more jobs than fit at once.
It has no bulk enqueue: one after the other.
"""

import asyncio
import contextlib

import uvloop
from adapter import job, play
from arq import create_pool
from arq.connections import RedisSettings
from arq.constants import default_queue_name
from arq.worker import Worker

POLL_SECONDS = 0.001  # by default 0.5: then a worker waits most of its time


class Arq:
    def __init__(self, where: str) -> None:
        self._settings = RedisSettings.from_dsn(where)

    def setup(self) -> None:
        pass

    async def open(self) -> None:
        self._redis = await create_pool(self._settings)

    async def enqueue(self, sent: float) -> None:
        await self._redis.enqueue_job("run", sent)

    async def enqueue_bulk(self, jobs: int) -> None:
        for _ in range(jobs):
            await self.enqueue(0.0)

    async def unfinished(self) -> int:
        """A job stays in the queue's sorted set until it has ended."""
        return int(await self._redis.zcard(default_queue_name))

    async def work(self, concurrency: int) -> None:
        worker = Worker([run], redis_settings=self._settings, max_jobs=concurrency, poll_delay=POLL_SECONDS)
        with contextlib.suppress(asyncio.CancelledError):  # so it ends when it is terminated
            await worker.async_run()


async def run(_context: object, sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Arq, run=uvloop.run)
