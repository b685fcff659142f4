"""Why a job is where it is."""

from __future__ import annotations

from typing import Any

import pytest

from pgwerk import JobNotFound, Retry, Werk
from tests import handlers
from tests.feature.test_what_follows import asked, drain

BUSY = "insert into active (job_id, worker_id, claim_no, attempt, group_key) values (%s, 999, 1, 1, %s)"
WORKER = """
    insert into worker (id, name, kind, queues, concurrency, patience)
    values (999, 'there:1', 'k', '{default}', 1, 1000)
"""
NOBODY = "no live worker takes jobs from its queue 'default'"


async def reasons(app: Werk, job: Any) -> list[str]:
    return (await app.explain_job(job)).reasons


async def test_a_queue_without_a_worker_and_one_with(app: Werk, query: Any) -> None:
    jobs = [await asked(app, handlers.noop) for _ in range(3)]
    assert await reasons(app, jobs[0]) == ["it is the next of its queue", NOBODY]
    query(WORKER)
    assert await reasons(app, jobs[2]) == ["2 jobs of its queue come before it"]
    await asked(app, handlers.noop, _priority=1)
    await asked(app, handlers.noop, _priority=1, _queue="other")
    assert await reasons(app, jobs[2]) == ["3 jobs of its queue come before it"]


async def test_the_pace_says_when_it_starts(app: Werk, query: Any) -> None:
    query(WORKER)
    for _ in range(6):
        await asked(app, handlers.noop)
    await drain(app)
    jobs = [await asked(app, handlers.noop) for _ in range(3)]
    (reason,) = await reasons(app, jobs[2])
    words, seconds, _ = reason.rsplit(" ", 2)
    assert words == "2 jobs of its queue come before it; at the pace of the last minute it starts in about"
    assert 20 <= int(seconds) <= 40
    await app.pause_queue("default")
    assert (await reasons(app, jobs[2]))[1:] == ["2 jobs of its queue come before it"]


async def test_a_time_to_come_and_a_time_that_has(app: Werk, query: Any) -> None:
    query(WORKER)
    job = await asked(app, handlers.noop, _delay=3600)
    assert job.scheduled_at is not None
    assert await reasons(app, job) == [f"it is due at {job.scheduled_at:%Y-%m-%d %H:%M:%S} UTC"]
    query("update scheduled set due = '2026-01-01Z'")
    assert await reasons(app, job) == [
        "it has been due since 2026-01-01 00:00:00 UTC, and is about to be queued by a worker"
    ]


async def test_an_attempt_that_failed(app: Werk) -> None:
    job = await asked(app, handlers.fail, _retry=Retry(3, 3600))
    await drain(app)
    due, nobody, failed = await reasons(app, job)
    assert due.startswith("it is due at ")
    assert (nobody, failed) == (NOBODY, "attempt 1 of 3 has failed: ValueError: on purpose")


async def test_dependencies(app: Werk, query: Any) -> None:
    query(WORKER)
    first, second = await asked(app, handlers.noop), await asked(app, handlers.noop, _delay=60)
    job = await asked(app, handlers.noop, _depends_on=[first, second])
    assert await reasons(app, job) == [
        f"it waits for job {first.id} (tests.handlers.noop), which is queued",
        f"it waits for job {second.id} (tests.handlers.noop), which is scheduled",
    ]


async def test_a_busy_group(app: Werk, query: Any) -> None:
    query(WORKER)
    first, second, third = [await asked(app, handlers.noop, _group="g") for _ in range(3)]
    query("delete from ready where job_id = %s", first.id)
    query(BUSY, first.id, "g")
    await drain(app)
    for job in (second, third):
        (reason,) = await reasons(app, job)
        assert reason.startswith(
            f"its group 'g' is busy: job {first.id} (tests.handlers.noop), which is active on worker there:1 since "
        )
    query("delete from active")
    assert await reasons(app, third) == [
        f"its group 'g' is busy: before it comes job {second.id} (tests.handlers.noop), which is queued"
    ]
    assert await reasons(app, second) == ["its group 'g' is busy, and about to be free"]


async def test_what_runs_and_what_has_ended(app: Werk, query: Any) -> None:
    query(WORKER)
    job = await asked(app, handlers.noop)
    query("delete from ready")
    query(BUSY, job.id, None)
    (reason,) = await reasons(app, job)
    assert reason.startswith("it runs on worker there:1 since ")
    assert reason.endswith("attempt 1 of 1")
    assert await app.abort_job(job)
    assert (await reasons(app, job))[0].endswith("attempt 1 of 1, and somebody has asked for its end")
    failed = await asked(app, handlers.fail)
    await drain(app)
    (reason,) = await reasons(app, failed)
    assert reason.startswith("it has ended: failed at ")
    assert reason.endswith(": ValueError: on purpose")


async def test_no_job(app: Werk) -> None:
    with pytest.raises(JobNotFound):
        await app.explain_job(4711)
