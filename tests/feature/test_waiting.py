"""Waiting for a job, for a key, and staying connected while others come and go."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk import AsyncWorker, Context, Werk, WerkError, waiters
from pgwerk.errors import KeyIsHeld, NotConnected
from pgwerk.sql import statements
from tests import handlers
from tests.feature.test_running import until

if TYPE_CHECKING:
    from collections.abc import Callable

    Query = Callable[..., list[tuple[Any, ...]]]


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


async def test_a_disconnect_tells_those_who_wait(app: Werk) -> None:
    job = await app.enqueue(handlers.noop)
    assert job is not None
    waiting = [asyncio.create_task(app.apply(handlers.noop)), asyncio.create_task(app.wait_for(job))]
    await until(lambda: len(app._waiters_here()._waiting) == 2, "both wait")
    await app.disconnect()
    async with asyncio.timeout(10):
        ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(end) for end in ends] == [NotConnected, NotConnected]


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
