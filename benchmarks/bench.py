"""What pgwerk does in a second, and what raw SQL of the same design does on the same server in the same run.

    python benchmarks/bench.py [--dsn DSN] [--rounds 5] [--scale 1] [--json FILE]

Medians of rounds in which everything takes its turn, in an empty database. A ratio is ours over raw: below 1 we do
less a second, above 1 we take longer or write more. WAL is the whole server's, so let nothing else write to it; the
role needs the right to CHECKPOINT.
"""

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

import answering
import consuming
import producing
from harness import Inspector, facts, fresh_database, options, print_facts, running_server, save
from place import Amounts, Figures, Place

from pgwerk import Werk

Trial = Callable[[Place], Awaitable[Figures]]

TRIALS: Sequence[Trial] = (
    producing.one_by_one,
    producing.raw_one_by_one,
    producing.one_by_one_from_a_pool,
    producing.tasks,
    producing.raw_tasks,
    producing.raw_batches,
    producing.bulk,
    producing.raw_bulk,
    producing.copy,
    *consuming.DRAINS,
    answering.idle_worker,
    answering.raw_notification,
)


@dataclass(frozen=True)
class Row:
    title: str
    unit: str
    ours: str
    raw: str = ""
    limit: str = ""
    """What the raw figure is."""


ROWS = (
    Row("enqueue one by one, by default", "/s", "one", "raw one", "same statement, kept connection"),
    Row("enqueue one by one, psycopg_pool", "/s", "one pooled", "raw one", "same statement, kept connection"),
    Row("enqueue, 50 tasks at once", "/s", "tasks", "raw tasks", "same statement, 10 kept connections"),
    Row("", "/s", "tasks", "raw batches", "same statement for 50 jobs, kept connection"),
    Row("bulk of 10,000", "/s", "bulk", "raw bulk", "same statement, ready-made JSON"),
    Row("", "/s", "bulk", "copy", "COPY into job and ready"),
    Row("drain, 1 process", "/s", "drain 1", "raw_drain 1", "same statements, batches of 100"),
    Row("drain, 2 processes", "/s", "drain 2", "raw_drain 2", "same statements, batches of 100"),
    Row("pick-up by an idle worker, p50", "ms", "pick-up p50", "raw there p50", "INSERT and NOTIFY, heard"),
    Row("pick-up by an idle worker, p99", "ms", "pick-up p99", "raw there p99", "INSERT and NOTIFY, heard"),
    Row("apply on an idle worker, p50", "ms", "apply p50", "raw back p50", "the same, there and back"),
    Row("WAL a job, enqueued one by one", "B", "one wal"),
    Row("WAL a job, enqueued in bulk", "B", "drain 1 filling wal"),
    Row("WAL a job, claim and settle", "B", "drain 1 wal", "raw_drain 1 wal", "same statements, batches of 100"),
    Row("  right behind a checkpoint", "B", "drain 1 cold wal"),
)


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server:
        found = facts(server)
        print_facts(found)
        rounds = [asyncio.run(one_round(server, Amounts.scaled(chosen.scale), turn)) for turn in range(chosen.rounds)]
    medians = {name: median(figures[name] for figures in rounds) for name in rounds[0]}
    print_table(medians)
    save(chosen.json, facts=found, rounds=rounds, medians=medians)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of jobs")
    return parser.parse_args()


async def one_round(server: str, jobs: Amounts, turn: int) -> Figures:
    """In turn from first to last and from last to first, so that nobody always follows the same one."""
    figures: Figures = {}
    with fresh_database(server) as dsn, Inspector(dsn) as inspector:
        async with Werk(dsn):
            place = Place(dsn, inspector, jobs)
        for trial in TRIALS[:: -1 if turn % 2 else 1]:
            inspector.empty()
            figures |= await trial(place)
    return figures


def print_table(medians: Figures) -> None:
    print(f"\n{'':40}{'ours':>10}{'raw':>10}     ratio")
    for row in ROWS:
        print(f"{row.title:40}" + cells(row, medians))


def cells(row: Row, medians: Figures) -> str:
    ours = medians[row.ours]
    if not row.raw:
        return shown(ours, row.unit)
    raw = medians[row.raw]
    more = f", {ours - raw:+.1f} ms" if row.unit == "ms" else ""
    return f"{shown(ours, row.unit)}{shown(raw, row.unit)}{ours / raw:>10.2f}   {row.limit}{more}"


def shown(value: float, unit: str) -> str:
    return f"{value:>8.1f} {unit}" if unit == "ms" else f"{value:>8,.0f} {unit:2}"


if __name__ == "__main__":
    main()
