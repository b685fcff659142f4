"""The catalogue fits the schema, the stores fit the catalogue, and nothing in it is dead."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgwerk.execution import Outcome
from pgwerk.filters import values_of
from pgwerk.job import Job, JobExecution
from pgwerk.overview import FunctionStats, QueueInfo, QueueStats, ServerInfo, Throughput, WorkerInfo
from pgwerk.params import EnqueueParams
from pgwerk.schedule import Schedule, ScheduleParams, specify_schedule
from pgwerk.serializers import JSONSerializer
from pgwerk.specifying import specify, specify_update
from pgwerk.sql import Statement, migrations, statements
from pgwerk.store.control import ControlStore
from pgwerk.store.doctor import (
    Connections,
    DoctorStore,
    Index,
    MayMigrate,
    Place,
    Present,
    Server,
    Shape,
    Shaped,
    Suspect,
    Table,
)
from pgwerk.store.ending import EndingStore
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.store.exchange import Claimed, ExchangeStore, Gap, Orphan, Outlook, Range
from pgwerk.store.maintenance import Duties, Expired, Lost, MaintenanceStore, Outlived, Stranded, Watched
from pgwerk.store.overview import OverviewStore
from pgwerk.store.schedules import ScheduleStore
from pgwerk.store.schema import Found, SchemaStore
from pgwerk.store.session import SessionStore
from pgwerk.store.workers import Pulse, Sign, Silence, WorkerStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgwerk import Werk
    from pgwerk.wire import Call

FRAMES = {"begin", "commit", "pin"}  # said by the session itself
READ_OTHERWISE = {"args", "kwargs", "interval", "jitter"}
STORED = (
    "payload", "interval_secs", "jitter_secs",
    *(field.name for field in fields(Schedule) if field.name not in READ_OTHERWISE),
)  # fmt: skip
READ_BY_NAME: dict[str, tuple[str, ...]] = {
    "outlook": Outlook._fields,
    "orphans": Orphan._fields,
    "duties": Duties._fields,
    "lost": Lost._fields,
    "expired": Expired._fields,
    "watch": Watched._fields,
    "stranded": Stranded._fields,
    "outlived": Outlived._fields,
    "queue_stats": tuple(field.name for field in fields(QueueStats)),
    "list_queues": tuple(field.name for field in fields(QueueInfo)),
    "function_stats": tuple(field.name for field in fields(FunctionStats)),
    "throughput": tuple(field.name for field in fields(Throughput)),
    "server_info": tuple(field.name for field in fields(ServerInfo)),
    "schema_found": Found._fields,
    "executions": tuple(field.name for field in fields(JobExecution)),
    "beat": ("is_alive", "others", "silent"),
    "aborting": ("job_id", "claim_no"),
    "is_waited_for": ("is_waited_for",),
    "server": Server._fields,
    "connections": Connections._fields,
    "may_migrate": MayMigrate._fields,
    "indexes": Index._fields,
    "tables": Table._fields,
    "holders": Suspect._fields,
    "idlers": Suspect._fields,
    "roll_call": Present._fields,
}
READ_AMONG_OTHERS: dict[str, tuple[str, ...]] = {
    "enqueue": ("id", "fresh", "status", "enqueued_at", "scheduled_at", "expires_at", "unknown"),
    "enqueue_one": ("ids", "enqueued_at"),
    "enqueue_now": ("ids", "enqueued_at"),
    "complete": ("ids",),
    "settle": ("job_id", "follow"),
    "send_back": ("job_id",),
    "release": ("job_id", "doom", "status"),
    "requeue": ("job_id",),
    "dependencies": ("on_id", "allow_failure"),
    "doomed": ("job_id", "doom"),
    "touch": ("job_id",),
    "forget": ("job_id",),
    "list_workers": tuple(field.name for field in fields(WorkerInfo)),
    "promote": ("promoted",),
    "look": ("queue", "priority"),
    "schema_version": ("version", "serves"),
    "get_jobs": tuple(field.name for field in fields(Job)),
    "list_jobs": ("job_id", *(field.name for field in fields(Job))),
    "is_pending": ("is_pending",),
    "ended_of": ("job_id",),
    "register_worker": ("id",),
    "declare_dead": ("name",),
    "whoami": ("pg_backend_pid",),
    "clock": ("now",),
    "next_due": ("seconds",),
    "due": ("now", "is_running", *STORED),
    "get_schedules": STORED,
    "unregistered": ("name",),
    "queued_page": ("job_id", *Place._fields),
    "unqueued_page": ("job_id",),
    "shapes": (*Shape._fields, "jobs", "ids"),
    "payloads": ("id", "payload"),
    "overdue": ("queue", "jobs"),
    "server_clock": ("seconds",),
    "is_migrated": ("is_migrated",),
    "hidden_sessions": ("sessions",),
}
BIGINT, SMALLINT, INTEGER, FLOAT, BOOLEAN, TEXT, JSONB, TIMESTAMPTZ = 20, 21, 23, 701, 16, 25, 3802, 1184
CLAIMED_TYPES = {
    **dict.fromkeys(("job_id", "seq", "callback_of"), BIGINT),
    **dict.fromkeys(("attempt", "max_attempts", "attempts_before"), INTEGER),
    **dict.fromkeys(("function", "queue", "key", "group_key", "fate", "durability"), TEXT),
    **dict.fromkeys(("payload", "meta"), JSONB),
    **dict.fromkeys(("timeout_secs", "heartbeat_secs", "ttl"), FLOAT),
    **dict.fromkeys(("scheduled_at", "enqueued_at", "started_at"), TIMESTAMPTZ),
    **dict.fromkeys(("is_expired", "has_sequel"), BOOLEAN),
    "priority": SMALLINT,
    "retry_intervals": 1022,  # double precision[]
}


@dataclass
class Described:
    columns: dict[str, int]
    parameters: list[int]


@pytest.fixture
def describe(app: Werk, dsn: str, schema: str) -> Iterator[Any]:
    """Parses a statement on the migrated schema and tells what it takes and gives."""
    with psycopg.connect(dsn) as connection:

        def run(name: str) -> Described:
            statement = statements(schema)[name]
            prepared = connection.pgconn.prepare(name.encode(), statement.text.encode())
            assert not prepared.error_message, f"{name}: {prepared.error_message.decode()}"
            found = connection.pgconn.describe_prepared(name.encode())
            columns = {(found.fname(i) or b"").decode(): found.ftype(i) for i in range(found.nfields)}
            return Described(columns, [found.param_type(i) for i in range(found.nparams)])

        yield run


@pytest.mark.parametrize("name", statements("pgwerk"))
def test_every_statement_prepares_and_takes_what_it_names(name: str, describe: Any) -> None:
    described = describe(name)
    parameters = statements("pgwerk")[name].parameters
    assert len(described.parameters) == len(parameters), "a parameter is named and not used, or the other way round"
    assert len(set(parameters)) == len(parameters)


@pytest.mark.parametrize("name", READ_BY_NAME)
def test_columns_are_those_that_are_read(name: str, describe: Any) -> None:
    assert set(describe(name).columns) == set(READ_BY_NAME[name])


@pytest.mark.parametrize("name", READ_AMONG_OTHERS)
def test_columns_hold_those_that_are_read(name: str, describe: Any) -> None:
    assert set(describe(name).columns) >= set(READ_AMONG_OTHERS[name])


@pytest.mark.parametrize("claim", ["claim", "claim_grouped"])
def test_claim_gives_its_columns_in_the_order_and_types_that_are_read(claim: str, describe: Any) -> None:
    columns = describe(claim).columns
    assert list(columns) == list(Claimed._fields)
    assert columns == {name: CLAIMED_TYPES[name] for name in Claimed._fields}


def test_the_view_for_people_has_a_column_for_each_field_of_a_job(query: Any, app: Werk) -> None:
    columns = query(
        "select column_name from information_schema.columns where table_schema = %s and table_name = 'jobs'",
        app.config.schema,
    )
    assert {name for (name,) in columns} == {field.name for field in fields(Job)}


def test_stores_give_each_statement_just_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: set[str] = set()

    def bind(statement: Statement, values: dict[str, object]) -> list[object]:
        assert set(values) == set(statement.parameters), f"{statement.name} is given what it does not take"
        bound.add(statement.name)
        return [values[name] for name in statement.parameters]

    monkeypatch.setattr(Statement, "bind", bind)
    calls = list(_every_call("pgwerk"))
    assert {call.statement.name for call in calls} == bound
    assert bound | FRAMES == set(statements("pgwerk")), "a statement that no store says, or that this test forgot"


def test_statements_name_the_schema_wherever_they_name_a_table() -> None:
    """One that relied on the search path would work here and fail elsewhere."""
    for statement in statements("elsewhere").values():
        assert "pgwerk" not in statement.text
    assert all("pgwerk." not in migration.text for migration in migrations("elsewhere"))


def _every_call(schema: str) -> Iterator[Call[Any]]:
    outcomes = [
        Outcome(1, None, None, "aborted"), Outcome(2, 1, 1, "retry"), Outcome(3, 1, 1, "complete", has_sequel=False)
    ]  # fmt: skip
    enqueue, exchange, control = EnqueueStore(schema), ExchangeStore(schema), ControlStore(schema)
    overview = OverviewStore(schema)
    maintenance, workers, versions = MaintenanceStore(schema), WorkerStore(schema), SchemaStore(schema)
    options: list[dict[str, Any]] = [{}, {"meta": {}}, {"key": "k"}]
    for each in options:
        spec = specify(EnqueueParams("m.f", **each), JSONSerializer())
        yield enqueue.enqueue([spec], always_notify=True)
    yield from EndingStore(schema).end(outcomes)
    yield exchange.claim(1, 1, 1, [Range("default", 0, 0, 1)], is_followed=True)
    yield exchange.claim_grouped(1, 1, 1, [Range("default", 0, 0, 1)], is_followed=True)
    yield exchange.look([Gap("default", 0, 1)])
    yield exchange.outlook(0, ["default"])
    yield exchange.orphans(1, 1, [1])
    yield from (overview.why(1, 1), overview.list_queues(1), overview.pause_queue("q"), overview.resume_queue("q"))
    yield from (overview.throughput(1, None), overview.function_stats(1, None))
    yield from exchange.count_ended([])
    yield control.list_jobs(before=None, limit=1, offset=0, **values_of({}))
    yield control.list_ids(before=None, limit=1, **values_of({}))
    yield from (control.dependencies(1), control.find_key("key"), control.requeue([1]), control.abort(1))
    yield from (control.touch(1), control.let_go([1], anew=True), control.ended_before("failed", 1, 1))
    yield control.update(1, specify_update(at=None, delay=None, priority=None, meta=None))
    yield from (overview.list_workers(None), overview.queue_stats(callbacks=True))
    yield from (overview.server_info(), overview.vacuum(), control.truncate())
    yield from (control.get_jobs([1]), control.executions(1), control.is_pending(1))
    yield from (control.wait_for(-1, 1, 1), control.ended_of([1]), control.stop_waiting([-1]))
    yield from (maintenance.duties(), maintenance.promote(0), maintenance.lost(), maintenance.expired())
    yield from (maintenance.forget_workers(), maintenance.forget_waiters(), maintenance.forget([1]))
    yield from (maintenance.add_up(), maintenance.forget_tally())
    yield from (maintenance.watch(0), maintenance.doomed(), maintenance.stranded(""), maintenance.outdated())
    yield maintenance.outlived("failed", 1)
    yield workers.register("name", "kind", ["default"], 1, 1)
    yield from (
        workers.beat(1, 5.0),
        workers.declare_silent([Silence(1, 1, 1, 5.0)]),
        workers.declare_dead(Pulse(1, 1, 1)),
        workers.is_waited_for(1),
        workers.stop(1),
    )
    yield from (workers.touch(1, [Sign(1, 1, 1)]), workers.aborting(1))
    yield from (workers.announce_idle(1), workers.withdraw_idle(1))
    yield from (versions.found(), versions.version(), versions.lock(), versions.create(), versions.drop())
    yield from (versions.read_committed(), versions.take_time())
    yield versions.record(migrations(schema)[0], 1)
    schedules, now = ScheduleStore(schema), datetime.now(UTC)
    columns = specify_schedule(ScheduleParams("m.f", cron="@daily"), JSONSerializer())
    yield from (schedules.clock(), schedules.due(["s"]), schedules.next_due(["s"]), schedules.move("s", now, now, None))
    yield from (schedules.get(), schedules.put(columns, owner=None, next_run_at=now, replaces=False))
    yield from (schedules.pause("s"), schedules.resume("s", now), schedules.delete("s"))
    yield schedules.unregistered("owner", ["s"])
    doctor = DoctorStore(schema)
    yield from (doctor.queued_page(Place()), doctor.unqueued_page(0), doctor.shapes([1]))
    yield doctor.opened(Shaped(Shape("m.f", False, True, None, None, None), 1, [1]), [1])
    yield from (doctor.server(), doctor.clock(), doctor.backend(), doctor.connections(), doctor.roll_call())
    yield from (doctor.is_migrated(), doctor.may_migrate(), doctor.lacking_rights(), doctor.indexes("elsewhere"))
    yield from (doctor.tables(), doctor.holders(1, 1), doctor.idlers(1), doctor.hidden_sessions(), doctor.overdue(1))
    yield from (SessionStore(schema).listen(), SessionStore(schema).ping("token"))
