"""What groups, dependencies, callbacks and processes cost, each beside the same jobs without them.

    python benchmarks/bench_features.py [--dsn DSN] [--jobs 20000] [--blocked 100000] [--rounds 5] [--json FILE]

Drains are timed by the server's clock, from the first start to the last end. "beside a busy group" drains jobs of no
group while so many others are blocked in one group that some other worker holds; "after as many" drains them on a
server on which so many others have run before, so that its tables have had the same life.
"""

import argparse
import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from statistics import median

from harness import SCHEMA, Inspector, actors, facts, fresh_database, options, print_facts, running_server, save
from jobs import add_up, noop, told

from pgwerk import AsyncWorker, EnqueueParams, ProcessWorker, Werk

SPAN = f"""
    SELECT extract(epoch FROM max(finished_at) - min(started_at))::float FROM {SCHEMA}.finished WHERE job_id > %s
"""
HOLD = f"""
    WITH held AS (INSERT INTO {SCHEMA}.worker (name, kind, queues, concurrency, patience)
        VALUES ('elsewhere', 'k', '{{default}}', 1, 1e6) RETURNING id)
    INSERT INTO {SCHEMA}.active (job_id, worker_id, claim_no, attempt, group_key) SELECT -1, id, 1, 1, 'busy' FROM held
"""
MIXES: Mapping[str, Callable[[int], Sequence[EnqueueParams]]] = {
    "plain": lambda jobs: [EnqueueParams(noop)] * jobs,
    "half in groups": lambda jobs: [
        each for number in range(jobs // 2) for each in (EnqueueParams(noop), grouped(number))
    ],
    "grouped": lambda jobs: [grouped(number) for number in range(jobs)],
    "half with callbacks": lambda jobs: [EnqueueParams(noop), EnqueueParams(noop, on_success=told)] * (jobs // 2),
    "half dependent": lambda jobs: [each for _ in range(jobs // 2) for each in pair()],
}
"""So many jobs of each kind."""

BURST = 1000
PROCESSES = 2

Figures = dict[str, float]


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server:
        found = facts(server)
        print_facts(found)
        rounds = [one_round(server, chosen.jobs, chosen.blocked) for _ in range(chosen.rounds)]
    medians = {name: median(each[name] for each in rounds) for name in rounds[0]}
    print_table(chosen, medians)
    save(chosen.json, facts=found, rounds=rounds, medians=medians)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--blocked", type=int, default=100_000)
    return parser.parse_args()


def one_round(server: str, jobs: int, blocked: int) -> Figures:
    after, memory = drained(server, [EnqueueParams(noop)] * jobs, [EnqueueParams(noop)] * blocked)
    beside, beside_memory = drained(
        server, [EnqueueParams(noop)] * jobs, [EnqueueParams(noop, group="busy")] * blocked, hold=True
    )
    return {
        **rates(server, jobs), "after as many": after, "beside a busy group": beside,
        "memory": memory, "memory beside": beside_memory,
        **asyncio.run(in_processes(server)), **asyncio.run(mapped(server)),
    }  # fmt: skip


def rates(server: str, jobs: int) -> Figures:
    return {name: drained(server, mix(jobs))[0] for name, mix in MIXES.items()}


def drained(
    server: str, jobs: Sequence[EnqueueParams], before: Sequence[EnqueueParams] = (), *, hold: bool = False
) -> tuple[float, float]:
    """Jobs a second, callbacks not counted, and the worker's peak memory."""
    with fresh_database(server) as dsn, Inspector(dsn) as inspector:
        asyncio.run(fill(dsn, before))
        if hold:
            inspector.connection.execute(HOLD)
        if before:
            drain(dsn)
            inspector.connection.execute("VACUUM ANALYZE")
        last = inspector.value(f"SELECT coalesce(max(id), 0) FROM {SCHEMA}.job")
        asyncio.run(fill(dsn, jobs))
        memory = drain(dsn)
        expect(inspector, f"SELECT count(*) FROM {SCHEMA}.blocked", len(before) if hold else 0)
        expect(inspector, f"SELECT count(*) FROM {SCHEMA}.ready", 0)
        expect(inspector, f"SELECT count(*) FROM {SCHEMA}.jobs WHERE callback_of IS NULL AND id > {last}", len(jobs))
        (span,) = inspector.connection.execute(SPAN, [last]).fetchone() or (0.0,)
        return len(jobs) / span, memory


def grouped(number: int) -> EnqueueParams:
    return EnqueueParams(noop, group=f"g{number % 2000}")


def pair() -> list[EnqueueParams]:
    first = EnqueueParams(noop)
    return [first, EnqueueParams(noop, depends_on=first)]


def drain(dsn: str) -> float:
    with actors(1, "drain", dsn) as (worker,):
        worker.tell()
        return float(worker.hear())


def expect(inspector: Inspector, query: str, value: int) -> None:
    found = inspector.value(query)
    if found != value:
        raise RuntimeError(f"{value} were expected of {query}, there are {found}")


async def fill(dsn: str, params: Sequence[EnqueueParams]) -> None:
    async with Werk(dsn) as app:
        await app.enqueue_many(params)


async def in_processes(server: str) -> Figures:
    """The same functions through a pool of the standard library, and as jobs: from before the first process starts to
    after the last has ended.
    """
    with fresh_database(server) as dsn:
        began = time.perf_counter()
        with ProcessPoolExecutor(PROCESSES) as pool:
            list(pool.map(add_up, [1000] * BURST))
        alone = time.perf_counter() - began
        async with Werk(dsn) as app:
            await app.enqueue_many([EnqueueParams(add_up, [1000]) for _ in range(BURST)])
            began = time.perf_counter()
            await ProcessWorker(app, concurrency=PROCESSES, burst=True).run()
            return {"pool": alone, "pool of jobs": time.perf_counter() - began}


async def mapped(server: str) -> Figures:
    """A map of so many no-ops on an idle worker, and the median of single applies."""
    with fresh_database(server) as dsn, Inspector(dsn) as inspector:
        async with Werk(dsn) as app:
            worker = AsyncWorker(app)
            running = asyncio.create_task(worker.run())
            await asyncio.to_thread(inspector.wait_for_idle_worker)
            began = time.perf_counter()
            await app.map(noop, [[] for _ in range(BURST)])
            figures = {"map": time.perf_counter() - began}
            singles = [await timed_apply(app) for _ in range(50)]
            worker.stop()
            await running
            return figures | {"apply": median(singles)}


async def timed_apply(app: Werk) -> float:
    began = time.perf_counter()
    await app.apply(noop)
    return time.perf_counter() - began


def print_table(chosen: argparse.Namespace, medians: Figures) -> None:
    print(f"\n{chosen.jobs:,} jobs, one worker process, concurrency 10; medians of {chosen.rounds} rounds\n")
    for name in (*MIXES, "after as many", "beside a busy group"):
        print(f"{name:22}{medians[name]:>9,.0f} /s {medians[name] / medians['plain']:>7.2f}")
    print(f"{'memory beside / after':22}{medians['memory beside'] / medians['memory']:>20.2f}")
    print(f"{'slower beside by':22}{medians['after as many'] / medians['beside a busy group']:>20.2f} (at most 1.2)")
    ratio = medians["pool of jobs"] / medians["pool"]
    print(f"{'burst in 2 processes':22}{medians['pool of jobs'] * 1000:>9,.0f} ms {ratio:>7.2f} (at most 3 pools)")
    print(f"{f'map of {BURST:,}':22}{medians['map'] * 1000:>9,.0f} ms")
    print(f"{'apply':22}{medians['apply'] * 1000:>9,.1f} ms")


if __name__ == "__main__":
    main()
