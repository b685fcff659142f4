"""One key, several transactions that want it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import make_conninfo

from pgwerk import EnqueueParams, InvalidOption, Werk

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


# A job that depends on another one of its call, whose key somebody else wants.


def pair() -> list[EnqueueParams]:
    keyed = EnqueueParams("m.f", key="k")
    return [keyed, EnqueueParams("m.f", depends_on=keyed)]


@pytest.mark.parametrize("is_mine", [False, True], ids=["ours", "on the caller's connection"])
@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_dependent_waits_for_whoever_took_the_key_meanwhile(
    race: Race, is_kept: bool, is_mine: bool, query: Any
) -> None:
    await race.first.begin()
    (theirs,) = (await race.first.say(race.insert("k"))).jobs
    mine = race.second.connection if is_mine else None
    late = asyncio.create_task(race.app.enqueue_many(pair(), _conn=mine))
    await race.first.makes_wait(late)
    await (race.first.commit() if is_kept else race.first.rollback())
    keyed, dependent = await late
    holder = theirs if is_kept else keyed
    assert theirs is not None and holder is not None and dependent is not None
    assert (keyed is None) is is_kept
    assert query("select job_id, on_id from dependency") == [(dependent.id, holder.id)]
    assert query("select job_id, unmet from waiting") == [(dependent.id, 1)]


async def test_a_dependent_waits_for_its_own_call_when_the_holder_of_the_key_goes_meanwhile(
    race: Race, query: Any
) -> None:
    await race.app.enqueue("m.f", _key="k")
    await race.first.begin()
    for table in ("ready", "job"):
        await race.first.connection.execute(f'delete from "{race.schema}".{table}')
    late = asyncio.create_task(race.app.enqueue_many(pair()))
    await race.first.makes_wait(late)
    await race.first.commit()
    keyed, dependent = await late
    assert keyed is not None and dependent is not None
    assert query("select job_id, on_id from dependency") == [(dependent.id, keyed.id)]


async def test_a_dependent_of_a_key_twice_in_one_call_waits_for_the_one_that_is_written(race: Race, query: Any) -> None:
    first, twin = EnqueueParams("m.f", key="k"), EnqueueParams("m.f", key="k")
    some = await race.app.enqueue_many([first, twin, EnqueueParams("m.f", depends_on=[twin, first])])
    assert [job is None for job in some] == [False, True, False]
    assert query("select on_id from dependency") == [(job.id,) for job in some[:1] if job]


async def test_a_job_that_is_named_by_itself_and_by_its_key_is_waited_for_once(race: Race, query: Any) -> None:
    holder = await race.app.enqueue("m.f", _key="k")
    keyed = EnqueueParams("m.f", key="k")
    assert holder is not None
    _, dependent = await race.app.enqueue_many([keyed, EnqueueParams("m.f", depends_on=[holder, keyed])])
    assert dependent is not None
    assert query("select job_id, on_id from dependency") == [(dependent.id, holder.id)]
    assert query("select job_id, unmet from waiting") == [(dependent.id, 1)]


async def test_a_job_that_depends_on_its_own_key_is_a_ring(race: Race) -> None:
    twin = EnqueueParams("m.f", key="k")
    with pytest.raises(InvalidOption, match="wait for each other in a ring"):
        await race.app.enqueue_many([EnqueueParams("m.f", key="k", depends_on=twin), twin])
