"""dramatiq-pg: a worker that waits for notifications, no results, no middleware but what retries a failed job, and a
longer prefetch: a thread that fetches sleeps when it has as much as it may.
"""

import os
import signal

from adapter import NEXT_MONTH, TASKS, job, play, rows

os.environ.setdefault("dramatiq_queue_prefetch", "500")  # read once, at import

import dramatiq
from dramatiq.middleware import Retries
from dramatiq_pg import PostgresBroker, generate_init_sql
from dramatiq_pg.utils import make_pool, transaction
from psycopg2.extensions import parse_dsn

UNFINISHED = "SELECT count(*) FROM dramatiq.queue WHERE state IN ('queued', 'consumed')"
ROW = {"message_id": "gen_random_uuid()", "message": """'{"args": [0.0], "kwargs": {}, "actor_name": "run"}'"""}
BACKLOGS = {  # no priorities: another queue; what is delayed a worker holds in its memory, all of it
    "finished": rows("dramatiq.queue", **ROW, state="'done'", result_ttl=NEXT_MONTH),
    "queued": rows("dramatiq.queue", **ROW, state="'queued'", queue_name="'other'"),
}


class DramatiqPg:
    def __init__(self, where: str) -> None:
        self._pool = make_pool({**parse_dsn(where), "maxconn": 3 * TASKS})
        self._broker = PostgresBroker(pool=self._pool, results=False, middleware=[Retries()])
        self._actor = dramatiq.actor(run, broker=self._broker)

    def setup(self) -> None:
        with transaction(self._pool) as cursor:
            cursor.execute(generate_init_sql())

    def open(self) -> None:
        self.unfinished()

    def enqueue(self, sent: float) -> None:
        self._actor.send(sent)

    def enqueue_bulk(self, jobs: int) -> None:
        dramatiq.group((self._actor.message(0.0) for _ in range(jobs)), broker=self._broker).run()

    def unfinished(self) -> int:
        with transaction(self._pool) as cursor:
            cursor.execute(UNFINISHED)
            return int(cursor.fetchone()[0])

    def work(self, concurrency: int) -> None:
        dramatiq.Worker(self._broker, worker_threads=concurrency).start()
        signal.pause()


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(DramatiqPg, backlogs=BACKLOGS)
