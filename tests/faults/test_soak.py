"""A steady rate of jobs of every kind under random faults of every kind: nothing grows, nothing gets slower, and the
history is proved. PGWERK_TEST_SOAK is how many minutes (`make soak MINUTES=20`).
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgwerk import Werk
from tests.faults import strikes
from tests.faults.crew import Crew
from tests.faults.history import prove
from tests.postgres import rows

if TYPE_CHECKING:
    from tests.faults.history import Log
    from tests.postgres import Postgres

SECONDS = 60 * float(os.environ.get("PGWERK_TEST_SOAK", "0.1"))
JOBS = 40  # a second
PAUSE = min(4.0, SECONDS / 10)  # seconds between two faults, on average
SAMPLES = 50
SERVER_FAULTS = 0.15  # of all faults: between them the dead have to be found
SPARED = 2  # workers that live from the first second to the last, through everything that happens to their connections

GROWTH = 1.3  # of a worker's memory, and of the files and connections that it keeps when there is nothing to do
BLOAT = 4 * 2**20  # bytes by which the tables of jobs that have not ended may grow
SLOWER = 3.0  # times, beyond what the machine itself has become
SHORTEST = 120.0  # seconds in which something can be said of the latency at all

HOT = ("ready", "scheduled", "waiting", "blocked", "active", "idle", "worker")
_TABLES = """
    select sum(pg_relation_size(c.oid))::bigint, sum(coalesce(s.n_dead_tup, 0))::bigint
    from pg_class c left join pg_stat_all_tables s on s.relid = c.oid
    where c.relnamespace = %s::regnamespace and c.relname = any (%s)
"""
_CLIENTS = "select count(*) from pg_stat_activity where application_name = 'pgwerk' and pid <> pg_backend_pid()"
_LATENCIES = """
    select extract(epoch from min(r.at) - a.at)::float
    from asked a
    cross join lateral jsonb_to_recordset(a.jobs) as j (name text, "group" text, "on" jsonb, is_later boolean)
    join run r on r.name = j.name
    where j."group" is null and j."on" = '{}' and not j.is_later
        and a.at >= to_timestamp(%s) and a.at < to_timestamp(%s)
    group by a.call, a.at, j.name
"""


@dataclass
class Sample:
    memory: int
    """Of the larger of the spared workers, in bytes."""

    files: int
    connections: int
    table_bytes: int
    dead_rows: int
    yardstick: float
    """Seconds that a connection to another server takes: how busy the machine is with other things."""


@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_grows_and_nothing_is_lost(postgres: Postgres, schema: str, log: Log, tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with Werk(postgres.dsn, schema=schema):
        pass
    began = time.time()
    with Crew(postgres.dsn, schema, log, tmp_path, chance, workers=5, spared=SPARED, jobs=JOBS) as crew:
        samples = _soak(postgres, crew, chance)
        ended = time.time()
        crew.drain()
        at_rest = _sample(crew)
        crew.stop()
    print(prove(log, postgres.dsn, schema))
    _check_growth(samples, at_rest)
    part = min(60.0, (ended - began) / 2)
    first, last = (_latency(log.dsn, since, since + part) for since in (began, ended - part))
    busier = _busier(samples)
    print(f"latency: {1000 * first:.1f} ms in the first {part:.0f} s, {1000 * last:.1f} ms in the last")
    print(f"the machine at the end: {busier:.1f} times as slow")
    assert SECONDS < SHORTEST or last <= SLOWER * first * max(1.0, busier)


def _soak(server: Postgres, crew: Crew, chance: random.Random) -> list[Sample]:
    samples, until = [], time.monotonic() + SECONDS
    next_sample = time.monotonic()
    while time.monotonic() < until:
        time.sleep(chance.uniform(0, 2 * PAUSE))  # at whatever moment
        crew.thaw()
        if time.monotonic() >= next_sample:
            samples.append(_sample(crew))
            next_sample += SECONDS / SAMPLES
        if chance.random() < SERVER_FAULTS:
            chance.choice([*strikes.on_server(server, crew).values()])()
        else:
            chance.choice(strikes.on_processes(crew))()
    return [*samples, _sample(crew)]


def _sample(crew: Crew) -> Sample:
    spared = [worker.process.pid for worker in crew.workers[:SPARED]]
    ((table_bytes, dead_rows),) = rows(crew.dsn, _TABLES, crew.schema, list(HOT))
    ((connections,),) = rows(crew.dsn, _CLIENTS)
    return Sample(
        memory=max(_memory(pid) for pid in spared),
        files=max(len([*Path(f"/proc/{pid}/fd").iterdir()]) for pid in spared),
        connections=connections, table_bytes=table_bytes, dead_rows=dead_rows, yardstick=_yardstick(crew.log.dsn),
    )  # fmt: skip


def _yardstick(dsn: str) -> float:
    began = time.perf_counter()
    for _ in range(10):
        rows(dsn, "select 1")
    return (time.perf_counter() - began) / 10


def _busier(samples: list[Sample]) -> float:
    part = max(1, len(samples) // 20)
    first, last = (median(each.yardstick for each in some) for some in (samples[:part], samples[-part:]))
    return last / first


def _memory(pid: int) -> int:
    resident = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def _check_growth(samples: list[Sample], at_rest: Sample) -> None:
    """The first part against the last: the largest of each, so that a moment of much to do counts in both. Files and
    connections come and go with single jobs (a handler in a thread has a loop of its own): what counts is what stays.
    """
    part = max(1, len(samples) // 5)
    first, last = samples[:part], samples[-part:]
    for name in samples[0].__dataclass_fields__:
        series = [getattr(each, name) for each in samples]
        print(
            f"{name}: {max(series[:part])} at first, {max(series[-part:])} at last, {max(series)} at most, "
            f"{getattr(at_rest, name)} at rest"
        )
    assert max(each.memory for each in last) <= GROWTH * max(each.memory for each in first)
    assert at_rest.files <= GROWTH * max(each.files for each in first)
    assert at_rest.connections <= GROWTH * max(each.connections for each in samples[: 2 * part])
    assert max(each.table_bytes for each in last) <= BLOAT + max(each.table_bytes for each in first)


def _latency(log: str, since: float, until: float) -> float:
    """Seconds from the wish to the start, in the middle, of jobs that waited for nothing but a worker."""
    with psycopg.connect(log) as connection:
        return float(median(seconds for (seconds,) in connection.execute(_LATENCIES, (since, until))))
