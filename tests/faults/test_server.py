"""The server is restarted and crashes at random moments under load; then the history of all of it is proved.
PGWERK_TEST_RESTARTS is how often (`make test-faults` says 60).
"""

from __future__ import annotations

import os
import random
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

from pgwerk import Werk
from tests.faults import strikes
from tests.faults.crew import Crew
from tests.faults.history import prove
from tests.postgres import rows, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.history import Log
    from tests.postgres import Postgres

RESTARTS = int(os.environ.get("PGWERK_TEST_RESTARTS", "4"))
AT_WORK_AGAIN = 5.0  # seconds: what the guarantees promise, from the server's first answer on


@pytest.mark.timeout(120 + 20 * RESTARTS)
async def test_nothing_is_lost_however_the_server_ends(
    postgres: Postgres, schema: str, log: Log, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with Werk(postgres.dsn, schema=schema):
        pass
    waits: dict[str, list[float]] = {}
    with Crew(postgres.dsn, schema, log, tmp_path, chance, workers=3, spared=0, jobs=100, beat=2) as crew:
        ends = strikes.on_server(postgres, crew)
        for name in islice(cycle(chance.sample([*ends], len(ends))), RESTARTS):
            time.sleep(chance.uniform(0, 1))  # at whatever moment
            ends[name]()
            waits.setdefault(name, []).append(_until_at_work(crew))
        crew.finish()
    figures = prove(log, postgres.dsn, schema)
    print(figures, {name: f"{len(each)} times, {max(each):.2f} s at most" for name, each in waits.items()})
    assert max(max(each) for each in waits.values()) <= AT_WORK_AGAIN


def _until_at_work(crew: Crew) -> float:
    """Seconds until a job ends that ended after now."""
    ((now,),) = rows(crew.dsn, "select clock_timestamp()")
    began = time.monotonic()
    ended = f"select 1 from {crew.schema}.finished where status in ('complete', 'failed') and finished_at > %s limit 1"
    wait_until(lambda: rows(crew.dsn, ended, now), "a job ends")
    return time.monotonic() - began
