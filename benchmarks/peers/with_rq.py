"""rq with its SimpleWorker, which does not fork for each job: its fastest worker, and it runs one job at a time."""

from adapter import job, play
from redis import Redis
from rq import Queue, SimpleWorker

IMPORTED = "with_rq.run"  # a worker imports what it runs by its name


class Rq:
    def __init__(self, where: str) -> None:
        self._queue = Queue(connection=Redis.from_url(where))

    def setup(self) -> None:
        pass

    def open(self) -> None:
        self._queue.connection.ping()

    def enqueue(self, sent: float) -> None:
        self._queue.enqueue(IMPORTED, sent)

    def enqueue_bulk(self, jobs: int) -> None:
        with self._queue.connection.pipeline() as pipeline:
            self._queue.enqueue_many([Queue.prepare_data(IMPORTED, (0.0,)) for _ in range(jobs)], pipeline=pipeline)
            pipeline.execute()

    def unfinished(self) -> int:
        return int(self._queue.count + self._queue.started_job_registry.count)

    def work(self, _concurrency: int) -> None:
        SimpleWorker([self._queue], connection=self._queue.connection).work(logging_level="WARNING")


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(Rq)
