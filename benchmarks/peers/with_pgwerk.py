"""pgwerk, this one and the reference: one quickstart fits both, so one file runs in either environment.

With BENCH_POOL the application gives its own pool, as one with a pool would (this pgwerk alone).
"""

import os

import psycopg
from adapter import NEXT_MONTH, job, play, rows

from pgwerk import AsyncWorker, EnqueueParams, Werk

IS_REFERENCE = "BENCH_REFERENCE" in os.environ
TABLE_OF_REFERENCE = "pgwerk._pgwerk_jobs"
UNFINISHED = (
    f"SELECT count(*) FROM {TABLE_OF_REFERENCE} WHERE status NOT IN ('complete', 'failed', 'aborted')"
    if IS_REFERENCE
    else "SELECT (SELECT count(*) FROM pgwerk.ready) + (SELECT count(*) FROM pgwerk.active)"
)
JOB = """
    INSERT INTO pgwerk.job (function, payload, queue, priority, max_attempts, group_key, scheduled_at)
    SELECT 'with_pgwerk.run', '{"args": [0.0], "kwargs": {}}', %(queue)s, %(priority)s, 1, %(group)s, %(due)s
    FROM generate_series(1, :size) n RETURNING id, queue, priority, group_key
"""
READY = """
    INSERT INTO pgwerk.ready (queue, priority, seq, job_id, attempt, group_key)
    SELECT queue, priority, id, id, 1, group_key FROM j
"""


def jobs(then: str, **columns: str) -> str:
    """A statement that writes `:size` jobs and puts them where they stand."""
    said = {"queue": "'default'", "priority": "0", "group": "NULL", "due": "NULL"} | columns
    return f"WITH j AS ({JOB % said}) {then}"


BACKLOGS = {
    "queued": jobs(READY, priority="-1"),
    "finished": jobs(
        "INSERT INTO pgwerk.finished (job_id, status, attempt, worker_id, started_at)"
        " SELECT id, 'complete', 1, 1, now() FROM j"
    ),
    "scheduled": jobs(
        "INSERT INTO pgwerk.scheduled (job_id, due, queue, priority, attempt)"
        f" SELECT id, {NEXT_MONTH}, queue, priority, 1 FROM j",
        due=NEXT_MONTH,
    ),
    "in other queues": jobs(READY, queue="'queue ' || n % 10000"),
    "in other groups": jobs(READY, queue="'other'", group="'group ' || n % 100000"),
    "idle workers": (
        "WITH w AS (INSERT INTO pgwerk.worker (name, kind, queues, concurrency, patience)"
        " SELECT 'worker ' || n, 'AsyncWorker', '{default}', 10, 3600 FROM generate_series(1, :size) n RETURNING id)"
        " INSERT INTO pgwerk.idle SELECT id FROM w"
    ),
}
REFERENCE = {"function": "'with_pgwerk.run'", "payload": """'{"args": [0.0], "kwargs": {}}'"""}
BACKLOGS_OF_REFERENCE = {
    "finished": rows(TABLE_OF_REFERENCE, **REFERENCE, status="'complete'", started_at="now()", completed_at="now()"),
    "scheduled": rows(TABLE_OF_REFERENCE, **REFERENCE, status="'scheduled'", scheduled_at=NEXT_MONTH),
    "queued": rows(TABLE_OF_REFERENCE, **REFERENCE, priority="-1"),
}


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
            cursor = await connection.execute(UNFINISHED)
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def work(self, concurrency: int) -> None:
        await self._app.connect()
        await AsyncWorker(app=self._app, queues=["default"], concurrency=concurrency).run()


async def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Pgwerk, backlogs=BACKLOGS_OF_REFERENCE if IS_REFERENCE else BACKLOGS)
