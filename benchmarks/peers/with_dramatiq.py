"""dramatiq on Redis with no middleware but what retries a failed job, and a longer prefetch: a thread that fetches
sleeps when it has as much as it may.
"""

import os
import signal

from adapter import job, play

os.environ.setdefault("dramatiq_queue_prefetch", "500")  # read once, at import

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

POLL_MILLISECONDS = 10  # by default up to 1000 when there is nothing to do


class OnDramatiq:
    def __init__(self, where: str) -> None:
        self._broker = RedisBroker(url=where, middleware=[Retries()])
        self._actor = dramatiq.actor(run, broker=self._broker)

    def setup(self) -> None:
        pass

    def open(self) -> None:
        self._broker.client.ping()

    def enqueue(self, sent: float) -> None:
        self._actor.send(sent)

    def enqueue_bulk(self, jobs: int) -> None:
        dramatiq.group((self._actor.message(0.0) for _ in range(jobs)), broker=self._broker).run()

    def unfinished(self) -> int:
        """A message stays in the queue's hash until it is acknowledged."""
        return int(self._broker.do_qsize(self._actor.queue_name))

    def work(self, concurrency: int) -> None:
        dramatiq.Worker(self._broker, worker_timeout=POLL_MILLISECONDS, worker_threads=concurrency).start()
        signal.pause()


def run(sent: float) -> None:
    job(sent)


if __name__ == "__main__":
    play(OnDramatiq)
