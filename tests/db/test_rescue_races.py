"""A worker is taken for dead, and may not be: who has the job, and whose word counts."""

from __future__ import annotations

from typing import Any

import pytest

from pgwerk import JobStatus
from tests.db.race import Race, back, jobs, look, retry


@pytest.mark.parametrize("rescuer_is_first", [True, False])
async def test_of_a_settle_and_a_rescue_exactly_one_wins(race: Race, rescuer_is_first: bool) -> None:
    job, worker = await race.enqueue(retry=2), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.bury(worker)
    (lost,) = await race.second.say(race.maintenance.lost())
    rescue = retry(lost.job_id, lost.worker_id, lost.claim_no)
    moves = [race.settle(rescue), race.complete(job, worker)]
    await race.first.begin()
    assert await race.first.say(moves.pop(0 if rescuer_is_first else 1)) == {job}
    late = await race.second.blocked_by(race.first, moves.pop())
    await race.first.commit()
    assert await late == set()
    assert await look(race, job) == ((JobStatus.Queued, 1) if rescuer_is_first else (JobStatus.Complete, 1))


async def test_a_settle_goes_through_when_the_rescue_before_it_is_rolled_back(race: Race) -> None:
    job, worker = await race.enqueue(retry=2), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.first.begin()
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
    late = await race.second.blocked_by(race.first, race.complete(job, worker))
    await race.first.rollback()
    assert await late == {job}
    assert await look(race, job) == (JobStatus.Complete, 1)


async def test_two_rescues_of_one_job_take_it_back_once(race: Race, query: Any) -> None:
    job, worker = await race.enqueue(retry=2), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.bury(worker)
    await race.first.begin()
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
    late = await race.second.blocked_by(race.first, race.settle(retry(job, worker)))
    await race.first.commit()
    assert await late == set()
    assert query("select attempt from ready") == [(2,)]
    assert query("select attempt, worker_id from attempt") == [(1, worker)]


async def test_a_zombie_changes_nothing_after_the_rescue(race: Race) -> None:
    """Not even when the job runs again, in an attempt of the same number."""
    job, worker, other = await race.enqueue(retry=2), await race.worker(), await race.worker()
    assert await race.claimed(worker) == [job]
    await race.bury(worker)
    assert await race.first.say(race.settle(back(job, worker))) == {job}
    assert await race.second.say(race.complete(job, worker)) == set()
    assert await race.claimed(other) == [job]
    assert await race.second.say(race.complete(job, worker)) == set()
    assert await look(race, job) == (JobStatus.Active, 1)
    assert await race.second.say(race.complete(job, other)) == {job}


async def test_an_older_claim_of_the_same_worker_is_another_claim(race: Race) -> None:
    job, worker = await race.enqueue(), await race.worker()
    assert await race.claimed(worker, 1) == [job]
    assert await race.first.say(race.settle(back(job, worker, 1))) == {job}
    assert await race.claimed(worker, 2) == [job]
    assert await race.second.say(race.complete(job, worker, 1)) == set()
    assert await race.second.say(race.complete(job, worker, 2)) == {job}


async def test_a_worker_that_was_declared_dead_claims_nothing(race: Race) -> None:
    job, worker = await race.enqueue(), await race.worker()
    await race.bury(worker)
    assert await race.claimed(worker) == []
    assert await race.claimed(await race.worker()) == [job]


async def test_a_claim_that_is_under_way_while_its_worker_is_declared_dead_is_taken_back(race: Race) -> None:
    job, worker = await race.enqueue(retry=2), await race.worker()
    await race.second.begin()
    assert jobs(await race.second.say(race.claim(worker))) == [job]
    await race.bury(worker)
    assert await race.first.say(race.maintenance.lost()) == []
    await race.second.commit()
    (lost,) = await race.first.say(race.maintenance.lost())
    assert (lost.job_id, lost.worker_id, lost.claim_no) == (job, worker, 1)
    assert (await race.first.say(race.maintenance.duties())).rescue
    assert await race.first.say(race.settle(retry(job, worker))) == {job}
