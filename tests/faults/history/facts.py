"""What is known when everything has ended: the notes of the log, and the tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from tests.db.race import misplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from datetime import datetime

T = TypeVar("T")
K = TypeVar("K", bound="Hashable")

KILLED = "a worker killed"
COMMITTED, ROLLED_BACK, UNKNOWN = "committed", "rolled back", "unknown"
CALLBACKS = {"complete": "on_success", "failed": "on_failure", "aborted": "on_stopped"}


@dataclass(slots=True, kw_only=True)
class Asked:
    """A job that a producer has asked for, under a name that no other one has: it is the job's `_meta["name"]`."""

    name: str
    queue: str = "default"
    priority: int = 0
    group: str | None = None
    key: str | None = None
    attempts: int = 1
    repeats: int = 0
    on: dict[str, bool] = field(default_factory=dict)
    """The names of its dependencies, and whether their failure is allowed."""

    told: list[str] = field(default_factory=list)
    """Its callbacks: on_success, …"""

    is_later: bool = False
    """It has a time of its own."""

    may_expire: bool = False
    call: str = ""
    tick: int = 0
    answer_tick: int | None = None
    outcome: str = UNKNOWN
    job_id: int | None = None
    """As the producer was told; None in a call that committed: the key was taken."""


@dataclass(slots=True, kw_only=True)
class Job:
    """A row, and how it ended."""

    id: int
    name: str | None = None
    key: str | None = None
    callback_of: int | None = None
    repeats: int | None = None
    """Runs that still follow this one."""

    status: str | None = None
    """None: it has not ended."""

    attempt: int = 0
    worker_id: int | None = None
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(slots=True, kw_only=True)
class Attempt:
    """One that ended, with its job or without."""

    job_id: int
    attempt: int
    worker_id: int | None
    error: str | None
    started_at: datetime
    finished_at: datetime

    @property
    def is_lost(self) -> bool:
        """With its worker, or because it gave no sign of life: no handler of ours fails in such words."""
        return self.error is not None and self.error.endswith(" lost")


@dataclass(slots=True, kw_only=True)
class Run:
    """A call of a handler, as it noted it itself; None in `end_tick`: it was never heard of again."""

    tick: int
    name: str | None = None
    job_id: int | None = None
    attempt: int | None = None
    worker_id: int | None = None
    callback_of: int | None = None
    end_tick: int | None = None
    how: str | None = None
    """returned, raised, cancelled"""


@dataclass(slots=True, kw_only=True)
class Worker:
    id: int
    pid: int
    ended_at: datetime | None = None
    state: str = "alive"
    kind: str = "AsyncWorker"


@dataclass(slots=True, kw_only=True)
class Fault:
    at: datetime
    what: str
    pid: int | None = None


@dataclass(kw_only=True)
class History:
    asked: list[Asked]
    jobs: list[Job]
    attempts: list[Attempt]
    runs: list[Run]
    workers: list[Worker] = field(default_factory=list)
    stopped: set[int] = field(default_factory=set)
    """Jobs that somebody wanted to end."""

    faults: list[Fault] = field(default_factory=list)
    misplaced: list[tuple[int, list[str]]] = field(default_factory=list)
    """Jobs that are in several places, or in none, and places that no job has."""

    @cached_property
    def by_name(self) -> dict[str, Asked]:
        return {each.name: each for each in self.asked}

    @cached_property
    def by_id(self) -> dict[int, Job]:
        return {job.id: job for job in self.jobs}

    @cached_property
    def series(self) -> dict[str | None, list[Job]]:
        """By name, in the order of their runs."""
        return grouped(sorted(self.jobs, key=lambda job: (-(job.repeats or 0), job.id)), lambda job: job.name)

    @cached_property
    def callbacks(self) -> dict[int | None, list[Job]]:
        """By the job of which they tell."""
        return grouped(self.jobs, lambda job: job.callback_of)

    @cached_property
    def tries(self) -> dict[int, list[Attempt]]:
        return grouped(sorted(self.attempts, key=lambda each: each.attempt), lambda each: each.job_id)

    @cached_property
    def lost(self) -> set[tuple[int, int | None, int | None]]:
        """Job, worker and number of every attempt that was lost with its worker; a callback knows no number."""
        lost = [each for each in self.attempts if each.is_lost]
        return {(each.job_id, each.worker_id, number) for each in lost for number in (each.attempt, None)}

    @cached_property
    def with_processes(self) -> set[int | None]:
        return {worker.id for worker in self.workers if worker.kind in ("ProcessWorker", "ForkWorker")}

    @cached_property
    def runs_of(self) -> dict[int, list[Run]]:
        """By job; a run of a callback is that of the callback's job."""
        return grouped(self.runs, lambda run: self.job_of(run) or 0)

    def job_of(self, run: Run) -> int | None:
        if run.callback_of is None:
            return run.job_id
        return next((job.id for job in self.callbacks.get(run.callback_of, ())), None)

    def is_lost(self, run: Run) -> bool:
        """Its attempt was taken from its worker: whatever it still did counts for nothing."""
        return (self.job_of(run) or 0, run.worker_id, run.attempt) in self.lost

    def is_killed(self, run: Run) -> bool:
        """With its process, as its job was to end: nobody knows how far it came."""
        job = self.by_id.get(self.job_of(run) or 0)
        is_ended = job is not None and job.status == "aborted" and job.id in self.stopped
        return is_ended and run.worker_id in self.with_processes

    def losses(self) -> list[float]:
        """Seconds from the kill of a worker to the rescue of each of its jobs. The two servers share a clock."""
        killed = {fault.pid: fault.at for fault in self.faults if fault.what == KILLED}
        dead = {worker.id: killed[worker.pid] for worker in self.workers if worker.pid in killed}
        lost = [each for each in self.attempts if each.is_lost and each.worker_id in dead]
        return [(each.finished_at - dead[each.worker_id or 0]).total_seconds() for each in lost]

    def asked_of(self, job: Job) -> Asked | None:
        return self.by_name.get(job.name) if job.name is not None else None

    def first_of(self, name: str) -> Job | None:
        """The job that this name stands for: where the key was taken, the one that has it."""
        if found := self.series.get(name):
            return found[0]
        key = self.by_name[name].key
        return next((job for job in self.jobs if key is not None and job.key == key), None)

    def accepted(self, job: Job) -> Run | None:
        """The run whose result is stored."""
        return next((run for run in self.runs_of.get(job.id, ()) if run.tick == job.result), None)


def grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return dict(found)


_ASKED = """
    select
        j.name, j.queue, j.priority, j.group, j.key, j.attempts, j.repeats, j.on, j.told, j.is_later, j.may_expire,
        a.call, a.tick, o.tick as answer_tick, o.ids[j.place] as job_id,
        case when o.ids is not null then 'committed' when o.call is not null then 'rolled back' else 'unknown' end
            as outcome
    from asked a
    cross join lateral rows from (jsonb_to_recordset(a.jobs) as (
        name text, queue text, priority integer, "group" text, key text, attempts integer, repeats integer, "on" jsonb,
        told jsonb, is_later boolean, may_expire boolean)) with ordinality as j (
        name, queue, priority, "group", key, attempts, repeats, "on", told, is_later, may_expire, place)
    left join answered o on o.call = a.call
    order by a.tick, j.place
"""
_RUNS = """
    select r.tick, r.name, r.job_id, r.attempt, r.worker_id, r.callback_of, e.tick as end_tick, e.how
    from run r left join ended e on e.run = r.tick order by r.tick
"""
_JOBS = """
    select
        j.id, j.meta ->> 'name' as name, j.key, j.callback_of, j.repeat_remaining as repeats,
        f.status, coalesce(f.attempt, 0) as attempt, f.worker_id, f.result, f.error, f.started_at, f.finished_at
    from job j left join finished f on f.job_id = j.id
"""
_ATTEMPTS = """
    select job_id, attempt, worker_id, error, started_at, finished_at from attempt
    union all
    select job_id, attempt, worker_id, error, started_at, finished_at from finished where started_at is not null
"""
_WORKERS = "select id, substring(name from '[0-9]+$')::integer as pid, ended_at, state, kind from worker"


def read(log: str, dsn: str, schema: str) -> History:
    """From the log's database and the one that the jobs were in."""
    with psycopg.connect(log) as notes, psycopg.connect(dsn) as tables:
        tables.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        return History(
            asked=_rows(notes, Asked, _ASKED),
            runs=_rows(notes, Run, _RUNS),
            stopped={job_id for (job_id,) in notes.execute("select job_id from stop")},
            faults=_rows(notes, Fault, "select at, what, pid from fault order by tick"),
            jobs=_rows(tables, Job, _JOBS),
            attempts=_rows(tables, Attempt, _ATTEMPTS),
            workers=_rows(tables, Worker, _WORKERS),
            misplaced=misplaced(lambda text: tables.execute(text).fetchall()),
        )


def _rows(connection: psycopg.Connection[Any], kind: type[T], text: str) -> list[T]:
    with connection.cursor(row_factory=class_row(kind)) as cursor:
        return cursor.execute(text).fetchall()
