"""How a worker stops, and what a stop, a death or a stubborn handler leaves behind."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from pgwerk import AsyncWorker, EnqueueParams, JobStatus, Werk, WerkConfig, events
from pgwerk.db import Database
from pgwerk.maintenance import Maintenance
from pgwerk.store.workers import WorkerStore
from pgwerk.wire import Disconnected
from pgwerk.worker import attempts
from pgwerk.worker.exchange import Exchange, Turn
from pgwerk.worker.life import Life
from pgwerk.worker.pace import Pace
from tests import handlers
from tests.feature.test_running import until, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Query = Callable[..., list[tuple[Any, ...]]]

LIVES = 50
GATE: asyncio.Event
THREAD_GATE: threading.Event


@pytest.fixture
def gate() -> asyncio.Event:
    global GATE
    GATE = asyncio.Event()
    return GATE


@pytest.fixture
def thread_gate() -> Iterator[threading.Event]:
    global THREAD_GATE
    THREAD_GATE = threading.Event()
    yield THREAD_GATE
    THREAD_GATE.set()


@pytest.fixture
def far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after many short jobs: two are claimed ahead of every slot, and wait there until somebody sends them back."""
    monkeypatch.setattr(Pace, "ahead", 2)
    monkeypatch.setattr(attempts, "PATIENCE", 3600.0)


async def pass_gate() -> None:
    await GATE.wait()


def pass_thread_gate() -> None:
    assert THREAD_GATE.wait(30)


async def swallow_the_cancellation() -> str:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return "cleaned up"
    return "never"


@pytest.mark.usefixtures("far_ahead")
async def test_a_stop_hands_back_at_once_what_was_claimed_ahead(app: Werk, query: Query, gate: asyncio.Event) -> None:
    ahead = EnqueueParams(handlers.noop, ttl=3600)
    await app.enqueue_many([EnqueueParams(pass_gate), ahead, ahead])
    pending = query("select job_id, expires_at from ready order by 1 offset 1")
    async with worker(app, concurrency=1, listen=False) as stopped:
        await until(lambda: stopped._life and stopped._life.running, "the first runs, the others are claimed ahead")
        assert query("select count(*) from active") == [(3,)]
        stopped.stop()
        await until(lambda: query("select 1 from ready offset 1"), "two are back while the first still runs")
        assert query("select job_id from active") == [(pending[0][0] - 1,)]
        assert query("select job_id, expires_at from ready order by 1") == pending
        assert query("select distinct attempt from ready") == [(1,)]
        gate.set()
        await until(lambda: query("select 1 from finished"), "the running one was let end")
    assert query("select count(*) from ready") == [(2,)]


@pytest.mark.usefixtures("far_ahead", "thread_gate")
async def test_a_stop_hands_back_what_waits_behind_a_stuck_thread(
    app: Werk, query: Query, heard: list[events.Event]
) -> None:
    stuck = EnqueueParams(pass_thread_gate, timeout=0.2)
    await app.enqueue_many([stuck, EnqueueParams(handlers.noop), EnqueueParams(handlers.noop)])
    async with worker(app, concurrency=1, listen=False):
        await until(lambda: any(isinstance(each, events.ThreadStuck) for each in heard), "the thread is stuck")
    assert query("select state from worker") == [("stopped",)]
    assert query("select job_id from active") == []
    assert query("select attempt, count(*) from ready group by 1") == [(1, 2)]


async def test_a_claim_whose_answer_was_lost_is_handed_in_when_the_worker_retires(
    app: Werk, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping = AsyncWorker(app, listen=False, poll_interval=0.05)
    take_turn = Exchange.take_turn

    async def lose_the_answer(self: Exchange, *args: Any, **options: Any) -> Turn:
        turn = await take_turn(self, *args, **options)
        if turn.claimed:
            stopping.stop()
            raise Disconnected("the answer was lost on the way")
        return turn

    monkeypatch.setattr(Exchange, "take_turn", lose_the_answer)
    job = await app.enqueue(handlers.noop)
    assert job is not None
    await stopping.run()
    assert query("select job_id from active") == []
    assert query("select job_id, attempt from ready") == [(job.id, 1)]


async def test_a_job_that_somebody_aborts_is_not_handed_in(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told of a lost worker's job is told of the wish too."""
    stopping = AsyncWorker(app, listen=False, poll_interval=0.05)
    take_turn = Exchange.take_turn

    async def lose_the_answer(self: Exchange, *args: Any, **options: Any) -> Turn:
        turn = await take_turn(self, *args, **options)
        if turn.claimed:
            assert await app.abort_job(turn.claimed[0].job_id)
            stopping.stop()
            raise Disconnected("the answer was lost on the way")
        return turn

    monkeypatch.setattr(Exchange, "take_turn", lose_the_answer)
    await app.enqueue(handlers.noop)
    await stopping.run()
    await app.sweep()
    assert [job.status for job in await app.list_jobs()] == [JobStatus.Aborted]


@pytest.mark.usefixtures("thread_gate")
async def test_a_thread_of_an_earlier_life_takes_no_slot_of_the_next(
    app: Werk, query: Query, heard: list[events.Event]
) -> None:
    held = await app.enqueue(pass_thread_gate)
    async with worker(app, concurrency=1, listen=False, heartbeat_interval=0.05, poll_interval=0.05) as reborn:
        await until(lambda: query("select 1 from active"), "the thread runs")
        first = reborn.id
        query("update worker set state = 'dead', ended_at = now()")
        await until(lambda: reborn.id != first, "it lives again")
        job = await app.enqueue(handlers.square, 3, _timeout=10)
        assert job is not None and held is not None
        assert (await app.wait_for(job, timeout=20)).result == 9
        assert not THREAD_GATE.is_set()
    assert [each.job_id for each in heard if isinstance(each, events.ThreadStuck)] == [held.id]


async def test_a_stop_needs_no_thread_of_the_loops_own_pool(app: Werk, thread_gate: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    filled = loop.run_in_executor(None, pass_thread_gate)
    async with asyncio.timeout(15), worker(app, heartbeat_interval=0.1) as stopped:
        await until(lambda: stopped.id, "it lives")
    assert not filled.done()
    thread_gate.set()
    await filled


async def test_no_retirement_is_taken_for_a_death(app: Werk, query: Query, heard: list[events.Event]) -> None:
    for _ in range(LIVES):
        await AsyncWorker(app, burst=True, heartbeat_interval=0.05).run()
    assert not [each for each in heard if isinstance(each, events.LivenessLost)]
    assert query("select state, count(*) from worker group by 1") == [("stopped", LIVES)]
    assert query("select * from idle") == []


async def test_a_worker_retires_only_when_its_beat_has_stopped(app: Werk, monkeypatch: pytest.MonkeyPatch) -> None:
    beating: list[bool] = []
    retire = Life._retire

    async def noted(self: Life) -> None:
        beating.append(f"pgwerk-beat-{self.id}" in {thread.name for thread in threading.enumerate()})
        await retire(self)

    monkeypatch.setattr(Life, "_retire", noted)
    await AsyncWorker(app, burst=True).run()
    assert beating == [False]


async def test_a_dead_worker_is_not_announced_as_idle(app: Werk, database: Database, query: Query) -> None:
    store = WorkerStore(database.schema)
    async with database.session() as session:
        dead = await session.run(store.register("w", "AsyncWorker", ["default"], 1, 1.0))
        query("update worker set state = 'dead', ended_at = now()")
        await session.run(store.announce_idle(dead))
        await session.run(store.stop(dead))
    await Maintenance(database, WerkConfig()).tick()
    assert query("select * from idle") == []


async def test_a_coroutine_that_swallows_its_timeout_fails_with_it(app: Werk) -> None:
    job = await app.enqueue(swallow_the_cancellation, _timeout=0.1)
    assert job is not None
    await AsyncWorker(app, burst=True).run()
    late = await app.get_job(job)
    assert late.status == JobStatus.Failed and late.result is None
    assert late.error is not None and "longer than its 0.1 s" in late.error
