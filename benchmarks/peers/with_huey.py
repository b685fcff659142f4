"""huey on Postgres through its SQL storage, with threads; it polls, all the time as often as it pays."""

from adapter import NEXT_MONTH, job, play, rows
from huey.contrib.sql_huey import SqlHuey

POLL_SECONDS = 0.01  # by default 0.1, and up to 10 when there is nothing to do
ROW = {"queue": "'huey'", "data": "convert_to(repeat('x', 100), 'UTF8')"}
BACKLOGS = {  # it keeps nothing of what is done
    "scheduled": rows("schedule", **ROW, timestamp=f"extract(epoch FROM {NEXT_MONTH}) * 1000"),
    "queued": rows("task", **ROW, priority="-1"),
}


class OnHuey:
    def __init__(self, where: str) -> None:
        self._huey = SqlHuey(database=where, create_tables=False)
        self._task = self._huey.task()(run)

    def setup(self) -> None:
        self._huey.storage.create_tables()

    def open(self) -> None:
        self._huey.storage.check_conn()

    def enqueue(self, sent: float) -> None:
        self._task(sent)

    def enqueue_bulk(self, jobs: int) -> None:
        self._task.map([0.0] * jobs)

    def unfinished(self) -> int:
        return int(self._huey.pending_count())

    def work(self, concurrency: int) -> None:
        delays = {"initial_delay": POLL_SECONDS, "max_delay": POLL_SECONDS}
        self._huey.create_consumer(workers=concurrency, periodic=False, **delays).run()


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(OnHuey, backlogs=BACKLOGS)
