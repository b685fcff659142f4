"""Workers are killed at random moments while jobs of every kind run; at the end nothing is stuck and nothing missing.

PGWERK_TEST_KILLS is the number of kills (`make test-faults` says 200).
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

from pgwerk import Dependency, EnqueueParams, Repeat, Retry
from tests.db.race import misplaced
from tests.faults import marks
from tests.postgres import wait_until
from tests.workplace import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk import Werk

KILLS = int(os.environ.get("PGWERK_TEST_KILLS", "10"))
PROCESSES = 3
MANY = Retry(max=1000, intervals=0)  # a kill uses an attempt of every job in the worker's hands
QUICK = ("--heartbeat-interval", "0.2", "--sweep-interval", "0.2", "--concurrency", "5")
OPEN = "select count(*) from job j where not exists (select from finished f where f.job_id = j.id)"


async def test_kills_lose_and_double_nothing(app: Werk, dsn: str, schema: str, query: Any, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    marks.make_tables(dsn, schema)
    workers = [Worker(dsn, schema, tmp_path / "log", *QUICK) for _ in range(PROCESSES)]
    try:
        for _ in range(KILLS):
            await app.enqueue_many(_batch(chance))
            time.sleep(chance.uniform(0, 0.5))  # at whatever moment
            victim = chance.randrange(PROCESSES)
            workers[victim].kill()
            workers[victim] = Worker(dsn, schema, tmp_path / "log", *QUICK)
        wait_until(lambda: query(OPEN) == [(0,)], "every job has ended", 100)
    finally:
        for worker in workers:
            worker.kill()
    assert misplaced(query) == []
    _check(query)


def _batch(chance: random.Random) -> list[EnqueueParams]:
    """Some in groups, a chain with a job that may fail, a series, each with callbacks."""
    group = f"group {chance.randrange(3)}"
    told: dict[str, Any] = {"on_success": marks.ended, "on_failure": marks.ended, "on_stopped": marks.ended}
    first = EnqueueParams(marks.mark, ["first"], retry=MANY, group=group, **told)
    second = EnqueueParams(marks.mark, ["second", 0.5], depends_on=first, retry=MANY, **told)
    doomed = EnqueueParams(marks.mark, ["doomed", 1.0], retry=1, **told)
    last = EnqueueParams(
        marks.mark, ["last"], retry=MANY, depends_on=[second, Dependency(doomed, allow_failure=True)], **told
    )
    never = EnqueueParams(marks.mark, ["never"], depends_on=doomed, **told)
    series = EnqueueParams(
        marks.mark,
        ["series"],
        retry=MANY,
        repeat=Repeat(times=2, interval=0.05),
        meta={"series": chance.random()},
        **told,
    )
    grouped = [EnqueueParams(marks.mark, [group], retry=MANY, group=group, **told) for _ in range(5)]
    return [first, second, doomed, last, never, series, *grouped]


def _check(query: Any) -> None:
    ends = dict(
        query("""
        select payload -> 'args' ->> 0 || ' ' || status, count(*) from jobs where callback_of is null group by 1
    """)
    )
    named = {name.split(" ")[0] for name in ends}
    assert named == {"first", "second", "doomed", "last", "never", "series", "group"}
    assert {name: count for name, count in ends.items() if name.startswith(("doomed", "never"))} == {
        "doomed failed": KILLS, "never failed": KILLS,
    }  # fmt: skip
    assert {name: count for name, count in ends.items() if name.startswith(("first", "second", "last", "series"))} == {
        "first complete": KILLS, "second complete": KILLS, "last complete": KILLS, "series complete": 3 * KILLS,
    }  # fmt: skip
    runs = query("select meta ->> 'series', count(*) from jobs where meta ? 'series' group by 1")
    assert [count for _, count in runs] == [3] * KILLS
    callbacks = query("""
        select count(*), count(distinct callback_of), count(*) filter (where status = 'complete') from jobs
        where callback_of is not null
    """)
    assert callbacks == [(sum(ends.values()),) * 3]
    assert query("select count(*) from mark where name = 'never'") == [(0,)]
    assert query(
        "select count(*) from dependency where not is_met and job_id not in (select job_id from finished)"
    ) == [(0,)]
