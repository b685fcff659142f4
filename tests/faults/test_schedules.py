"""Schedulers and workers are killed at random moments; each tick has one job, which has run, and none is missing.

PGWERK_TEST_SCHEDULED is for how many seconds (`make test-faults` says 600).
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING, Any

from tests import handlers
from tests.postgres import wait_until
from tests.workplace import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk import Werk

SECONDS = float(os.environ.get("PGWERK_TEST_SCHEDULED", "6"))
SCHEDULES, SCHEDULERS, WORKERS = 10, 2, 4
QUICK = ("--heartbeat-interval", "0.2", "--sweep-interval", "0.2")
CREW = [(*QUICK, "--schedules", "--queues", "none")] * SCHEDULERS + [QUICK] * WORKERS
SLOWEST = "select extract(epoch from min(last_run_at) - min(created_at)) from schedule"
OPEN = "select count(*) from job j where not exists (select from finished f where f.job_id = j.id)"
TICKS = """
    select schedule_name, min(scheduled_at), count(*), count(distinct key),
        1 + extract(epoch from max(scheduled_at) - min(scheduled_at)), bool_and(status = 'complete')
    from jobs group by 1
"""


async def test_each_tick_is_one_job_whoever_is_killed(
    app: Werk, dsn: str, schema: str, query: Any, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    made = [
        await app.create_schedule(handlers.noop, name=f"s{number}", interval=1, missed="all", retry=1000)
        for number in range(SCHEDULES)
    ]
    crew = [Worker(dsn, schema, tmp_path / "log", *options) for options in CREW]
    kills = 0
    try:
        wait_until(lambda: query(SLOWEST)[0][0], "each has fired", 60)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            victim = chance.randrange(len(CREW))
            crew[victim].kill()
            crew[victim] = Worker(dsn, schema, tmp_path / "log", *CREW[victim])
            kills += 1
            time.sleep(chance.uniform(0, 1))  # at whatever moment
        reached = query(SLOWEST)[0][0] + 2
        wait_until(lambda: query(SLOWEST)[0][0] >= reached, "each fires again", 60)
        query("update schedule set is_paused = true")
        wait_until(lambda: query(OPEN) == [(0,)], "every job has ended", 100)
    finally:
        for worker in crew:
            worker.kill()
    found = query(TICKS)
    print(f"{kills} kills, {sum(count for _, _, count, *_ in found)} ticks")
    assert {name: first for name, first, *_ in found} == {each.name: each.next_run_at for each in made}
    for _, _, count, keys, seconds, have_run in found:
        assert (count, keys, have_run) == (seconds, seconds, True)
