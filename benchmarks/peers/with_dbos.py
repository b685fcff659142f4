"""dbos with a client that enqueues, as is documented for other processes, and one queue polled as often as it pays:
a poll starts no more workflows than fit at once. No tracing, no conductor, no server.
"""

import asyncio
import os

import sqlalchemy
from adapter import NEXT_MONTH, TASKS, job, play, rows
from dbos import DBOS, DBOSClient

POLL_SECONDS = 0.001  # by default 1.0: then a worker waits most of its time
QUEUE = "bench"
EACH = {"executor_id": str(os.getpid())}  # else a worker that starts would recover what another one runs
JOB = {"workflow_name": "run", "queue_name": QUEUE}
UNFINISHED = sqlalchemy.text("SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')")
TABLE, ROW = "dbos.workflow_status", {"workflow_uuid": "gen_random_uuid()", "name": "'run'", "queue_name": f"'{QUEUE}'"}
DUE = f"extract(epoch FROM {NEXT_MONTH}) * 1000"
BACKLOGS = {
    "finished": rows(TABLE, **ROW, status="'SUCCESS'", completed_at="extract(epoch FROM now()) * 1000"),
    "scheduled": rows(TABLE, **ROW, status="'DELAYED'", delay_until_epoch_ms=DUE),
    "queued": rows(TABLE, **ROW, status="'ENQUEUED'", priority="1"),
}


class OnDbos:
    def __init__(self, where: str) -> None:
        self._where = where.replace("postgresql://", "postgresql+psycopg://")

    def setup(self) -> None:
        DBOS.migrate(self._where)

    def open(self) -> None:
        self._client = DBOSClient(system_database_url=self._where, system_database_pool_size=TASKS)
        self._engine = sqlalchemy.create_engine(self._where)

    def enqueue(self, sent: float) -> None:
        self._client.enqueue(JOB, sent)

    def enqueue_bulk(self, jobs: int) -> None:
        with self._engine.begin() as connection:
            for _ in range(jobs):
                self._client.enqueue_in_transaction(connection, JOB, 0.0)

    def unfinished(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.scalar(UNFINISHED))

    async def work(self, concurrency: int) -> None:
        DBOS(config={"name": QUEUE, "system_database_url": self._where, **EACH, "log_level": "WARNING"})
        DBOS.workflow(name=JOB["workflow_name"])(run)
        DBOS.launch()
        await DBOS.register_queue_async(QUEUE, worker_concurrency=concurrency, polling_interval_sec=POLL_SECONDS)
        await asyncio.Event().wait()


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(OnDbos, backlogs=BACKLOGS)
