"""awa: queue storage as a fresh install has it, COPY for bulk, the asynchronous client and worker. One claimer, as by
default: on two cores, two or four are slower.
"""

import asyncio
from dataclasses import dataclass

import awa
from adapter import job, play

QUEUE = "default"


@dataclass
class Run:
    sent: float


class Awa:
    def __init__(self, where: str) -> None:
        self._client = awa.AsyncClient(where)

    async def setup(self) -> None:
        await self._client.migrate()
        await self._client.install_queue_storage()

    async def open(self) -> None:
        await self._client.health_check()

    async def enqueue(self, sent: float) -> None:
        await self._client.insert(Run(sent), queue=QUEUE)

    async def enqueue_bulk(self, jobs: int) -> None:
        await self._client.enqueue_many_copy([Run(0.0)] * jobs, queue=QUEUE)

    async def unfinished(self) -> int:
        stats = await self._client.queue_stats()
        return sum(each.total_queued for each in stats)

    async def work(self, concurrency: int) -> None:
        self._client.task(Run, queue=QUEUE)(run)
        await self._client.start([(QUEUE, concurrency)])
        await asyncio.Event().wait()


async def run(claimed: "awa.Job[Run]") -> None:
    job(claimed.args.sent)


if __name__ == "__main__":
    play(Awa)
