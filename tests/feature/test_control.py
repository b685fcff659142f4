"""What people do with jobs: each takes effect in the states that it is for, and touches no other."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import (
    AsyncWorker,
    Dependency,
    EnqueueParams,
    InvalidOption,
    InvalidType,
    JobNotFound,
    JobStatus,
    Retry,
    Werk,
)
from pgwerk.execution import Outcome
from pgwerk.store.ending import EndingStore
from pgwerk.worker import attempts, life
from pgwerk.worker.attempts import Attempts
from pgwerk.worker.exchange import Exchange, Turn
from tests import handlers
from tests.feature.test_running import until
from tests.feature.test_what_follows import LONG_AGO, asked, callbacks, drain, ends
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from pgwerk import Context, Job
    from pgwerk.filters import Filters

# So that only a notification tells.
SELDOM = {"heartbeat_interval": 3600, "sweep_interval": 3600, "abort_interval": 3600}


@contextlib.asynccontextmanager
async def working(app: Werk, **options: Any) -> AsyncIterator[AsyncWorker]:
    worker = AsyncWorker(app, shutdown_timeout=0.05, **options)
    task = asyncio.create_task(worker.run())
    yield worker
    worker.stop()
    await task


async def runs(app: Werk, job: Job) -> None:
    async with asyncio.timeout(20):
        while (await app.get_job(job)).status != JobStatus.Active:
            await asyncio.sleep(0.01)


async def in_every_state(app: Werk) -> dict[str, Job]:
    """Jobs in a row: queued, scheduled, waiting, complete, failed, aborted."""
    complete, failed = await asked(app, handlers.noop, _queue="now"), await asked(app, handlers.fail, _queue="now")
    aborted = await asked(app, handlers.noop, _delay=60)
    await app.cancel_job(aborted)
    await AsyncWorker(app, ["now"], burst=True).run()
    scheduled = await asked(app, handlers.noop, _delay=3600)
    return {
        "queued": await asked(app, handlers.noop), "scheduled": scheduled,
        "waiting": await asked(app, handlers.noop, _depends_on=scheduled),
        "complete": complete, "failed": failed, "aborted": aborted,
    }  # fmt: skip


async def test_cancel_job_ends_what_has_not_started(app: Werk) -> None:
    jobs = await in_every_state(app)
    del jobs["waiting"]  # it fails with the one that it waits for
    took = {name: await app.cancel_job(job) for name, job in jobs.items()}
    assert took == {"queued": True, "scheduled": True, "complete": False, "failed": False, "aborted": False}
    assert await ends(app, jobs["queued"], jobs["scheduled"]) == [("aborted", "cancelled before it ran")] * 2
    assert await ends(app, jobs["complete"]) == [("complete", None)]


async def test_abort_job_ends_what_runs_as_soon_as_its_worker_hears_of_it(app: Werk) -> None:
    jobs = await in_every_state(app)
    assert not any([await app.abort_job(job) for job in jobs.values()])
    async with working(app, queues=["other"], **SELDOM) as worker:
        await until(lambda: worker._life and worker._life._listener.is_listening, "it listens")
        job = await asked(app, handlers.sleep, 3600, _queue="other", _retry=5, _on_stopped=handlers.remember)
        await runs(app, job)
        assert not await app.cancel_job(job)
        assert await app.abort_job(job)
        ended = await app.wait_for(job, timeout=20)
        assert (ended.status, ended.error, ended.attempts) == (JobStatus.Aborted, "aborted while it ran", 1)
        (callback,) = await callbacks(app)
        assert (await app.wait_for(callback, timeout=20)).result == f"job {job.id} aborted: aborted while it ran"


async def test_abort_job_ends_what_is_claimed_and_has_not_started(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "PATIENCE", 3600)
    async with working(app, concurrency=1) as worker:
        hold, ahead = await asked(app, handlers.sleep, 3600), await asked(app, handlers.noop)
        await runs(app, hold)
        assert worker._life is not None
        worker._life._attempts.pace._rate = 1e6  # it believes that the slot is free in a moment
        worker._life._wake()
        await runs(app, ahead)
        assert await app.abort_job(ahead)
        ended = await app.wait_for(ahead, timeout=20)
        assert (ended.status, ended.error, ended.attempts) == (JobStatus.Aborted, "aborted before it ran", 0)
        assert await app.get_executions(ahead) == []


async def test_an_aborted_job_that_fails_by_itself_does_not_come_back(app: Werk, tmp_path: Path) -> None:
    async with working(app, abort_interval=3600, listen=False):
        there = tmp_path / "there"
        for intervals in (0, 3600):
            job = await asked(app, handlers.fail_when_there, str(there), _retry=Retry(5, intervals))
            await runs(app, job)
            assert await app.abort_job(job)
            there.touch()
            ended = await app.wait_for(job, timeout=20)
            assert (ended.status, ended.error, ended.attempts) == (JobStatus.Aborted, "aborted while it ran", 1)
            assert [each.status for each in await app.get_executions(job)] == ["aborted"]
            there.unlink()


async def test_the_wish_to_end_a_job_outlives_a_worker_that_dies_when_it_has_failed(app: Werk, query: Any) -> None:
    async with working(app, abort_interval=3600, listen=False) as dying:
        job = await asked(app, handlers.sleep, 3600, _retry=5)
        await runs(app, job)
        assert await app.abort_job(job)
        ((claim_no,),) = query("select claim_no from active")
        retries = Outcome(job.id, dying.id, claim_no, "retry", delay=3600)
        async with app.database.session() as session:
            await session.transact(*EndingStore(app.database.schema).end([retries]))
        assert (await app.get_job(job)).status == JobStatus.Aborting
        query("update worker set state = 'dead', ended_at = now()")
        await app.sweep()
        assert [status for status, _ in await ends(app, job)] == ["aborted"]


async def test_an_aborted_handler_cleans_up_in_peace(app: Werk, tmp_path: Path) -> None:
    """However often its worker sees the wish."""
    said = tmp_path / "said"
    async with working(app, abort_interval=0.05, listen=False):
        job = await asked(app, handlers.clean_up_slowly, str(said), 0.5)
        await runs(app, job)
        assert await app.abort_job(job)
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Aborted
    assert said.read_text() == "told\ncleaned\n"


async def test_a_job_that_is_aborted_before_its_handler_leaves_its_slot(app: Werk) -> None:
    async def before(ctx: Context) -> None:
        if ctx.job.function.endswith("noop"):
            has_begun.set()
            await asyncio.sleep(3600)

    has_begun = asyncio.Event()
    async with working(app, concurrency=1, abort_interval=0.05, listen=False, before_process=[before]):
        job = await asked(app, handlers.noop)
        await has_begun.wait()
        assert await app.abort_job(job)
        ended = await app.wait_for(job, timeout=20)
        assert (ended.status, ended.error) == (JobStatus.Aborted, "aborted while it ran")
        assert await app.apply(handlers.echo, 1, timeout=20) == 1


async def test_abort_job_is_heard_while_the_claim_has_not_been_read(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer comes with that to the settle beside it."""
    job: Job | None = None
    take_turn, abort = Exchange.take_turn, Attempts.abort
    is_claimed, is_heard = asyncio.Event(), asyncio.Event()

    async def read_late(self: Exchange, *args: Any, **options: Any) -> Turn:
        turn = await take_turn(self, *args, **options)
        if any(row.function == "tests.handlers.noop" for row in turn.claimed):
            is_claimed.set()
            await is_heard.wait()
        return turn

    def hear(self: Attempts, claims: Mapping[int, int]) -> None:
        abort(self, claims)
        if job and job.id in claims:
            is_heard.set()

    monkeypatch.setattr(Exchange, "take_turn", read_late)
    monkeypatch.setattr(Attempts, "abort", hear)
    async with working(app, abort_interval=3600):
        await runs(app, await asked(app, handlers.sleep, 3600))
        job = await asked(app, handlers.noop)
        await is_claimed.wait()
        assert await app.abort_job(job)
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Aborted
    assert await ends(app, job) == [("aborted", "aborted before it ran")]


async def test_abort_job_is_asked_for_again_where_the_server_gave_no_answer(app: Werk, dsn: str) -> None:
    is_broken, is_refused = False, asyncio.Event()

    async def connect() -> psycopg.AsyncConnection[Any]:
        if is_broken:
            is_refused.set()
            raise OSError("no more connections")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async with Werk(connect=connect, schema=app.config.schema) as own, working(own, **SELDOM) as worker:
        job = await asked(app, handlers.sleep, 3600)
        await runs(app, job)
        await until(lambda: worker._life and worker._life._listener.is_listening, "it listens")
        is_broken = True
        assert await app.abort_job(job)
        await is_refused.wait()
        is_broken = False
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Aborted


async def test_abort_job_needs_no_notification(app: Werk) -> None:
    async with working(app, listen=False):
        job = await asked(app, handlers.sleep, 3600)
        await runs(app, job)
        assert await app.abort_job(job)
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Aborted
    assert life.ABORT_DEAF <= 1


async def test_aborting_is_what_a_job_is_until_its_worker_has_ended_it(app: Werk, query: Any) -> None:
    async with working(app, abort_interval=3600, listen=False):
        job = await asked(app, handlers.sleep, 3600)
        await runs(app, job)
        assert await app.abort_job(job)
        assert (await app.get_job(job)).status == JobStatus.Aborting
        assert not await app.abort_job(job)
        query("update worker set state = 'dead', ended_at = now()")
        await app.sweep()
        assert [status for status, _ in await ends(app, job)] == ["aborted"]


async def test_requeue_job_gives_fresh_attempts(app: Werk, query: Any) -> None:
    jobs = await in_every_state(app)
    assert [name for name, job in jobs.items() if await app.requeue_job(job)] == ["failed", "aborted"]
    job = await asked(app, handlers.fail_until, 4, _retry=Retry(2, [7, 9]), _queue="r")
    for _ in range(2):
        for _ in range(2):
            await AsyncWorker(app, ["r"], burst=True).run()
            query(LONG_AGO.format("scheduled", "due"))
        assert (await app.get_job(job)).status == JobStatus.Failed or await app.get_executions(job)
        await app.requeue_job(job)
    found = await app.get_job(job)
    assert (found.status, found.attempts, found.max_attempts) == (JobStatus.Complete, 4, 4)
    assert [each.attempt for each in await app.get_executions(job)] == [1, 2, 3, 4]


async def test_update_job_changes_what_does_not_run_yet(app: Werk) -> None:
    jobs = await in_every_state(app)
    took = [name for name, job in jobs.items() if await app.update_job(job, priority=7, meta={"a": 1})]
    assert took == ["queued", "scheduled", "waiting"]
    for name in took:
        found = await app.get_job(jobs[name])
        assert (found.status, found.priority, found.meta) == (name, 7, {"a": 1})
    moved = await app.update_job(jobs["queued"], delay=3600)
    assert moved is not None
    assert moved.status == JobStatus.Scheduled
    at = datetime.now(UTC) - timedelta(days=1)
    moved = await app.update_job(jobs["scheduled"], at=at)
    assert moved is not None
    assert (moved.status, moved.scheduled_at) == (JobStatus.Queued, at)


async def test_update_job_finds_a_job_by_its_key(app: Werk) -> None:
    job = await asked(app, handlers.noop, _key="k")
    found = await app.update_job(key="k", meta={"b": 2})
    assert found is not None
    assert (found.id, found.meta) == (job.id, {"b": 2})
    assert await app.update_job(key="another", priority=1) is None


async def test_update_job_keeps_the_place_of_a_job_whose_meta_changes(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop)
    before = query("select seq from ready")
    await app.update_job(job, meta={})
    assert query("select seq from ready") == before


UPDATES: list[tuple[dict[str, Any], str]] = [
    ({}, "a job to update is named by its id or by its key, one of them"),
    ({"job": 1, "key": "k"}, "a job to update is named by its id or by its key, one of them"),
    ({"job": 1, "priority": 40000}, "_priority must be from -32768 to 32767, got 40000"),
    ({"job": 1, "delay": -1}, "_delay must be from 0 to "),
    ({"job": 1, "meta": []}, "_meta must be a dict, got []"),
    ({"job": 1, "at": datetime(2026, 1, 1)}, "_at must know its time zone"),  # noqa: DTZ001
]


@pytest.mark.parametrize(("values", "words"), UPDATES)
async def test_update_job_refuses_what_can_never_work(app: Werk, values: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidOption, InvalidType)) as caught:
        await app.update_job(**values)
    assert str(caught.value).startswith(words)


async def test_delete_job_takes_everything_with_it(app: Werk, query: Any) -> None:
    jobs = await in_every_state(app)
    for name, job in jobs.items():
        assert await app.delete_job(job), name
        with pytest.raises(JobNotFound):
            await app.get_job(job)
    for table in ("job", "ready", "scheduled", "waiting", "dependency", "finished", "attempt"):
        assert query(f"select count(*) from {table}") == [(0,)]
    assert not await app.delete_job(jobs["queued"])


async def test_delete_job_leaves_a_running_one_alone(app: Werk) -> None:
    async with working(app):
        job = await asked(app, handlers.sleep, 3600)
        await runs(app, job)
        assert not await app.delete_job(job)
        assert (await app.get_job(job)).status == JobStatus.Active


async def test_delete_job_takes_a_job_that_somebody_waits_for(app: Werk, query: Any) -> None:
    """Who waits may have died, and would keep it for a day."""
    ended, queued = await asked(app, handlers.noop, _key="k"), await asked(app, handlers.noop, _queue="later")
    await app.cancel_job(ended)
    query("insert into waiter (job_id, until) select id, now() + interval '1 hour' from job")
    wait = asyncio.create_task(app.wait_for(queued))
    await until(lambda: query("select count(*) from waiter") == [(3,)], "somebody waits")
    for job in (ended, queued):
        assert await app.delete_job(job)
        with pytest.raises(JobNotFound):
            await app.get_job(job)
    with contextlib.suppress(JobNotFound):  # if it did not look before it was gone
        assert (await wait).status == JobStatus.Aborted
    assert query("select * from waiter") == []
    assert await app.enqueue(handlers.noop, _key="k") is not None


async def test_deleting_frees_the_key(app: Werk) -> None:
    job = await asked(app, handlers.noop, _key="k")
    assert await app.enqueue(handlers.noop, _key="k") is None
    assert await app.delete_job(job)
    assert await app.enqueue(handlers.noop, _key="k") is not None


async def test_bulk_forms_take_what_the_filters_find(app: Werk) -> None:
    several = [EnqueueParams(handlers.noop, queue=f"q{n % 2}", meta={"n": n % 3}) for n in range(1200)]
    await app.enqueue_many(several)
    assert await app.bulk_cancel_jobs(queue="q0", meta={"n": 0}) == 200
    assert await app.bulk_cancel_jobs(queue="q0") == 400
    assert await app.bulk_requeue_jobs(meta={"n": 0}) == 200
    batches: list[int] = []
    assert await app.bulk_delete_jobs(status="aborted", on_batch=batches.append) == sum(batches) == 400
    stats = {stats.queue: stats.queued for stats in await app.get_queue_stats()}
    assert stats == {"q0": 200, "q1": 600}
    assert await app.bulk_delete_jobs(status="queued", queue="q0") == 200
    assert await app.bulk_delete_jobs() == 600
    assert await app.list_jobs() == []


async def test_a_bulk_delete_takes_along_what_fails_by_it_and_counts_each_once(app: Werk) -> None:
    first = await asked(app, handlers.noop, _queue="q", _on_stopped=handlers.remember)
    await asked(app, handlers.noop, _queue="q", _depends_on=first)
    assert await app.bulk_delete_jobs(queue="q", callbacks=False) == 2
    assert [job.status for job in await app.list_jobs(callbacks=False)] == [JobStatus.Aborted]  # until it is told
    assert await app.bulk_delete_jobs(queue="q", callbacks=False) == 0


async def test_bulk_cancel_takes_what_its_own_cancelling_promotes_and_no_callback(app: Werk) -> None:
    first = await asked(app, handlers.noop, _on_stopped=handlers.remember)
    second = await asked(app, handlers.noop, _depends_on=Dependency(first, allow_failure=True))
    third = await asked(app, handlers.noop, _delay=60, _depends_on=Dependency(first, allow_failure=True))
    assert await app.bulk_cancel_jobs() == 3
    assert await ends(app, first, second, third) == [("aborted", "cancelled before it ran")] * 3
    (callback,) = await callbacks(app)
    assert callback.status == JobStatus.Queued


async def test_bulk_delete_takes_what_its_own_cancelling_promotes_and_no_callback(app: Werk) -> None:
    first = await asked(app, handlers.noop, _on_stopped=handlers.remember)
    await asked(app, handlers.noop, _depends_on=Dependency(first, allow_failure=True))
    assert await app.bulk_delete_jobs() == 2
    callback, ended = await app.list_jobs()
    assert (callback.status, callback.callback_of) == (JobStatus.Queued, first.id)
    assert (ended.status, ended.id) == (JobStatus.Aborted, first.id)  # until it is told


async def test_bulk_cancel_of_a_status_leaves_what_was_of_another_one(app: Werk) -> None:
    first = await asked(app, handlers.noop)
    second = await asked(app, handlers.noop, _depends_on=Dependency(first, allow_failure=True))
    assert await app.bulk_cancel_jobs(status="queued") == 1
    assert (await app.get_job(second)).status == JobStatus.Queued


async def test_bulk_cancel_takes_what_falls_due_while_it_looks(app: Werk, query: Any) -> None:
    queued, scheduled = await asked(app, handlers.noop), await asked(app, handlers.noop, _delay=60)

    def fall_due(_: int) -> None:
        query("""
            with due as (delete from scheduled returning *)
            insert into ready (queue, priority, seq, job_id, attempt)
            select queue, priority, front_seq(), job_id, attempt from due
        """)

    assert await app.bulk_cancel_jobs(on_batch=fall_due) == 2
    assert await ends(app, queued, scheduled) == [("aborted", "cancelled before it ran")] * 2


async def test_bulk_forms_ask_for_ids_alone(app: Werk, dsn: str) -> None:
    """A page of large payloads is more than a client has room for."""
    heard = 0

    def count(answer: bytes) -> bytes:
        nonlocal heard
        heard += len(answer)
        return answer

    await app.enqueue_many([EnqueueParams(handlers.echo, ["x" * 100_000]) for _ in range(20)])
    async with Proxy(dsn) as proxy:
        proxy.on_answer = count
        async with Werk(proxy.dsn, schema=app.config.schema) as through:
            assert await through.bulk_cancel_jobs(search="XXX") == 20
            assert await through.bulk_requeue_jobs() == 20
            assert await through.bulk_delete_jobs() == 20
    assert heard < 100_000


async def test_list_ids_names_what_list_jobs_gives(app: Werk) -> None:
    jobs = await in_every_state(app)
    several: list[Filters] = [{}, {"status": "queued"}, {"status": "failed"}, {"function": "tests.handlers.noop"}]
    for filters in several:
        assert await app.list_ids(**filters) == [job.id for job in await app.list_jobs(**filters)] != []
    assert await app.list_ids(before=jobs["queued"], limit=2) == [
        job.id for job in await app.list_jobs(before=jobs["queued"], limit=2)
    ]


async def test_bulk_abort_jobs(app: Werk) -> None:
    async with working(app):
        jobs = [await asked(app, handlers.sleep, 3600) for _ in range(3)]
        for job in jobs:
            await runs(app, job)
        assert await app.bulk_abort_jobs(function="tests.handlers.sleep") == 3
        assert {(await app.wait_for(job, timeout=20)).status for job in jobs} == {JobStatus.Aborted}


async def test_purge_jobs_by_status_and_age(app: Werk, query: Any) -> None:
    await in_every_state(app)
    assert await app.purge_jobs(["complete", "failed"], older_than_days=1) == 0
    query("update finished set finished_at = now() - interval '2 days'")
    batches: list[int] = []
    assert await app.purge_jobs(["complete", JobStatus.Failed], older_than_days=1, on_batch=batches.append) == 2
    assert batches == [1, 1]
    assert {job.status for job in await app.list_jobs()} == {"queued", "scheduled", "waiting", "aborted"}


@pytest.mark.parametrize(
    ("statuses", "days", "words"),
    [
        ("failed", 1, "statuses must be a list, got 'failed'"),
        (["queued"], 1, "only jobs that have ended are purged, got the status 'queued'"),
        (["done"], 1, "a status is one of "),
        (["failed"], -1, "older_than_days must be at least 0, got -1"),
    ],
)
async def test_purge_jobs_refuses_what_can_never_work(app: Werk, statuses: Any, days: float, words: str) -> None:
    with pytest.raises((InvalidOption, InvalidType)) as caught:
        await app.purge_jobs(statuses, days)
    assert str(caught.value).startswith(words)


async def test_list_jobs_filters_and_pages(app: Werk, query: Any) -> None:
    jobs = await in_every_state(app)
    marked = await asked(
        app, handlers.echo, "Needle", _queue="z", _group="g", _key="some-key", _meta={"a": {"b": 1}, "c": 2}
    )
    query("update job set enqueued_at = now() - interval '1 day' where id <> %s", marked.id)
    yesterday = datetime.now(UTC) - timedelta(hours=12)
    only: list[dict[str, Any]] = [
        {"queue": "z"}, {"function": "tests.handlers.echo"}, {"group": "g"}, {"key": "some-key"},
        {"meta": {"a": {"b": 1}}}, {"search": "needle"}, {"search": "SOME-KEY"}, {"enqueued_from": yesterday},
    ]  # fmt: skip
    for filters in only:
        assert [job.id for job in await app.list_jobs(**filters)] == [marked.id], filters
    for name, job in jobs.items():
        found = [each.id for each in await app.list_jobs(status=name)]
        assert job.id in found, name
    assert [job.id for job in await app.list_jobs(search="on purpose")] == [jobs["failed"].id]
    assert len(await app.list_jobs(enqueued_until=yesterday)) == len(jobs)
    ended = await app.list_jobs(completed_from=yesterday)
    assert {job.id for job in ended} == {jobs[name].id for name in ("complete", "failed", "aborted")}
    everything = [job.id for job in await app.list_jobs()]
    pages: list[int] = []
    while page := await app.list_jobs(before=pages[-1] if pages else None, limit=3):
        pages += [job.id for job in page]
    assert pages == everything == sorted(everything, reverse=True)


async def test_queued_jobs_are_listed_in_the_order_of_their_ids_wherever_they_stand(app: Werk) -> None:
    again = await asked(app, handlers.fail, _queue="now")
    await AsyncWorker(app, ["now"], burst=True).run()
    await app.enqueue_many(
        [
            EnqueueParams(handlers.noop, queue=f"q{n % 2}", priority=n % 3, group="g" if n % 4 == 3 else None)
            for n in range(20)
        ]
    )
    await app.requeue_job(again)
    async with working(app, queues=["busy"]):
        await runs(app, await asked(app, handlers.sleep, 60, _queue="busy", _group="g"))
        await AsyncWorker(app, ["q1"], burst=True).run()
    queued = await app.list_jobs(status="queued")
    assert {job.is_blocked for job in queued} == {True, False}
    ids = [job.id for job in queued]
    assert (ids, ids[-1]) == (sorted(ids, reverse=True), again.id)
    pages: list[int] = []
    while page := await app.list_jobs(status="queued", before=pages[-1] if pages else None, limit=3):
        pages += [job.id for job in page]
    assert pages == ids
    assert [job.id for job in await app.list_jobs(status="queued", limit=5, offset=2)] == ids[2:7]
    noops = [job.id for job in queued if job.function.endswith("noop") and job.queue == "q0"]
    assert [job.id for job in await app.list_jobs(status="queued", queue="q0")] == noops
    assert [job.id for job in await app.list_jobs(status="queued", queue="q0", function="tests.handlers.noop")] == noops


async def test_of_many_queued_jobs_those_that_were_asked_for(app: Werk) -> None:
    await asked(app, handlers.fail, _priority=1)
    await app.enqueue_many([EnqueueParams(handlers.noop) for _ in range(10_001)])
    await asked(app, handlers.fail)
    assert [job.id for job in await app.list_jobs(status="queued", function="tests.handlers.fail")] == [10_003, 1]
    assert [job.id for job in await app.list_jobs(status="queued", limit=2)] == [10_003, 10_002]


async def test_list_jobs_refuses_what_is_no_filter(app: Werk) -> None:
    with pytest.raises(InvalidOption, match="colour is no filter of jobs; there are queue, status, function"):
        await app.list_jobs(colour="red")  # type: ignore[call-arg]
    with pytest.raises(InvalidOption, match="enqueued_from must know its time zone, got the naive 2026-01-01T00:00:00"):
        await app.list_jobs(enqueued_from=datetime(2026, 1, 1))  # noqa: DTZ001


async def test_workers_and_what_they_run(app: Werk) -> None:
    async with working(app, concurrency=3) as worker:
        job = await asked(app, handlers.sleep, 3600)
        await runs(app, job)
        (found,) = await app.list_workers()
        assert (found.id, found.name, found.kind) == (worker.id, worker.name, "AsyncWorker")
        assert (found.queues, found.concurrency, found.state, found.running) == (["default"], 3, "alive", 1)
        assert [each.id for each in await app.list_worker_jobs(found)] == [job.id]
        assert await app.get_worker(found.id) == found
    stopped = await app.get_worker(found.id)
    assert stopped is not None
    assert (stopped.state, stopped.running) == ("stopped", 0)
    assert await app.get_worker(found.id + 1) is None


async def test_queue_stats_throughput_and_the_server(app: Werk) -> None:
    await in_every_state(app)
    (stats,) = await app.get_queue_stats()
    counts = (stats.queue, stats.queued, stats.scheduled, stats.waiting, stats.active, stats.aborting)
    assert counts == ("default", 1, 1, 1, 0, 0)
    assert stats.oldest_queued_at is not None
    minutes = await app.get_throughput_history(minutes=5)
    assert [sum(getattr(each, name) for each in minutes) for name in ("complete", "failed", "aborted")] == [1, 1, 1]
    info = await app.get_server_info()
    assert info.database_bytes > info.schema_bytes > 0
    await app.vacuum()
    await app.truncate()
    assert await app.list_jobs() == []
    await drain(app)


@pytest.mark.parametrize(
    ("of_config", "given", "kind"),
    [("async", "thread", "ThreadWorker"), ("thread", None, "ThreadWorker"), ("thread", "async", "AsyncWorker")],
)
async def test_run_runs_a_worker_of_a_kind(app: Werk, of_config: str, given: str | None, kind: str) -> None:
    app.config = app.config.changed(worker_type=of_config)
    job = await asked(app, handlers.square, 3)
    running = asyncio.create_task(app.run(concurrency=2, worker_type=given))
    assert (await app.wait_for(job, timeout=20)).result == 9
    assert [worker.kind for worker in await app.list_workers()] == [kind]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(InvalidOption, match="a worker is of the kind async, thread, process, fork, got 'greenlet'"):
        await app.run(worker_type="greenlet")


async def test_a_delete_took_effect_if_somebody_else_forgot_what_it_had_cancelled(
    app: Werk, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the maintenance does with the callback of a job that it forgets."""
    job, forget = await asked(app, handlers.noop), app._forget

    async def forget_behind_others(ids: list[int]) -> int:
        query("with gone as (delete from finished returning job_id) delete from job where id in (select * from gone)")
        return await forget(ids)

    monkeypatch.setattr(app, "_forget", forget_behind_others)
    assert await app.delete_job(job)
    assert not await app.delete_job(job)
