"""pgqueuer as its performance guide has it: autovacuum tuned, uvloop as in `pgq run`, a pool of asyncpg for a producer
and one connection for a worker; one of psycopg for either with BENCH_DRIVER=psycopg.

It knows a limit of jobs at once that is at least twice its batch; none, and a batch of that size, comes nearest.
"""

import os
import struct

import uvloop
from adapter import NEXT_MONTH, job, play, rows
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver, PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

SENT = struct.Struct("d")
IS_ON_PSYCOPG = os.environ.get("BENCH_DRIVER") == "psycopg"
UNFINISHED = "SELECT count(*) FROM pgqueuer"
ROW = {"entrypoint": "'job'", "status": "'queued'", "payload": "decode('0000000000000000', 'hex')"}
BACKLOGS = {  # what is done stays in the log alone
    "finished": rows("pgqueuer_log", job_id="-n", status="'successful'", priority="0", entrypoint="'job'"),
    "scheduled": rows("pgqueuer", **ROW, priority="0", execute_after=NEXT_MONTH),
    "queued": rows("pgqueuer", **ROW, priority="-1"),
}


class Pgqueuer:
    def __init__(self, where: str) -> None:
        self._where = where

    async def _connect(self) -> AsyncpgDriver | PsycopgDriver:
        if IS_ON_PSYCOPG:
            import psycopg  # noqa: PLC0415 - one of two drivers

            return PsycopgDriver(await psycopg.AsyncConnection.connect(self._where, autocommit=True))
        import asyncpg  # noqa: PLC0415 - the other

        return AsyncpgDriver(await asyncpg.connect(self._where))

    async def setup(self) -> None:
        queries = Queries(await self._connect())
        await queries.install()
        await queries.optimize_autovacuum()

    async def _pool(self) -> AsyncpgPoolDriver:
        import asyncpg  # noqa: PLC0415 - one of two drivers

        return AsyncpgPoolDriver(await asyncpg.create_pool(self._where))

    async def open(self) -> None:
        self._driver = await (self._connect() if IS_ON_PSYCOPG else self._pool())
        self._queries = Queries(self._driver)

    async def enqueue(self, sent: float) -> None:
        await self._queries.enqueue("job", SENT.pack(sent))

    async def enqueue_bulk(self, jobs: int) -> None:
        await self._queries.enqueue(["job"] * jobs, [SENT.pack(0.0)] * jobs, [0] * jobs)

    async def unfinished(self) -> int:
        (row,) = await self._driver.fetch(UNFINISHED)
        return int(row["count"])

    async def work(self, concurrency: int) -> None:
        worker = PgQueuer(await self._connect())
        worker.entrypoint("job")(run)
        await worker.run(batch_size=concurrency)


async def run(claimed: Job) -> None:
    job(*SENT.unpack(claimed.payload))


if __name__ == "__main__":
    play(Pgqueuer, run=uvloop.run, backlogs=BACKLOGS)
