"""pgqueuer as its performance guide has it: autovacuum tuned, uvloop as in `pgq run`, batches as large as its jobs
are short. One connection of asyncpg, or of psycopg with BENCH_DRIVER=psycopg.
"""

import os
import struct

import uvloop
from adapter import NEXT_MONTH, job, play, rows
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, PsycopgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

SENT = struct.Struct("d")
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
        if os.environ.get("BENCH_DRIVER") == "psycopg":
            import psycopg  # noqa: PLC0415 - one of two drivers

            return PsycopgDriver(await psycopg.AsyncConnection.connect(self._where, autocommit=True))
        import asyncpg  # noqa: PLC0415 - the other

        return AsyncpgDriver(await asyncpg.connect(self._where))

    async def setup(self) -> None:
        queries = Queries(await self._connect())
        await queries.install()
        await queries.optimize_autovacuum()

    async def open(self) -> None:
        self._driver = await self._connect()
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
        await worker.run(batch_size=max(concurrency, int(os.environ.get("BENCH_BATCH", "0"))))


async def run(claimed: Job) -> None:
    job(*SENT.unpack(claimed.payload))


if __name__ == "__main__":
    play(Pgqueuer, run=uvloop.run, backlogs=BACKLOGS)
