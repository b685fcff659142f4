"""celery with a pool of threads, and as its guide to optimising has it: results ignored, and a large prefetch as the
jobs are short; workers do not gossip. Acknowledged early, as by default.
"""

from adapter import TASKS, job, play
from celery import Celery, group

QUEUE, TAKEN = "celery", "unacked"
LONE = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class OnCelery:
    def __init__(self, where: str) -> None:
        self._app = Celery(broker=where.replace("unix://", "redis+socket://"))
        self._app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=50, broker_pool_limit=TASKS)
        self._task = self._app.task(name="run")(run)

    def setup(self) -> None:
        pass

    def open(self) -> None:
        self._redis = self._app.connection_for_read().default_channel.client

    def enqueue(self, sent: float) -> None:
        self._task.delay(sent)

    def enqueue_bulk(self, jobs: int) -> None:
        group(self._task.s(0.0) for _ in range(jobs)).apply_async()

    def unfinished(self) -> int:
        return int(self._redis.llen(QUEUE) + self._redis.hlen(TAKEN))

    def work(self, concurrency: int) -> None:
        self._app.worker_main(["--quiet", "worker", "--pool=threads", f"--concurrency={concurrency}", *LONE])


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(OnCelery)
