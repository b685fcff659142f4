"""Many processes and few groups: never two of a group at once, each group in its order, and nothing left.

PGWERK_TEST_GROUPED is the number of jobs (`make test-faults` says 20000).
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from pgwerk import EnqueueParams
from tests.faults import acts
from tests.faults.history import prove
from tests.faults.producing import Producer
from tests.postgres import wait_until
from tests.workplace import workers

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk import Werk
    from tests.faults.history import Log

JOBS = int(os.environ.get("PGWERK_TEST_GROUPED", "5000"))
GROUPS, PROCESSES = 40, 6


async def test_a_group_is_never_beside_itself(
    app: Werk, dsn: str, schema: str, query: Any, log: Log, tmp_path: Path
) -> None:
    chance = random.Random(7)
    params = [
        EnqueueParams(
            acts.work, [chance.uniform(0, 0.005)], group=f"group {chance.randrange(GROUPS)}",
            priority=chance.randrange(3),
        )
        for _ in range(JOBS)
    ]  # fmt: skip
    await Producer(app, log, "p").enqueue(*params)
    with workers(PROCESSES, dsn, schema, tmp_path / "log", "--sweep-interval", "3600") as started:
        wait_until(lambda: query("select count(*) from finished") == [(JOBS,)], "every job has ended", 110)
        assert [worker.stop() for worker in started] == [0] * PROCESSES
    assert query("select status, count(*) from finished group by 1") == [("complete", JOBS)]
    assert prove(log, dsn, schema).runs == JOBS
    logs = "".join((tmp_path / f"log.{number}").read_text() for number in range(PROCESSES))
    assert "deadlock" not in logs
    assert "failed" not in logs
