"""Jobs that kill the process that they are in, among others that do no harm.

PGWERK_TEST_POISON is their number (`make test-faults` says 10000, and less where each of them ends a whole worker).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import EnqueueParams, Retry, Werk
from tests import handlers
from tests.faults import misdeeds
from tests.faults.load import CALM, PERSISTENT, QUICK, until
from tests.workplace import Worker

if TYPE_CHECKING:
    from pathlib import Path

POISON = int(os.environ.get("PGWERK_TEST_POISON", "20"))
KINDS = ("async", "process", "fork") if POISON > 20 else ("async", "process")
COUNTS = {"async": max(POISON // 20, 8), "process": POISON, "fork": POISON // 5}  # where each takes longer
BULK = 1000
_LEFT = "select (select count(*) from job) - (select count(*) from finished)"
_ENDS = """
    select payload #>> '{args,0}', status, max(attempt), count(*) from job join finished on job_id = id
    group by 1, 2 order by 1
"""


@pytest.mark.timeout(6000)
@pytest.mark.parametrize("kind", KINDS)
async def test_poison_fails_and_all_else_flows(
    app: Werk, dsn: str, schema: str, query: Any, tmp_path: Path, kind: str
) -> None:
    """Where all share one process, the poison takes others along; a process for each of them keeps them apart."""
    count, is_apart = COUNTS[kind], kind != "async"
    for start in range(0, count, BULK):
        await app.enqueue_many(_pairs(min(BULK, count - start), 1 if is_apart else PERSISTENT))
    began = time.monotonic()
    options = (*(CALM if is_apart else QUICK), "--worker-type", kind, "--processes", "2")
    worker = Worker(dsn, schema, tmp_path / "log", *options)
    try:
        await until(lambda: query(_LEFT) == [(0,)], "every job has ended", max(60, count))
        assert worker.stop() == 0
    finally:
        worker.kill()
    seconds, text = time.monotonic() - began, worker.log.read_text()
    deaths = text.count("another one takes its place in 0.5 s")
    print(f"{kind}: {count} poison jobs, {deaths} workers replaced, {count} others done, in {seconds:.0f} s")
    harmless, poison = query(_ENDS)
    assert (harmless[0], harmless[1], harmless[3]) == ("harmless", "complete", count)
    assert poison == (None, "failed", 2, count)
    assert (harmless[2] == 1 and not deaths) or not is_apart
    assert text.count("another one takes its place") == deaths  # those after them did not wait ever longer


def _pairs(count: int, retry: int | Retry) -> list[EnqueueParams]:
    poison = EnqueueParams(misdeeds.poison, retry=Retry(max=2, intervals=0))
    return [poison, EnqueueParams(handlers.echo, ["harmless"], retry=retry)] * count
