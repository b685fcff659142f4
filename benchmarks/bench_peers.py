"""No-op jobs through this pgwerk and through its peers, in turn, on one Postgres.

    python benchmarks/bench_peers.py [--dsn DSN] [--rounds 3] [--jobs 40000] [--systems NAME ...]

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgwerk import embedded

HERE = Path(__file__).resolve().parent
DATABASE = "pgwerk_bench_peers"
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


SYSTEMS = (
    System("ours", "werk.py"),
    System("reference", "werk.py", "reference", share=1 / 40),
    System("pgqueuer", "queuer.py", "pgqueuer"),
    System("pgqueuer-100", "queuer.py", "pgqueuer", variables={"BATCH_SIZE": "100"}),
)

Rates = dict[str, float]


def main() -> None:
    options = parse_options()
    systems = [system for system in SYSTEMS if system.name in options.systems]
    for environment in {system.environment for system in systems} - {""}:
        prepare(environment)
    with running_server(options.dsn) as server:
        print(describe(server), flush=True)
        rounds = [measure_all(systems, server, options.jobs, turn) for turn in range(options.rounds)]
    print_table(systems, options.jobs, rounds)


def parse_options() -> argparse.Namespace:
    names = [system.name for system in SYSTEMS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dsn", help="a server where databases may be created; otherwise one is started")
    parser.add_argument("--rounds", type=int, default=3)
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


@contextmanager
def running_server(dsn: str | None) -> Iterator[str]:
    if dsn:
        yield dsn
        return
    with closing(embedded.start(HERE / ".pgwerk/postgres", durable=True)) as server:
        yield server.dsn


def describe(server: str) -> str:
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers")
    with psycopg.connect(server) as connection:
        values = [connection.execute("SELECT current_setting(%s)", [name]).fetchone() for name in names]
    return ", ".join(f"{name} {value[0]}" for name, value in zip(names, values, strict=True) if value)


def measure_all(systems: Sequence[System], server: str, jobs: int, turn: int) -> dict[str, Rates]:
    """One round; each begins with another system, so that nobody always comes first."""
    first = turn % len(systems)
    order = [*systems[first:], *systems[:first]]
    return {system.name: measure(system, server, jobs_of(system, jobs)) for system in order}


def jobs_of(system: System, jobs: int) -> int:
    return max(4, round(jobs * system.share))


def measure(system: System, server: str, jobs: int) -> Rates:
    singles = jobs // 4
    counts = {"enqueue_one": singles, "enqueue_bulk": jobs - singles, "drain": jobs}
    with fresh_database(server) as dsn:
        call(system, "setup", dsn)
        rates = {function: count / call(system, function, dsn, count) for function, count in counts.items()}
        call(system, "teardown", dsn)
    print(system.name, {function: round(rate) for function, rate in rates.items()}, flush=True)
    return rates


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    # A URI with everything in its query: the one form that both psycopg and asyncpg read.
    where = {name: value for name, value in conninfo_to_dict(server).items() if name != "dbname"}
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        try:
            yield f"postgresql:///{DATABASE}?{urlencode(where, quote_via=quote)}"
        finally:
            connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def call(system: System, function: str, dsn: str, *jobs: int) -> float:
    adapter = str(HERE / "peers" / system.adapter)
    command = [python_of(system.environment), adapter, function, dsn, *map(str, jobs)]
    variables = {**os.environ, **system.variables}
    if system.environment:
        variables.pop("PYTHONPATH", None)  # it may lead to this pgwerk
    done = subprocess.run(
        command, env=variables, stdout=subprocess.PIPE, check=True, timeout=SECONDS_PER_CALL
    )
    seconds: float = json.loads(done.stdout)["seconds"]
    return seconds


def print_table(systems: Sequence[System], jobs: int, rounds: Sequence[dict[str, Rates]]) -> None:
    columns = ("drain", "enqueue_bulk", "enqueue_one")
    medians = {
        system.name: {column: median(rates[system.name][column] for rates in rounds) for column in columns}
        for system in systems
    }
    print(f"\nMedians of {len(rounds)} rounds, jobs a second; in brackets how many times as fast ours is.")
    print("A slow peer gets fewer jobs, as many as take about 10 s. A quarter is enqueued one by one.\n")
    print(f"{'':14}{'jobs':>8}" + "".join(f"{column:>20}" for column in columns))
    for system in systems:
        cells = [cell(medians, system.name, column) for column in columns]
        print(f"{system.name:14}{jobs_of(system, jobs):>8,}" + "".join(f"{text:>20}" for text in cells))


def cell(medians: Mapping[str, Rates], name: str, column: str) -> str:
    rate = medians[name][column]
    ratio = f" ({medians['ours'][column] / rate:.1f}x)" if "ours" in medians else ""
    return f"{rate:,.0f}{ratio}"


if __name__ == "__main__":
    main()
