"""What is left in the tables by jobs that come, run and are forgotten: a live system, from the first job to the last.

    python benchmarks/bench_bloat.py [--dsn DSN] [--jobs 10000000] [--kept 10] [--plain]
        [--results benchmarks/BLOAT.md] [--json FILE]

One process enqueues in bulk, as fast as one worker runs; what has completed is forgotten after so many seconds. At
every twentieth of the jobs the tables are looked at. `--plain` takes away what the schema says of autovacuum and
fillfactor, so that a second run shows what it is good for.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness import (
    HERE,
    SCHEMA,
    Inspector,
    facts,
    fresh_database,
    options,
    print_facts,
    running_server,
    save,
    worker_process as worker,
)
from jobs import noop

from pgwerk import EnqueueParams, Werk

PAGE, AHEAD = 10_000, 50_000  # jobs in one call; jobs that may wait
LOOKS = 20
TABLES = ("job", "ready", "active", "finished", "worker")
ENDED = f"SELECT n_tup_ins FROM pg_stat_user_tables WHERE schemaname = '{SCHEMA}' AND relname = 'finished'"
SIZES = f"""
    SELECT relname, pg_relation_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, autovacuum_count
    FROM pg_stat_user_tables WHERE schemaname = '{SCHEMA}'
"""
SET = f"""
    SELECT relname, (SELECT string_agg(split_part(each, '=', 1), ', ') FROM unnest(reloptions) each)
    FROM pg_class WHERE relnamespace = '{SCHEMA}'::regnamespace AND relkind = 'r' AND reloptions IS NOT NULL
"""

Look = dict[str, float]


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server, fresh_database(server) as dsn:
        found = facts(server)
        print_facts(found)
        asyncio.run(migrate(dsn))
        with Inspector(dsn) as inspector:
            if chosen.plain:
                make_plain(inspector)
            with worker(dsn, "--result-ttl", str(chosen.kept), "--concurrency", "100"):
                looks = asyncio.run(live(dsn, inspector, chosen.jobs))
    save(chosen.json, facts=found, looks=looks)
    report = written(chosen, found, looks)
    print(report)
    if not chosen.plain:
        chosen.results.write_text(report)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--jobs", type=int, default=10_000_000)
    parser.add_argument("--kept", type=int, default=10, help="seconds")
    parser.add_argument("--plain", action="store_true", help="with the server's own defaults for every table")
    parser.add_argument("--results", type=Path, default=HERE / "BLOAT.md")
    return parser.parse_args()


async def migrate(dsn: str) -> None:
    async with Werk(dsn):
        pass


def make_plain(inspector: Inspector) -> None:
    for table, names in inspector.connection.execute(SET).fetchall():
        inspector.connection.execute(f"ALTER TABLE {SCHEMA}.{table} RESET ({names})")


async def live(dsn: str, inspector: Inspector, jobs: int) -> list[Look]:
    looks: list[Look] = []
    page, since = [EnqueueParams(noop)] * PAGE, time.monotonic()
    async with Werk(dsn) as app:
        for enqueued in range(PAGE, jobs + 1, PAGE):
            await app.enqueue_many(page)
            await let_the_worker_catch_up(inspector, enqueued - AHEAD)
            if enqueued * LOOKS // jobs > len(looks):
                looks.append(look(inspector, enqueued, time.monotonic() - since))
                print({name: round(value) for name, value in looks[-1].items()}, flush=True)
    return looks


async def let_the_worker_catch_up(inspector: Inspector, wanted: int) -> None:
    while (inspector.value(ENDED) or 0) < wanted:  # noqa: ASYNC110 - another process's work
        await asyncio.sleep(0.05)


def look(inspector: Inspector, enqueued: int, seconds: float) -> Look:
    """Sizes in bytes."""
    figures: Look = {"jobs": enqueued, "seconds": seconds}
    for table, heap, indexes, living, dead, vacuums in inspector.connection.execute(SIZES):
        if table in TABLES:
            figures |= {f"{table} heap": heap, f"{table} indexes": indexes, f"{table} rows": living}
            figures |= {f"{table} dead": dead, f"{table} vacuums": vacuums}
    return figures


HEAD = """# What {jobs:,} jobs leave behind

Made by `make bench-bloat`: change nothing here by hand. One process enqueues in bulk, one worker runs, completed jobs
are forgotten after {kept} seconds. {facts}

Heap and indexes of each table in MiB, and its dead rows, as the jobs pass by.

"""


def written(chosen: argparse.Namespace, found: Mapping[str, str], looks: Sequence[Look]) -> str:
    known = ", ".join(f"{name} {value}" for name, value in found.items())
    return HEAD.format(jobs=chosen.jobs, kept=chosen.kept, facts=known) + "\n".join(lines(looks)) + "\n"


def lines(looks: Sequence[Look]) -> Iterator[str]:
    yield "| jobs | jobs/s | " + " | ".join(TABLES) + " |"
    yield "|--:|--:|" + "--:|" * len(TABLES)
    before: Look = {"jobs": 0, "seconds": 0}
    for each in looks:
        rate = (each["jobs"] - before["jobs"]) / (each["seconds"] - before["seconds"])
        yield f"| {each['jobs']:,} | {rate:,.0f} | " + " | ".join(cell(each, table) for table in TABLES) + " |"
        before = each


def cell(figures: Look, table: str) -> str:
    heap, indexes = figures[f"{table} heap"] / 2**20, figures[f"{table} indexes"] / 2**20
    return f"{heap:,.1f} + {indexes:,.1f}, {figures[f'{table} dead']:,.0f} dead"


if __name__ == "__main__":
    main()
