"""Random graphs of dependencies end as a small model says. PGWERK_TEST_GRAPHS is how many are tried."""

from __future__ import annotations

import asyncio
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from hypothesis import HealthCheck, given, settings, strategies as st
from psycopg import sql

from pgwerk import AsyncWorker, Dependency, EnqueueParams, Werk
from tests import handlers

if TYPE_CHECKING:
    from random import Random

GRAPHS = int(os.environ.get("PGWERK_TEST_GRAPHS", "10"))
JOBS = 500


@dataclass
class Node:
    fails: bool
    on: dict[int, bool]
    """Upstream jobs, and whether their failure is allowed."""


def model(nodes: list[Node]) -> list[tuple[str, int]]:
    """How each job ends, and in how many attempts: one that fails takes with it what does not allow for that."""
    ends: list[tuple[str, int]] = []
    for node in nodes:
        if any(ends[on][0] == "failed" and not allowed for on, allowed in node.on.items()):
            ends.append(("failed", 0))
        else:
            ends.append(("failed" if node.fails else "complete", 1))
    return ends


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    chance: Random = draw(st.randoms(use_true_random=True))
    failing = draw(st.sampled_from([0.0, 0.02, 0.2]))
    allowing = draw(st.sampled_from([0.0, 0.5, 1.0]))
    reach = draw(st.sampled_from([3, 50, JOBS]))
    return [_node(chance, place, failing, allowing, reach) for place in range(JOBS)]


def _node(chance: Random, place: int, failing: float, allowing: float, reach: int) -> Node:
    nearest = range(max(0, place - reach), place)
    on = chance.sample(nearest, min(len(nearest), chance.choice([0, 1, 1, 2, 3])))
    return Node(chance.random() < failing, {each: chance.random() < allowing for each in on})


@settings(max_examples=GRAPHS, deadline=None, suppress_health_check=list(HealthCheck))
@given(nodes=graphs())
def test_a_graph_ends_as_the_model_says(dsn: str, nodes: list[Node]) -> None:
    schema = f"graph_{secrets.token_hex(6)}"
    try:
        assert asyncio.run(_run(dsn, schema, nodes)) == model(nodes)
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


async def _run(dsn: str, schema: str, nodes: list[Node]) -> list[tuple[str, int]]:
    """A part of the graph is enqueued before two workers start, the rest while they run."""
    async with Werk(dsn, schema=schema) as app:
        workers = [AsyncWorker(app, concurrency=10) for _ in range(2)]
        tasks: list[asyncio.Task[None]] = []
        ids: list[int] = []
        for start in range(0, JOBS, JOBS // 5):
            part = _params(nodes[start : start + JOBS // 5], ids)
            ids += [job.id for job in await app.enqueue_many(part) if job]
            tasks = tasks or [asyncio.create_task(worker.run()) for worker in workers]
        async with asyncio.timeout(60):
            while await app.get_queue_stats():
                await asyncio.sleep(0.02)
        for worker in workers:
            worker.stop()
        await asyncio.gather(*tasks)
        ended = {job.id: (job.status.value, job.attempts) for job in await app.list_jobs(limit=JOBS)}
        return [ended[each] for each in ids]


def _params(nodes: list[Node], ids: list[int]) -> list[EnqueueParams]:
    """By id where the job is there already, by its parameters where it is enqueued along with it."""
    several: list[EnqueueParams] = []
    for node in nodes:
        on = [
            Dependency(ids[each] if each < len(ids) else several[each - len(ids)], allow_failure=allowed)
            for each, allowed in node.on.items()
        ]
        several.append(EnqueueParams(handlers.fail if node.fails else handlers.noop, depends_on=on or None))
    return several
