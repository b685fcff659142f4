"""One at a time, and out of the way of everybody else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pgwerk import AsyncWorker, EnqueueParams, JobStatus, Retry, Werk
from pgwerk.store.exchange import ExchangeStore
from pgwerk.worker.exchange import GROUPLESS
from tests import handlers
from tests.feature.test_what_follows import asked, drain, ends

if TYPE_CHECKING:
    import pytest

    from pgwerk import Job

RUNNING: dict[str, int] = {}
MOST: dict[str, int] = {}
ORDER: list[int] = []


async def note(group: str, number: int) -> None:
    RUNNING[group] = RUNNING.get(group, 0) + 1
    MOST[group] = max(MOST.get(group, 0), RUNNING[group])
    ORDER.append(number)
    await asyncio.sleep(0.01)
    RUNNING[group] -= 1


async def test_group_has_at_most_one_active_job_over_all_queues_and_workers(app: Werk) -> None:
    MOST.clear()
    await app.enqueue_many(
        [EnqueueParams(note, [f"g{n % 3}", n], group=f"g{n % 3}", queue=f"q{n % 2}") for n in range(30)]
    )
    await asyncio.gather(*[AsyncWorker(app, queues, burst=True).run() for queues in (["q0", "q1"], ["q1"], ["q0"])])
    await AsyncWorker(app, ["q0", "q1"], burst=True).run()
    assert MOST == {"g0": 1, "g1": 1, "g2": 1}
    assert {job.status for job in await app.list_jobs()} == {JobStatus.Complete}


async def test_group_runs_in_priority_and_arrival_order(app: Werk) -> None:
    ORDER.clear()
    await app.enqueue_many([EnqueueParams(note, ["g", n], group="g", priority=n % 3) for n in range(12)])
    await drain(app)
    assert sorted(range(12), key=lambda n: (-(n % 3), n)) == ORDER


async def test_a_busy_group_never_holds_up_other_jobs(app: Werk, query: Any) -> None:
    hold = await _held(app, query)
    others = await app.enqueue_many([EnqueueParams(handlers.noop, group="busy") for _ in range(2500)])
    free = await asked(app, handlers.noop)
    worker = AsyncWorker(app, concurrency=2)
    running = asyncio.create_task(worker.run())
    assert (await app.wait_for(free, timeout=20)).status == JobStatus.Complete
    assert query("select count(*) from blocked") == [(len(others),)]
    assert query("select count(*) from ready") == [(0,)]
    worker.stop()
    await running
    query("delete from active where job_id = %s", hold)
    assert query("select count(*) from finished where status <> 'complete'") == [(0,)]


async def test_a_retry_lets_the_next_one_of_its_group_run_meanwhile(app: Werk) -> None:
    first = await asked(app, handlers.fail_until, 2, _group="g", _retry=Retry(2, 3600))
    second = await asked(app, handlers.noop, _group="g")
    await drain(app)
    assert await ends(app, second) == [("complete", None)]
    assert (await app.get_job(first)).status == JobStatus.Scheduled


async def test_cancelling_what_stands_in_the_way_frees_the_next(app: Werk, query: Any) -> None:
    """Behind an entry that was ready, not active."""
    hold = await _held(app, query)
    first, second = [await asked(app, handlers.noop, _group="busy") for _ in range(2)]
    await drain(app)
    assert query("select count(*) from blocked") == [(2,)]
    query("delete from active where job_id = %s", hold)
    query(
        "with gone as (delete from blocked where job_id = %s returning *) insert into ready (queue, priority, seq, "
        "job_id, attempt, group_key) select queue, priority, job_id, job_id, attempt, group_key from gone",
        first.id,
    )
    assert await app.cancel_job(first)
    await drain(app)
    assert await ends(app, second) == [("complete", None)]


async def test_what_is_blocked_by_nothing_is_found_by_maintenance(app: Werk, query: Any) -> None:
    hold = await _held(app, query)
    job = await asked(app, handlers.noop, _group="busy")
    await drain(app)
    query("delete from active where job_id = %s", hold)  # by hand: nobody frees the next
    await app.sweep()
    await drain(app)
    assert await ends(app, job) == [("complete", None)]


async def test_a_blocked_job_is_queued_and_can_be_cancelled(app: Werk, query: Any) -> None:
    await _held(app, query)
    job = await asked(app, handlers.noop, _group="busy")
    await drain(app)
    found = await app.get_job(job)
    assert (found.status, found.is_blocked) == (JobStatus.Queued, True)
    assert await app.cancel_job(job)
    assert await ends(app, job) == [("aborted", "cancelled before it ran")]


async def _held(app: Werk, query: Any) -> int:
    """A job of the group that some worker, elsewhere and alive, holds."""
    job: Job = await asked(app, handlers.noop, _group="busy", _queue="elsewhere")
    query("insert into worker (id, name, kind, queues, concurrency, patience) values (1000, 'w', 'k', '{q}', 1, 1000)")
    query("delete from ready where job_id = %s", job.id)
    query(
        "insert into active (job_id, worker_id, claim_no, attempt, group_key) values (%s, 1000, 1, 1, 'busy')", job.id
    )
    return job.id


async def test_groups_are_seen_among_any_number_of_other_jobs(app: Werk) -> None:
    """A worker that has seen none for long looks for none, until one comes."""
    ORDER.clear()
    await app.enqueue_many([EnqueueParams(handlers.noop) for _ in range(2 * GROUPLESS)])
    for first in (0, 3):
        await app.enqueue_many([EnqueueParams(note, ["g", first + n], group="g") for n in range(3)])
        await app.enqueue_many([EnqueueParams(handlers.noop) for _ in range(2 * GROUPLESS)])
    await AsyncWorker(app, burst=True).run()
    assert list(range(6)) == ORDER
    assert await app.get_queue_stats() == []


async def test_a_claim_that_found_enough_looks_no_farther(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left for want of room stands in nobody's way: a window grown over it is work for nothing."""
    spans: list[int] = []
    claim = ExchangeStore.claim_grouped

    def noted(self: ExchangeStore, *args: Any, span: int, **options: Any) -> Any:
        spans.append(span)
        return claim(self, *args, span=span, **options)

    monkeypatch.setattr(ExchangeStore, "claim_grouped", noted)
    await app.enqueue_many([EnqueueParams(handlers.noop, group=f"g{number}") for number in range(500)])
    await AsyncWorker(app, burst=True).run()
    assert set(spans) == {0}


async def test_a_row_where_none_should_be_holds_up_nobody(app: Werk, query: Any) -> None:
    twice = await asked(app, handlers.noop)
    query("insert into worker (id, name, kind, queues, concurrency, patience) values (99, 'w', 'w', '{q}', 1, 3600)")
    query("insert into active (job_id, worker_id, claim_no, attempt) values (%s, 99, 1, 1)", twice.id)
    other = await asked(app, handlers.noop)
    worker = AsyncWorker(app)
    running = asyncio.create_task(worker.run())
    assert (await app.wait_for(other.id, timeout=10)).status is JobStatus.Complete
    assert query("select count(*) from ready where job_id = %s", twice.id) == [(1,)]
    worker.stop()
    await running
