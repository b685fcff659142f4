"""Waiting for a job, for a key, and staying connected while others come and go."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import AsyncMock

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool

from pgwerk import (
    AsyncWorker,
    Context,
    EnqueueParams,
    InvalidType,
    JSONSerializer,
    NotSerializable,
    PickleSerializer,
    Werk,
    WerkError,
    waiters,
)
from pgwerk.errors import KeyIsHeld, NotConnected, TableIsLocked
from pgwerk.inserter import Inserter
from pgwerk.sql import statements
from tests import handlers
from tests.feature.test_running import until, worker as working

if TYPE_CHECKING:
    from collections.abc import Callable

    Query = Callable[..., list[tuple[Any, ...]]]


WAITS_FOR = "select pid from pg_stat_activity where %s = any (pg_blocking_pids(pid))"


async def burst(app: Werk) -> None:
    await AsyncWorker(app, burst=True).run()


async def enqueue_in_a_block_of_its_own(ctx: Context) -> int:
    async with ctx.app as nested:
        child = await nested.enqueue(handlers.noop)
    assert child is not None
    return child.id


async def test_apply_answers_though_its_enqueue_outlasted_the_listener(
    app: Werk, dsn: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "LINGER", 0.05)
    monkeypatch.setattr(waiters, "POLL", 0.05)
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await app.enqueue(handlers.noop, _key="k", _conn=holder)
        answer = asyncio.create_task(app.apply(handlers.square, 3, _key="k"))
        await until(lambda: (listener := app._waiters_here()._listener) and listener.done(), "the listener went home")
        await holder.rollback()
    await until(lambda: query("select 1 from ready"), "the job is enqueued")
    await burst(app)
    async with asyncio.timeout(10):
        assert await answer == 9


async def test_a_disconnect_tells_those_who_wait(app: Werk, query: Query) -> None:
    job = await app.enqueue(handlers.noop)
    assert job is not None
    waiting = [asyncio.create_task(app.apply(handlers.noop)), asyncio.create_task(app.wait_for(job))]
    await until(lambda: len(app._waiters_here()._waiting) == 2, "both wait")
    await app.disconnect()
    assert query("select * from waiter") == []
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [NotConnected, NotConnected]


async def test_a_disconnect_leaves_nothing_that_was_on_its_way(
    app: Werk, dsn: str, schema: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is still at work on it when the app has gone."""
    monkeypatch.setattr(waiters, "PATIENCE", 0.2)
    job = await app.enqueue(handlers.noop)
    assert job is not None
    monkeypatch.setattr(app, "get_job", AsyncMock(return_value=job))  # the lock would hold it up too
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'lock table "{schema}".finished')
        waiting = asyncio.create_task(app.wait_for(job))
        await until(lambda: query(WAITS_FOR, holder.info.backend_pid), "it is held up")
        await app.disconnect()
        assert not waiting.done()
    async with asyncio.timeout(10):
        with pytest.raises(NotConnected):
            await waiting
    assert query("select * from waiter") == []


async def test_an_enqueue_that_outlasts_the_app_is_not_waited_for(
    app: Werk, dsn: str, schema: str, query: Query
) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'lock table "{schema}".job')
        waiting, expecting = asyncio.create_task(app.apply(handlers.noop)), app._waiters_here()
        await until(lambda: query(WAITS_FOR, holder.info.backend_pid), "it is held up")
        leaving = asyncio.create_task(app.disconnect())
        await until(lambda: expecting._is_closed, "the app is about to leave")
    async with asyncio.timeout(10):
        with pytest.raises(NotConnected):
            await waiting
        await leaving
    assert query("select * from waiter") == []


@pytest.mark.parametrize("word", ["ended x", "ended ", "ended 1 2", "ended " + "9" * 40])
async def test_a_stray_notification_harms_nobody(app: Werk, schema: str, query: Query, word: str) -> None:
    answer = asyncio.create_task(app.apply(handlers.square, 3))
    await until(lambda: app._waiters_here()._waiting, "it waits")
    query("select pg_notify(%s, %s)", schema, word)
    await burst(app)
    async with asyncio.timeout(10):
        assert await answer == 9
    assert not app._waiters_here()._listener.done()  # type: ignore[union-attr]


async def test_the_timeout_of_apply_covers_its_enqueue(app: Werk, dsn: str, schema: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await holder.execute(f'lock table "{schema}".job')
        async with asyncio.timeout(8) as patience:
            with pytest.raises(TimeoutError, match=r"had not ended after 0\.2 s"):
                await app.apply(handlers.noop, timeout=0.2)
        assert not patience.expired()


async def test_a_key_held_by_an_open_transaction_is_an_error_that_says_so(
    app: Werk, dsn: str, schema: str, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin = statements(schema)["pin"]
    assert "'lock_timeout', '10s'" in pin.text
    quick = replace(pin, text=pin.text.replace("'lock_timeout', '10s'", "'lock_timeout', '100ms'"))
    monkeypatch.setitem(statements(schema), "pin", quick)
    async with await psycopg.AsyncConnection.connect(dsn) as holder:
        await app.enqueue(handlers.noop, _key="k", _conn=holder)
        with pytest.raises(KeyIsHeld, match="open transaction holds a key"):
            await app.enqueue(handlers.noop, _key="k")
        await holder.rollback()
    assert issubclass(KeyIsHeld, WerkError) and issubclass(KeyIsHeld, TimeoutError)
    assert query("select * from job") == []
    assert await app.enqueue(handlers.noop, _key="k") is not None


@pytest.mark.parametrize("jobs", [1, 2])
async def test_a_locked_table_is_not_taken_for_a_held_key(
    app: Werk, dsn: str, schema: str, query: Query, jobs: int
) -> None:
    hasty = make_conninfo(dsn, options="-c lock_timeout=100ms")
    async with (
        Werk(hasty, schema=schema, auto_migrate=False) as own,
        await psycopg.AsyncConnection.connect(dsn) as holder,
    ):
        await holder.execute(f'lock table "{schema}".job')
        with pytest.raises(TableIsLocked, match="open transaction has locked a table of jobs; try again when it has"):
            await own.enqueue_many([EnqueueParams(handlers.noop) for _ in range(jobs)])
        await holder.rollback()
    assert issubclass(TableIsLocked, WerkError) and issubclass(TableIsLocked, TimeoutError)
    assert query("select * from job") == []


async def test_an_inner_block_leaves_the_outer_one_connected(app: Werk) -> None:
    async with app:
        pass
    assert await app.enqueue(handlers.noop) is not None


async def test_a_block_in_a_handler_leaves_the_program_connected(app: Werk) -> None:
    answer = asyncio.create_task(app.apply(enqueue_in_a_block_of_its_own, timeout=20))
    await until(lambda: app._waiters_here()._waiting, "it waits")
    await burst(app)
    assert (await app.get_job(await answer)).status == "complete"


async def test_connect_holds_until_disconnect(app: Werk, dsn: str, schema: str) -> None:
    kept = Werk(dsn, schema=schema)
    await kept.connect()
    async with kept:
        pass
    await burst(kept)
    assert await kept.enqueue(handlers.noop) is not None
    await kept.disconnect()
    assert not kept.is_connected


async def test_whoever_reads_first_leaves_the_job_to_others_who_wait(app: Werk, query: Query) -> None:
    job = await app.enqueue(handlers.square, 3, _result_ttl=0)
    assert job is not None
    query("insert into waiter (job_id, until) values (%s, now() + interval '1 hour')", job.id)  # of another process
    answers = [asyncio.create_task(app.wait_for(job)) for _ in range(2)]
    await until(lambda: query("select count(*) from waiter") == [(3,)], "all wait")
    await burst(app)
    assert [each.result for each in await asyncio.gather(*answers)] == [9, 9]
    await app.sweep()
    assert query("select count(*) from waiter") == [(1,)]
    assert (await app.get_job(job)).result == 9
    query("delete from waiter")
    await app.sweep()
    assert query("select * from job") == []


@pytest.mark.parametrize("is_told", [True, False], ids=["cancelled", "out of time"])
@pytest.mark.parametrize("what", ["apply", "wait_for"])
async def test_who_gives_up_is_no_longer_waited_for(app: Werk, query: Query, what: str, is_told: bool) -> None:
    timeout = 3600 if is_told else 0.2
    if what == "apply":
        wait = asyncio.create_task(app.apply(handlers.noop, _result_ttl=0, timeout=timeout))
    else:
        wait = asyncio.create_task(app.wait_for(await app.enqueue(handlers.noop, _result_ttl=0), timeout=timeout))  # type: ignore[arg-type]
    if is_told:
        await until(lambda: query("select * from waiter"), "it waits")
        wait.cancel()
    with pytest.raises(asyncio.CancelledError if is_told else TimeoutError):
        await wait
    assert query("select * from waiter") == []
    await burst(app)
    await app.sweep()
    assert query("select * from job") == []


async def test_many_who_give_up_open_no_connection_each(
    app: Werk, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [asyncio.create_task(app.apply(handlers.noop)) for _ in range(50)]
    await until(lambda: query("select count(*) from waiter") == [(50,)], "all wait")
    await until(lambda: len(app._waiters_here()._waiting) == 50, "all have come back")
    opened: list[Any] = []
    connect = psycopg.AsyncConnection.connect

    async def noted(*args: Any, **options: Any) -> Any:
        opened.append(args)
        return await connect(*args, **options)

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", noted)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert query("select * from waiter") == []
    assert len(opened) <= 2


async def test_an_end_that_was_heard_early_is_kept_while_others_begin_to_wait(
    app: Werk, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the poll, which is only a backstop."""
    monkeypatch.setattr(waiters, "POLL", 3600)
    insert, is_held, may_come_back = Inserter.insert_all, asyncio.Event(), asyncio.Event()

    async def slow(self: Inserter, specs: Any, *args: Any) -> Any:
        inserted = await insert(self, specs, *args)
        if specs[0].payload["args"] == [1]:
            is_held.set()
            await may_come_back.wait()
        return inserted

    monkeypatch.setattr(Inserter, "insert_all", slow)
    async with working(app), asyncio.timeout(20):
        first = asyncio.create_task(app.apply(handlers.square, 1))
        await is_held.wait()
        await until(lambda: query("select * from finished"), "it has ended")
        for _ in range(2):  # the end of the first of these is heard behind that, and the second one begins anew
            assert await app.apply(handlers.square, 2) == 4
        may_come_back.set()
        assert await first == 1


async def test_map_returns_what_cannot_be_read_in_its_place(app: Werk, dsn: str, schema: str) -> None:
    class Picky(JSONSerializer):
        def loads(self, text: str | bytes) -> Any:
            if (value := super().loads(text)) == 4:
                raise ValueError("no fours")
            return value

    async with Werk(dsn, schema=schema, serializer=Picky()) as picky, working(app), asyncio.timeout(20):
        one, four, nine = await picky.map(handlers.square, [[1], [2], [3]], return_exceptions=True)
        with pytest.raises(NotSerializable, match="no fours"):
            await picky.map(handlers.square, [[1], [2], [3]])
    assert (one, nine) == (1, 9)
    assert isinstance(four, NotSerializable)


async def test_map_returns_results_that_are_exceptions(dsn: str, schema: str, app: Werk) -> None:
    async with Werk(dsn, schema=schema, serializer=PickleSerializer()) as pickling, working(pickling):
        (value,) = await pickling.map(handlers.echo, [[KeyError("a value")]], timeout=20)
    assert isinstance(value, KeyError)


async def test_a_connect_that_gives_something_else_is_an_error_for_whoever_waits(dsn: str, schema: str) -> None:
    is_wrong = False

    async def connect() -> Any:
        return "nonsense" if is_wrong else await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    async with Werk(schema=schema, connect=connect) as app, asyncio.timeout(20):
        job = await app.enqueue(handlers.noop)
        assert job is not None
        is_wrong = True
        with pytest.raises(InvalidType, match="must give a psycopg AsyncConnection"):
            await app.apply(handlers.noop)
        is_wrong = False
        await burst(app)
        assert (await app.wait_for(job)).status == "complete"


async def test_a_pool_finds_the_end_where_nothing_can_listen(
    dsn: str, schema: str, app: Werk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiters, "POLL", 0.05)
    nowhere = make_conninfo(dsn, host="/nowhere")
    async with (
        AsyncConnectionPool(dsn, min_size=1, max_size=2, open=False) as pool,
        Werk(nowhere, pool=pool, schema=schema) as deaf,
        working(app),
    ):
        assert await deaf.apply(handlers.square, 3, timeout=20) == 9


async def test_a_loop_that_has_ended_is_forgotten(app: Werk) -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        for _ in range(3):
            await app.enqueue(handlers.noop)
        assert await app.apply(handlers.square, 3) == 9
        return weakref.ref(asyncio.get_running_loop())

    async with working(app):
        loops = [await asyncio.to_thread(lambda: asyncio.run(use())) for _ in range(3)]
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3
