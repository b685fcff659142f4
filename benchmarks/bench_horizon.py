"""Jobs a second while another session holds an old snapshot, and while none does.

    python benchmarks/bench_horizon.py [--dsn DSN] [--jobs 200000] [--rounds 3] [--json FILE]

As long as a REPEATABLE READ transaction has a snapshot, vacuum cannot remove what was consumed since: the entries
that a queue has done with stay in its index. All jobs are enqueued beforehand, behind the snapshot; one worker
process drains them; each tenth of them, in the order in which they finished, is timed by the server's clock.
"""

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from statistics import median
from typing import Any

import psycopg
from harness import (
    SCHEMA,
    Inspector,
    actors,
    facts,
    fresh_database,
    old_snapshot,
    options,
    print_facts,
    running_server,
    save,
)
from jobs import noop

from pgwerk import EnqueueParams, Werk

PARTS = 10
TARGET = 0.9
RATES = f"""
    WITH part AS (
        SELECT ntile({PARTS}) OVER (ORDER BY finished_at, job_id) AS number, started_at, finished_at
        FROM {SCHEMA}.finished
    ),
    ended AS (
        SELECT number, count(*) AS jobs, min(started_at) AS first, max(finished_at) AS last FROM part GROUP BY number
    )
    SELECT jobs / extract(epoch FROM last - lag(last, 1, first) OVER (ORDER BY number))::float FROM ended
    ORDER BY number
"""

Rates = list[float]


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server:
        found = facts(server)
        print_facts(found)
        rounds = [one_round(server, chosen.jobs) for _ in range(chosen.rounds)]
    ratios = {name: median(each[name][-1] / each[name][0] for each in rounds) for name in rounds[0]}
    print_table(chosen.jobs, rounds, ratios)
    save(chosen.json, facts=found, rounds=rounds, last_to_first=ratios)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=200_000)
    return parser.parse_args()


def one_round(server: str, jobs: int) -> dict[str, Rates]:
    return {"snapshot held": drained(server, jobs, held=True), "no snapshot": drained(server, jobs, held=False)}


def drained(server: str, jobs: int, *, held: bool) -> Rates:
    with fresh_database(server) as dsn, Inspector(dsn) as inspector:
        asyncio.run(migrate(dsn))
        with old_snapshot(dsn) if held else nullcontext() as snapshot:
            asyncio.run(fill(dsn, jobs))
            with actors(1, "drain", dsn) as (worker,):
                worker.tell()
                worker.hear()
            inspector.expect_finished(jobs)
            if snapshot:
                expect_held(snapshot)
            return [rate for (rate,) in inspector.connection.execute(RATES)]


def expect_held(connection: psycopg.Connection[Any]) -> None:
    """To the transaction it is still the moment in which it began: not one job."""
    row = connection.execute(f"SELECT count(*) FROM {SCHEMA}.job").fetchone()
    if row != (0,):
        raise RuntimeError(f"the snapshot was not held: it sees {row} jobs of later")


async def migrate(dsn: str) -> None:
    async with Werk(dsn):
        pass


async def fill(dsn: str, jobs: int) -> None:
    async with Werk(dsn) as app:
        await app.enqueue_many([EnqueueParams(noop) for _ in range(jobs)])


def print_table(jobs: int, rounds: Sequence[dict[str, Rates]], ratios: dict[str, float]) -> None:
    print(f"\n{jobs:,} jobs, one worker process; jobs/s of each tenth, medians of {len(rounds)} rounds\n")
    print(f"{'':15}" + line([str(number) for number in range(1, PARTS + 1)]) + "   last/first")
    for name, ratio in ratios.items():
        rates = [median(tenth) for tenth in zip(*(each[name] for each in rounds), strict=True)]
        verdict = f" (target: at least {TARGET})" if name == "snapshot held" else ""
        print(f"{name:15}{line([f'{rate:,.0f}' for rate in rates])}{ratio:>13.2f}{verdict}")


def line(cells: Sequence[str]) -> str:
    return "".join(f"{cell:>8}" for cell in cells)


if __name__ == "__main__":
    main()
