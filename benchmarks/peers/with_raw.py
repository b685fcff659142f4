"""No queue: the moves that every durable queue makes, as plain SQL from asyncpg, in batches of 100 on one connection.

A job is a row, its id waits in one table, is moved to another while it runs, and to a third when it is done. Nothing
else is done: no handlers to find, no retries, groups, keys, notifications, signs of life.
"""

import asyncio
from collections.abc import Iterator

import asyncpg
import uvloop
from adapter import job, play

BATCH = 100
TABLES = """
    CREATE TABLE job (id bigserial PRIMARY KEY, payload jsonb NOT NULL, queue text NOT NULL,
        enqueued_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE ready (id bigint PRIMARY KEY);
    CREATE TABLE active (id bigint PRIMARY KEY, started_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE finished (id bigint PRIMARY KEY, started_at timestamptz,
        finished_at timestamptz NOT NULL DEFAULT now())
"""
ENQUEUE = """
    WITH j AS (INSERT INTO job (payload, queue) SELECT p, 'default' FROM unnest($1::jsonb[]) p RETURNING id),
    r AS (INSERT INTO ready SELECT id FROM j)
    SELECT id FROM j
"""
CLAIM = """
    WITH c AS MATERIALIZED (SELECT id FROM ready WHERE id > $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED),
    d AS (DELETE FROM ready WHERE id = ANY (ARRAY(SELECT id FROM c))),
    a AS (INSERT INTO active SELECT id FROM c)
    SELECT id, payload FROM job WHERE id = ANY (ARRAY(SELECT id FROM c))
"""
SETTLE = """
    WITH a AS (DELETE FROM active WHERE id = ANY ($1::bigint[]) RETURNING id, started_at)
    INSERT INTO finished SELECT id, started_at FROM a
"""
UNFINISHED = "SELECT (SELECT count(*) FROM ready) + (SELECT count(*) FROM active)"
CONNECTIONS = 10  # of fifty tasks: more only wait for each other


class Raw:
    def __init__(self, where: str) -> None:
        self.where = where

    async def setup(self) -> None:
        connection = await asyncpg.connect(self.where)
        await connection.execute(TABLES)

    async def open(self) -> None:
        self.pool = await asyncpg.create_pool(self.where, min_size=CONNECTIONS, max_size=CONNECTIONS)

    async def enqueue(self, sent: float) -> None:
        async with self.pool.acquire() as connection:
            await connection.fetch(ENQUEUE, [payload(sent)])

    async def enqueue_bulk(self, jobs: int) -> None:
        async with self.pool.acquire() as connection, connection.transaction():
            for size in batches(jobs):
                await connection.fetch(ENQUEUE, [payload(0.0)] * size)

    async def unfinished(self) -> int:
        return int(await self.pool.fetchval(UNFINISHED))

    async def work(self, _concurrency: int) -> None:
        connection = await asyncpg.connect(self.where)
        last = 0
        while True:
            claimed = await connection.fetch(CLAIM, BATCH, last)
            for row in claimed:
                job(float(row["payload"]))
            if claimed:
                await connection.execute(SETTLE, [row["id"] for row in claimed])
            last = max((row["id"] for row in claimed), default=0)
            if not claimed:
                await asyncio.sleep(0.001)


def payload(sent: float) -> str:
    return repr(sent)


def batches(jobs: int) -> Iterator[int]:
    whole, rest = divmod(jobs, 10_000)
    yield from [10_000] * whole
    if rest:
        yield rest


if __name__ == "__main__":
    play(Raw, run=uvloop.run)
