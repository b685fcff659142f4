"""One key, several transactions that want it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from pgwerk import EnqueueParams, Werk

if TYPE_CHECKING:
    from tests.db.race import Race


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_key_waits_for_the_transaction_that_took_it(race: Race, is_kept: bool, query: Any) -> None:
    await race.first.begin()
    inserted = await race.first.say(race.insert("k"))
    assert inserted.jobs != [None]
    late = await race.second.blocked_by(race.first, race.insert("k"))
    await (race.first.commit() if is_kept else race.first.rollback())
    assert ((await late).jobs == [None]) is is_kept
    assert query("select count(*) from job") == [(1,)]


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_key_inside_a_callers_open_transaction(race: Race, is_kept: bool) -> None:
    await race.first.begin()
    mine = await race.app.enqueue("m.f", _key="k", _conn=race.first.connection)
    theirs = asyncio.create_task(race.app.enqueue("m.f", _key="k"))
    await race.first.makes_wait(theirs)
    strangers = await race.app.enqueue("m.f")
    assert strangers is not None, "held up by somebody else's key"
    await (race.first.commit() if is_kept else race.first.rollback())
    assert mine is not None
    assert ((await theirs) is None) is is_kept


async def test_a_key_twice_in_one_call_is_taken_once(race: Race) -> None:
    inserted = await race.first.say(race.insert("k", None, "k", "l"))
    assert [job is None for job in inserted.jobs] == [False, False, True, False]


async def test_keys_in_opposite_order_wait_in_no_ring(race: Race, query: Any) -> None:
    await race.first.begin()
    await race.first.say(race.insert("a", "b"))
    late = await race.second.blocked_by(race.first, race.insert("b", "a"))
    assert query("select count(*) from pg_locks where not granted and pid <> pg_backend_pid()")[0][0] >= 1
    await race.first.commit()
    assert (await late).jobs == [None, None]


async def test_a_callers_keys_in_a_ring_with_ours_never_reach_the_other_caller_as_a_deadlock(
    race: Race, dsn: str, query: Any
) -> None:
    """The caller's own transaction takes b, then a; ours wants both. Postgres breaks the ring; ours is tried again."""
    await race.first.connection.execute("set deadlock_timeout = '1min'")
    patient = make_conninfo(dsn, options="-c deadlock_timeout=2s")
    await race.first.begin()
    await race.first.say(race.insert("b"))
    async with Werk(patient, schema=race.schema) as app:
        ours = asyncio.create_task(app.enqueue_many([EnqueueParams("m.f", key=key) for key in ("a", "b")]))
        await race.first.makes_wait(ours)
        assert (await race.first.say(race.insert("a"))).jobs != [None]
        await race.first.commit()
        assert await ours == [None, None]
    assert query("select key from job order by key") == [("a",), ("b",)]
