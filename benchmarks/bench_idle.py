"""What an idle worker costs: its statements a second, by name, and its share of a core.

    python benchmarks/bench_idle.py [--dsn DSN] [--seconds 60] [--settle 25] [--json FILE]

The worker is the command line's, with everything as by default. It is watched from some seconds after it said that
it is idle: until then its polls come at growing intervals. Its processor time is read from /proc (Linux).
"""

import argparse
import asyncio
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import Inspector, facts, fresh_database, options, print_facts, running_server, save, worker_process
from wiretap import Wiretap, wiretap

from pgwerk import Werk

HEARTBEAT = "beat"


@dataclass(frozen=True)
class Cost:
    """A second."""

    statements: dict[str, float]
    all_statements: float
    beyond_heartbeat: float
    connections: float
    core: float
    """Share of one."""


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server:
        found = facts(server)
        print_facts(found)
        rounds = [cost_of_worker(server, chosen.seconds, chosen.settle) for _ in range(chosen.rounds)]
    for cost in rounds:
        print_table(cost, chosen.seconds)
    save(chosen.json, facts=found, rounds=[asdict(cost) for cost in rounds])


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--settle", type=float, default=25.0, help="seconds before they begin")
    return parser.parse_args()


def cost_of_worker(server: str, seconds: float, settle: float) -> Cost:
    with fresh_database(server) as dsn, Inspector(dsn) as inspector, wiretap(dsn) as tap:
        asyncio.run(migrate(dsn))
        with worker_process(tap.dsn) as worker:
            inspector.wait_for_idle_worker()
            time.sleep(settle)
            return watched(worker.pid, tap, seconds)


async def migrate(dsn: str) -> None:
    async with Werk(dsn):
        pass


def watched(pid: int, tap: Wiretap, seconds: float) -> Cost:
    tap.counts.clear()
    connections, used, start = tap.connections, core_seconds(pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - start
    counts = dict(tap.counts)
    return Cost(
        statements={name: count / passed for name, count in sorted(counts.items())},
        all_statements=sum(counts.values()) / passed,
        beyond_heartbeat=(sum(counts.values()) - counts.get(HEARTBEAT, 0)) / passed,
        connections=(tap.connections - connections) / passed,
        core=(core_seconds(pid) - used) / passed,
    )


def core_seconds(pid: int) -> float:
    """Of all its threads, in user mode and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_table(cost: Cost, seconds: float) -> None:
    print(f"\nan idle worker, watched for {seconds:g} s; each figure is per second\n")
    for name, rate in cost.statements.items():
        print(f"  {name:30}{rate:>8.2f}")
    print(f"{'statements':32}{cost.all_statements:>8.2f}")
    print(f"{'beyond the heartbeat':32}{cost.beyond_heartbeat:>8.2f}   (target: at most 1)")
    print(f"{'new connections':32}{cost.connections:>8.2f}")
    print(f"{'share of a core':32}{cost.core:>8.2%}   (target: under 1 %)")


if __name__ == "__main__":
    main()
