"""procrastinate with its psycopg connector; the worker listens, and keeps what is done, both as by default. So is its
pool of four connections: with twenty it is slower.
"""

from adapter import NEXT_MONTH, job, play, rows
from procrastinate import App, PsycopgConnector

UNFINISHED = "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"
TABLE, ROW = "procrastinate_jobs", {"queue_name": "'default'", "task_name": "'job'", "args": """'{"sent": 0}'"""}
QUIETLY = "SET session_replication_role = replica;"  # its triggers notify for each row: half a minute
BACKLOGS = {
    "finished": rows(TABLE, **ROW, status="'succeeded'", attempts="1"),
    "scheduled": QUIETLY + rows(TABLE, **ROW, scheduled_at=NEXT_MONTH),
    "queued": QUIETLY + rows(TABLE, **ROW, priority="-1"),
}


class Procrastinate:
    def __init__(self, where: str) -> None:
        self._app = App(connector=PsycopgConnector(conninfo=where))
        self._task = self._app.task(name="job")(run)

    async def setup(self) -> None:
        async with self._app.open_async():
            await self._app.schema_manager.apply_schema_async()

    async def open(self) -> None:
        await self._app.open_async()

    async def enqueue(self, sent: float) -> None:
        await self._task.defer_async(sent=sent)

    async def enqueue_bulk(self, jobs: int) -> None:
        await self._task.batch_defer_async(*({"sent": 0.0} for _ in range(jobs)))

    async def unfinished(self) -> int:
        row = await self._app.connector.execute_query_one_async(UNFINISHED)
        return int(row["count"])

    async def work(self, concurrency: int) -> None:
        async with self._app.open_async():
            await self._app.run_worker_async(concurrency=concurrency)


async def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Procrastinate, backlogs=BACKLOGS)
