"""Bugs planted in the engine, in this test's own copy of a statement: the proof finds each of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, Context, EnqueueParams, Repeat, Retry, Werk
from pgwerk.execution import Attempt, Decision, Verdict, decide
from pgwerk.sql import statements
from tests.faults import acts
from tests.faults.history import broken, read
from tests.faults.producing import Producer
from tests.postgres import rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.faults.history import Log

GUARD = "and a.job_id = o.job_id and a.worker_id = o.worker_id and a.claim_no = o.claim_no"
TOLD: dict[str, Any] = {"on_success": acts.on_success, "on_failure": acts.on_failure}
_held: dict[int, asyncio.Event] = {}


async def held(ctx: Context) -> int:
    """Each attempt until the test lets it go."""
    with acts.noted(ctx) as run:
        await _held.setdefault(ctx.job.attempts, asyncio.Event()).wait()
        return run


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    _held.clear()


@pytest.fixture
def plant(schema: str) -> Callable[[str, str, str], None]:
    def plant(statement: str, words: str, others: str) -> None:
        found = statements(schema)
        text = found[statement].text
        assert words in text
        found[statement] = replace(found[statement], text=text.replace(words, others))

    return plant


@pytest.fixture
def ask(app: Werk, log: Log) -> Callable[..., Any]:
    return Producer(app, log, "p").enqueue


@pytest.fixture
def found(dsn: str, schema: str, log: Log) -> Callable[[], list[str]]:
    return lambda: [str(each) for each in broken(read(log.dsn, dsn, schema))]


def work(seconds: float = 0.0, failures: int = 0, **options: Any) -> EnqueueParams:
    return EnqueueParams(acts.work, (seconds, failures), **options)


def mixed() -> list[EnqueueParams]:
    """Something of everything."""
    slow, keyed, failing = work(0.05, retry=Retry(2), **TOLD), work(key="k"), work(failures=1, **TOLD)
    return [
        slow, keyed, failing, work(depends_on=failing),
        work(group="g", priority=1), work(0.05, 1, group="g", retry=Retry(2)), work(group="g"),
        work(depends_on=[slow, keyed], repeat=Repeat(2), **TOLD),
    ]  # fmt: skip


async def run(app: Werk) -> None:
    async with working(app), asyncio.timeout(40):
        await ended(app)


@contextlib.asynccontextmanager
async def working(app: Werk, **options: Any) -> AsyncIterator[None]:
    worker = AsyncWorker(app, **options)
    task = asyncio.create_task(worker.run())
    yield
    worker.stop()
    await task


async def ended(app: Werk) -> None:
    """As far as anything still can."""
    while any(each.queued or each.scheduled or each.active for each in await app.get_queue_stats(callbacks=True)):
        await asyncio.sleep(0.02)


async def running(attempt: int) -> None:
    while attempt not in _held:
        await asyncio.sleep(0.01)


async def test_an_engine_as_it_is_breaks_no_rule(app: Werk, ask: Any, found: Any) -> None:
    await ask(*mixed())
    await ask(work(key="k"))
    await run(app)
    assert found() == []


PLANTED = {
    "an end that is not written": (
        "nothing is lost",
        [("complete", "result, started_at from held", "result, started_at from held where false")],
    ),
    "an enqueue that forgets a callback": (
        "every end is told once",
        [("enqueue", "on_success, on_failure, on_stopped,\n        repeat_remaining, repeat_intervals, due",
          "null::jsonb, on_failure, on_stopped, repeat_remaining, repeat_intervals, due")],
    ),
    "an end that is told twice": (
        "every end is told once",
        [("settle", "from ended where callback is", "from ended, generate_series(1, 2) where callback is")],
    ),
    "an end that forgets the next run": ("a series is exact", [("settle", "where e.repeats", "where false")]),
    "a claim that looks at no group": (
        "never two of a group",
        [("claim_grouped", "c.group_key is null or (", "true or ("),
         ("claim_grouped", "attempt, group_key, expires_at,\n        case", "attempt, null, expires_at, case")],
    ),
    "a group in the wrong order": (
        "a group keeps its order",
        [("claim_grouped", "b.job_id limit 1", "b.job_id desc limit 1"),
         ("claim_grouped", "b.job_id < c.job_id", "b.job_id > c.job_id"),
         ("free", "blocked.job_id limit 1", "blocked.job_id desc limit 1")],
    ),
    "a release that forgets failures": (
        "dependents come after",
        [("release", "when m.allow_failure or f.status = 'complete' then null", "when true then null")],
    ),
    "an attempt that is not written": (
        "attempts are counted",
        [("send_back", "where status = 'retry'", "where false")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_planted_bug_is_found(app: Werk, ask: Any, found: Any, plant: Any, planted: str) -> None:
    rule, changes = PLANTED[planted]
    for change in changes:
        plant(*change)
    await ask(*mixed())
    await run(app)
    assert rule in {each.split(":")[0] for each in found()}


async def test_a_dependent_that_runs_too_early_is_found(app: Werk, ask: Any, found: Any, plant: Any, log: Log) -> None:
    """Where a release does not look whether all that a job waits for have ended."""
    plant("release", "held where unmet = met and new_doom is null", "held where new_doom is null")
    plant("release", "where unmet > met or new_doom is not null", "where new_doom is not null")
    slow, quick = EnqueueParams(held), work()
    await ask(slow, quick, work(depends_on=[slow, quick]))
    async with working(app), asyncio.timeout(60):
        await running(1)
        while not rows(log.dsn, "select from ended join run on run = run.tick where job_id = 3"):
            await asyncio.sleep(0.01)
        _held[1].set()
        await ended(app)
    assert found() == ["dependents come after: job 3: it ran before job 1 had ended"]


async def test_a_result_of_a_lost_attempt_is_found(
    app: Werk, ask: Any, found: Any, plant: Any, query: Any, log: Log
) -> None:
    """Where an end does not look whose claim it ends: a worker that was declared dead comes back and stores its own."""
    plant("complete", GUARD, "and a.job_id = o.job_id")
    await ask(EnqueueParams(held, retry=2))
    async with working(app, heartbeat_interval=60), asyncio.timeout(60):
        await running(1)
        while query("select beat from worker") == [(0,)]:  # the next one, which would tell it, is a minute away
            await asyncio.sleep(0.01)
        query("update worker set state = 'dead', ended_at = now()")
        log.fault("declared dead", os.getpid())
        await app.sweep()
        async with working(app):
            await running(2)
            _held[1].set()
            await ended(app)
            _held[2].set()
    assert {each.split(":")[0] for each in found()} >= {"a result is that of its attempt"}


async def test_a_job_taken_from_a_living_worker_is_found(app: Werk, ask: Any, found: Any, plant: Any) -> None:
    await ask(EnqueueParams(held, retry=2))
    async with working(app, sweep_interval=60), asyncio.timeout(60):
        await running(1)
        plant("duties", "w.state = 'alive'", "w.state = 'asleep'")
        plant("lost", "where w.state is", "where true or w.state is")
        await app.sweep()
        plant("duties", "w.state = 'asleep'", "w.state = 'alive'")
        plant("lost", "where true or w.state is", "where w.state is")
        for attempt in (1, 2):
            _held.setdefault(attempt, asyncio.Event()).set()
        await ended(app)
    assert "only the dead lose jobs: job 1: attempt 1 was taken from worker 1, to which nothing had happened" in found()


async def test_an_attempt_too_many_is_found(app: Werk, ask: Any, found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def generous(verdict: Verdict, attempt: Attempt, chance: float) -> Decision:
        return decide(verdict, attempt._replace(max_attempts=9, retry_intervals=[0]), chance)

    monkeypatch.setattr("pgwerk.worker.running.decide", generous)
    await ask(work(failures=1, retry=Retry(1)))
    await run(app)
    assert "attempts are counted: job 1: attempt 2, and it has 1" in found()


async def test_what_was_rolled_back_and_ran_is_found(
    app: Werk, found: Any, log: Log, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an enqueue that forgets on which connection it was to be."""
    sent = app.enqueue_many
    monkeypatch.setattr(app, "enqueue_many", lambda params, _conn: sent(params))
    await Producer(app, log, "p").enqueue_with(dsn, work(), commits=False)
    await run(app)
    assert found() == ["nothing is made up: job p/1.1: rolled back without it, and there is job [1]"]
