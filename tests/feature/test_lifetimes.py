"""How long jobs may wait, how long their rows stay, and signs of life."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import AsyncWorker, Context, JobNotFound, JobStatus, Retry, Werk, WerkConfig
from pgwerk.maintenance import MOST_FORGOTTEN, Maintenance
from pgwerk.store.maintenance import BATCH, MaintenanceStore
from pgwerk.worker.services import beat, upkeep
from pgwerk.worker.services.upkeep import Upkeep
from tests import handlers
from tests.feature.test_running import until, worker
from tests.feature.test_what_follows import LONG_AGO, asked, callbacks, drain, ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk import Job

TOUCH: asyncio.Event
OLD = "update finished set finished_at = now() - interval '8 days'"


async def gone(app: Werk, job: Job) -> bool:
    await app.sweep()
    try:
        await app.get_job(job)
    except JobNotFound:
        return True
    return False


async def test_ttl_aborts_what_has_not_started_in_time(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop, _ttl=60)
    assert job.expires_at is not None
    query(LONG_AGO.format("ready", "expires_at"))
    await app.sweep()
    assert await ends(app, job) == [("aborted", "expired: not started within 60 s after it became due")]


async def test_ttl_holds_for_a_job_whose_group_is_busy(app: Werk, query: Any) -> None:
    query("insert into active (job_id, worker_id, claim_no, attempt, group_key) values (999, 999, 1, 1, 'g')")
    query("insert into worker (id, name, kind, queues, concurrency, patience) values (999, 'w', 'k', '{q}', 1, 1000)")
    job = await asked(app, handlers.noop, _ttl=60, _group="g")
    await drain(app)
    assert query("select job_id from blocked") == [(job.id,)]
    assert (await app.get_job(job)).is_blocked
    query(LONG_AGO.format("blocked", "expires_at"))
    await app.sweep()
    assert await ends(app, job) == [("aborted", "expired: not started within 60 s after it became due")]


async def test_ttl_counts_from_when_it_became_due(app: Werk) -> None:
    job = await asked(app, handlers.noop, _ttl=60, _delay=3600)
    await app.sweep()
    assert (await app.get_job(job)).status == JobStatus.Scheduled


async def test_ttl_runs_on_when_only_the_priority_changes(app: Werk) -> None:
    job = await asked(app, handlers.noop, _ttl=60)
    changed = await app.update_job(job, priority=1)
    assert changed is not None
    assert changed.expires_at == job.expires_at


async def test_ttl_runs_from_the_time_that_a_job_is_given(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop, _ttl=60)
    query(LONG_AGO.format("ready", "expires_at"))
    await app.update_job(job, delay=0)
    await app.sweep()
    assert (await app.get_job(job)).status == JobStatus.Queued


async def test_ttl_does_not_come_back_for_a_job_that_has_started(app: Werk) -> None:
    job = await asked(app, handlers.fail, _ttl=60, _retry=Retry(2, 60))
    await drain(app)
    changed = await app.update_job(job, delay=0)
    assert changed is not None
    assert (changed.status, changed.expires_at) == (JobStatus.Queued, None)


async def test_result_ttl_deletes_the_row_so_long_after_it_completed(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop, _result_ttl=3600)
    await drain(app)
    assert not await gone(app, job)
    query(LONG_AGO.format("finished", "expires_at"))
    assert await gone(app, job)
    for table in ("job", "finished", "attempt", "dependency"):
        assert query(f"select count(*) from {table}") == [(0,)]


async def test_result_ttl_0_deletes_at_once(app: Werk) -> None:
    job = await asked(app, handlers.noop, _result_ttl=0)
    await drain(app)
    assert await gone(app, job)


async def test_failure_ttl_deletes_the_row_so_long_after_it_failed_or_was_aborted(app: Werk) -> None:
    failed = await asked(app, handlers.fail, _failure_ttl=0, _retry=Retry(2))
    aborted = await asked(app, handlers.noop, _failure_ttl=0, _delay=60)
    kept = await asked(app, handlers.noop, _failure_ttl=0)
    await app.cancel_job(aborted)
    await drain(app)
    assert (await gone(app, failed), await gone(app, aborted), await gone(app, kept)) == (True, True, False)


async def test_failure_mode_hold_keeps_the_row(app: Werk) -> None:
    job = await asked(app, handlers.fail)
    await drain(app)
    assert not await gone(app, job)
    assert (await app.get_job(job)).failure_mode == "hold"


async def test_failure_mode_delete_removes_it_after_its_callbacks(app: Werk) -> None:
    job = await asked(app, handlers.fail, _failure_mode="delete", _on_failure=handlers.remember, _queue="q")
    await AsyncWorker(app, ["q"], burst=True, concurrency=1).run()
    assert await gone(app, job)
    assert await app.list_jobs() == []


async def test_a_row_stays_until_its_callbacks_have_ended(app: Werk) -> None:
    job = await asked(app, handlers.noop, _delay=60, _failure_ttl=0, _on_stopped=handlers.remember)
    await app.cancel_job(job)
    assert not await gone(app, job)
    await drain(app)
    assert [callback.status for callback in await callbacks(app)] in ([], [JobStatus.Complete])
    assert await gone(app, job)
    assert await app.list_jobs() == []


async def test_a_row_stays_until_its_waiter_has_read_it(app: Werk) -> None:
    worker = AsyncWorker(app)
    running = asyncio.create_task(worker.run())
    assert await app.apply(handlers.square, 3, _result_ttl=0, timeout=20) == 9
    assert await app.map(handlers.square, [[n] for n in range(50)], _result_ttl=0, timeout=20) == [
        n * n for n in range(50)
    ]
    worker.stop()
    await running
    await app.sweep()
    assert await app.list_jobs() == []


async def test_completed_rows_are_kept_seven_days_and_failed_ones_until_someone_decides(app: Werk, query: Any) -> None:
    good, bad, own = (
        await asked(app, handlers.noop), await asked(app, handlers.fail),
        await asked(app, handlers.noop, _result_ttl=10**6),
    )  # fmt: skip
    await drain(app)
    assert not await gone(app, good)
    query(OLD)
    assert (await gone(app, good), await gone(app, bad), await gone(app, own)) == (True, False, False)


@pytest.mark.parametrize(
    ("config", "left"),
    [(WerkConfig(failure_ttl=60), ["complete"]), (WerkConfig(result_ttl=math.inf, failure_ttl=60), ["complete"])],
)
async def test_an_app_says_how_long(app: Werk, query: Any, config: WerkConfig, left: list[str]) -> None:
    await asked(app, handlers.noop)
    await asked(app, handlers.fail)
    await app.cancel_job(await asked(app, handlers.noop, _delay=60))
    await drain(app)
    query("update finished set finished_at = now() - interval '1 hour'")
    await Maintenance(app.database, config).tick()
    assert [job.status.value for job in await app.list_jobs()] == left


async def test_retention_comes_in_batches_and_reaches_everything(app: Werk, query: Any) -> None:
    query("""
        insert into job (id, function, payload, queue, priority, max_attempts)
        select id, 'm.f', '{"args": [], "kwargs": {}}', 'q', 0, 1 from generate_series(1, 3000) id
    """)
    query("""
        insert into finished (job_id, status, attempt, started_at, finished_at)
        select id, 'complete', 1, now(), now() - interval '8 days' from generate_series(1, 3000) id
    """)
    await app.sweep()
    assert query("select count(*) from job") == [(0,)]


async def test_retention_goes_on_beside_what_somebody_has_in_hand(app: Werk, dsn: str, query: Any) -> None:
    query(f"""
        with j as (
            insert into job (function, payload, queue, priority, max_attempts)
            select 'm.f', '{{}}', 'q', 0, 1 from generate_series(1, {MOST_FORGOTTEN * BATCH}) returning id)
        insert into finished (job_id, status, attempt, started_at, finished_at)
        select id, 'complete', 1, now(), now() - interval '8 days' from j
    """)
    with psycopg.connect(dsn) as other:
        other.execute(f'select from "{app.database.schema}".finished order by job_id limit 1 for update')
        assert await Maintenance(app.database, WerkConfig()).tick(), "one that is locked does not mean that all is done"


async def test_what_could_not_be_forgotten_is_found_again(
    app: Werk, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody needed it when the search went past it."""
    needed, other = await asked(app, handlers.noop), await asked(app, handlers.noop)
    await drain(app)
    query(OLD)
    query("update finished set finished_at = finished_at + interval '1 hour' where job_id = %s", other.id)
    query("insert into waiter (job_id, until) values (%s, now() + interval '1 hour')", needed.id)
    maintenance = Maintenance(app.database, WerkConfig())
    await maintenance.tick()
    query("delete from waiter")
    await maintenance.tick()
    assert query("select job_id from finished") == [(needed.id,)]
    monkeypatch.setattr("pgwerk.maintenance.LOOK_BACK", 0.0)
    await maintenance.tick()
    assert query("select count(*) from finished") == [(0,)]


async def test_what_is_kept_for_longer_than_others_is_passed_over_once(
    app: Werk, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be millions, for weeks: no round walks over it again, whatever it is asked to do."""
    looked: list[str] = []
    outlived = MaintenanceStore.outlived

    def note(store: MaintenanceStore, status: str, *place: Any) -> Any:
        looked.append(status)
        return outlived(store, status, *place)

    monkeypatch.setattr(MaintenanceStore, "outlived", note)
    config = WerkConfig(failure_ttl=60)
    for function in (handlers.noop, handlers.fail):
        await asked(app, function, _result_ttl=10**7, _failure_ttl=10**7)
    await app.cancel_job(await asked(app, handlers.noop, _delay=60, _failure_ttl=10**7))
    await drain(app)
    query(OLD)
    maintenance = Maintenance(app.database, config)
    await maintenance.tick()
    assert looked == ["complete", "failed", "aborted"]
    await maintenance.tick()
    assert looked == ["complete", "failed", "aborted"]
    gone_soon = await asked(app, handlers.noop)
    await drain(app)
    query("update finished set finished_at = now() - interval '7 days 1 hour' where job_id = %s", gone_soon.id)
    await maintenance.tick()
    assert await gone(app, gone_soon)
    assert query("select count(*) from finished") == [(3,)]


async def test_retention_that_is_behind_goes_on_at_once(app: Werk, query: Any) -> None:
    """A round is bounded, and the next one is minutes away: many jobs a second would pile up."""
    jobs = 2 * MOST_FORGOTTEN * BATCH + 1
    query(f"""
        with j as (
            insert into job (function, payload, queue, priority, max_attempts)
            select 'm.f', '{{}}', 'q', 0, 1 from generate_series(1, {jobs}) returning id)
        insert into finished (job_id, status, attempt, started_at, finished_at)
        select id, 'complete', 1, now(), now() - interval '8 days' from j
    """)
    worker = AsyncWorker(app, sweep_interval=3600)
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(60):
        while query("select exists (select from job)") == [(True,)]:
            await asyncio.sleep(0.05)
    worker.stop()
    await running


# Heartbeats.


async def touch_and_sleep(ctx: Context) -> None:
    await TOUCH.wait()
    ctx.touch()
    await asyncio.sleep(3600)


async def never(*_: Any) -> None:
    """Renewed."""


async def test_heartbeat_renews_the_sign_of_life(app: Werk, query: Any) -> None:
    worker = AsyncWorker(app)
    running = asyncio.create_task(worker.run())
    await asked(app, handlers.sleep, 3600, _heartbeat=0.2)
    seen: set[Any] = set()
    async with asyncio.timeout(20):
        while len(seen) < 3:
            seen |= set(query("select touched_at from active where touched_at is not null and stale_at > now()"))
            await asyncio.sleep(0.05)
    worker.config = worker.config.changed(shutdown_timeout=0.01)
    worker.stop()
    await running


async def test_heartbeat_missed_for_twice_its_time_loses_the_attempt(
    app: Werk, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker lives and beats; the attempt alone is lost, and stopped when it is found out."""
    renew = Upkeep._renew
    monkeypatch.setattr(beat, "SILENCE", 0.5)
    monkeypatch.setattr(Upkeep, "_renew", never)
    worker = AsyncWorker(app, heartbeat_interval=0.1, sweep_interval=3600)
    running = asyncio.create_task(worker.run())
    job = await asked(app, handlers.sleep, 3600, _heartbeat=6)
    async with asyncio.timeout(20):
        while not query("select job_id from active where stale_at between now() + '10 s' and now() + '12 s'"):
            await asyncio.sleep(0.02)
    query("update active set stale_at = now()")
    words = "the attempt gave no sign of life for 12 s; it counts as lost"
    assert (await app.wait_for(job, timeout=20)).error == words
    monkeypatch.setattr(Upkeep, "_renew", renew)
    worker.config = worker.config.changed(shutdown_timeout=0.01)
    worker.stop()
    await running
    assert await ends(app, job) == [("failed", words)]


QUERY: Callable[..., list[Any]]


async def hold_the_loop_until_signed(job_id: int) -> None:
    QUERY("update active set stale_at = now() where job_id = %s", job_id)
    too_late = time.monotonic() + 20
    while not QUERY("select 1 from active where job_id = %s and stale_at > now()", job_id):
        assert time.monotonic() < too_late
        time.sleep(0.02)


async def test_heartbeat_is_given_for_a_loop_that_another_handler_holds(app: Werk, query: Any) -> None:
    global QUERY
    QUERY = query
    async with worker(app, heartbeat_interval=0.2, shutdown_timeout=0.01):
        job = await asked(app, handlers.sleep, 3600, _heartbeat=3600)
        await until(lambda: query("select 1 from active"), "it runs")
        holder = await asked(app, hold_the_loop_until_signed, job.id)
        assert (await app.wait_for(holder, timeout=40)).status == JobStatus.Complete
        assert (await app.get_job(job)).status == JobStatus.Active


CLEANED: asyncio.Event


async def clean_up_at_first(ctx: Context) -> None:
    if ctx.job.attempts == 1:
        try:
            await asyncio.sleep(3600)
        finally:
            await CLEANED.wait()


async def test_a_lost_attempt_does_not_swallow_the_next_one(app: Werk, query: Any) -> None:
    """A worker without room for the job until it has told the lost attempt to end, which takes its time."""
    global CLEANED
    CLEANED = asyncio.Event()
    async with worker(app, concurrency=2) as running:
        job = await asked(app, clean_up_at_first, _heartbeat=3600, _retry=Retry(2))
        beside = await asked(app, handlers.sleep, 3600)
        await until(lambda: query("select 1 from active offset 1"), "both run")
        query("update active set stale_at = '-infinity' where job_id = %s", job.id)
        await app.sweep()
        assert running._life is not None
        lost = running._life._attempts._running[job.id]
        lost.sign_at = 0.0
        await until(lambda: lost.verdict, "it was told")
        await app.abort_job(beside)
        await until(lambda: query("select 1 from scheduled"), "it came again, and went back")
        CLEANED.set()
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Complete
    assert [each.status for each in await app.get_executions(job)] == ["failed", "complete"]


async def test_heartbeat_that_could_not_be_renewed_in_an_outage_is_renewed_after_it(app: Werk, query: Any) -> None:
    """To whoever looks first after it the attempt has been silent for too long."""
    worker = AsyncWorker(app, heartbeat_interval=0.1, sweep_interval=0.1)
    running = asyncio.create_task(worker.run())
    job = await asked(app, handlers.sleep, 3600, _heartbeat=3600)
    async with asyncio.timeout(20):
        while not query("select job_id from active"):
            await asyncio.sleep(0.02)
    query("update active set stale_at = now() - interval '1 hour'")
    await app.sweep()
    async with asyncio.timeout(20):
        while not query("select job_id from active where touched_at is not null and stale_at > now()"):
            await asyncio.sleep(0.02)
    assert (await app.get_job(job)).status == JobStatus.Active
    worker.config = worker.config.changed(shutdown_timeout=0.01)
    worker.stop()
    await running


async def test_heartbeat_that_the_server_did_not_take_is_given_again_at_once(
    app: Werk, dsn: str, schema: str, query: Any
) -> None:
    global TOUCH
    TOUCH, is_broken = asyncio.Event(), False
    refused: list[float] = []

    async def connect() -> psycopg.AsyncConnection[Any]:
        if is_broken:
            refused.append(time.monotonic())
            raise OSError("no more connections")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async with Werk(dsn, schema=schema, connect=connect) as own:
        worker = AsyncWorker(own, heartbeat_interval=3600, sweep_interval=3600, abort_interval=3600, listen=False)
        running = asyncio.create_task(worker.run())
        await asked(app, touch_and_sleep, _heartbeat=3600)
        async with asyncio.timeout(20):
            while not query("select job_id from active"):
                await asyncio.sleep(0.02)
        is_broken = True
        TOUCH.set()
        async with asyncio.timeout(20):
            while len(refused) < 2:
                await asyncio.sleep(0.02)
        is_broken = False
        async with asyncio.timeout(20):
            while not query("select job_id from active where touched_at is not null"):
                await asyncio.sleep(0.02)
        assert refused[1] - refused[0] >= upkeep.RETRY * 0.9
        worker.config = worker.config.changed(shutdown_timeout=0.01)
        worker.stop()
        await running


async def test_heartbeat_is_at_least_ten_seconds_of_patience(app: Werk, query: Any) -> None:
    worker = AsyncWorker(app)
    running = asyncio.create_task(worker.run())
    await asked(app, handlers.sleep, 3600, _heartbeat=0.5)
    async with asyncio.timeout(20):
        while not query("select job_id from active where stale_at > now() + '9 s'"):
            await asyncio.sleep(0.02)
    worker.config = worker.config.changed(shutdown_timeout=0.01)
    worker.stop()
    await running


async def test_touch_job_renews_it_from_outside(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop)
    assert not await app.touch_job(job)
    worker = AsyncWorker(app)
    running = asyncio.create_task(worker.run())
    job = await asked(app, handlers.sleep, 3600, _heartbeat=3600)
    async with asyncio.timeout(20):
        while not await app.touch_job(job):
            await asyncio.sleep(0.02)
    assert (await app.get_job(job)).touched_at is not None
    worker.config = worker.config.changed(shutdown_timeout=0.01)
    worker.stop()
    await running


def test_a_context_without_a_worker_can_be_touched(app: Werk) -> None:
    Context(app, None, None).touch()  # type: ignore[arg-type]
