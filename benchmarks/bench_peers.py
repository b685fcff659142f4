"""No-op jobs through this pgwerk and through its peers, in turn, on one Postgres.

    python benchmarks/bench_peers.py [--dsn DSN] [--rounds 3] [--jobs 40000] [--systems NAME ...] [--json FILE]

A drain is one worker process that empties a queue filled beforehand: the seconds are those of the worker's
run(), from its call to its return. The interpreter's start, imports and the first connection are left out.
Each system and round has a fresh database; every peer lives in an environment of its own, made from PyPI.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from harness import HERE, facts, fresh_database, options, print_facts, running_server, save

SECONDS_PER_CALL = 300

REQUIREMENTS = {
    "reference": ("pgwerk==0.1.26", "psycopg[binary]"),  # faster than the plain psycopg it asks for
    "pgqueuer": ("pgqueuer[asyncpg]==1.6.0",),
}


@dataclass(frozen=True)
class System:
    name: str
    adapter: str
    environment: str = ""  # of REQUIREMENTS; none is this interpreter's
    share: float = 1  # of --jobs: a slow peer gets as many as take about 10 s
    variables: Mapping[str, str] = field(default_factory=dict)
    worker: str = "concurrency 10"


SYSTEMS = (
    System("ours", "werk.py"),
    System("reference", "werk.py", "reference", share=1 / 40),
    System("pgqueuer", "queuer.py", "pgqueuer", worker="batches of 10, as documented"),
    System("pgqueuer-100", "queuer.py", "pgqueuer", variables={"BATCH_SIZE": "100"}, worker="batches of 100"),
)
SINGLES = 1_000  # jobs at most that are enqueued one by one

Rates = dict[str, float]


def main() -> None:
    chosen = parse_options()
    systems = [system for system in SYSTEMS if system.name in chosen.systems]
    for environment in {system.environment for system in systems} - {""}:
        prepare(environment)
    with running_server(chosen.dsn) as server:
        found = facts(server)
        print_facts(found)
        rounds = [measure_all(systems, server, chosen.jobs, turn) for turn in range(chosen.rounds)]
    print_table(systems, chosen.jobs, rounds)
    save(chosen.json, facts=found, rounds=rounds)


def parse_options() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    parser = options(__doc__, rounds=3)
    parser.add_argument("--jobs", type=int, default=40_000)
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    return parser.parse_args()


def python_of(environment: str) -> str:
    return str(HERE / ".venvs" / environment / "bin/python") if environment else sys.executable


def prepare(environment: str) -> None:
    """Make the environment, unless it is there with the same requirements."""
    stamp = HERE / ".venvs" / environment / "installed.txt"
    wanted = "\n".join(REQUIREMENTS[environment])
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(stamp.parent, clear=True, with_pip=True)
    pip = [python_of(environment), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS[environment]], check=True, timeout=SECONDS_PER_CALL)
    stamp.write_text(wanted)


def measure_all(systems: Sequence[System], server: str, jobs: int, turn: int) -> dict[str, Rates]:
    """One round; each begins with another system, so that nobody always comes first."""
    first = turn % len(systems)
    order = [*systems[first:], *systems[:first]]
    return {system.name: measure(system, server, jobs_of(system, jobs)) for system in order}


def jobs_of(system: System, jobs: int) -> int:
    return max(4, round(jobs * system.share))


def measure(system: System, server: str, jobs: int) -> Rates:
    singles = min(SINGLES, jobs // 4)
    counts = {"enqueue_one": singles, "enqueue_bulk": jobs - singles, "drain": jobs}
    with fresh_database(server) as dsn:
        call(system, "setup", dsn)
        rates = {function: count / call(system, function, dsn, count) for function, count in counts.items()}
        call(system, "teardown", dsn)
    print(system.name, {function: round(rate) for function, rate in rates.items()}, flush=True)
    return rates


def call(system: System, function: str, dsn: str, *jobs: int) -> float:
    adapter = str(HERE / "peers" / system.adapter)
    command = [python_of(system.environment), adapter, function, dsn, *map(str, jobs)]
    variables = {**os.environ, **system.variables}
    if system.environment:
        variables.pop("PYTHONPATH", None)  # it may lead to this pgwerk
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True, timeout=SECONDS_PER_CALL)
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def print_table(systems: Sequence[System], jobs: int, rounds: Sequence[dict[str, Rates]]) -> None:
    columns = ("drain", "enqueue_bulk", "enqueue_one")
    medians = {
        system.name: {column: median(rates[system.name][column] for rates in rounds) for column in columns}
        for system in systems
    }
    print(f"\nMedians of {len(rounds)} rounds, jobs a second; in brackets how many times as fast ours is.")
    print(f"A slow peer gets fewer jobs, as many as take about 10 s. At most {SINGLES:,} are enqueued one by one.\n")
    print(f"{'':14}{'jobs':>8}" + "".join(f"{column:>18}" for column in columns) + "   worker")
    for system in systems:
        cells = [cell(medians, system.name, column) for column in columns]
        line = "".join(f"{text:>18}" for text in cells)
        print(f"{system.name:14}{jobs_of(system, jobs):>8,}{line}   {system.worker}")


def cell(medians: Mapping[str, Rates], name: str, column: str) -> str:
    rate = medians[name][column]
    ratio = f" ({medians['ours'][column] / rate:.3g}x)" if "ours" in medians else ""
    return f"{rate:,.0f}{ratio}"


if __name__ == "__main__":
    main()
