"""People steer while workers run: jobs are cancelled, aborted, changed, deleted and run again at random, in groups and
with dependencies; at the end every job stands in one place, nothing is blocked by nothing, and nobody met a deadlock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import TYPE_CHECKING, Any

from pgwerk import AsyncWorker, EnqueueParams, JobNotFound, Retry, events
from tests import handlers
from tests.db.race import misplaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgwerk import Werk

STEPS = int(os.environ.get("PGWERK_TEST_STEPS", "300"))


async def test_steering_leaves_no_job_behind(app: Werk, query: Any) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    failed: list[events.DutyFailed] = []
    unsubscribe = events.subscribe(lambda event: failed.append(event) if isinstance(event, events.DutyFailed) else None)
    workers = [AsyncWorker(app, ["a", "b"], 5, sweep_interval=0.2, abort_interval=0.1) for _ in range(3)]
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    await asyncio.gather(*[_steer(app, random.Random(chance.random()), STEPS // 3) for _ in range(3)])
    async with asyncio.timeout(60):
        while await app.get_queue_stats(callbacks=True):
            await asyncio.sleep(0.05)
    for worker in workers:
        worker.stop()
    await asyncio.gather(*tasks)
    unsubscribe()
    assert failed == []
    assert misplaced(query) == []
    for room in ("ready", "blocked", "scheduled", "waiting", "active"):
        assert query(f"select count(*) from {room}") == [(0,)], room
    untold = """
        select j.id from jobs j
        where j.callback_of is null and j.status <> 'complete'
            and not exists (select from job c where c.callback_of = j.id)
    """
    assert query(untold) == []


async def _steer(app: Werk, chance: random.Random, steps: int) -> None:
    ids: list[int] = []
    for _ in range(steps):
        ids += [job.id for job in await app.enqueue_many(_some(chance, ids)) if job]
        for _ in range(3):
            await _act(app, chance, chance.choice(ids))


def _some(chance: random.Random, ids: list[int]) -> list[EnqueueParams]:
    told = {"on_failure": handlers.remember, "on_stopped": handlers.remember}
    first = EnqueueParams(handlers.sleep, [chance.uniform(0, 0.01)], queue=chance.choice("ab"), group="g1", **told)  # type: ignore[arg-type]
    second = EnqueueParams(
        chance.choice([handlers.noop, handlers.fail]), queue=chance.choice("ab"), retry=Retry(2),
        priority=chance.randrange(3), group=f"g{chance.randrange(4)}", depends_on=chance.choice([None, first]), **told,  # type: ignore[arg-type]
    )  # fmt: skip
    return [first, second]


async def _act(app: Werk, chance: random.Random, job: int) -> None:
    acts: list[Callable[[], Any]] = [
        lambda: app.cancel_job(job),
        lambda: app.abort_job(job),
        lambda: app.requeue_job(job),
        lambda: app.update_job(job, priority=chance.randrange(3)),
        lambda: app.update_job(job, delay=chance.choice([0, 0.01])),
        lambda: app.delete_job(job),
    ]
    with contextlib.suppress(JobNotFound):  # changed, and deleted by somebody else before it could be read
        await chance.choice(acts)()
