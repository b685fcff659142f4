"""Trials beside what a database may have to bear: a million jobs of every kind, and a snapshot that somebody holds."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from harness import old_snapshot
from systems import System
from trials import PATIENCE, Bench, Figures, playing, wait_for
from wiretap import wiretap

KINDS = ("finished", "scheduled", "queued")
"""Of backlogs; what is queued has a lower priority than what is measured."""

DRAIN_AT_MOST = 10.0  # seconds: a system that a backlog has brought to a standstill has shown it by then
HELD_FOR = 4.0  # seconds that a drain under a snapshot should last
FEWEST_HELD, MOST_HELD = 200, 200_000  # jobs: a tenth of them is some batches


def beside_backlogs(bench: Bench, system: System) -> Figures:
    """Each in a database of its own: beside two of them nobody would know which one it was."""
    said = backlogs(system)
    statements = {kind: said[kind] for kind in KINDS if kind in said}
    if statements:
        statements = {"nothing": "", **statements}
    return {f"beside {kind}": drained(bench, system, statement) for kind, statement in statements.items()}


def backlogs(system: System) -> dict[str, str]:
    """By kind, the statement that writes `:size` jobs of it."""
    command = system.command("backlogs", "")
    said = subprocess.run(command, env=system.surroundings(""), capture_output=True, check=True, timeout=PATIENCE)
    found: dict[str, str] = json.loads(said.stdout)
    return found


def write_backlog(where: str, statement: str, size: int) -> None:
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(statement.replace(":size", str(size)))
        connection.execute("VACUUM (ANALYZE)")


def drained(bench: Bench, system: System, backlog: str) -> float:
    """Runs a second, from the first one to the last; what was queued behind may run after that."""
    jobs = bench.jobs_for(system)
    with bench.place(system) as (where, _, log), playing(system, log, "produce", where) as producer:
        if backlog:
            write_backlog(where, backlog, bench.backlog)
        producer.ask("bulk", jobs)
        with playing(system, log, "work", where, "10") as worker:
            worker.tell()
            with suppress(TimeoutError):
                wait_for(log, jobs, "", patience=DRAIN_AT_MOST)
        return pace([ran for _, ran in log.runs()[:jobs]])


def under_a_snapshot(bench: Bench, system: System) -> Figures:
    """What is consumed stays in the tables and their indexes as long as somebody holds a snapshot from before."""
    jobs = max(FEWEST_HELD, bench.jobs_for(system, lasting=HELD_FOR, most=MOST_HELD))
    with bench.place(system) as (where, _, log), playing(system, log, "produce", where) as producer:
        with old_snapshot(where):
            producer.ask("bulk", jobs)
            with playing(system, log, "work", where, "10") as worker:
                worker.tell()
                with suppress(TimeoutError):
                    wait_for(log, jobs, "", patience=6 * HELD_FOR)
        runs = [ran for _, ran in log.runs()]
    tenth = len(runs) // 10
    return {"held, first": pace(runs[: tenth + 1]), "held, last": pace(runs[-tenth - 1 :])}


def pace(runs: Sequence[float]) -> float:
    return (len(runs) - 1) / (runs[-1] - runs[0]) if len(runs) > 1 else 0.0


def speaking(bench: Bench, system: System) -> Figures:
    """What a worker says to its server, with BEGIN and COMMIT, from its start to its last job's run."""
    jobs = bench.jobs_for(system)
    with bench.place(system) as (where, _, log), playing(system, log, "produce", where) as producer:
        producer.ask("bulk", jobs)
        with wiretap(where) as tap, playing(system, log, "work", tap.dsn, "10") as worker:
            worker.tell()
            wait_for(log, jobs, f"{jobs} runs by {system.name}")
            return {"statements": tap.counts.total() / jobs}
