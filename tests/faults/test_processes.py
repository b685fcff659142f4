"""Workers, producers and connections are struck at random moments while jobs of every kind run; then the history of
all of it is proved. PGWERK_TEST_KILLS is the number of faults (`make test-faults` says 200).
"""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from pgwerk import Werk
from tests.faults.crew import Crew
from tests.faults.history import prove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.faults.history import Log
    from tests.postgres import Postgres

FAULTS = int(os.environ.get("PGWERK_TEST_KILLS", "12"))
BEAT = float(os.environ.get("PGWERK_TEST_BEAT", "0.4"))  # seconds; after five without one a worker is dead
PATIENCE = 5 * BEAT
OPTIONS = ("--heartbeat-interval", str(BEAT), "--sweep-interval", "0.5", "--concurrency", "5")
TAKEN_BACK = 15.0  # seconds: what the guarantees promise


@pytest.mark.timeout(120 + 10 * FAULTS)
async def test_nothing_is_lost_whoever_is_struck(postgres: Postgres, schema: str, log: Log, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with Werk(postgres.dsn, schema=schema):
        pass
    with Crew(postgres.dsn, schema, log, tmp_path, chance, workers=5, spared=2, jobs=40, options=OPTIONS) as crew:
        faults: list[Callable[[], None]] = [
            crew.kill_a_worker, crew.kill_a_worker, crew.retire_a_worker, crew.cut_connections, crew.kill_the_producer,
            lambda: crew.freeze_a_worker(0.2), lambda: crew.freeze_a_worker(2 * PATIENCE),
        ]  # fmt: skip
        for _ in range(FAULTS):
            time.sleep(chance.uniform(0, 1))  # at whatever moment
            chance.choice(faults)()
            crew.thaw()
        crew.finish()
    figures = prove(log, postgres.dsn, schema)
    print(figures)
    assert figures.longest_loss <= TAKEN_BACK
