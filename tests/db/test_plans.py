"""The hot statements walk indexes only, however full the tables are and however wrong the statistics, and touch a
number of pages that follows from their batch and not from the tables.

Plans are generic ones, as a worker keeps them: each is made twice, in a session that prepared and ran it while the
tables were empty and has kept its plan, and in one that comes when they are full.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import psycopg
import pytest
from psycopg import sql

from pgwerk.db import Database
from pgwerk.execution import Outcome
from pgwerk.explaining import MOST_COUNTED
from pgwerk.filters import values_of
from pgwerk.job import JobStatus
from pgwerk.migrate import migrate
from pgwerk.store.control import ControlStore
from pgwerk.store.ending import EndingStore
from pgwerk.store.exchange import ExchangeStore, Gap, Range
from pgwerk.store.maintenance import MaintenanceStore
from pgwerk.store.overview import OverviewStore
from pgwerk.store.workers import Sign, Silence, WorkerStore
from tests.db.planner import BIG, explain, pin, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from pgwerk.filters import Filters
    from pgwerk.wire import Call

FULL = 100_000
ALIVE, DEAD = 1, 2  # workers
FILL = """
insert into worker (name, kind, queues, concurrency, patience, state, ended_at)
values ('alive', 'w', '{default}', 10, 10, 'alive', null), ('dead', 'w', '{default}', 10, 10, 'dead', now());
insert into job (id, function, payload, queue, priority, key, max_attempts)
select id, 'm.f', '{"args": [], "kwargs": {}}', 'default', 0, case when id % 10 = 0 then 'key ' || id end, 3
from generate_series(1, 4 * $N) id;
insert into ready (queue, priority, seq, job_id, attempt, expires_at)
select 'default', id % 3, id, id, 1, case when id % 100 = 0 then now() - interval '1 hour' end
from generate_series(1, $N) id;
insert into scheduled (job_id, due, queue, priority, attempt)
select $N + id, now() + (id - $N / 2) * interval '1 second', 'default', 0, 1 from generate_series(1, $N) id;
insert into active (job_id, worker_id, claim_no, attempt)
select 2 * $N + id, 1 + id % 2, 1, 2 from generate_series(1, $N) id;
insert into attempt (job_id, attempt, status, worker_id, started_at)
select 2 * $N + id, 1, 'failed', 1, now() from generate_series(1, $N) id;
insert into finished (job_id, status, attempt, worker_id, started_at)
select 3 * $N + id, 'complete', 1, 1, now() from generate_series(1, $N) id;
insert into job (id, function, payload, queue, priority, group_key, max_attempts, on_success, repeat_remaining,
    repeat_intervals, result_ttl)
select 4 * $N + id, 'm.f', '{"args": [], "kwargs": {}}', 'default', 0, 'group ' || id % 10, 3,
    '{"function": "m.c"}', 3, '{60}', 60
from generate_series(1, 3 * $N) id;
insert into blocked (job_id, group_key, queue, priority, attempt, expires_at)
select 4 * $N + id, 'group ' || id % 10, 'default', 0, 1, case when id % 100 = 0 then now() - interval '1 hour' end
from generate_series(1, $N) id;
insert into waiting (job_id, queue, priority, unmet, is_watched, doom)
select 5 * $N + id, 'default', 0, 1, id % 2 = 0, case when id % 100 = 0 then 'doomed' end
from generate_series(1, $N) id;
insert into dependency (job_id, on_id, allow_failure)
select 5 * $N + id, 2 * $N + id, false from generate_series(1, $N) id;
insert into active (job_id, worker_id, claim_no, attempt, group_key, is_aborting, stale_at)
select 6 * $N + id, 1, 1, 1, 'busy ' || id, id % 100 = 0, case when id % 100 = 0 then now() - interval '1 hour' end
from generate_series(1, $N) id;
insert into ready (queue, priority, seq, job_id, attempt, group_key)
select 'grouped', 0, 7 * $N + id, 7 * $N + id, 1, 'busy ' || (1 + id % least($N, 1000)) from generate_series(1, $N) id;
insert into job (id, function, payload, queue, priority, group_key, max_attempts)
select 7 * $N + id, 'm.f', '{"args": [], "kwargs": {}}', 'grouped', 0, 'busy ' || (1 + id % least($N, 1000)), 3
from generate_series(1, $N) id;
select setval('job_id_seq', 10 * $N + 1);
update finished set expires_at = now() - interval '1 minute' where job_id % 100 = 0;
insert into tally (since, jobs, ran, run_secs, longest_secs, grain, queue, function, status)
select now() - interval '1 hour', 1, 1, 1, 1, case when id % 100 = 0 then 0 else 2 end, 'default', 'm.f', 'complete'
from generate_series(1, $N) id;
insert into waiter (job_id, until) select id * 40, now() + interval '1 hour' from generate_series(1, $N / 10) id;
"""


class Tables(NamedTuple):
    """A schema so full, and the sessions that look at it."""

    schema: str
    rows: int
    sessions: dict[str, Connection[Any]]


class Size(NamedTuple):
    rows: int
    are_analyzed: bool


SIZES = [Size(0, False), Size(1_000, False), Size(FULL, False), Size(FULL, True)]


@pytest.fixture(
    scope="module", params=SIZES, ids=lambda size: f"{size.rows}-{'known' if size.are_analyzed else 'stale'}"
)
def tables(request: pytest.FixtureRequest, dsn: str) -> Iterator[Tables]:
    schema, size = f"plans_{secrets.token_hex(6)}", request.param
    asyncio.run(migrate(Database(dsn, schema)))
    options = f"-c search_path={schema}"
    with ExitStack() as stack:
        owner = stack.enter_context(psycopg.connect(dsn, autocommit=True, options=options))
        _forget_statistics(owner)
        sessions = {"old": stack.enter_context(_session(dsn, schema))}
        _keep_plans(sessions["old"], schema)
        if size.rows:
            owner.execute(FILL.replace("$N", str(size.rows)).encode())
        if size.are_analyzed:
            owner.execute("analyze")
        sessions["new"] = stack.enter_context(_session(dsn, schema))
        yield Tables(schema, size.rows, sessions)
        owner.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))


def _forget_statistics(owner: Connection[Any]) -> None:
    """They were taken of empty tables, and nobody takes new ones."""
    for table in sorted(BIG | {"worker", "idle", "waiter"}):
        owner.execute(sql.SQL("alter table {} set (autovacuum_enabled = off)").format(sql.Identifier(table)))
        owner.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))


def _session(dsn: str, schema: str) -> Connection[Any]:
    session = psycopg.connect(dsn, autocommit=True)
    pin(session, schema)
    for name in {call.statement.name for call in _calls(schema, 0).values()}:
        prepare(session, schema, name)
    return session


def _keep_plans(session: Connection[Any], schema: str) -> None:
    for call in _calls(schema, 0).values():
        explain(session, call)


def _calls(schema: str, rows: int) -> dict[str, Call[Any]]:
    """The moves, on jobs from the middle of each room."""
    exchange = ExchangeStore(schema)
    maintenance, control = MaintenanceStore(schema), ControlStore(schema)
    ready, scheduled, active, finished = ([room * rows + rows // 2 + k for k in range(10)] for room in range(4))
    lanes = [Range("default", priority, *ends) for priority in (2, 1) for ends in ((-(2**62), 0), (0, 2**63 - 1))]
    behind = Range("default", 1, rows // 2, 2**63 - 1)
    held = [(job, ALIVE + job % 2, 1) for job in active]
    grouped, waiting, sequel = ([room * rows + rows // 2 + k for k in range(10)] for room in (4, 5, 6))
    workers, ending = WorkerStore(schema), EndingStore(schema)
    parked = Range("grouped", 0, -(2**62), 2**63 - 1)
    waits = [Outcome(job, None, None, "aborted", error="e") for job in (ready[0], scheduled[0])]
    return {
        "claim": exchange.claim(ALIVE, 1, 10, lanes, is_followed=True),
        "claim behind a cursor": exchange.claim(ALIVE, 1, 10, [behind], is_followed=True),
        "claim of nothing": exchange.claim(ALIVE, 1, 10, [behind._replace(queue="other")], is_followed=True),
        "claim for groups": exchange.claim_grouped(ALIVE, 1, 10, lanes, is_followed=True),
        "claim of busy groups": exchange.claim_grouped(ALIVE, 1, 10, [parked], is_followed=True, span=100),
        "settle with sequels": _end(schema, [Outcome(job, ALIVE, 1, "complete", result=b"1") for job in sequel]),
        "settle doomed": _end(schema, [Outcome(job, None, None, "failed", error="e") for job in waiting]),
        "free": ending.free(grouped),
        "release": ending.release(active),
        "watch": maintenance.watch(0),
        "doomed": maintenance.doomed(),
        "stranded": maintenance.stranded(""),
        "outdated": maintenance.outdated(),
        "outlived": maintenance.outlived("complete", 0),
        "forget": maintenance.forget(finished),
        "requeue": control.requeue(finished),
        "touch": workers.touch(ALIVE, [Sign(job, 1, 5.0) for job in sequel]),
        "aborting": workers.aborting(ALIVE),
        "beat": workers.beat(ALIVE, 5.0),
        "declare_silent": workers.declare_silent([Silence(job, ALIVE, 1, 5.0) for job in sequel]),
        "complete": _end(schema, [Outcome(*each, "complete", result=b"1", has_sequel=False) for each in held]),
        "settle complete": _end(schema, [Outcome(*each, "complete", result=b"1") for each in held]),
        "settle retry": _end(schema, [Outcome(*each, "retry", error="e") for each in held]),
        "settle retry later": _end(schema, [Outcome(*each, "retry", 5.0, error="e") for each in held]),
        "settle lost": _end(schema, [Outcome(job, ALIVE, 99, "complete") for job in active]),
        "cancel": _end(schema, waits),
        "expire": _end(schema, [Outcome(job, None, None, "aborted", error="e", expired=True) for job in ready]),
        "look": exchange.look([Gap("default", -32769, 0), Gap("default", 0, 2), Gap("other", -32769, 32768)]),
        "outlook": exchange.outlook(0.0, ["default"]),
        "promote": maintenance.promote(0.0),
        "lost": maintenance.lost(),
        "expired": maintenance.expired(),
        "add_up": maintenance.add_up(),
        "is_pending": control.is_pending(ready[0]),
        "wait_for": control.wait_for(-1, active[0], 60.0),
        "ended_of": control.ended_of([*active, *finished]),
        "stop_waiting": control.stop_waiting([1, 2]),
        "get_jobs": control.get_jobs([*ready, *scheduled, *active, *finished]),
        "executions": control.executions(active[0]),
    }  # fmt: skip


def _end(schema: str, outcomes: list[Outcome]) -> Call[Any]:
    call, *_ = EndingStore(schema).end(outcomes)
    return call


PAGES = {
    **dict.fromkeys(("claim", "claim behind a cursor", "claim of nothing", "claim for groups"), 600),
    **dict.fromkeys(("complete", "settle complete", "settle retry", "settle retry later", "settle lost"), 800),
    **dict.fromkeys(("cancel", "expire", "ended_of"), 1_200),
    **dict.fromkeys(("look", "outlook", "is_pending", "wait_for", "stop_waiting", "executions"), 40),
    "claim of busy groups": 12_000,
    "settle with sequels": 1_500,
    "settle doomed": 3_000,
    **dict.fromkeys(("free", "release", "forget", "requeue", "touch", "declare_silent"), 1_200),
    **dict.fromkeys(("doomed", "outdated", "outlived", "stranded", "aborting", "beat"), 6_000),
    "watch": 20_000,
    "get_jobs": 4_000,  # 40 jobs, each looked for in eight tables
    **dict.fromkeys(("promote", "lost", "expired"), 15_000),  # batches of 500
    "add_up": 30_000,  # 1,000 rows, each found, locked, deleted
}
"""At most; about twice of what was seen. A walk over one full table or index costs more."""


@pytest.mark.parametrize("session", ["old", "new"])
@pytest.mark.parametrize("move", PAGES)
def test_a_hot_statement_walks_indexes_and_touches_few_pages(tables: Tables, session: str, move: str) -> None:
    explained = explain(tables.sessions[session], _calls(tables.schema, tables.rows)[move])
    assert explained.walks() == []
    assert explained.pages <= PAGES[move]


@pytest.mark.parametrize("session", ["old", "new"])
@pytest.mark.parametrize("move", ["complete", "settle complete", "settle retry"])
def test_outcomes_meet_their_claims_by_hash(tables: Tables, session: str, move: str) -> None:
    """Else a batch of 300 is compared with itself, row by row: a fifth of what it costs."""
    nodes = explain(tables.sessions[session], _calls(tables.schema, tables.rows)[move]).nodes()
    deletion = next(node for node in nodes if node.get("Operation") == "Delete" and node["Relation Name"] == "active")
    assert [node["Node Type"] for node in deletion["Plans"] if "Join" in node["Node Type"]] == ["Hash Join"]


def test_every_move_has_its_bound() -> None:
    assert set(_calls("pgwerk", 0)) == set(PAGES)


def _looks(schema: str) -> dict[str, Call[Any]]:
    """What people look at all the time."""
    overview, control = OverviewStore(schema), ControlStore(schema)

    def listed(**filters: Any) -> Call[Any]:
        return control.list_jobs(None, 20, 0, **values_of(cast("Filters", filters)))

    return {
        "jobs": listed(),
        **{f"jobs {status}": listed(status=status) for status in JobStatus},
        "jobs queued of a function": listed(status="queued", function="m.f"),
        "jobs by key": listed(key="key 10"),
        "jobs by schedule": listed(schedule="s"),
        "queues": overview.list_queues(MOST_COUNTED),
        "throughput": overview.throughput(60, None),
    }


@pytest.mark.parametrize("look", _looks("pgwerk"))
def test_what_people_look_at_counts_no_big_table(tables: Tables, dsn: str, look: str) -> None:
    """Not one of them reads as many pages as the smallest of the full tables has rows."""
    call = _looks(tables.schema)[look]
    with psycopg.connect(dsn, autocommit=True) as session:
        pin(session, tables.schema)
        prepare(session, tables.schema, call.statement.name)
        explained = explain(session, call)
    assert explained.pages <= (60_000 if look == "queues" else 4_000)
