"""What a job brings about when it ends: dependents, callbacks, further runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import psycopg
import pytest

from pgwerk import (
    AsyncWorker,
    Callback,
    Dependency,
    DependencyFailed,
    EnqueueParams,
    Job,
    JobNotFound,
    JobStatus,
    PickleSerializer,
    Repeat,
    ServerUnreachable,
    Werk,
)
from pgwerk.ending import Endings
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_AGO = "update {} set {} = now() - interval '1 hour'"


async def drain(app: Werk) -> None:
    """Everything that could run now, and what becomes ready by it."""
    await AsyncWorker(app, burst=True).run()


async def asked(app: Werk, function: Callable[..., Any], *args: Any, **options: Any) -> Job:
    job = await app.enqueue(function, *args, **options)
    assert job is not None
    return job


async def ends(app: Werk, *jobs: Job) -> list[tuple[str, str | None]]:
    found = [await app.get_job(job) for job in jobs]
    return [(job.status.value, job.error) for job in found]


async def callbacks(app: Werk) -> list[Job]:
    return [job for job in reversed(await app.list_jobs()) if job.callback_of is not None]


# Dependencies.


async def test_depends_on_waits_until_all_have_ended(app: Werk) -> None:
    first, second = await asked(app, handlers.noop), await asked(app, handlers.noop)
    third = await asked(app, handlers.noop, _depends_on=[first, str(second.id)])
    assert third.status == JobStatus.Waiting
    assert await app.get_job_dependencies(third) == [Dependency(first.id), Dependency(second.id)]
    await drain(app)
    ended = [await app.get_job(job) for job in (first, second, third)]
    assert [job.status for job in ended] == [JobStatus.Complete] * 3
    assert ended[2].started_at >= max(ended[0].completed_at, ended[1].completed_at)  # type: ignore[type-var,operator]


async def test_depends_on_a_failed_job_fails_with_its_name_and_cascades(app: Werk) -> None:
    culprit = await asked(app, handlers.fail)
    dependent = await asked(app, handlers.noop, _depends_on=culprit)
    further = await asked(app, handlers.noop, _depends_on=dependent)
    await drain(app)
    words = f"dependency {culprit.id} (tests.handlers.fail) failed"
    assert await ends(app, dependent, further) == [("failed", words)] * 2
    assert await app.get_executions(further) == []


async def test_depends_on_an_aborted_job_fails_too(app: Werk) -> None:
    culprit = await asked(app, handlers.noop, _delay=60)
    dependent = await asked(app, handlers.noop, _depends_on=culprit)
    assert await app.cancel_job(culprit)
    words = f"dependency {culprit.id} (tests.handlers.noop) was aborted"
    assert await ends(app, dependent) == [("failed", words)]


async def test_allow_failure_runs_all_the_same(app: Werk) -> None:
    culprit = await asked(app, handlers.fail)
    dependent = await asked(app, handlers.noop, _depends_on=Dependency(culprit, allow_failure=True))
    await drain(app)
    assert await ends(app, dependent) == [("complete", None)]


async def test_depends_on_what_has_ended_already(app: Werk) -> None:
    good, bad = await asked(app, handlers.noop), await asked(app, handlers.fail)
    await drain(app)
    assert (await asked(app, handlers.noop, _depends_on=good)).status == JobStatus.Queued
    doomed = await asked(app, handlers.noop, _depends_on=[good, bad])
    assert await ends(app, doomed) == [("failed", f"dependency {bad.id} (tests.handlers.fail) failed")]


async def test_delay_still_holds_after_the_dependencies(app: Werk, query: Any) -> None:
    first = await asked(app, handlers.noop)
    later = await asked(app, handlers.noop, _depends_on=first, _delay=3600)
    await drain(app)
    found = await app.get_job(later)
    assert found.status == JobStatus.Scheduled
    assert found.scheduled_at is not None
    assert found.scheduled_at - later.enqueued_at == timedelta(hours=1)
    query(LONG_AGO.format("scheduled", "due"))
    await drain(app)
    assert await ends(app, later) == [("complete", None)]


async def test_a_diamond(app: Werk) -> None:
    top = EnqueueParams(handlers.noop)
    left, right = EnqueueParams(handlers.noop, depends_on=top), EnqueueParams(handlers.noop, depends_on=top)
    bottom = EnqueueParams(handlers.noop, depends_on=[left, right])
    jobs = [job for job in await app.enqueue_many([bottom, left, right, top]) if job]
    assert [job.status.value for job in jobs] == ["waiting", "waiting", "waiting", "queued"]
    await drain(app)
    assert await ends(app, *jobs) == [("complete", None)] * 4


async def test_depends_on_a_job_of_the_same_open_transaction(app: Werk, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        first = await asked(app, handlers.noop, _conn=connection)
        second = await asked(app, handlers.noop, _depends_on=first, _conn=connection)
        assert second.status == JobStatus.Waiting
    await drain(app)
    assert await ends(app, first, second) == [("complete", None)] * 2


async def test_a_dependency_that_ended_while_its_dependent_was_uncommitted(app: Werk, dsn: str) -> None:
    """Neither could see the other: maintenance finds it."""
    first = await asked(app, handlers.noop)
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        second = await asked(app, handlers.noop, _depends_on=first, _conn=connection)
        await drain(app)
        assert await ends(app, first) == [("complete", None)]
    assert (await app.get_job(second)).status == JobStatus.Waiting
    await app.sweep()
    assert (await app.get_job(second)).status == JobStatus.Queued


async def test_a_dependency_whose_end_is_the_newest_transaction_of_all(app: Werk, dsn: str, schema: str) -> None:
    """No snapshot's bounds tell of it: they end at the newest that is over. Two looks, as by two workers, come before
    its commit.
    """
    first = await asked(app, handlers.noop)
    async with (
        await psycopg.AsyncConnection.connect(dsn) as writing,
        await psycopg.AsyncConnection.connect(dsn, options=f"-c search_path={schema}") as ending,
    ):
        second = await asked(app, handlers.noop, _depends_on=first, _conn=writing)
        await ending.execute("delete from ready")
        await ending.execute(
            "insert into finished (job_id, status, attempt, started_at) values (%s, 'complete', 1, now())", [first.id]
        )
        await writing.commit()
        await app.sweep()
        await app.sweep()
    await app.sweep()
    assert (await app.get_job(second)).status == JobStatus.Queued


async def test_what_a_look_has_found_is_watched_until_it_is_told(
    app: Werk, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the edge may die, or be refused, before it has told those who wait."""
    first = await asked(app, handlers.noop, _delay=3600)
    second = await asked(app, handlers.noop, _depends_on=first)
    query("delete from scheduled")
    query("insert into finished (job_id, status, attempt, started_at) values (%s, 'complete', 1, now())", first.id)
    with monkeypatch.context() as patched:
        patched.setattr(Endings, "release", AsyncMock(side_effect=ServerUnreachable("just now")))
        for _ in range(3):
            with pytest.raises(ServerUnreachable):
                await app.sweep()
    await app.sweep()
    assert (await app.get_job(second)).status == JobStatus.Queued


async def test_watching_ends_when_nobody_can_have_missed_it(app: Werk, query: Any) -> None:
    first = await asked(app, handlers.noop, _delay=3600)
    await asked(app, handlers.noop, _depends_on=first)
    for _ in range(3):
        await app.sweep()
    assert query("select is_watched from waiting") == [(False,)]


@pytest.mark.parametrize("conn", [False, True])
async def test_an_unknown_dependency_is_refused_and_nothing_written(
    app: Werk, dsn: str, query: Any, conn: bool
) -> None:
    params = [EnqueueParams(handlers.noop), EnqueueParams(handlers.noop, depends_on=12345)]
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        with pytest.raises(JobNotFound) as caught:
            await app.enqueue_many(params, _conn=connection if conn else None)
        assert str(caught.value) == "_depends_on names job 12345, which does not exist; nothing was enqueued"
    assert query("select count(*) from job") == [(0,)]


async def test_apply_says_that_a_dependency_failed(app: Werk) -> None:
    culprit = await asked(app, handlers.fail)
    await drain(app)
    with pytest.raises(DependencyFailed) as caught:
        await app.apply(handlers.noop, _depends_on=culprit, timeout=20)
    assert caught.value.job.error == f"dependency {culprit.id} (tests.handlers.fail) failed"


async def test_a_dependency_that_was_deleted_dooms(app: Werk) -> None:
    first = await asked(app, handlers.noop, _delay=60)
    second = await asked(app, handlers.noop, _depends_on=first)
    assert await app.delete_job(first)
    assert (await app.get_job(second)).status == JobStatus.Failed


# Callbacks.


async def test_a_callback_is_read_whatever_the_app_speaks(app: Werk, dsn: str, schema: str) -> None:
    async with Werk(dsn, schema=schema, serializer=PickleSerializer()) as pickling:
        job = await asked(pickling, handlers.square, 3, _on_success=handlers.remember)
        await drain(pickling)
        (callback,) = await callbacks(pickling)
        found = await pickling.get_job(callback)
        assert found == await pickling.wait_for(callback) == callback
        assert (found.payload, found.result) == ({"args": [], "kwargs": {}}, f"job {job.id} complete: 9")


async def test_on_success_is_called_with_the_job_as_it_ended(app: Werk) -> None:
    job = await asked(app, handlers.square, 3, _on_success=handlers.remember, _on_failure=handlers.remember)
    await drain(app)
    (callback,) = await callbacks(app)
    assert (callback.callback_of, callback.status, callback.max_attempts) == (job.id, JobStatus.Complete, 3)
    assert callback.result == f"job {job.id} complete: 9"


async def test_on_failure_is_called_once_when_no_attempt_is_left(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.fail, "no", _retry=2, _on_failure=Callback(handlers.remember, timeout=10))
    await drain(app)
    assert await callbacks(app) == []
    query(LONG_AGO.format("scheduled", "due"))
    await drain(app)
    (callback,) = await callbacks(app)
    assert callback.timeout_secs == 10
    assert str(callback.result).startswith(f"job {job.id} failed: Traceback")


async def test_on_stopped_is_called_when_cancelled(app: Werk) -> None:
    job = await asked(app, handlers.noop, _delay=60, _on_stopped=handlers.remember)
    await app.cancel_job(job)
    await drain(app)
    assert [each.result for each in await callbacks(app)] == [f"job {job.id} aborted: cancelled before it ran"]


async def test_on_stopped_is_called_when_expired(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop, _ttl=60, _on_stopped=handlers.remember)
    query(LONG_AGO.format("ready", "expires_at"))
    await app.sweep()
    await drain(app)
    words = f"job {job.id} aborted: expired: not started within 60 s after it became due"
    assert [each.result for each in await callbacks(app)] == [words]


async def test_on_failure_is_called_when_a_dependency_failed(app: Werk) -> None:
    culprit = await asked(app, handlers.fail)
    job = await asked(app, handlers.noop, _depends_on=culprit, _on_failure=handlers.remember)
    await drain(app)
    words = f"job {job.id} failed: dependency {culprit.id} (tests.handlers.fail) failed"
    assert [each.result for each in await callbacks(app)] == [words]


async def test_callbacks_are_left_out_of_counts_by_default(app: Werk) -> None:
    await asked(app, handlers.noop, _on_success="tests.handlers.nowhere", _queue="q")
    await AsyncWorker(app, ["q"], burst=True, concurrency=1).run()
    assert await app.get_queue_stats() == []
    assert [job.callback_of for job in await app.list_jobs(callbacks=False)] == [None]


async def test_a_callback_has_three_attempts(app: Werk, query: Any) -> None:
    job = await asked(app, handlers.noop, _on_success="tests.handlers.nowhere")
    for _ in range(3):
        await drain(app)
        query(LONG_AGO.format("scheduled", "due"))
    (callback,) = await callbacks(app)
    assert (callback.status, callback.attempts) == (JobStatus.Failed, 3)
    assert await ends(app, job) == [("complete", None)]


# Repeats.


async def test_repeat_runs_so_many_times_more(app: Werk, query: Any) -> None:
    first = await asked(
        app, handlers.noop, _repeat=Repeat(times=2, intervals=[60, 300]), _key="once", _group="g", _meta={"a": 1},
        _on_success=handlers.remember,
    )  # fmt: skip
    pauses = []
    for _ in range(3):
        await drain(app)
        pauses += query("select round(extract(epoch from due - now())) from scheduled")
        query(LONG_AGO.format("scheduled", "due"))
    runs = await app.list_jobs(function="tests.handlers.noop")
    assert [job.status for job in runs] == [JobStatus.Complete] * 3
    assert [int(pause) for (pause,) in pauses] == [60, 300]
    assert [job.repeat_remaining for job in runs] == [0, 1, 2]
    assert [job.key for job in runs] == [None, None, "once"]
    assert {(job.group_key, str(job.meta), job.on_success) for job in runs} == {
        ("g", "{'a': 1}", "tests.handlers.remember")
    }
    assert len(await callbacks(app)) == 3
    assert runs[-1].id == first.id


async def test_a_failure_ends_the_series(app: Werk) -> None:
    await asked(app, handlers.fail, _repeat=Repeat(times=5))
    await drain(app)
    assert len(await app.list_jobs()) == 1


async def test_the_last_interval_repeats(app: Werk, query: Any) -> None:
    await asked(app, handlers.noop, _repeat=Repeat(times=4, interval=7))
    for _ in range(6):
        await drain(app)
        query(LONG_AGO.format("scheduled", "due"))
    assert len(await app.list_jobs(status="complete")) == 5


async def test_a_repeat_counts_from_the_completion(app: Werk) -> None:
    await asked(app, handlers.noop, _repeat=Repeat(times=1, interval=60))
    before = datetime.now(UTC)
    await drain(app)
    (next_run,) = await app.list_jobs(status="scheduled")
    assert next_run.scheduled_at is not None
    assert next_run.scheduled_at > before + timedelta(seconds=59)
