"""Workers, producers and connections are struck at random moments while jobs of every kind run; then the history of
all of it is proved. PGWERK_TEST_KILLS is the number of faults (`make test-faults` says 200).
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pgwerk import EnqueueParams, Werk
from tests.faults import acts, strikes
from tests.faults.crew import Crew
from tests.faults.history import prove
from tests.faults.producing import Producer
from tests.postgres import rows, wait_until
from tests.workplace import workers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.history import Log
    from tests.postgres import Postgres

FAULTS = int(os.environ.get("PGWERK_TEST_KILLS", "8"))
TAKEN_BACK = 15.0  # seconds: what the guarantees promise


@pytest.mark.timeout(120 + 10 * FAULTS)
async def test_nothing_is_lost_whoever_is_struck(postgres: Postgres, schema: str, log: Log, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with Werk(postgres.dsn, schema=schema):
        pass
    with Crew(postgres.dsn, schema, log, tmp_path, chance, workers=5, spared=2, jobs=100) as crew:
        for _ in range(FAULTS):
            time.sleep(chance.uniform(0, 1))  # at whatever moment
            chance.choice(strikes.on_processes(crew))()
            crew.thaw()
        crew.finish()
    figures = prove(log, postgres.dsn, schema)
    print(figures)
    assert figures.longest_loss <= TAKEN_BACK


async def test_a_worker_that_wakes_up_after_its_death_stores_nothing(
    postgres: Postgres, schema: str, log: Log, tmp_path: Path
) -> None:
    """It goes on with its job as if nothing had happened; in the meantime another one has ended that."""
    options = ("--heartbeat-interval", "0.2", "--sweep-interval", "0.2")
    async with Werk(postgres.dsn, schema=schema) as app:
        with workers(1, postgres.dsn, schema, tmp_path / "zombie", *options) as (zombie,):
            (job,) = await Producer(app, log, "p").enqueue(EnqueueParams(acts.work, [1.5], retry=2)) or [None]
            assert job is not None
            wait_until(lambda: rows(log.dsn, "select from run"), "the job runs")
            log.fault("a worker stopped", zombie.process.pid)
            zombie.process.send_signal(signal.SIGSTOP)
            with workers(1, postgres.dsn, schema, tmp_path / "other", *options) as (other,):
                assert (await app.wait_for(job, 40)).attempts == 2
                assert other.stop() == 0
            zombie.process.send_signal(signal.SIGCONT)
            starts = f"select from {schema}.worker"
            wait_until(lambda: len(rows(postgres.dsn, starts)) == 3, "it knows, and has begun anew")
            assert zombie.stop() == 0
    assert prove(log, postgres.dsn, schema).lost == 1
