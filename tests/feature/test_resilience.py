"""A server that will not do something for a while: nothing spins, nothing dies, nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import JobStatus, Werk, events
from pgwerk.store.ending import EndingStore
from pgwerk.store.workers import WorkerStore
from pgwerk.wire import Session
from pgwerk.worker import attempts, exchange, life
from pgwerk.worker.exchange import LOOK_AROUND, Exchange
from pgwerk.worker.services import beat
from tests import handlers
from tests.feature.test_running import until, worker
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pgwerk import Job
    from pgwerk.execution import Outcome

    Query = Callable[..., list[tuple[Any, ...]]]

REST = 0.2  # seconds; as long as the worker rests in these tests
FAILURES = 4
GATE: asyncio.Event


class Failures:
    """What a duty failed with, and when."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self._times: dict[str, list[float]] = {}

    def note(self, event: events.Event) -> None:
        self.events.append(event)
        if isinstance(event, events.DutyFailed):
            self._times.setdefault(event.duty, []).append(time.monotonic())

    def of(self, duty: str) -> list[float]:
        return self._times.get(duty, [])


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failures]:
    monkeypatch.setattr(life, "REST", REST)
    monkeypatch.setattr(beat, "BLOCKED", 0.7)  # less than what a loop without a pause would be frozen for
    found = Failures()
    unsubscribe = events.subscribe(found.note)
    yield found
    unsubscribe()


@contextlib.contextmanager
def refusing(query: Query, table: str) -> Iterator[None]:
    """Of no fault of the row's: the moment is wrong, not the value."""
    query(
        "create function refuse() returns trigger language plpgsql as "
        "$$begin raise exception 'the disk is full' using errcode = 'disk_full'; end$$"
    )
    query(f"create trigger refusal before insert on {table} for each row execute function refuse()")
    yield
    query("drop function refuse cascade")


def assert_calm(failures: Failures, duty: str) -> None:
    """Between two failures there was a rest, and the loop came round."""
    pauses = [after - before for before, after in itertools.pairwise(failures.of(duty))]
    assert min(pauses) >= REST * 0.9
    assert not [each for each in failures.events if isinstance(each, events.LoopBlocked)]


async def pass_gate() -> None:
    await GATE.wait()


async def pass_gate_and_square(number: int) -> int:
    await GATE.wait()
    return number * number


async def test_a_claim_that_the_server_cannot_do_is_not_repeated_at_once(
    app: Werk, query: Query, failures: Failures
) -> None:
    global GATE
    GATE = asyncio.Event()
    first = await app.enqueue(pass_gate)
    async with worker(app, concurrency=2, listen=False, heartbeat_interval=0.1, poll_interval=0.05):
        await until(lambda: query("select 1 from active"), "the first runs")
        with refusing(query, "active"):
            second = await app.enqueue(handlers.noop)
            await until(lambda: len(failures.of("claim")) >= FAILURES, "claims fail")
            GATE.set()
            await until(lambda: query("select 1 from finished"), "the result is stored although claims fail")
        assert_calm(failures, "claim")
        assert first is not None and second is not None
        assert (await app.wait_for(second, timeout=20)).status == JobStatus.Complete
    assert (await app.get_job(first)).status == JobStatus.Complete


async def test_a_result_that_the_server_cannot_store_now_is_kept_and_not_sent_again_at_once(
    app: Werk, query: Query, failures: Failures
) -> None:
    async with worker(app, concurrency=2, listen=False, heartbeat_interval=0.1, poll_interval=0.05):
        with refusing(query, "finished"):
            jobs = [await app.enqueue(handlers.square, number) for number in range(3)]
            await until(lambda: len(failures.of("settle")) >= FAILURES, "settles fail")
        ended = [await app.wait_for(job, timeout=20) for job in jobs if job is not None]
    assert_calm(failures, "settle")
    assert [(each.status, each.result, each.attempts) for each in ended] == [
        (JobStatus.Complete, number * number, 1) for number in range(3)
    ]


@contextlib.contextmanager
def too_slow_for(query: Query, job: Job | None) -> Iterator[None]:
    """The server comes to no end with the end of that job: it stops itself, as after `statement_timeout`."""
    assert job is not None
    query(
        "create function give_up() returns trigger language plpgsql as "
        f"$$begin if new.job_id = {job.id} and new.result is not null then "
        "raise exception 'canceling statement due to statement timeout' using errcode = 'query_canceled'; "
        "end if; return new; end$$"
    )
    query("create trigger slowness before insert on finished for each row execute function give_up()")
    yield
    query("drop function give_up cascade")


async def test_a_result_that_takes_the_server_too_long_stops_no_other(
    app: Werk, query: Query, failures: Failures
) -> None:
    global GATE
    GATE = asyncio.Event()
    first, *others = [await app.enqueue(pass_gate_and_square, number) for number in range(4)]
    with too_slow_for(query, first):
        async with worker(app, concurrency=4, listen=False, heartbeat_interval=0.1):
            await until(lambda: query("select 1 from active offset 3"), "they run")
            GATE.set()
            assert [(await app.wait_for(job, timeout=20)).result for job in others if job] == [1, 4, 9]
            await until(lambda: len(failures.of("settle")) >= 6, "it comes again and again: it is not to blame")
            query("drop trigger slowness on finished")
            assert first is not None
            assert (await app.wait_for(first, timeout=20)).result == 0
    assert_calm(failures, "settle")


async def test_a_heavy_result_that_takes_the_server_too_long_again_and_again_fails_its_attempt(
    app: Werk, query: Query, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HEAVY", 1)
    job = await app.enqueue(handlers.square, 4)
    with too_slow_for(query, job):
        async with worker(app, listen=False):
            ended = await app.wait_for(job, timeout=20) if job else None
    assert ended is not None
    words = "the result was refused by Postgres: canceling statement due to statement timeout"
    assert (ended.status, (ended.error or "").splitlines()[0]) == (JobStatus.Failed, words)
    assert len(failures.of("settle")) == exchange.MOST_TRIES - 1


async def test_results_too_large_for_one_message_are_stored_one_after_the_other(
    app: Werk, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    global GATE
    GATE = asyncio.Event()
    monkeypatch.setattr(attempts, "HEAVY", 3)
    batches: list[int] = []
    end = EndingStore.end

    def noted(self: EndingStore, outcomes: Sequence[Outcome]) -> Any:
        batches.append(sum(outcome.size for outcome in outcomes if outcome.result))
        return end(self, outcomes)

    monkeypatch.setattr(EndingStore, "end", noted)
    jobs = [await app.enqueue(pass_gate_and_square, number) for number in (1, 100, 2, 3)]
    async with worker(app, concurrency=4, listen=False):
        await until(lambda: query("select 1 from active offset 3"), "they run")
        GATE.set()
        assert [(await app.wait_for(job, timeout=20)).result for job in jobs if job] == [1, 10_000, 4, 9]
    assert max(batches) == 5


async def test_an_announcement_whose_transaction_failed_is_made_again(
    app: Werk, query: Query, failures: Failures
) -> None:
    with refusing(query, "idle"):
        running = worker(app, concurrency=2)
        idler = await running.__aenter__()
        await until(lambda: failures.of("claim"), "it could not say that it is idle")
    try:
        await until(lambda: query("select worker_id from idle") == [(idler.id,)], "it has said so")
        answer = await app.apply(handlers.square, 3, timeout=20)
        assert answer == 9
    finally:
        await running.__aexit__(None, None, None)


async def test_a_due_job_that_somebody_holds_locked_is_not_asked_for_without_a_pause(
    app: Werk, dsn: str, schema: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[float] = []
    promotion = Exchange._promotion

    def noted(self: Exchange) -> Any:
        times.append(time.monotonic())
        return promotion(self)

    monkeypatch.setattr(Exchange, "_promotion", noted)
    job = await app.enqueue(handlers.noop, _delay=3600)
    assert job is not None
    query("update scheduled set due = now()")
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'select * from "{schema}".scheduled for update')
        async with worker(app, concurrency=2, listen=False):
            await until(lambda: len(times) > FAILURES, "it asks for the due job")
            assert times[FAILURES] - times[0] >= (FAILURES - 1) * LOOK_AROUND
            await holder.rollback()
            assert (await app.wait_for(job, timeout=20)).status == JobStatus.Complete


async def test_an_own_connect_that_fails_for_a_while_kills_nobody(
    app: Werk, dsn: str, schema: str, query: Query, failures: Failures
) -> None:
    is_broken = False
    refused: list[str] = []

    async def connect() -> psycopg.AsyncConnection[Any]:
        if is_broken:
            refused.append(threading.current_thread().name)
            raise OSError("the token service does not answer")
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True, application_name=schema)

    unserved = await app.enqueue(handlers.noop, _queue="nobody", _ttl=3600)
    assert unserved is not None
    async with (
        Werk(dsn, schema=schema, connect=connect) as own,
        worker(own, heartbeat_interval=0.1, sweep_interval=0.1) as survivor,
    ):
        await until(lambda: query("select 1 from idle"), "it is there")
        is_broken = True
        query("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", schema)
        await until(lambda: set(map(_duty, refused)) == {"beat", "worker"} and len(refused) > 8, "it is cut off")
        is_broken = False
        ((before,),) = query("select beat from worker")
        await until(lambda: query("select 1 from worker where beat > %s + 2", before), "its beat goes on")
        query("update ready set expires_at = now() - interval '1 second' where job_id = %s", unserved.id)
        assert (await app.wait_for(unserved, timeout=20)).status == JobStatus.Aborted
        assert await app.apply(handlers.square, 3, timeout=20) == 9
        assert query("select id, state from worker") == [(survivor.id, "alive")]
    assert not [each for each in failures.events if isinstance(each, events.LivenessLost)]


async def test_who_is_taken_for_dead_does_not_wait_for_a_server_that_has_gone_silent(
    app: Werk, dsn: str, schema: str, query: Query
) -> None:
    async with (
        Proxy(dsn) as proxy,
        Werk(proxy.dsn, schema=schema) as far,
        worker(far, heartbeat_interval=0.1, poll_interval=0.01, listen=False) as reborn,
    ):
        await until(lambda: query("select 1 from worker where beat > 3"), "it lives")
        proxy.sever()
        query("update worker set state = 'dead', ended_at = now()")
        await until(lambda: query("select 1 from worker where state = 'alive'"), "it begins anew")
        assert await app.apply(handlers.square, 3, timeout=10) == 9
        assert query("select worker_id from finished") == [(reborn.id,)]


def _duty(thread: str) -> str:
    return "beat" if thread.startswith("pgwerk-beat") else "worker"


async def test_a_read_only_server_refuses_a_batch_in_few_statements(
    app: Werk, dsn: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    run = Session.run

    async def counted(self: Session, *calls: Any) -> Any:
        sent.extend(calls)
        return await run(self, *calls)

    async def connect() -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, options="-c default_transaction_read_only=on"
        )

    async with Werk(dsn, schema=schema, auto_migrate=False, connect=connect) as standby:
        monkeypatch.setattr(Session, "run", counted)
        ends = await asyncio.gather(*(standby.enqueue(handlers.noop) for _ in range(100)), return_exceptions=True)
    assert {type(end) for end in ends} == {psycopg.errors.ReadOnlySqlTransaction}
    assert len(sent) <= 5


@pytest.mark.parametrize("poll", [600.0, 0.05], ids=["at rest", "at work"])
@pytest.mark.parametrize("is_beating", [True, False])
async def test_a_swallowed_connection_is_given_up_with_that_of_the_beat(
    app: Werk, dsn: str, schema: str, query: Query, failures: Failures, monkeypatch: pytest.MonkeyPatch,
    is_beating: bool, poll: float,
) -> None:  # fmt: skip
    """Nothing says that they are broken, and a conversation has 30 seconds; new connections work."""
    monkeypatch.setattr(life, "POLL_LISTENING", poll)
    monkeypatch.setattr(beat, "CONNECT", 2.0)
    settle_in, stuck = Session.settle_in, threading.Event()

    async def settle_in_late(session: Session, **given: Any) -> None:
        if not is_beating and not stuck.is_set() and threading.current_thread().name.startswith("pgwerk-beat"):
            stuck.set()
            await asyncio.sleep(3600)
        await settle_in(session, **given)

    monkeypatch.setattr(Session, "settle_in", settle_in_late)
    async with Proxy(dsn) as proxy, Werk(proxy.dsn, schema=schema) as far, worker(far, heartbeat_interval=0.2):
        await app.apply(handlers.noop, timeout=20)
        if is_beating:
            await until(lambda: query("select 1 from worker where beat > 0"), "it beats")
        else:
            await until(stuck.is_set, "the beat's connection does not answer")
        proxy.sever()
        await app.apply(handlers.noop, timeout=15)
    said = [each.error for each in failures.events if isinstance(each, events.OutageBegan)]
    assert len(said) == 1
    assert "has not answered" not in said[0]


async def test_a_swallowed_conversation_is_given_up_though_the_beat_goes_on(
    app: Werk, dsn: str, schema: str, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "POLL_LISTENING", 0.05)
    async with Proxy(dsn) as proxy:

        async def connect() -> psycopg.AsyncConnection[Any]:
            where = dsn if _duty(threading.current_thread().name) == "beat" else proxy.dsn
            return await psycopg.AsyncConnection.connect(where, autocommit=True)

        async with Werk(dsn, schema=schema, connect=connect) as far, worker(far, heartbeat_interval=0.2):
            await app.apply(handlers.noop, timeout=20)
            proxy.sever()
            await app.apply(handlers.noop, timeout=15)
    said = [each.error for each in failures.events if isinstance(each, events.OutageBegan)]
    assert len(said) == 1
    assert "has not answered" not in said[0]


async def test_a_conversation_that_waits_for_a_lock_is_not_given_up(
    app: Werk, dsn: str, schema: str, failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    is_waited_for = WorkerStore.is_waited_for

    def looked(self: WorkerStore, pid: int) -> Any:
        looks.append(pid)
        return is_waited_for(self, pid)

    monkeypatch.setattr(WorkerStore, "is_waited_for", looked)
    async with worker(app, heartbeat_interval=0.1, poll_interval=0.05):
        await app.apply(handlers.noop, timeout=20)
        async with await psycopg.AsyncConnection.connect(dsn) as other:
            await other.execute(f"lock table {schema}.ready")
            await until(lambda: len(looks) > 12, "the conversation is doubted for more than a second")
        assert await app.apply(handlers.square, 3, timeout=20) == 9
    assert len(set(looks)) == 1
    assert not [each for each in failures.events if isinstance(each, events.OutageBegan)]
