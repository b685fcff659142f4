"""Many processes and few groups: never two of a group at once, each group in its order, and nothing left.

PGWERK_TEST_GROUPED is the number of jobs (`make test-faults` says 20000).
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

from pgwerk import EnqueueParams, JobStatus
from tests.db.race import misplaced
from tests.faults import marks
from tests.postgres import wait_until
from tests.workplace import workers

if TYPE_CHECKING:
    from pathlib import Path

    from pgwerk import Werk

JOBS = int(os.environ.get("PGWERK_TEST_GROUPED", "5000"))
GROUPS, PROCESSES = 40, 6


async def test_a_group_is_never_beside_itself(app: Werk, dsn: str, schema: str, query: Any, tmp_path: Path) -> None:
    marks.make_tables(dsn, schema)
    chance = random.Random(7)
    params = [
        EnqueueParams(
            marks.alone, [chance.uniform(0, 0.005)], group=f"group {chance.randrange(GROUPS)}",
            priority=chance.randrange(3),
        )
        for _ in range(JOBS)
    ]  # fmt: skip
    jobs = [job for job in await app.enqueue_many(params) if job]
    with workers(PROCESSES, dsn, schema, tmp_path / "log", "--sweep-interval", "3600") as started:
        wait_until(lambda: query("select count(*) from finished") == [(JOBS,)], "every job has ended", 110)
        assert [worker.stop() for worker in started] == [0] * PROCESSES
    assert query("select status, count(*) from finished group by 1") == [("complete", JOBS)]
    assert query("select count(*) from beside") == [(0,)]
    assert misplaced(query) == []
    for group in {job.group_key for job in jobs}:
        asked = [job for job in jobs if job.group_key == group]
        ran = [job_id for (job_id,) in query("select job_id from mark where name = %s order by id", group)]
        assert ran == [job.id for job in sorted(asked, key=lambda job: (-job.priority, job.id))]
    logs = "".join((tmp_path / f"log.{number}").read_text() for number in range(PROCESSES))
    assert "deadlock" not in logs
    assert "failed" not in logs
    assert {(await app.get_job(job)).status for job in jobs[:20]} == {JobStatus.Complete}
