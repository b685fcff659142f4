"""A process that enqueues jobs of every kind until it is told to stop: `python -m tests.faults.traffic NAME SEED JOBS`.

JOBS is about how many a second. Whatever happens to its connections, it goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pgwerk import Dependency, EnqueueParams, Repeat, Retry, Werk
from pgwerk.errors import ServerUnreachable
from tests.faults import acts
from tests.faults.producing import Producer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pgwerk import Job

SIDE_BY_SIDE = 3  # calls that are under way at once
JOBS_A_CALL = 3.5  # on average, of those below
REMEMBERED = 50  # of the jobs that others may depend on
AN_AGE = 5.0  # seconds that a group gets new jobs: the proof compares all of a group with each other


class Traffic:
    def __init__(self, app: Werk, name: str, seed: int, jobs: float) -> None:
        self._name, self._chance = name, random.Random(seed)
        self._producer = Producer(app, acts.log(), name)
        self._dsn = app.config.dsn or ""
        self._pause = SIDE_BY_SIDE * JOBS_A_CALL / jobs
        self._known: deque[Job] = deque(maxlen=REMEMBERED)
        self._keys = 0
        self.is_over = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(SIDE_BY_SIDE):
                tasks.create_task(self._go_on())

    async def _go_on(self) -> None:
        calls: list[Callable[[], Awaitable[Any]]] = [
            self._single, self._many, self._group, self._graph, self._series, self._keyed, self._in_transaction,
            self._on_what_is_there,
        ]  # fmt: skip
        while not self.is_over.is_set():
            await self._chance.choice(calls)()
            await asyncio.sleep(self._chance.uniform(0, 2 * self._pause))

    async def _enqueue(self, *params: EnqueueParams) -> None:
        jobs = await self._producer.enqueue(*params)
        self._known.extend(job for job in jobs or () if job is not None)

    async def _single(self) -> None:
        await self._enqueue(self._work())

    async def _many(self) -> None:
        await self._enqueue(*[self._work() for _ in range(8)])

    async def _group(self) -> None:
        await self._enqueue(*self._grouped())

    def _grouped(self) -> Iterator[EnqueueParams]:
        group = f"group {self._chance.randrange(3)} of {time.time() // AN_AGE:.0f}"
        for _ in range(4):
            yield self._work(group=group, priority=self._chance.randrange(3))

    async def _graph(self) -> None:
        first, doomed = self._work(), self._work(failures=9, retry=2)
        second = self._work(failures=1, retry=Retry(4), depends_on=first)
        last = self._work(depends_on=[second, Dependency(doomed, allow_failure=True)])
        await self._enqueue(last, second, self._work(depends_on=doomed), first, doomed)

    async def _series(self) -> None:
        await self._enqueue(self._work(repeat=Repeat(2, interval=self._chance.choice([0, 0.2]))))

    async def _keyed(self) -> None:
        """Until it is known, and then once more."""
        self._keys += 1
        key = f"{self._name} {self._keys}"
        while await self._producer.enqueue(self._work(key=key)) is None and not self.is_over.is_set():
            await asyncio.sleep(self._pause)
        await self._enqueue(self._work(key=key))

    async def _in_transaction(self) -> None:
        params = [self._work(), self._work(delay=0.3)]
        await self._producer.enqueue_with(self._dsn, *params, commits=self._chance.random() < 0.5)

    async def _on_what_is_there(self) -> None:
        on = self._chance.sample(list(self._known), min(2, len(self._known)))
        await self._enqueue(self._work(depends_on=[Dependency(job, allow_failure=True) for job in on] or None))

    def _work(self, failures: int | None = None, **options: Any) -> EnqueueParams:
        """Some are told of, some try again, some fail; those of one attempt fail if their worker is killed."""
        chance = self._chance
        told = {name: getattr(acts, name) for name in ("on_success", "on_failure") if chance.random() < 0.3}
        often = Retry(chance.randint(2, 20), chance.choice([0, 0.1]))
        options = {"retry": chance.choice([1, often, often]), **told, **options}
        fails = chance.choice([0, 0, 0, 1]) if failures is None else failures
        return EnqueueParams(acts.work, (chance.expovariate(7), fails), **options)


async def main(name: str, seed: str, jobs: str) -> None:
    app = Werk(auto_migrate=False)
    while True:
        try:
            await app.connect()
            break
        except ServerUnreachable:
            await asyncio.sleep(0.1)
    traffic = Traffic(app, name, int(seed), float(jobs))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, traffic.is_over.set)
    await traffic.run()
    await app.disconnect()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    os._exit(0)
