"""Queues that rest, what is known of them at a glance, and what was counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg

from pgwerk import AsyncWorker, EnqueueParams, JobStatus, Retry, Werk, overview
from pgwerk.explaining import MOST_COUNTED
from pgwerk.maintenance import Maintenance
from pgwerk.worker.tally import INTERVAL
from tests import handlers
from tests.feature.test_control import runs, working
from tests.feature.test_what_follows import asked, drain

if TYPE_CHECKING:
    import pytest

    from pgwerk import QueueInfo


async def told(app: Werk, queue: str = "default") -> QueueInfo:
    (found,) = [each for each in await app.list_queues() if each.queue == queue]
    return found


async def test_nobody_claims_from_a_paused_queue_until_it_is_resumed(app: Werk) -> None:
    first, other = await asked(app, handlers.noop), await asked(app, handlers.noop, _queue="other")
    assert [await app.pause_queue("default") for _ in range(2)] == [True, False]
    await AsyncWorker(app, ["default", "other"], burst=True).run()
    assert (await app.get_job(first)).status == JobStatus.Queued
    assert (await app.get_job(other)).status == JobStatus.Complete
    assert (await app.explain_job(first)).reasons[0].startswith("its queue 'default' is paused since ")
    assert (await told(app)).paused_at is not None
    assert [await app.resume_queue("default") for _ in range(2)] == [True, False]
    await drain(app)
    assert (await app.get_job(first)).status == JobStatus.Complete
    assert (await told(app)).paused_at is None


async def test_a_worker_at_work_hears_of_a_pause_and_of_its_end(app: Werk) -> None:
    """Idle, it polls every ten minutes: only the word of the end can wake it."""
    async with working(app, queues=["default", "other"], poll_interval=600):
        going_on = await asked(app, handlers.sleep, 60)
        await runs(app, going_on)
        await app.pause_queue("default")
        resting = await app.enqueue_many([EnqueueParams(handlers.noop) for _ in range(3)])
        for _ in range(3):
            await app.wait_for(await asked(app, handlers.noop, _queue="other"), timeout=20)
        assert {job.status for job in await app.list_jobs(queue="default")} == {JobStatus.Queued, JobStatus.Active}
        await app.resume_queue("default")
        assert [(await app.wait_for(job, timeout=20)).status for job in resting if job] == [JobStatus.Complete] * 3


async def test_a_queue_at_a_glance(app: Werk, query: Any) -> None:
    await app.enqueue_many(
        [EnqueueParams(handlers.noop, priority=n % 3, group="g" if n > 3 else None) for n in range(5)]
    )
    await app.enqueue_many([EnqueueParams(handlers.noop, queue="many") for _ in range(MOST_COUNTED + 1)])
    waits_for = await asked(app, handlers.noop, _delay=60)
    await asked(app, handlers.noop, _depends_on=waits_for)
    oldest = min(job.enqueued_at for job in await app.list_jobs(queue="default"))
    found = await told(app)
    assert (found.queued, found.scheduled, found.waiting, found.active, found.workers) == (5, 1, 1, 0, 0)
    assert (found.oldest_queued_at, found.rate, found.drained_in) == (oldest, 0, None)
    assert (await told(app, "many")).queued == MOST_COUNTED
    await drain(app)
    found = await told(app)
    assert (found.queued, found.oldest_queued_at) == (0, None)
    assert 5 / 120 <= found.rate <= 5 / 60


async def test_attempts_are_counted_by_the_one_who_ends_them(app: Werk) -> None:
    for _ in range(3):
        await asked(app, handlers.noop)
    await asked(app, handlers.fail_until, 2, _retry=Retry(max=2))
    await asked(app, handlers.fail)
    await app.cancel_job(await asked(app, handlers.square, 2))
    await drain(app)
    stats = {each.function.rpartition(".")[2]: each for each in await app.get_function_stats()}
    counts = {name: (s.complete, s.failed, s.aborted, s.retried) for name, s in stats.items()}
    assert counts == {
        "noop": (3, 0, 0, 0), "fail_until": (1, 0, 0, 1), "fail": (0, 1, 0, 0), "square": (0, 0, 1, 0)
    }  # fmt: skip
    assert all(0 <= s.mean_secs <= s.longest_secs <= s.run_secs for s in stats.values())
    minutes = await app.get_throughput_history()
    assert [sum(getattr(m, n) for m in minutes) for n in ("complete", "failed", "aborted", "retried")] == [4, 1, 1, 1]
    assert await app.get_function_stats(queue="other") == []
    assert await app.get_throughput_history(queue="other") == []


async def test_a_worker_that_goes_on_tells_what_it_has_counted(app: Werk) -> None:
    async with working(app):
        await app.wait_for(await asked(app, handlers.noop), timeout=20)
        async with asyncio.timeout(20):
            while not await app.get_function_stats():
                await asyncio.sleep(0.01)


async def test_what_never_ran_takes_no_time_on_the_average(app: Werk) -> None:
    await asked(app, handlers.sleep, 0.05)
    await drain(app)
    for _ in range(9):
        await asked(app, handlers.sleep, 0.05)
    await app.bulk_cancel_jobs()
    (stats,) = await app.get_function_stats()
    assert (stats.complete, stats.aborted) == (1, 9)
    assert stats.mean_secs == stats.longest_secs >= 0.05
    assert 1 / 120 <= (await told(app)).rate <= 1 / 60


async def test_the_attempts_of_a_dead_worker_are_counted_by_whoever_takes_them_back(app: Werk, query: Any) -> None:
    for attempts in (1, 2):
        await asked(app, handlers.noop, _retry=attempts)
    query("insert into worker (name, kind, queues, concurrency, patience, state, ended_at)"
          " values ('w', 'k', '{default}', 1, 1, 'dead', now())")  # fmt: skip
    query("insert into active (job_id, worker_id, claim_no, attempt) select job_id, 1, 1, 1 from ready")
    query("delete from ready")
    await app.sweep()
    (stats,) = await app.get_function_stats()
    assert (stats.failed, stats.retried, stats.run_secs) == (1, 1, 0)


async def test_whoever_holds_the_tally_holds_up_no_job_and_no_stop(app: Werk, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as stranger:
        await stranger.execute(f'lock table "{app.config.schema}".tally')
        async with working(app) as worker:
            for _ in range(3):
                await app.wait_for(await asked(app, handlers.noop), timeout=20)
                await asyncio.sleep(INTERVAL)  # the next exchange would say what has been counted
        assert worker.id is not None
        found = await app.get_worker(worker.id)
        assert found is not None
        assert found.state == "stopped"


async def test_a_count_that_is_cut_says_so(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "MOST_COUNTED", 3)
    await app.enqueue_many([EnqueueParams(handlers.noop, queue=f"q{n % 2}", delay=60) for n in range(3)])
    assert {each.queue: each.at_least for each in await app.list_queues()} == {"q0": ["scheduled"], "q1": ["scheduled"]}
    await app.enqueue_many([EnqueueParams(handlers.noop, queue="a") for _ in range(60)])
    assert (await told(app, "a")).queued == 3
    assert (await told(app, "a")).at_least == ["queued"]


async def test_what_was_counted_is_added_up_and_at_last_forgotten(app: Werk, query: Any) -> None:
    counted_long_ago(query)
    await Maintenance(app.database, app.config).tick()
    rows = query("select grain, queue, jobs, run_secs, longest_secs from tally order by grain, queue, since")
    assert rows == [(0, "new", 1, 2, 2), (0, "new", 1, 2, 2), (1, "minutes", 2, 4, 2), (2, "hours", 2, 4, 2)]


def counted_long_ago(query: Any) -> None:
    for queue, grain, since in (
        ("new", 0, "now()"), ("minutes", 0, "date_trunc('minute', now() - interval '9 minutes')"),
        ("hours", 1, "date_trunc('hour', now() - interval '4 days')"), ("gone", 2, "now() - interval '101 days'"),
    ):  # fmt: skip
        query(
            "insert into tally (since, grain, queue, function, status, jobs, ran, run_secs, longest_secs)"
            f" select {since} + n * interval '1 second', {grain}, '{queue}', 'f',"
            " 'complete', 1, 1, 2, 2 from generate_series(1, 2) n"
        )
