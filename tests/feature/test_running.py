"""What a worker does with jobs, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import (
    AsyncWorker,
    Context,
    EnqueueParams,
    ExecutionStatus,
    JobStatus,
    Retry,
    Werk,
    WerkConfig,
    events,
    serializers,
)
from pgwerk.execution import LONGEST_ERROR
from pgwerk.maintenance import Maintenance
from pgwerk.store.session import SessionStore
from pgwerk.worker.exchange import Exchange, Turn
from pgwerk.worker.services import listener
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from pgwerk.execution import Outcome

RELEASE = threading.Event()
STARTED: asyncio.Event


async def burst(app: Werk, **options: Any) -> None:
    await AsyncWorker(app=app, burst=True, **options).run()


@contextlib.asynccontextmanager
async def worker(app: Werk, **options: Any) -> AsyncIterator[AsyncWorker]:
    """Runs beside the test, and is stopped in an orderly way."""
    running = AsyncWorker(app=app, **options)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stop()
        await task


async def until(fact: Callable[[], Any], what: str) -> Any:
    async with asyncio.timeout(20):
        while not (found := fact()):
            await asyncio.sleep(0.01)
    return found


async def add(ctx: Context, number: int) -> dict[str, Any]:
    child = await ctx.app.enqueue(handlers.square, number)
    assert child is not None
    return {"child": child.id, "worker": ctx.worker.name, "job": ctx.job.id, "attempt": ctx.job.attempts}


def repeat(text: str, times: int) -> str:
    return text * times


def fail_at_length(length: int) -> None:
    raise ValueError("x" * length)


def wait_for_release() -> str:
    RELEASE.wait(20)
    return "released"


async def start_and_wait() -> None:
    STARTED.set()
    await asyncio.sleep(3600)


async def refuse_to_die() -> str:
    STARTED.set()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "cleaned up"
    return "never"


async def cancel_itself() -> None:
    raise asyncio.CancelledError


def leave() -> None:
    raise SystemExit(3)


def interrupt() -> None:
    raise KeyboardInterrupt


async def unserializable() -> object:
    return object()


async def nul() -> str:
    return "a\0b"


async def late() -> None:
    raise TimeoutError("somebody else's")


async def test_the_context_knows_its_surroundings(app: Werk) -> None:
    job = await app.enqueue(add, 7)
    assert job is not None
    await burst(app)
    done = await app.get_job(job)
    assert done.result["job"] == job.id and done.result["attempt"] == 1 and done.result["worker"]
    assert (await app.get_job(done.result["child"])).result == 49


async def test_what_ends_at_once_is_settled_by_the_very_next_turn(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler begins before the worker asks for more: whoever waits for it does not wait for that question."""
    turns: list[tuple[list[int], list[int]]] = []
    take_turn = Exchange.take_turn

    async def noted(self: Exchange, outcomes: Sequence[Outcome], *args: Any, **options: Any) -> Turn:
        turn = await take_turn(self, outcomes, *args, **options)
        turns.append(([each.job_id for each in outcomes], [row.job_id for row in turn.claimed]))
        return turn

    monkeypatch.setattr(Exchange, "take_turn", noted)
    job = await app.enqueue(handlers.noop)
    assert job is not None
    await burst(app)
    busy = [turn for turn in turns if turn != ([], [])]
    assert busy == [([], [job.id]), ([job.id], [])]
    assert turns.index(busy[1]) == turns.index(busy[0]) + 1


async def test_plain_functions_run_in_threads_at_most_as_many_as_there_are_slots(app: Werk) -> None:
    RELEASE.clear()
    jobs = [await app.enqueue(wait_for_release) for _ in range(5)]
    async with worker(app, concurrency=3):
        await until(lambda: sum(thread.name.startswith("pgwerk_") for thread in threading.enumerate()) >= 3, "threads")
        active = await app.list_jobs(status="active")
        assert len(active) == 3
        RELEASE.set()
        assert [(await app.wait_for(job, 20)).result for job in jobs if job] == ["released"] * 5


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (handlers.fail, "ValueError: on purpose"),
        (cancel_itself, "CancelledError"),
        (leave, "SystemExit: 3"),
        (interrupt, "KeyboardInterrupt"),
        (unserializable, "the result of tests.feature.test_running.unserializable cannot be stored: "),
        (nul, "Postgres takes no text with a NUL character"),
        (late, "somebody else's"),
        ("tests.handlers.gone", "has no gone"),
        ("nowhere.at_all", "there is no module nowhere"),
    ],
)
async def test_whatever_comes_out_of_a_handler_fails_that_attempt_alone(app: Werk, handler: Any, words: str) -> None:
    bad, good = await app.enqueue(handler), await app.enqueue(handlers.square, 3)
    assert bad is not None and good is not None
    await burst(app)
    failed = await app.get_job(bad)
    assert failed.status == JobStatus.Failed and failed.error is not None and words in failed.error
    assert "pgwerk/worker" not in failed.error
    assert (await app.get_job(good)).result == 9


async def test_retries_wait_as_asked_and_the_history_is_kept(app: Werk, query: Any) -> None:
    job = await app.enqueue(handlers.fail_until, 3, _retry=Retry(max=4, intervals=[60, 300]))
    assert job is not None
    for seconds in (60, 300):
        await burst(app)
        ((left,),) = query("select extract(epoch from due - now())::float from scheduled where job_id = %s", job.id)
        assert seconds - 5 < left <= seconds
        query("update scheduled set due = now() where job_id = %s", job.id)
    await burst(app)
    assert (await app.get_job(job)).result == 3
    history = await app.get_executions(job)
    assert [(each.attempt, each.status) for each in history] == [
        (1, ExecutionStatus.Failed), (2, ExecutionStatus.Failed), (3, ExecutionStatus.Complete),
    ]  # fmt: skip
    assert history[0].error is not None and "ValueError: attempt 1 of 4" in history[0].error


async def test_attempts_never_exceed_the_maximum(app: Werk) -> None:
    job = await app.enqueue(handlers.fail, _retry=Retry(max=3))
    assert job is not None
    await burst(app)
    failed = await app.get_job(job)
    assert (failed.status, failed.attempts) == (JobStatus.Failed, 3)


@pytest.mark.parametrize("handler", [handlers.sleep, handlers.block])
async def test_a_timeout_fails_the_attempt(app: Werk, handler: Any) -> None:
    job = await app.enqueue(handler, 2.0, _timeout=0.1)
    assert job is not None
    await burst(app)
    failed = await app.get_job(job)
    assert failed.status == JobStatus.Failed and failed.error is not None
    assert failed.error.endswith("the attempt took longer than its 0.1 s")


async def test_a_thread_that_outlives_its_timeout_keeps_its_slot(app: Werk, heard: list[events.Event]) -> None:
    RELEASE.clear()
    stuck = await app.enqueue(wait_for_release, _timeout=0.1)
    assert stuck is not None
    async with worker(app, concurrency=1):
        assert (await app.wait_for(stuck, 20)).status == JobStatus.Failed
        waiting = await app.enqueue(handlers.square, 2)
        assert waiting is not None
        with pytest.raises(TimeoutError):
            await app.wait_for(waiting, 0.3)
        RELEASE.set()
        assert (await app.wait_for(waiting, 20)).result == 4
    assert any(isinstance(event, events.ThreadStuck) and event.job_id == stuck.id for event in heard)


async def test_a_stop_lets_running_jobs_end(app: Werk) -> None:
    job = await app.enqueue(handlers.sleep, 0.3)
    assert job is not None
    async with worker(app):
        await _active(app)
    assert (await app.get_job(job)).result == "slept"


async def test_a_stop_hands_back_what_does_not_end_without_using_an_attempt(app: Werk, query: Any) -> None:
    global STARTED
    STARTED = asyncio.Event()
    job = await app.enqueue(start_and_wait)
    assert job is not None
    async with worker(app, shutdown_timeout=0.05):
        await asyncio.wait_for(STARTED.wait(), 20)
    back = await app.get_job(job)
    assert (back.status, back.attempts) == (JobStatus.Queued, 0)
    assert query("select attempt, seq < 0 from ready") == [(1, True)]
    assert await app.get_executions(job) == []


async def test_a_second_stop_cuts_the_wait_short(app: Werk) -> None:
    global STARTED
    STARTED = asyncio.Event()
    job = await app.enqueue(start_and_wait)
    assert job is not None
    async with worker(app, shutdown_timeout=3600) as running:
        await asyncio.wait_for(STARTED.wait(), 20)
        running.stop()
    assert (await app.get_job(job)).status == JobStatus.Queued


async def test_cancelling_run_drains_like_a_signal(app: Werk) -> None:
    job = await app.enqueue(handlers.sleep, 0.3)
    assert job is not None
    task = asyncio.create_task(AsyncWorker(app=app).run())
    await _active(app)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await app.get_job(job)).result == "slept"


async def test_a_worker_connects_an_app_that_is_not(dsn: str, schema: str) -> None:
    other = Werk(dsn, schema=schema)
    async with other:
        job = await other.enqueue(handlers.square, 5)
    await burst(other)
    assert not other.is_connected
    async with other:
        assert job is not None and (await other.get_job(job)).result == 25


async def test_two_workers_share_the_jobs_and_run_each_once(app: Werk, tmp_path: Any) -> None:
    log = tmp_path / "log"
    await app.enqueue_many([EnqueueParams(handlers.write, (str(log), str(number))) for number in range(1000)])
    await asyncio.gather(burst(app), burst(app))
    lines = log.read_text().splitlines()
    assert len(lines) == len(set(lines)) == 1000


async def test_an_idle_worker_takes_a_scheduled_job_when_it_is_due(app: Werk) -> None:
    async with worker(app, poll_interval=60):
        job = await app.enqueue(handlers.square, 4, _delay=0.5)
        assert job is not None and job.status == JobStatus.Scheduled
        done = await app.wait_for(job, 10)
    assert done.result == 16 and done.started_at is not None and job.scheduled_at is not None
    assert done.started_at >= job.scheduled_at


async def test_jobs_of_a_dead_worker_are_taken_back(app: Werk, query: Any) -> None:
    """Aged by hand: the worker's row says dead, its claims are still there."""
    retried, last = await app.enqueue(handlers.square, 2, _retry=2), await app.enqueue(handlers.square, 3)
    assert retried is not None and last is not None
    query(
        "insert into worker (name, kind, queues, concurrency, patience, state, ended_at) "
        "values ('gone:1', 'AsyncWorker', '{default}', 1, 10, 'dead', now())"
    )
    query(
        "insert into active (job_id, worker_id, claim_no, attempt) "
        "select job_id, (select max(id) from worker), 1, 1 from ready"
    )
    query("delete from ready")
    await Maintenance(app.database, WerkConfig()).tick()
    assert query("select job_id, attempt from ready") == [(retried.id, 2)]
    failed = await app.get_job(last)
    assert (failed.status, failed.error, failed.attempts) == (JobStatus.Failed, "worker gone:1 lost", 1)
    ((first,),) = [[each.error for each in await app.get_executions(retried)]]
    assert first == "worker gone:1 lost"
    await burst(app)
    assert (await app.get_job(retried)).result == 4


async def test_a_worker_that_was_declared_dead_stores_nothing_and_starts_anew(
    app: Werk, query: Any, heard: list[events.Event]
) -> None:
    global STARTED
    STARTED = asyncio.Event()
    job = await app.enqueue(refuse_to_die, _retry=2)
    assert job is not None
    async with worker(app, heartbeat_interval=0.1, shutdown_timeout=0.05) as running:
        await asyncio.wait_for(STARTED.wait(), 20)
        STARTED = asyncio.Event()
        first = running.id
        query("update worker set state = 'dead', ended_at = now() where id = %s", first)
        await until(lambda: any(isinstance(event, events.LivenessLost) for event in heard), "it finds out")
        await asyncio.wait_for(STARTED.wait(), 20)  # rescued, and claimed by the next life
        assert running.id != first
    history = await app.get_executions(job)
    assert [(each.attempt, each.error, each.result) for each in history] == [
        (1, f"worker {running.name} lost", None), (2, None, "cleaned up"),
    ]  # fmt: skip


async def test_an_old_claim_changes_nothing(app: Werk, query: Any, heard: list[events.Event]) -> None:
    """The row was given to another claim while the attempt ran: its result is dropped, and that is said once."""
    RELEASE.clear()
    job = await app.enqueue(wait_for_release)
    assert job is not None
    async with worker(app):
        await _active(app)
        query("update active set claim_no = claim_no + 1000")
        RELEASE.set()
        await until(lambda: [event for event in heard if isinstance(event, events.ClaimLost)], "the loss is said")
    assert (await app.get_job(job)).status == JobStatus.Active


async def test_a_result_that_is_too_large_to_be_stored_fails_its_attempt(
    app: Werk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializers, "LARGEST", 2**20)
    job = await app.enqueue(repeat, "x", 2**20)
    assert job is not None
    await burst(app)
    words = (
        "the result of tests.feature.test_running.repeat cannot be stored: results may take 1 MiB as JSON, "
        "got 1.0 MiB; keep them elsewhere, and pass on where they are"
    )
    ended = await app.get_job(job)
    assert (ended.status, ended.error) == (JobStatus.Failed, words)


async def test_of_an_error_without_an_end_the_beginning_is_stored(app: Werk) -> None:
    job = await app.enqueue(fail_at_length, 2 * LONGEST_ERROR)
    assert job is not None
    await burst(app)
    error = (await app.get_job(job)).error or ""
    assert error.startswith("Traceback") and "ValueError: xxx" in error
    assert len(error) == LONGEST_ERROR


async def test_a_result_that_postgres_refuses_fails_alone(app: Werk) -> None:
    bad = await app.enqueue(handlers.echo, 1)
    good = [await app.enqueue(handlers.square, number) for number in range(5)]
    assert bad is not None

    class Odd(type(app.serializer)):  # type: ignore[misc]
        def dumps(self, value: Any) -> bytes:
            return b'"\\u0000"' if value == 1 and type(value) is int else super().dumps(value)

    app.serializer = Odd()
    await burst(app)
    failed = await app.get_job(bad)
    assert failed.status == JobStatus.Failed and failed.error is not None
    assert failed.error.startswith("the result was refused by Postgres: ")
    statuses = {(await app.get_job(job)).status for job in good if job}
    assert statuses <= {JobStatus.Complete, JobStatus.Failed} and JobStatus.Complete in statuses


async def test_a_worker_hears_of_jobs_and_polls_only_seldom(app: Werk) -> None:
    async with worker(app, poll_interval=60) as running:
        await until(lambda: running._life and running._life._listener.is_listening, "it listens")
        assert await app.apply(handlers.square, 6, timeout=20) == 36
        assert await app.map(handlers.square, [[n] for n in range(20)], timeout=20) == [n * n for n in range(20)]


async def test_without_notifications_polling_takes_over(app: Werk, heard: list[events.Event], monkeypatch: Any) -> None:
    monkeypatch.setattr(listener, "PATIENCE", 0.2)
    monkeypatch.setattr(SessionStore, "listen", lambda self: self.ping("a pooler swallows the listen"))
    async with worker(app):
        await until(lambda: any(isinstance(event, events.ListenerDeaf) for event in heard), "it notices")
        job = await app.enqueue(handlers.square, 8)
        assert job is not None
        async with asyncio.timeout(10):
            while (await app.get_job(job)).status != JobStatus.Complete:
                await asyncio.sleep(0.05)


async def test_a_blocked_loop_is_named_and_not_taken_for_death(
    app: Werk, heard: list[events.Event], query: Any
) -> None:
    job = await app.enqueue(hold_the_loop, 2.5)
    assert job is not None
    async with worker(app, heartbeat_interval=0.3):
        done = await app.wait_for(job, 20)
    assert done.status == JobStatus.Complete
    blocked = [event for event in heard if isinstance(event, events.LoopBlocked)]
    assert len(blocked) == 1 and "hold_the_loop" in blocked[0].stack
    assert query("select state from worker") == [("stopped",)]


async def hold_the_loop(seconds: float) -> None:
    handlers.block(seconds)


async def _active(app: Werk) -> None:
    async with asyncio.timeout(20):
        while not await app.list_jobs(status="active"):
            await asyncio.sleep(0.01)
