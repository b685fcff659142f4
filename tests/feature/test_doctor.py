"""`werk doctor`: each fault is planted, found, and mended by what it says where that is a statement."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import AsyncWorker, EnqueueParams, Werk
from pgwerk.db import Database
from pgwerk.doctor import CHECKS, Finding, Patient, Verdict, examine, name_of, reaching, structure, upkeep, work
from pgwerk.errors import ServerUnreachable
from pgwerk.sql import migrations
from tests.faults.test_pooler import Pooler, needs_pgbouncer
from tests.postgres import running, wait_until
from tests.shell import Shell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.postgres import Postgres

OK, WARNING, FAILURE = Verdict.Ok, Verdict.Warning, Verdict.Failure
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def patient_of(app: Werk, dsn: str | None = None) -> Patient:
    database = app.database if dsn is None else Database(dsn, app.config.schema)
    return Patient(database, app.config, app.serializer)


@pytest.fixture
def patient(app: Werk) -> Patient:
    return patient_of(app)


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """An ordinary one, that may do nothing yet."""
    name = f"role_{secrets.token_hex(6)}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'secret'").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("drop owned by {0} cascade").format(sql.Identifier(name)))
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


def as_role(dsn: str, role: str) -> str:
    return make_conninfo(dsn, user=role, password="secret")  # noqa: S106


async def everything(patient: Patient) -> dict[str, Finding]:
    return {name: finding async for name, finding in examine(patient)}


async def mended(patient: Patient, check: Any, query: Any) -> Finding:
    """After whatever it says has been done, as often as it says something."""
    finding: Finding = await check(patient)
    for _ in range(20):
        if finding.verdict != FAILURE:
            return finding
        for statement in finding.mend.split("; "):
            query(statement)
        finding = await check(patient)
    pytest.fail(f"it goes on: {finding}")


async def test_all_is_well_where_nothing_is_wrong(app: Werk, patient: Patient) -> None:
    await app.enqueue("tests.handlers.noop", _queue="other")
    worker = AsyncWorker(app, ["other"])
    running = asyncio.create_task(worker.run())
    while worker.id is None:
        await asyncio.sleep(0.01)
    found = await everything(patient)
    worker.stop()
    await running
    assert list(found) == [name_of(check) for check in CHECKS]
    strangers = {"bloat", "horizon", "idle sessions", "budget"}  # what other tests do on the server is theirs
    assert {name for name, each in found.items() if each.verdict != OK} <= strangers, found
    assert found["workers"].found == "1 are alive"


async def test_without_a_server_there_is_one_thing_to_say(app: Werk) -> None:
    with pytest.raises(ServerUnreachable, match="no connection to Postgres"):
        await everything(patient_of(app, NOWHERE))


async def test_a_server_that_takes_no_writes(app: Werk, dsn: str) -> None:
    standby = patient_of(app, make_conninfo(dsn, options="-c default_transaction_read_only=on"))
    assert (await reaching.connection(standby)).verdict == FAILURE


@needs_pgbouncer
@pytest.mark.parametrize(("mode", "verdict"), [("transaction", WARNING), ("session", OK)])
async def test_a_pooler_is_known_by_what_it_does(
    app: Werk, dsn: str, tmp_path: Path, mode: str, verdict: Verdict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaching, "PATIENCE", 1.0)
    with Pooler(dsn, tmp_path, mode) as pooler:
        behind = patient_of(app, pooler.dsn)
        found, heard = await reaching.pooler(behind), await reaching.notifications(behind)
        app.config = app.config.changed(listen=False)
        content = [await check(patient_of(app, pooler.dsn)) for check in (reaching.pooler, reaching.notifications)]
        rest = await everything(behind)
    assert (found.verdict, heard.verdict) == (verdict, verdict)
    assert f"{mode} mode" in found.found
    assert [each.verdict for each in content] == [OK, OK]
    assert not [each for each in rest.values() if "could not look" in each.found]


async def test_clocks_that_differ(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await reaching.clock(patient)).verdict == OK
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7)
    found = await reaching.clock(patient)
    assert found.verdict == WARNING
    assert found.found.startswith(("the server's is 6.9", "the server's is 7.0"))
    assert "behind this machine's" in found.found


async def test_a_role_that_may_have_few_connections(app: Werk, dsn: str, role: str, query: Any) -> None:
    schema = app.config.schema
    query(f"grant usage on schema {schema} to {role}")
    query(f"grant select on all tables in schema {schema} to {role}")
    query(f"alter role {role} connection limit 3")
    found = await reaching.budget(patient_of(app, as_role(dsn, role)))
    assert found.verdict == FAILURE
    assert "2 are left to this role; 1 worker processes that do not run yet take 3" in found.found
    query("insert into worker (name, kind, queues, concurrency, patience) values ('w', 'w', '{q}', 1, 99)")
    assert (await reaching.budget(patient_of(app, as_role(dsn, role)))).verdict == WARNING
    query(f"alter role {role} connection limit 8")
    assert (await reaching.budget(patient_of(app, as_role(dsn, role)))).verdict == WARNING


async def test_a_schema_that_is_missing_old_or_too_new(patient: Patient, dsn: str, query: Any, app: Werk) -> None:
    latest = migrations("pgwerk")[-1].version
    query("insert into migration (version, name, serves) values (%s, 'next', 1)", latest + 1)
    assert (await structure.schema(patient)).found.endswith(f"newer than this pgwerk ({latest}), which it serves")
    query("update migration set serves = version where name = 'next'")
    too_new = await structure.schema(patient)
    assert (too_new.verdict, too_new.mend) == (FAILURE, "upgrade pgwerk")
    query("delete from migration where version >= %s", latest)
    too_old = await structure.schema(patient)
    assert (too_old.verdict, too_old.mend) == (FAILURE, "run werk migrate")
    nowhere = Patient(Database(dsn, "nowhere"), app.config, app.serializer)
    found = await everything(nowhere)
    assert (list(found)[-1], found["schema"].verdict, found["schema"].mend) == ("schema", FAILURE, "run werk migrate")


async def test_rights_that_are_lacking_are_named_until_none_is(app: Werk, dsn: str, role: str, query: Any) -> None:
    theirs = patient_of(app, as_role(dsn, role))
    found = await everything(theirs)
    assert list(found) == [name_of(check) for check in CHECKS]
    assert found["rights"].verdict == FAILURE
    assert "usage on the schema" in found["rights"].found
    blind = [name for name, each in found.items() if "could not look: permission denied" in each.found]
    assert {"schema", "queues", "workers", "functions"} <= set(blind)
    assert {found[name].mend for name in blind} == {"see rights"}
    done = await mended(theirs, structure.rights, query)
    assert (done.verdict, "cannot migrate" in done.found) == (WARNING, True)
    again = await everything(theirs)
    assert again["functions"].verdict == OK
    assert (again["indexes"].verdict, "may not make the schema to compare" in again["indexes"].found) == (WARNING, True)
    query(again["indexes"].mend.partition(", or ")[2])
    assert (await structure.indexes(theirs)).verdict == OK


async def test_a_role_that_cannot_migrate_is_told_by_whom(app: Werk, dsn: str, role: str, query: Any) -> None:
    schema, owner = app.config.schema, query("select current_user")[0][0]
    query(f"grant usage on schema {schema} to {role}")
    query(f"grant select on all tables in schema {schema} to {role}")
    query("delete from migration where version = (select max(version) from migration)")
    assert (await structure.schema(patient_of(app, as_role(dsn, role)))).mend == f"run werk migrate, as {owner}"
    query("insert into migration (version, name, serves) values (99, 'next', 99)")
    assert (await structure.schema(patient_of(app, as_role(dsn, role)))).mend == "upgrade pgwerk"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("drop index ready_group", "missing: ready_group"),
        ("alter table job drop constraint job_pkey", "missing: job_pkey"),
        ("update pg_index set indisvalid = false where indexrelid = 'job_key'::regclass", "not valid, and of no use"),
        ("drop index waiter_job; create index waiter_job on waiter (id)", "not as migrations make them: waiter_job"),
        ("drop index ready_scan", "missing: ready_scan"),
        (
            "drop index ready_scan; create unique index ready_scan on ready (priority, queue, seq)",
            "not as migrations make them: ready_scan",
        ),
        (
            "alter table job drop constraint job_pkey; create unique index job_pkey on job (id)",
            "not as migrations make them: job_pkey",
        ),
        (
            "alter table job drop constraint job_pkey; alter table job add constraint job_pkey primary key (id, queue)",
            "not as migrations make them: job_pkey",
        ),
    ],
)
async def test_indexes_that_are_not_as_they_should_be(patient: Patient, query: Any, fault: str, words: str) -> None:
    assert (await structure.indexes(patient)).verdict == OK
    for statement in fault.split("; "):
        query(statement)
    assert words in (await structure.indexes(patient)).found
    assert (await mended(patient, structure.indexes, query)).verdict == OK
    assert query("select count(*) from pg_namespace where nspname like 'pgwerk_doctor%%'") == [(0,)]
    identity = "select indexrelid::regclass::text from pg_index where indrelid = 'ready'::regclass and indisreplident"
    assert query(identity) == [("ready_scan",)]
    primary = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'job'::regclass and contype = 'p'"
    assert query(primary) == [("PRIMARY KEY (id)",)]


async def test_an_index_is_made_anew_without_a_moment_that_lacks_it(patient: Patient, query: Any) -> None:
    query("drop index active_group")
    query("create unique index active_group on active (group_key) where group_key <> ''")
    for statement in (await structure.indexes(patient)).mend.split("; "):
        query(statement)
        with pytest.raises(psycopg.errors.UniqueViolation):
            query(
                "insert into active (job_id, worker_id, claim_no, attempt, group_key) select n, 1, 1, 1, 'g'"
                " from generate_series(1, 2) n"
            )
    assert (await structure.indexes(patient)).verdict == OK


async def test_how_an_index_is_stored_is_its_owners_choice(patient: Patient, query: Any) -> None:
    query("alter index job_pkey set (fillfactor = 90)")
    query("alter index job_key set (fillfactor = 90)")
    assert (await structure.indexes(patient)).verdict == OK


async def test_an_index_that_a_reindex_left_behind(patient: Patient, query: Any) -> None:
    query("create index waiter_job_ccnew1 on waiter (job_id)")
    query("update pg_index set indisvalid = false where indexrelid = 'waiter_job_ccnew1'::regclass")
    found = await structure.indexes(patient)
    assert (found.verdict, "left behind" in found.found) == (WARNING, True)
    query(found.mend)
    assert query("select to_regclass('waiter_job_ccnew1')") == [(None,)]
    assert (await structure.indexes(patient)).verdict == OK


async def come(query: Any, fact: str) -> None:
    for _ in range(2000):
        if query(fact):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"never: {fact}")


@asynccontextmanager
async def under_way(app: Werk, query: Any, fact: str, *statements: str) -> AsyncIterator[None]:
    """The last of them is being done by a session of its own, until it is cancelled."""
    async with app.database.loan() as session:
        await session.execute(f"set search_path to {app.config.schema}".encode())
        for statement in statements[:-1]:
            await session.execute(statement.encode())
        doing = asyncio.create_task(session.execute(statements[-1].encode()))
        try:
            await come(query, f"{fact} and pid = {session.info.backend_pid}")
            yield
        finally:
            query(f"select pg_cancel_backend({session.info.backend_pid})")
            with pytest.raises(psycopg.errors.QueryCanceled):
                await doing


async def test_an_index_that_somebody_is_building(app: Werk, dsn: str, patient: Patient, query: Any) -> None:
    busy = "select 1 from pg_stat_progress_create_index where phase like 'waiting for writers%'"
    with closing(psycopg.connect(dsn)) as writer:
        writer.execute(sql.SQL("lock {}.waiter in row exclusive mode").format(sql.Identifier(app.config.schema)))
        async with under_way(app, query, busy, "create index concurrently extra on waiter (until)"):
            found = await structure.indexes(patient)
            assert (found.verdict, found.found.endswith("somebody is building extra")) == (OK, True)
        assert "not valid, and of no use: extra" in (await structure.indexes(patient)).found


async def test_a_hot_statement_that_reads_a_table_as_a_whole(app: Werk, patient: Patient, query: Any) -> None:
    await app.enqueue_many([EnqueueParams("m.f", queue="q") for _ in range(9000)])
    query(
        "insert into ready (queue, priority, seq, job_id, attempt)"
        " select 'r', 0, n, n, 1 from generate_series(1, 20000) n"
    )
    assert (await structure.plans(patient)).verdict == OK
    query("alter table job drop constraint job_pkey")
    query("drop index ready_scan")
    found = await structure.plans(patient)
    assert found.verdict == FAILURE
    assert "MB of job" in found.found
    assert "MB of ready" in found.found


async def test_a_table_that_is_not_vacuumed(patient: Patient, query: Any) -> None:
    query("alter table ready set (autovacuum_enabled = off)")
    assert "it is off for ready" in (await upkeep.autovacuum(patient)).found
    assert (await mended(patient, upkeep.autovacuum, query)).verdict == OK


async def test_dead_rows_that_stay(patient: Patient, query: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MANY", 100)
    query("alter table waiter set (autovacuum_enabled = off, autovacuum_vacuum_threshold = 10)")
    query("insert into waiter (job_id, until) select n, now() from generate_series(1, 1000) n")
    query("delete from waiter")
    for _ in range(2000):
        found = await upkeep.bloat(patient)
        if found.verdict == WARNING:
            break
        query("select 1")  # before Postgres 15 a session at rest keeps its counts to itself
        await asyncio.sleep(0.02)
    assert "waiter has 1000 dead rows and 0 living; vacuum should have come at 10" in found.found
    assert found.mend.endswith('."waiter"')


@contextmanager
def snapshot(dsn: str, name: str) -> Iterator[None]:
    with closing(psycopg.connect(make_conninfo(dsn, application_name=name))) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("select txid_current()")
        yield


async def test_an_old_snapshot(patient: Patient, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with snapshot(dsn, "a nightly report"):
        monkeypatch.setattr(upkeep, "LONG", 3600.0)
        assert "a nightly report" not in (await upkeep.horizon(patient)).found
        monkeypatch.setattr(upkeep, "LONG", 0.0)
        monkeypatch.setattr(upkeep, "IDLE", 0.0)
        held, idle = await upkeep.horizon(patient), await upkeep.idle_sessions(patient)
        for found in (held, idle):
            assert found.verdict == WARNING
            assert "(a nightly report" in found.found
            assert found.mend.startswith("if it may end: select pg_terminate_backend(")


async def test_a_vacuum_holds_up_no_other(
    app: Werk, patient: Patient, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LONG", 0.0)
    await app.enqueue_many([EnqueueParams("m.f", [n]) for n in range(9000)])
    slow = ("set vacuum_cost_delay = 100", "set vacuum_cost_limit = 1", "set application_name = slow", "vacuum job")
    busy = "select 1 from pg_stat_activity join pg_stat_progress_vacuum using (pid) where backend_xmin is not null"
    async with under_way(app, query, busy, *slow):
        assert "(slow, " not in (await upkeep.horizon(patient)).found


async def test_sessions_that_a_role_may_not_see(app: Werk, dsn: str, role: str, query: Any) -> None:
    with snapshot(dsn, "hidden"):
        found = await upkeep.horizon(patient_of(app, as_role(dsn, role)))
        assert found.verdict == WARNING
        assert "sessions of other roles are hidden" in found.found
        query(found.mend)
        assert "hidden from it" not in (await upkeep.horizon(patient_of(app, as_role(dsn, role)))).found


def statement_in(mend: str) -> bytes:
    """Behind the condition under which it may be said."""
    condition, _, statement = mend.partition(": ")
    assert condition.startswith("if ")
    return statement.encode()


async def test_a_prepared_transaction_and_a_server_that_does_not_vacuum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LONG", 0.0)
    with running(tmp_path / "server", "max_prepared_transactions=5", "autovacuum=off") as server:
        async with Werk(server.dsn) as app:
            patient = patient_of(app)
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("begin; create table t (); prepare transaction 'it''s left'")
                found = await upkeep.horizon(patient)
                assert "prepared transaction 'it''s left' of werk since" in found.found
                connection.execute(statement_in(found.mend))
            assert (await upkeep.horizon(patient)).verdict == OK
            assert "off for the whole server" in (await upkeep.autovacuum(patient)).found


async def test_a_standby_with_an_old_query_or_one_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "OLD", 3)
    with running(tmp_path / "server") as server:
        async with Werk(server.dsn) as app:
            patient = patient_of(app)
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("select pg_create_physical_replication_slot('kept', true)")
                with standby_of(server, tmp_path / "one") as standby:
                    walsender = (
                        "select from pg_stat_activity where backend_type = 'walsender' and age(backend_xmin) > 3"
                    )
                    alone = await held_up(patient, connection, standby, walsender)
                    await assert_that_walsenders_are_hidden(patient, connection)
                with standby_of(server, tmp_path / "two", "primary_slot_name=kept") as standby:
                    slot = "select from pg_replication_slots where active and age(xmin) > 3"
                    with_a_slot = await held_up(patient, connection, standby, slot)
                assert "standby walreceiver for" in alone.found
                assert "replication slot kept for" in with_a_slot.found
                for found in (alone, with_a_slot):
                    assert found.mend == "end the old query on the standby, or set hot_standby_feedback = off there"
                waits_for(connection, "select from pg_replication_slots where not active")
                gone = await upkeep.horizon(patient)
                monkeypatch.setattr(upkeep, "OLD", 1000)  # it may as well be starting again
                assert (await upkeep.horizon(patient)).verdict == OK
                monkeypatch.setattr(upkeep, "OLD", 3)
                assert "replication slot kept, which nobody reads, for" in gone.found
                connection.execute(statement_in(gone.mend))
                assert (await upkeep.horizon(patient)).verdict == OK


@contextmanager
def standby_of(server: Postgres, folder: Path, *settings: str) -> Iterator[Postgres]:
    standby = server.clone(folder)
    standby._settings += ("hot_standby_feedback=on", "wal_receiver_status_interval=1", *settings)
    standby.start()
    try:
        yield standby
    finally:
        standby.stop("immediate")


async def held_up(patient: Patient, connection: psycopg.Connection[Any], standby: Postgres, as_seen_in: str) -> Finding:
    """What is found while a snapshot on the standby is some transactions old."""
    with closing(psycopg.connect(standby.dsn)) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("select 1")
        for _ in range(5):
            connection.execute("select txid_current()")
        waits_for(connection, as_seen_in)
        return await upkeep.horizon(patient)


def waits_for(connection: psycopg.Connection[Any], fact: str) -> None:
    wait_until(lambda: connection.execute(fact.encode()).fetchall(), fact)


async def assert_that_walsenders_are_hidden(patient: Patient, connection: psycopg.Connection[Any]) -> None:
    """From a role that may not look at the sessions of others."""
    connection.execute("create role plain login")
    dsn = make_conninfo(patient.database.dsn, user="plain")
    hidden = await replace(patient, database=Database(dsn, "pgwerk")).ask(patient.store.hidden_sessions())
    others = "usename <> 'plain' and (datname = 'postgres' or backend_type = 'walsender')"
    assert (hidden,) == connection.execute(f"select count(*) from pg_stat_activity where {others}".encode()).fetchone()


async def test_workers_that_are_dead_or_silent(patient: Patient, query: Any) -> None:
    assert (await work.workers(patient)).found == "none is there"
    names = "insert into worker (name, kind, queues, concurrency, patience, state, ended_at) values"
    query(f"{names} ('crashed', 'w', '{{default}}', 1, 1, 'dead', now())")
    dead = await work.workers(patient)
    assert (dead.verdict, dead.found.endswith("their jobs were taken back: crashed")) == (WARNING, True)
    query(f"{names} ('silent', 'w', '{{default}}', 1, 0.3, 'alive', null)")
    silent = await work.workers(patient)
    assert (silent.verdict, "silent; 0 jobs are in their hands" in silent.found) == (FAILURE, True)


async def test_a_worker_with_whom_others_are_patient(
    patient: Patient, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LONGEST", 0.3)
    query("insert into worker (name, kind, queues, concurrency, patience) values ('slow', 'w', '{q}', 1, 86400)")
    found = await work.workers(patient)
    assert (found.verdict, found.found) == (WARNING, "not proven to be alive within 0 s: slow")
    assert found.mend == "look again; others wait 86400 s for their next beat"


async def test_a_queue_that_nobody_looks_after(app: Werk, patient: Patient, query: Any) -> None:
    await app.enqueue("m.f", _queue="due", _delay=60)
    assert (await work.queues(patient)).verdict == OK
    query("update scheduled set due = now() - interval '1 minute'")
    await app.enqueue("m.f", _queue="forgotten")
    found = await work.queues(patient)
    assert found.found == "no live worker takes jobs from 'due' (1 jobs), 'forgotten' (1 jobs)"
    assert found.mend == "werk worker APP --queues due,forgotten"
    query("insert into worker (name, kind, queues, concurrency, patience) values ('w', 'w', '{due,forgotten}', 1, 99)")
    assert (await work.queues(patient)).verdict == OK
    query("insert into pause (queue, paused_at) values ('due', now()), ('forgotten', null)")
    paused = await work.queues(patient)
    assert (paused.verdict, paused.found) == (WARNING, "paused: 'due' (1 jobs)")
    assert paused.mend == "werk queues resume due"
    await app.enqueue("m.f", _queue="a:3")
    found = await work.queues(patient)
    assert found.found == "no live worker takes jobs from 'a:3' (1 jobs); paused: 'due' (1 jobs)"
    assert found.mend == "werk worker APP --queues a:3:1"
    await app.enqueue("m.f", _queue="x,y")
    assert (await work.queues(patient)).mend == "AsyncWorker(app, queues=['a:3', 'x,y'])"


async def test_a_queue_is_not_counted_to_its_end(app: Werk, patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MOST_COUNTED", 3)
    await app.enqueue_many([EnqueueParams("m.f", queue="every day") for _ in range(5)])
    found = await work.queues(patient)
    assert found.found == "no live worker takes jobs from 'every day' (3+ jobs)"
    assert found.mend == "werk worker APP --queues 'every day'"


async def test_a_function_that_is_gone(app: Werk, patient: Patient) -> None:
    await app.enqueue("tests.handlers.square")  # without its argument: that is what werk check is for
    assert (await work.functions(patient)).verdict == OK
    await app.enqueue("tests.handlers.gone")
    found = await work.functions(patient)
    assert found.verdict == FAILURE
    assert "tests.handlers.gone (1 jobs)" in found.found
    assert found.mend.endswith("werk cancel --function tests.handlers.gone")
    unnamed = await work.functions(replace(patient, is_app_known=False))
    assert (unnamed.verdict, unnamed.mend.startswith("name the app with -a")) == (WARNING, True)


async def test_a_function_that_is_gone_and_called_otherwise(app: Werk, patient: Patient) -> None:
    await app.create_schedule("m.nightly", name="every night", interval=3600)
    scheduled = await work.functions(patient)
    assert "not found from here: m.nightly (scheduled as 'every night'); " in scheduled.found
    assert scheduled.mend == "deploy the code that has it, or werk schedules delete 'every night'"
    await app.enqueue("tests.handlers.noop", _on_failure="m.told")
    called_back = await work.functions(patient)
    assert "not found from here: m.told (called back by 1 jobs), m.nightly (" in called_back.found
    assert called_back.mend == "deploy the code that has it"


def test_the_command_says_it_to_programs_and_by_its_exit_code(own_dsn: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path, own_dsn)
    ran = shell.run("doctor", "--json")
    (*_, last) = json.loads(ran.stdout)
    assert (ran.returncode, last["check"], last["verdict"], last["mend"]) == (
        1,
        "schema",
        "failure",
        "run werk migrate",
    )
    shell.says("migrate")
    lines = shell.says("doctor").splitlines()
    assert [line[:24].rstrip() for line in lines[-3:]] == ["ok       workers", "ok       queues", "ok       functions"]
    shell.says("enqueue", "m.f", "--queue", "q")
    ran = shell.run("doctor")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert "\nfailure  queues         no live worker takes jobs from 'q' (1 jobs)\n" in ran.stdout
    assert f"\n{'':24}werk worker APP --queues q\n" in ran.stdout
    assert "\nwarning  functions      not found from here: m.f (1 jobs)" in ran.stdout
    (shell.folder / "shop.py").write_text("from pgwerk import Werk\n\napp = Werk()\n")
    assert "\nfailure  functions " in shell.run("doctor", "-a", "shop:app").stdout
    assert "no connection to Postgres at 127.0.0.1" in shell.refuses("doctor", "--dsn", NOWHERE)
    assert "no connection to Postgres at 127.0.0.1" in shell.refuses("doctor", "--json", "--dsn", NOWHERE)
