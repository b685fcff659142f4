"""Trials beside what a database may have to bear: a million jobs of every kind, and a snapshot that somebody holds."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress

import psycopg
from harness import old_snapshot
from meters import Log
from systems import System
from trials import PATIENCE, Bench, Figures, Player, wait_for
from wiretap import wiretap

KINDS = ("finished", "scheduled", "queued")
"""Of backlogs, in the order in which they come; those queued have a lower priority."""

DRAIN_AT_MOST = 10.0  # seconds: a system that a backlog has brought to a standstill has shown it by then
HELD_FOR, MOST_HELD = 4.0, 200_000  # seconds that a drain under a snapshot should last, jobs


def beside_backlogs(bench: Bench, system: System) -> Figures:
    """In one database, that of a system which has run for long: each backlog stays when the next one comes."""
    statements = backlogs(system)
    if not statements:
        return {}
    with bench.place(system) as (where, _, log), closing(Player(system, log, "produce", where)) as producer:
        figures = {"beside nothing": drained(bench, system, where, log, producer)}
        for kind in [kind for kind in KINDS if kind in statements]:
            write_backlog(where, statements[kind], bench.backlog)
            figures[f"beside {kind}"] = drained(bench, system, where, log, producer)
    return figures


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


def drained(bench: Bench, system: System, where: str, log: Log, producer: Player) -> float:
    """Runs a second, from the first one to the last."""
    before, jobs = len(log), bench.jobs_for(system)
    producer.ask("bulk", jobs)
    with closing(Player(system, log, "work", where, "10")) as worker:
        worker.tell()
        with suppress(TimeoutError):
            wait_for(log, before + jobs, "", patience=DRAIN_AT_MOST)
    return pace([ran for _, ran in log.runs()[before:]])


def under_a_snapshot(bench: Bench, system: System) -> Figures:
    """What is consumed stays in the tables and their indexes as long as somebody holds a snapshot from before."""
    jobs = bench.jobs_for(system, lasting=HELD_FOR, most=MOST_HELD)
    with bench.place(system) as (where, _, log), closing(Player(system, log, "produce", where)) as producer:
        with old_snapshot(where):
            producer.ask("bulk", jobs)
            with closing(Player(system, log, "work", where, "10")) as worker:
                worker.tell()
                with suppress(TimeoutError):
                    wait_for(log, jobs, "", patience=5 * HELD_FOR)
        runs = [ran for _, ran in log.runs()]
    tenth = len(runs) // 10
    return {"held, first": pace(runs[: tenth + 1]), "held, last": pace(runs[-tenth - 1 :])}


def pace(runs: Sequence[float]) -> float:
    return (len(runs) - 1) / (runs[-1] - runs[0]) if len(runs) > 1 else 0.0


def speaking(bench: Bench, system: System) -> Figures:
    """What a worker says to its server, with BEGIN and COMMIT, from its start to its last job's run."""
    jobs = bench.jobs_for(system)
    with bench.place(system) as (where, _, log), closing(Player(system, log, "produce", where)) as producer:
        producer.ask("bulk", jobs)
        with wiretap(where) as tap, closing(Player(system, log, "work", tap.dsn, "10")) as worker:
            worker.tell()
            wait_for(log, jobs, f"{jobs} runs by {system.name}")
            return {"statements": tap.counts.total() / jobs}
