"""Worker processes that are killed, stopped and cut off from the server, on a real server."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pgwerk import EnqueueParams, JobStatus, Werk
from tests import handlers
from tests.postgres import rows, running, wait_until
from tests.workplace import Worker, workers

if TYPE_CHECKING:
    from pathlib import Path

OUTAGE = float(os.environ.get("PGWERK_TEST_OUTAGE", "12"))  # seconds; more than anybody's patience (10)
TAKEN_BACK = 15.0  # seconds: what the guarantees promise


async def test_a_killed_workers_job_runs_elsewhere_within_15_seconds(
    app: Werk, dsn: str, schema: str, tmp_path: Path
) -> None:
    facts = tmp_path / "facts"
    job = await app.enqueue(handlers.write_and_sleep, str(facts), "started", 3600.0, _retry=3)
    assert job is not None
    victim = Worker(dsn, schema, tmp_path / "victim")
    try:
        wait_until(facts.exists, "the job runs")
        with workers(1, dsn, schema, tmp_path / "other"):
            wait_until(lambda: rows(dsn, f"select from {schema}.worker offset 1"), "the other worker is there")
            victim.kill()
            killed = time.monotonic()
            wait_until(lambda: facts.read_text().count("started") == 2, "it runs again", TAKEN_BACK)
            assert time.monotonic() - killed <= TAKEN_BACK
    finally:
        victim.kill()
    history = await app.get_executions(job)
    assert [each.attempt for each in history] == [1, 2]
    assert history[0].error is not None and history[0].error.endswith("lost")


async def test_sigterm_hands_a_long_job_back(app: Werk, dsn: str, schema: str, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    job = await app.enqueue(handlers.write_and_sleep, str(facts), "started", 3600.0)
    assert job is not None
    with workers(1, dsn, schema, tmp_path / "log", "--shutdown-timeout", "0.2") as (worker,):
        wait_until(facts.exists, "the job runs")
        assert worker.stop() == 0
    back = await app.get_job(job)
    assert (back.status, back.attempts) == (JobStatus.Queued, 0)
    assert rows(dsn, f"select state from {schema}.worker") == [("stopped",)]


def _counts(dsn: str, schema: str) -> dict[str, int]:
    found = rows(dsn, f"select status, count(*) from {schema}.jobs group by 1")
    return dict(found)


async def test_an_outage_loses_nothing_and_rescues_nobody(tmp_path: Path) -> None:
    """Four busy workers; the server goes away for longer than their patience with each other, and comes back."""
    schema = "outage"
    with running(tmp_path / "server" / "data") as server:
        async with Werk(server.dsn, schema=schema) as app:
            await app.enqueue_many(
                [EnqueueParams(handlers.sleep, (0.2,)) for _ in range(300)]
                + [EnqueueParams(handlers.sleep, (OUTAGE + 2,), priority=1) for _ in range(8)]
            )
        with workers(4, server.dsn, schema, tmp_path / "log") as crew:
            wait_until(lambda: _counts(server.dsn, schema).get("complete", 0) > 20, "they are at work")
            server.stop()
            away = time.monotonic()
            wait_until(lambda: time.monotonic() - away > OUTAGE, "the outage", OUTAGE + 5)
            server.start()
            wait_until(lambda: _counts(server.dsn, schema) == {"complete": 308}, "everything is done")
            assert [worker.stop() for worker in crew] == [0, 0, 0, 0]
        assert rows(server.dsn, f"select max(attempt) from {schema}.finished") == [(1,)]
        assert rows(server.dsn, f"select count(*) from {schema}.attempt") == [(0,)]
        assert rows(server.dsn, f"select count(distinct worker_id), count(*) from {schema}.finished") == [(4, 308)]
        assert rows(server.dsn, f"select count(*) from {schema}.worker where state = 'stopped'") == [(4,)]
    for worker in crew:
        lines = worker.log.read_text().splitlines()
        assert sum("has lost Postgres" in line for line in lines) == 1, lines
        assert sum("has Postgres again" in line for line in lines) == 1, lines
        assert not [line for line in lines if "Traceback" in line or "taken" in line], lines
