"""Interleavings of two sessions, stepped through by hand: nobody sleeps, a session that must wait is seen waiting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pgwerk import JobNotFound, JobStatus, Repeat
from pgwerk.execution import Outcome
from pgwerk.maintenance import expiry
from pgwerk.store.control import ControlStore
from pgwerk.store.exchange import ExchangeStore
from tests.db.race import Race, jobs, look, retry


async def test_two_claims_never_share_a_job(race: Race) -> None:
    mine = [await race.enqueue() for _ in range(2)]
    theirs = [await race.enqueue() for _ in range(2)]
    worker, other = await race.worker(), await race.worker()
    await race.first.begin()
    assert jobs(await race.first.say(race.claim(worker, room=2))) == mine
    assert jobs(await race.second.say(race.claim(other))) == theirs
    await race.first.commit()
    assert await race.second.say(race.claim(other, 2)) == []


async def test_what_a_claim_gave_up_is_there_for_the_next(race: Race) -> None:
    job, worker = await race.enqueue(), await race.worker()
    await race.first.begin()
    assert jobs(await race.first.say(race.claim(worker))) == [job]
    assert await race.second.say(race.claim(worker, 2)) == []
    await race.first.rollback()
    assert jobs(await race.second.say(race.claim(worker, 3))) == [job]


async def test_a_claim_does_not_see_what_a_settle_has_not_committed(race: Race) -> None:
    job, worker = await race.enqueue(retry=2), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.first.begin()
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
    assert await race.second.say(race.claim(worker, 2)) == []
    await race.first.commit()
    (row,) = await race.second.say(race.claim(worker, 3))
    assert (row["job_id"], row["attempt"]) == (job, 2)


async def test_a_settle_that_overtakes_its_own_claim_finds_nothing(race: Race) -> None:
    """The same worker's claim is not committed yet: the settle does not wait for it."""
    job, worker = await race.enqueue(), await race.worker()
    await race.first.begin()
    assert jobs(await race.first.say(race.claim(worker))) == [job]
    assert await race.second.say(race.complete(job, worker)) == set()
    await race.first.commit()
    assert await race.second.say(race.complete(job, worker)) == {job}
    assert await look(race, job) == (JobStatus.Complete, 1)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_cancel_waits_for_a_claim_and_then_knows(race: Race, is_kept: bool) -> None:
    job, worker = await race.enqueue(), await race.worker()
    await race.first.begin()
    assert jobs(await race.first.say(race.claim(worker))) == [job]
    cancel = await race.second.blocked_by(race.first, race.cancel(job))
    await (race.first.commit() if is_kept else race.first.rollback())
    assert await cancel == (set() if is_kept else {job})
    assert not await race.second.say(race.is_pending(job))
    assert await look(race, job) == ((JobStatus.Active, 1) if is_kept else (JobStatus.Aborted, 0))


@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_claim_leaves_alone_what_is_being_cancelled(race: Race, is_kept: bool) -> None:
    job, worker = await race.enqueue(), await race.worker()
    await race.first.begin()
    assert await race.first.say(race.cancel(job)) == {job}
    assert await race.second.say(race.claim(worker)) == []
    await (race.first.commit() if is_kept else race.first.rollback())
    assert jobs(await race.second.say(race.claim(worker))) == ([] if is_kept else [job])


async def test_a_cancel_finds_again_what_a_worker_was_just_sending_back(race: Race) -> None:
    """It looked while the job was active and came back to it when it was ready."""
    job, worker = await race.enqueue(retry=2), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.first.begin()
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
    assert await race.second.say(race.cancel(job)) == set()
    assert not await race.second.say(race.is_pending(job)), "active, as far as anybody can see"
    await race.first.commit()
    assert await race.second.say(race.is_pending(job))
    assert await race.app.cancel_job(job)
    assert await look(race, job) == (JobStatus.Aborted, 1)


async def test_two_cancels_of_one_job_take_effect_once(race: Race) -> None:
    job = await race.enqueue()
    await race.first.begin()
    assert await race.first.say(race.cancel(job)) == {job}
    late = await race.second.blocked_by(race.first, race.cancel(job))
    await race.first.commit()
    assert await late == set()
    assert not await race.app.cancel_job(job)


async def test_a_cancel_finds_again_what_is_just_becoming_ready(race: Race, query: Any) -> None:
    job = await race.enqueue(delay=60)
    _make_due(query)
    await race.first.begin()
    assert await race.first.say(race.promote()) == 1
    cancel = await race.second.blocked_by(race.first, race.cancel(job))
    await race.first.commit()
    assert await cancel == set()
    assert await race.second.say(race.is_pending(job)), "it goes on looking"
    assert await race.second.say(race.cancel(job)) == {job}
    assert await look(race, job) == (JobStatus.Aborted, 0)


async def test_cancel_job_itself_goes_on_looking_while_a_job_moves(race: Race, query: Any) -> None:
    job = await race.enqueue(delay=60)
    _make_due(query)
    await race.first.begin()
    assert await race.first.say(race.promote()) == 1
    cancel = asyncio.create_task(race.app.cancel_job(job))
    await race.first.makes_wait(cancel)
    await race.first.commit()
    assert await cancel is True
    assert await look(race, job) == (JobStatus.Aborted, 0)


async def test_a_delete_finds_a_job_that_is_just_being_requeued(race: Race) -> None:
    job = await race.enqueue()
    assert await race.first.say(race.settle(Outcome(job, None, None, "failed", error="again"))) == {job}
    await race.first.begin()
    await race.first.say(ControlStore(race.schema).requeue([job]))
    delete = asyncio.create_task(race.app.delete_job(job))
    await race.first.makes_wait(delete)
    await race.first.commit()
    assert await delete is True
    with pytest.raises(JobNotFound):
        await race.app.get_job(job)


async def test_a_promotion_leaves_alone_what_is_being_cancelled(race: Race, query: Any) -> None:
    job = await race.enqueue(delay=60)
    _make_due(query)
    await race.first.begin()
    assert await race.first.say(race.cancel(job)) == {job}
    assert await race.second.say(race.promote()) == 0
    await race.first.commit()
    assert await race.second.say(race.promote()) == 0
    assert await look(race, job) == (JobStatus.Aborted, 0)


async def test_two_promotions_share_the_work(race: Race, query: Any) -> None:
    job = await race.enqueue(delay=60)
    _make_due(query)
    await race.first.begin()
    assert await race.first.say(race.promote()) == 1
    other = await race.enqueue(delay=60)
    _make_due(query, other)
    assert await race.second.say(race.promote()) == 1
    await race.first.commit()
    assert sorted(query("select job_id from ready")) == [(job,), (other,)]


async def test_a_promotion_that_is_rolled_back_is_done_by_the_next(race: Race, query: Any) -> None:
    await race.enqueue(delay=60)
    _make_due(query)
    await race.first.begin()
    assert await race.first.say(race.promote()) == 1
    assert await race.second.say(race.promote()) == 0
    await race.first.rollback()
    assert await race.second.say(race.promote()) == 1


async def test_an_expiry_misses_a_job_that_was_claimed_meanwhile(race: Race, query: Any) -> None:
    job, worker = await race.enqueue(ttl=60), await race.worker()
    query("update ready set expires_at = now() - interval '1 second'")
    (found,) = await race.second.say(race.maintenance.expired())
    await race.first.begin()
    assert jobs(await race.first.say(race.claim(worker))) == [job]
    late = await race.second.blocked_by(race.first, race.settle(expiry(found.job_id, found.ttl)))
    await race.first.commit()
    assert await late == set()
    assert await look(race, job) == (JobStatus.Active, 1)


async def test_an_expiry_misses_a_job_that_was_claimed_and_handed_back_meanwhile(race: Race, query: Any) -> None:
    job, worker = await race.enqueue(ttl=60, retry=2), await race.worker()
    query("update ready set expires_at = now() - interval '1 second'")
    (found,) = await race.second.say(race.maintenance.expired())
    assert await race.claimed(worker) == [job]
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
    assert await race.second.say(race.settle(expiry(found.job_id, found.ttl))) == set()
    assert await look(race, job) == (JobStatus.Queued, 1)


async def test_an_expiry_and_a_cancel_end_a_job_once(race: Race, query: Any) -> None:
    job = await race.enqueue(ttl=60)
    query("update ready set expires_at = now() - interval '1 second'")
    await race.first.begin()
    assert await race.first.say(race.settle(expiry(job, 60))) == {job}
    late = await race.second.blocked_by(race.first, race.cancel(job))
    await race.first.commit()
    assert await late == set()
    assert (await race.app.get_job(job)).error == "expired: not started within 60 s after it became due"


async def test_settles_of_the_same_jobs_in_opposite_order_wait_in_no_ring(race: Race) -> None:
    mine = [await race.enqueue() for _ in range(3)]
    worker = await race.worker()
    assert await race.claimed(worker) == mine
    await race.first.begin()
    outcomes = [race.completed(job, worker) for job in mine]
    assert await race.first.say(race.settle(*outcomes)) == set(mine)
    late = await race.second.blocked_by(race.first, race.settle(*reversed(outcomes)))
    await race.first.commit()
    assert await late == set()


async def test_a_settle_locks_in_the_order_of_the_jobs_whatever_it_was_given(race: Race, query: Any) -> None:
    """Holding the first job stops it before it has touched the last."""
    mine = [await race.enqueue() for _ in range(3)]
    worker = await race.worker()
    assert await race.claimed(worker) == mine
    await race.first.begin()
    await race.first.say(race.complete(mine[0], worker))
    outcomes = [race.completed(job, worker) for job in reversed(mine)]
    late = await race.second.blocked_by(race.first, race.settle(*outcomes))
    assert query("select job_id from active where job_id <> %s for update skip locked", mine[0]) == [
        (job,) for job in mine[1:]
    ]
    await race.first.commit()
    assert await late == set(mine[1:])


@pytest.mark.parametrize("race", [True], indirect=True)
async def test_a_plain_claim_leaves_everything_to_the_careful_one_if_there_is_a_group(race: Race) -> None:
    """Also what comes behind it: their order stands."""
    mine = [await race.enqueue(group=group) for group in (None, "g", None)]
    worker = await race.worker()
    rows = await race.first.say(race.claim(worker))
    assert [(row["job_id"], row["fate"]) for row in rows] == [(job, "left") for job in mine]
    rows = await race.first.say(race.claim_grouped(worker, 2))
    assert [(row["job_id"], row["fate"]) for row in rows] == [(job, "taken") for job in mine]


async def test_a_claim_knows_of_which_jobs_nothing_follows_the_end(race: Race) -> None:
    """What it does not know, every end would have to look up."""
    worker = await race.worker()
    options: list[dict[str, Any]] = [{}, {"retry": 3, "priority": 0}, {"repeat": Repeat(1)}, {"result_ttl": 1}]
    for each in options:
        await race.enqueue(**each)
    rows = await race.first.say(race.claim(worker))
    assert [row["has_sequel"] for row in rows] == [False, False, True, True]


async def test_an_outlook_reckons_with_the_newest_transaction_that_has_begun(race: Race) -> None:
    """No snapshot tells of it, they end at the newest that is over; and what it brings may stand behind a cursor."""
    await race.first.begin()
    await race.first.say(race.insert(None))
    outlook = ExchangeStore(race.schema).outlook(0.0, ["default"])
    at_first, later = await race.second.say(outlook), await race.second.say(outlook)
    await race.first.commit()
    assert later.oldest < at_first.newest  # so that nothing is taken for empty where it may still put something


def _make_due(query: Any, job: int | None = None) -> None:
    query("update scheduled set due = now() - interval '1 second' where job_id = coalesce(%s, job_id)", job)
