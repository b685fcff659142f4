"""Jobs that go on coming while something breaks, what their producer was told of them, and the proof that nothing of it
was lost or done twice.

PGWERK_TEST_ROUNDS is how often each fault strikes (`make test-faults` says 20).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg

from pgwerk import Context, EnqueueParams, Retry, Werk, WerkError
from tests import handlers
from tests.db.race import misplaced
from tests.postgres import DEADLINE, rows

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = int(os.environ.get("PGWERK_TEST_ROUNDS", "1"))
PERSISTENT = Retry(max=1000, intervals=0)  # a lost worker uses an attempt of every job in its hands
PATIENCE = 2.0  # seconds that those workers have with each other
QUICK = ("--heartbeat-interval", str(PATIENCE / 5), "--sweep-interval", "0.2", "--concurrency", "5")
PAUSE = 0.02  # seconds between two enqueues

_NAMES = "select payload #>> '{args,0}', id from job where callback_of is null"
_OPEN = "select count(*) from job where id not in (select job_id from finished)"
_ENDS = "select status, count(*) from finished group by 1"
_MISTOLD = """
    select job.id, count(callback.id), count(*) filter (where finished.status = 'complete')
    from job left join job callback on callback.callback_of = job.id
        left join finished on finished.job_id = callback.id
    where job.callback_of is null group by 1 having count(callback.id) <> 1
"""
_LAST_RUNS = """
    select job_id, attempt from finished join job on job.id = job_id
    where status = 'complete' and callback_of is null
"""


async def run(ctx: Context, name: str, log: str, seconds: float) -> str:
    """A handler that tells of each of its runs, in a place that no fault of the database reaches."""
    await handlers.write(log, f"{name} {ctx.job.id} {ctx.job.attempts} {os.getpid()}")
    await asyncio.sleep(seconds)
    return name


class Run(NamedTuple):
    name: str
    job_id: int
    attempt: int
    pid: int

    @property
    def number(self) -> int:
        return int(self.name.split("-")[1])


class Load:
    """`async with Load(app, log) as load:`, break what is to break, `await load.drained(dsn)`, `load.prove(dsn)`."""

    def __init__(self, app: Werk, log: Path) -> None:
        self.seed = random.randrange(10**6)
        self.chance = random.Random(self.seed)
        self.told: set[str] = set()
        """The database has promised these."""

        self.unsure: dict[str, Exception] = {}
        """Enqueued, and answered by an error: they may be there or not."""

        self.undone: set[str] = set()
        """Enqueued by a transaction that was rolled back."""

        self._app, self._log = app, log
        log.touch()
        self._numbers = itertools.count()
        self._steps = [self._one, self._some, self._within]

    async def __aenter__(self) -> Self:
        self._producer = asyncio.create_task(self._produce())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._producer.cancel()
        await asyncio.gather(self._producer, return_exceptions=True)

    async def stop(self) -> None:
        """What is under way is waited for: only so its producer knows what became of it."""
        self._is_over = True
        await self._producer

    _is_over = False

    async def _produce(self) -> None:
        while not self._is_over:
            names = [f"job-{next(self._numbers)}" for _ in range(4)]
            try:
                await self.chance.choice(self._steps)(*names)
            except (WerkError, psycopg.Error) as error:
                self.unsure |= dict.fromkeys(set(names) - self.told, error)
            await asyncio.sleep(PAUSE)

    def _params(self, name: str, **options: Any) -> EnqueueParams:
        arguments = (name, str(self._log), self.chance.uniform(0, 0.03))
        return EnqueueParams(run, arguments, retry=PERSISTENT, on_success=handlers.remember, **options)

    async def _one(self, *names: str) -> None:
        """Each with a call of its own, some at the same time."""
        params = [self._params(name) for name in names]
        ends = await asyncio.gather(*[self._app.enqueue_many([each]) for each in params], return_exceptions=True)
        self.told |= {name for name, end in zip(names, ends, strict=True) if not isinstance(end, BaseException)}
        for error in ends:
            if isinstance(error, BaseException):
                raise error

    async def _some(self, *names: str) -> None:
        group = f"group {self.chance.randrange(3)}"
        first, *others = names
        before = self._params(first, group=group)
        await self._app.enqueue_many([before, *[self._params(name, group=group, depends_on=before) for name in others]])
        self.told |= set(names)

    async def _within(self, *names: str) -> None:
        """In a transaction of the producer's own, that ends as it likes."""
        async with await psycopg.AsyncConnection.connect(self._app.database.dsn, prepare_threshold=None) as connection:
            for name in names:
                each = self._params(name)
                await self._app.enqueue(
                    run, *each.args, _retry=PERSISTENT, _on_success=handlers.remember, _conn=connection
                )
            if self.chance.random() < 0.5:
                self.undone |= set(names)
                await connection.rollback()
                return
        self.told |= set(names)

    def ran(self) -> list[Run]:
        """Those so far."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [Run(name, *map(int, numbers)) for name, *numbers in lines]

    async def recovery(self, since: float | None = None, pid: int | None = None) -> float:
        """Seconds until a job has run that is enqueued from now on, in a certain process or in any."""
        began, before = since or time.monotonic(), next(self._numbers)
        await until(lambda: any(run.number > before and pid in (None, run.pid) for run in self.ran()), "a new job runs")
        return time.monotonic() - began

    async def drained(self, dsn: str, schema: str) -> None:
        await self.stop()
        await until(lambda: rows(_at(dsn, schema), _OPEN) == [(0,)], "every job has ended", 110)

    def prove(self, dsn: str, schema: str) -> str:
        """The figures, once nothing is under way any more."""

        def query(text: str) -> list[tuple[Any, ...]]:
            return rows(_at(dsn, schema), text)

        names = Counter(name for name, _ in query(_NAMES))
        assert set(names.values()) == {1}, [name for name, count in names.items() if count > 1]
        assert self.told - set(names) == set(), "lost"
        assert set(names) - self.told <= self.unsure.keys(), "nobody knows of them"
        assert {status for status, _ in query(_ENDS)} == {"complete"}
        assert misplaced(query) == []
        assert query(_MISTOLD) == []
        runs = Counter((run.job_id, run.attempt) for run in self.ran())
        assert [run for run, count in runs.items() if count > 1] == [], "one attempt was started twice"
        assert set(query(_LAST_RUNS)) <= runs.keys()
        assert self.undone.isdisjoint(run.name for run in self.ran())
        return (
            f"{len(names)} jobs in {sum(runs.values())} runs, {len(self.told)} promised, {len(self.unsure)} answered "
            f"by an error ({len(self.unsure.keys() & names.keys())} of them there), {len(self.undone)} undone, 0 lost, "
            f"0 twice, seed {self.seed}"
        )


def _at(dsn: str, schema: str) -> str:
    return psycopg.conninfo.make_conninfo(dsn, options=f"-c search_path={schema}")


async def until(fact: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """As `wait_until`, while the loop goes on."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return found
