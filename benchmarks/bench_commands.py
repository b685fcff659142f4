"""How soon the commands that look answer, whole processes from their start to their exit, beside finished jobs.

    python benchmarks/bench_commands.py [--dsn DSN] [--rounds 21] [--size 1000000] [--json FILE]

Commands take turns within a round. "imports" is the floor: a Python that imports what no such command can do without.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median

from bench_idle import migrate
from burdened import backlogs, write_backlog
from harness import facts, fresh_database, options, print_facts, running_server, save
from systems import SYSTEMS

OURS = SYSTEMS[0]
WERK = ("-m", "pgwerk")
COMMANDS = {
    "imports": ("-c", "import asyncio, click, psycopg"),
    "werk info": (*WERK, "info"),
    "werk jobs": (*WERK, "jobs"),
    "werk jobs --status failed": (*WERK, "jobs", "--status", "failed"),
    "werk slowest": (*WERK, "slowest"),
    "werk stats": (*WERK, "stats"),
}
AIMS = {"werk info": 200, "werk jobs": 300}
"""Milliseconds."""


def main() -> None:
    chosen = parse_options()
    with running_server(chosen.dsn) as server, fresh_database(server) as dsn:
        found = facts(server)
        print_facts(found)
        asyncio.run(migrate(dsn))
        write_backlog(dsn, backlogs(OURS)["finished"], chosen.size)
        one_round(dsn)  # nobody's first start: bytecode is written, the server has seen the tables
        rounds = [one_round(dsn) for _ in range(chosen.rounds)]
    print_table(rounds, chosen.size)
    save(chosen.json, facts=found, rounds=rounds)


def parse_options() -> argparse.Namespace:
    parser = options(__doc__, rounds=21)
    parser.add_argument("--size", type=int, default=1_000_000)
    return parser.parse_args()


def one_round(dsn: str) -> dict[str, float]:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {name: seconds(command, surroundings | {"PGWERK_DSN": dsn}) for name, command in COMMANDS.items()}


def seconds(command: Sequence[str], surroundings: Mapping[str, str]) -> float:
    start = time.monotonic()
    subprocess.run([sys.executable, *command], env=surroundings, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def print_table(rounds: Sequence[Mapping[str, float]], size: int) -> None:
    print(f"\nbeside {size:,} finished jobs, {len(rounds)} rounds, milliseconds\n")
    print(f"{'':28}{'median':>8}{'worst':>8}")
    for name in COMMANDS:
        took = [each[name] * 1000 for each in rounds]
        aim = f"   (aim: under {AIMS[name]})" if name in AIMS else ""
        print(f"{name:28}{median(took):>8.0f}{max(took):>8.0f}{aim}")


if __name__ == "__main__":
    main()
