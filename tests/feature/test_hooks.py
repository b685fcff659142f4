"""What a program wants to be called, and which queue a worker looks into first."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, Context, DequeueStrategy, EnqueueParams, InvalidOption, JobStatus, Werk, events
from tests import handlers
from tests.feature.test_running import until, worker
from tests.feature.test_what_follows import asked

if TYPE_CHECKING:
    from pgwerk import Job

SEEN: list[str] = []


async def tell(what: str) -> None:
    SEEN.append(what)


class Mute:
    """A hook that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __call__(self, _: Context) -> None:
        raise RuntimeError("broken hook")


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    SEEN.clear()


async def test_hooks_around_an_attempt(app: Werk) -> None:
    async def before(ctx: Context) -> None:
        SEEN.append(f"before {ctx.job.id} {ctx.job.status} {ctx.exception}")

    def after(ctx: Context) -> None:
        SEEN.append(f"after {ctx.job.id} {ctx.exception!r}")

    worker = AsyncWorker(app, burst=True, concurrency=1, before_process=[before], after_process=[after])
    worker.add_before_process(lambda ctx: SEEN.append(f"second {ctx.job.id}"))
    worker.add_after_process(lambda ctx: SEEN.append(f"last {ctx.worker.name == worker.name}"))
    good, bad = await asked(app, handlers.noop), await asked(app, handlers.fail)
    await worker.run()
    assert [
        f"before {good.id} active None", f"second {good.id}", f"after {good.id} None", "last True",
        f"before {bad.id} active None", f"second {bad.id}", f"after {bad.id} ValueError('on purpose')", "last True",
    ] == SEEN  # fmt: skip


async def test_exception_handlers_the_last_one_first(app: Werk) -> None:
    worker = AsyncWorker(app, burst=True)

    async def first(job: Job, error: BaseException) -> None:
        SEEN.append(f"first {job.id} {error}")

    worker.push_exception_handler(first)
    worker.push_exception_handler(lambda job, error: SEEN.append(f"second {job.function} {type(error).__name__}"))
    worker.push_exception_handler(print)
    assert worker.pop_exception_handler() is print
    job = await asked(app, handlers.fail)
    await asked(app, handlers.noop)
    await worker.run()
    assert ["second tests.handlers.fail ValueError", f"first {job.id} on purpose"] == SEEN
    worker.pop_exception_handler()
    worker.pop_exception_handler()
    with pytest.raises(IndexError):
        worker.pop_exception_handler()


async def test_a_hook_that_raises_is_logged_and_changes_nothing(app: Werk) -> None:
    failed: list[events.HookFailed] = []
    unsubscribe = events.subscribe(lambda event: failed.append(event) if isinstance(event, events.HookFailed) else None)

    def broken(*_: Any) -> None:
        raise RuntimeError("broken hook")

    worker = AsyncWorker(app, burst=True, before_process=[broken], after_process=[broken])
    worker.push_exception_handler(broken)
    good, bad = await asked(app, handlers.noop), await asked(app, handlers.fail)
    await worker.run()
    unsubscribe()
    assert [(await app.get_job(job)).status for job in (good, bad)] == [JobStatus.Complete, JobStatus.Failed]
    assert Counter(event.about for event in failed) == {f"job {good.id}": 2, f"job {bad.id}": 3}
    assert {event.error for event in failed} == {"broken hook"}


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
async def test_a_hook_that_wants_to_leave_is_logged_and_changes_nothing(
    app: Werk, heard: list[events.Event], error: BaseException
) -> None:
    def leave(*_: Any) -> None:
        raise error

    worker = AsyncWorker(app, burst=True, concurrency=1, before_process=[leave], after_process=[leave])
    worker.push_exception_handler(leave)
    good, bad = await asked(app, handlers.noop), await asked(app, handlers.fail)
    await worker.run()
    assert [(await app.get_job(job)).status for job in (good, bad)] == [JobStatus.Complete, JobStatus.Failed]
    about = Counter(event.about for event in heard if isinstance(event, events.HookFailed))
    assert about == {f"job {good.id}": 2, f"job {bad.id}": 3}


async def test_a_hook_that_cannot_be_shown_is_logged_too(app: Werk, heard: list[events.Event]) -> None:
    job = await asked(app, handlers.noop)
    await AsyncWorker(app, burst=True, before_process=[Mute()]).run()
    assert (await app.get_job(job)).status == JobStatus.Complete
    assert [event.hook for event in heard if isinstance(event, events.HookFailed)] == ["a Mute that cannot be shown"]


async def test_an_abort_reaches_through_a_hook(app: Werk, query: Any) -> None:
    async def wait(_: Context) -> None:
        SEEN.append("waits")
        await asyncio.sleep(3600)

    async with worker(app, before_process=[wait]):
        job = await asked(app, handlers.noop)
        await until(lambda: SEEN, "the hook waits")
        assert await app.abort_job(job)
        assert (await app.wait_for(job, timeout=20)).status == JobStatus.Aborted


async def test_an_app_tells_when_it_starts_and_ends(dsn: str, app: Werk) -> None:
    other = Werk(dsn, schema=app.config.schema)

    @other.on_startup
    async def started() -> None:
        SEEN.append(f"started {other.is_connected}")

    @other.on_shutdown
    def ended() -> None:
        SEEN.append(f"ended {other.is_connected}")

    async with other, other:
        await other.connect()
    await other.disconnect()
    await other.disconnect()
    assert SEEN == ["started True", "ended True"]


async def test_before_enqueue_may_change_a_job(app: Werk) -> None:
    async def mark(params: EnqueueParams) -> None:
        params.meta = {**(params.meta or {}), "by": "hook"}

    def hurry(params: EnqueueParams) -> None:
        params.priority += 1

    app.register_before_enqueue(mark)
    app.register_before_enqueue(hurry)
    job = await asked(app, handlers.noop, _meta={"a": 1})
    assert (job.meta, job.priority) == ({"a": 1, "by": "hook"}, 1)
    (other,) = await app.enqueue_many([EnqueueParams(handlers.noop)])
    assert other is not None
    assert (await app.get_job(other)).meta == {"by": "hook"}
    app.unregister_before_enqueue(mark)
    app.unregister_before_enqueue(hurry)
    app.unregister_before_enqueue(hurry)
    assert (await asked(app, handlers.noop)).meta is None


async def test_before_enqueue_may_refuse_a_job_and_its_exception_reaches_the_caller(app: Werk) -> None:
    def refuse(params: EnqueueParams) -> None:
        if params.queue == "closed":
            raise PermissionError("the queue is closed")

    app.register_before_enqueue(refuse)
    with pytest.raises(PermissionError, match="the queue is closed"):
        await app.enqueue_many([EnqueueParams(handlers.noop), EnqueueParams(handlers.noop, queue="closed")])
    with pytest.raises(PermissionError):
        await app.apply(handlers.noop, _queue="closed", timeout=1)
    assert await app.list_jobs() == []


async def tell_slowly(what: str) -> None:
    """So slowly that nothing is claimed ahead: each claim is for one job."""
    SEEN.append(what)
    await asyncio.sleep(0.06)


async def _order(app: Werk, queues: Any, strategy: Any, jobs: list[tuple[str, int]], function: Any = tell) -> list[str]:
    await app.enqueue_many([EnqueueParams(function, [f"{q}{p}"], queue=q, priority=p) for q, p in jobs])
    await AsyncWorker(app, queues, 1, dequeue_strategy=strategy, burst=True).run()
    return SEEN


async def test_priority_goes_over_all_queues(app: Werk) -> None:
    jobs = [("a", 0), ("b", 5), ("a", 9), ("b", 0), ("c", 7)]
    order = await _order(app, ["a", "b", "c"], DequeueStrategy.Priority, jobs)
    assert order[:3] == ["a9", "c7", "b5"]
    assert sorted(order[3:]) == ["a0", "b0"]


async def test_round_robin_goes_from_queue_to_queue(app: Werk) -> None:
    jobs = [(queue, priority) for priority in range(6) for queue in ("a", "b")]
    order = await _order(app, ["a", "b"], "round_robin", jobs)
    assert [each for each in order if each.startswith("a")] == ["a5", "a4", "a3", "a2", "a1", "a0"]
    assert {order[n][0] + order[n + 1][0] for n in range(4, 12, 2)} <= {"ab", "ba"}


async def test_random_takes_every_queue_and_loses_nothing(app: Werk) -> None:
    jobs = [(queue, 0) for queue in ("a", "b", "c") for _ in range(10)]
    order = await _order(app, ["a", "b", "c"], DequeueStrategy.Random, jobs)
    assert Counter(order) == {"a0": 10, "b0": 10, "c0": 10}


@pytest.mark.parametrize("strategy", ["round_robin", "priority"])
async def test_a_weight_says_how_often_a_queue_comes_first(app: Werk, strategy: str) -> None:
    jobs = [(queue, 0) for queue in ("often", "seldom") for _ in range(16)]
    order = await _order(app, {"often": 3, "seldom": 1}, strategy, jobs, tell_slowly)
    assert Counter(order[:20])["often0"] in range(13, 17)


@pytest.mark.parametrize(
    ("queues", "strategy", "words"),
    [
        ({"a": 0}, None, "the weight of a queue must be more than 0, got 0 for 'a'"),
        (["a"], "fifo", "must be one of priority, round_robin, random, got 'fifo'"),
        ([], None, r"queues must be at least one name, got \[\]"),
    ],
)
async def test_what_a_worker_can_never_do_is_refused(app: Werk, queues: Any, strategy: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        await AsyncWorker(app, queues, dequeue_strategy=strategy, burst=True).run()
    assert await app.list_workers() == []
