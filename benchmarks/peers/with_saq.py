"""saq on Postgres or on Redis, as the address says: uvloop, which it uses where it is installed, and a worker that
waits for notifications. It has no bulk enqueue: one after the other.
"""

import uvloop
from adapter import NEXT_MONTH, job, play, rows
from saq import Worker
from saq.queue.postgres import PostgresQueue
from saq.queue.redis import RedisQueue

KEPT = 3600  # seconds; the other systems keep what is done as well
ROW = {
    "key": "'row ' || nextval('saq_jobs_lock_key_seq')",
    "queue": "'default'",
    "job": "convert_to(repeat('x', 200), 'UTF8')",
}
BACKLOGS = {  # on Postgres; a job that is not due is never read
    "finished": rows("saq_jobs", **ROW, status="'complete'", expire_at=f"extract(epoch FROM {NEXT_MONTH})"),
    "scheduled": rows("saq_jobs", **ROW, status="'queued'", scheduled=f"extract(epoch FROM {NEXT_MONTH})"),
    "queued": rows("saq_jobs", **ROW, status="'queued'", priority="1"),
}


class Saq:
    def __init__(self, where: str) -> None:
        if where.startswith("postgres"):
            self._queue = PostgresQueue.from_url(where, manage_pool_lifecycle=True)
        else:
            self._queue = RedisQueue.from_url(where)

    async def setup(self) -> None:
        await self._queue.connect()
        await self._queue.disconnect()

    async def open(self) -> None:
        await self._queue.connect()

    async def enqueue(self, sent: float) -> None:
        await self._queue.enqueue("run", sent=sent, ttl=KEPT)

    async def enqueue_bulk(self, jobs: int) -> None:
        for _ in range(jobs):
            await self.enqueue(0.0)

    async def unfinished(self) -> int:
        return sum([await self._queue.count(kind) for kind in ("queued", "active")])

    async def work(self, concurrency: int) -> None:
        await self._queue.connect()
        await Worker(self._queue, [run], concurrency=concurrency).start()


async def run(_context: object, *, sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Saq, run=uvloop.run, backlogs=BACKLOGS)
