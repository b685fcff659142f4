"""Jobs that go on coming while something breaks; at the end the history must be one that the guarantees allow.

PGWERK_TEST_ROUNDS is how often each fault strikes (`make test-faults` says 20).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Any, Self

from psycopg.conninfo import make_conninfo

from pgwerk import EnqueueParams, Repeat, Retry, Werk
from tests.faults import acts
from tests.faults.crew import BEAT, HASTY, PATIENCE
from tests.faults.history import prove
from tests.faults.producing import Producer
from tests.postgres import DEADLINE, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.history.log import Log

ROUNDS = int(os.environ.get("PGWERK_TEST_ROUNDS", "1"))
PERSISTENT = Retry(max=1000, intervals=0)  # a lost worker uses an attempt of every job in its hands
QUICK = ("--heartbeat-interval", str(BEAT), "--sweep-interval", "0.2", "--concurrency", "5")
CALM = ("--heartbeat-interval", "2", *QUICK[2:])  # even on a busy machine nobody seems dead
RECOVERED = 5.0 if ROUNDS > 1 else DEADLINE  # seconds; the short form measures nothing, a machine may be too busy
MOST_AHEAD = 50  # calls of the producer whose first jobs have not run

_OPEN = "select count(*) from job where id not in (select job_id from finished)"
_NOW = "select coalesce(max(tick), 0) from asked"
_PROGRESS = """
    select (select count(*) from answered where call like 'load/%' and ids is not null),
        (select count(*) from run where name like 'load/%.1')
"""
_RAN = """
    select worker_id from run join asked on call = split_part(name, '.', 1)
    where asked.tick > %s and worker_id = any (%s)
"""
_PIDS = "select substring(name from '[0-9]+$')::integer from worker"
_WORKERS = "select id from worker where name like '%%:' || %s"


class Load:
    """`async with Load(app, log, dsn) as load:`, break what is to break, `await load.drained()`, `load.prove()`.

    `dsn` is a way to the tables that is never broken when it is used, `pause` is between two calls of the producer.
    """

    def __init__(self, app: Werk, log: Log, dsn: str, pause: float = 0.02) -> None:
        self.seed = random.randrange(10**6)
        print(f"seed {self.seed}")
        self.chance = random.Random(self.seed)
        self.dsn = dsn
        self._app, self._log, self._schema = app, log, app.config.schema
        self._producer = Producer(app, log, "load")
        self._pause = pause
        self._is_over = False

    async def __aenter__(self) -> Self:
        self._producing = asyncio.create_task(self._produce())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._producing.cancel()
        await asyncio.gather(self._producing, return_exceptions=True)

    async def _produce(self) -> None:
        """Every call is waited for: only so its outcome is known."""
        enqueue, dsn = self._producer.enqueue, self._app.database.dsn
        while not self._is_over:
            while self._is_far_ahead():
                await asyncio.sleep(self._pause)
            match self.chance.randrange(3):
                case 0:
                    await asyncio.gather(*[enqueue(self._params()) for _ in range(4)])
                case 1:
                    await enqueue(*self._family())
                case _:
                    commits = self.chance.random() < 0.5
                    await self._producer.enqueue_with(dsn, self._params(), self._params(), commits=commits)
            await asyncio.sleep(self._pause)

    def _is_far_ahead(self) -> bool:
        """So that a new job always has its turn soon, however slow the machine is."""
        ((asked, ran),) = rows(self._log.dsn, _PROGRESS)
        return bool(asked - ran > MOST_AHEAD)

    def _family(self) -> list[EnqueueParams]:
        group = f"group {self.chance.randrange(3)}"
        first = self._params(group=group)
        second = self._params(group=group, repeat=Repeat(1, interval=0.1))
        return [first, second, self._params(depends_on=[first, second])]

    def _params(self, **options: Any) -> EnqueueParams:
        seconds = self.chance.uniform(0, 0.03)
        return EnqueueParams(acts.work, [seconds], retry=PERSISTENT, on_success=acts.on_success, **options)

    async def recovery(self, since: float | None = None, pid: int | None = None) -> float:
        """Seconds until a job has run that was asked for from now on, in a certain process or in any."""
        began = since or time.monotonic()
        ((now,),) = rows(self._log.dsn, _NOW)
        pattern = "%" if pid is None else str(pid)

        def has_run() -> bool:
            ids = [number for (number,) in self._query(_WORKERS, pattern)]
            return bool(rows(self._log.dsn, _RAN, now, ids))

        await until(has_run, "a new job runs")
        return time.monotonic() - began

    async def drained(self) -> None:
        self._is_over = True
        await self._producing
        await until(lambda: self._query(_OPEN) == [(0,)], "every job has ended", 110)

    def prove(self) -> str:
        """The figures, once nothing is under way any more."""
        if PATIENCE < HASTY:
            for (pid,) in self._query(_PIDS):
                self._log.fault("a hasty worker", pid)
        figures = prove(self._log, self.dsn, self._schema)
        named = ", ".join(f"{count} {name}" for name, count in figures._asdict().items())
        return f"{named}; nothing lost, nothing twice"

    def _query(self, text: str, *values: Any) -> list[tuple[Any, ...]]:
        return rows(make_conninfo(self.dsn, options=f"-c search_path={self._schema}"), text, *values)


async def until(fact: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """As `wait_until`, while the loop goes on."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return found
