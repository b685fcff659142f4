"""`werk doctor`: each fault is planted, found, and mended by what it says where that is a statement."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import closing, contextmanager
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

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.shell import Shell

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
    query(f"alter role {role} connection limit 3")
    found = await reaching.budget(patient_of(app, as_role(dsn, role)))
    assert found.verdict == FAILURE
    assert "2 are left to this role; 1 worker processes take 3" in found.found
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
    done = await mended(theirs, structure.rights, query)
    assert (done.verdict, "cannot migrate" in done.found) == (WARNING, True)
    again = await everything(theirs)
    assert again["functions"].verdict == OK
    assert "could not look: permission denied for database" in again["indexes"].found


async def test_a_role_that_cannot_migrate_is_told_by_whom(app: Werk, dsn: str, role: str, query: Any) -> None:
    schema, owner = app.config.schema, query("select current_user")[0][0]
    query(f"grant usage on schema {schema} to {role}")
    query(f"grant select on all tables in schema {schema} to {role}")
    query("delete from migration where version = (select max(version) from migration)")
    assert (await structure.schema(patient_of(app, as_role(dsn, role)))).mend == f"run werk migrate, as {owner}"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("drop index ready_group", "missing: ready_group"),
        ("alter table job drop constraint job_pkey", "missing: job_pkey"),
        ("update pg_index set indisvalid = false where indexrelid = 'job_key'::regclass", "not valid, and of no use"),
        ("drop index waiter_job; create index waiter_job on waiter (id)", "not as migrations make them: waiter_job"),
    ],
)
async def test_indexes_that_are_not_as_they_should_be(patient: Patient, query: Any, fault: str, words: str) -> None:
    assert (await structure.indexes(patient)).verdict == OK
    for statement in fault.split("; "):
        query(statement)
    assert words in (await structure.indexes(patient)).found
    assert (await mended(patient, structure.indexes, query)).verdict == OK
    assert query("select count(*) from pg_namespace where nspname like 'pgwerk_doctor%%'") == [(0,)]


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
            assert "pg_terminate_backend" in found.mend


async def test_sessions_that_a_role_may_not_see(app: Werk, dsn: str, role: str, query: Any) -> None:
    with snapshot(dsn, "hidden"):
        found = await upkeep.horizon(patient_of(app, as_role(dsn, role)))
        assert found.verdict == WARNING
        assert "sessions of other roles are hidden" in found.found
        query(found.mend)
        assert "hidden from it" not in (await upkeep.horizon(patient_of(app, as_role(dsn, role)))).found


async def test_what_else_holds_up_vacuum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prepared transaction, a replica that is gone, and a server that does not vacuum at all."""
    monkeypatch.setattr(upkeep, "LONG", 0.0)
    with running(tmp_path / "server", "max_prepared_transactions=5", "autovacuum=off") as server:
        async with Werk(server.dsn) as app:
            with psycopg.connect(server.dsn, autocommit=True) as connection:
                connection.execute("begin; create table t (); prepare transaction 'it''s left'")
                connection.execute("select pg_create_physical_replication_slot('gone', true)")
                standby = server.clone(tmp_path / "standby")
                standby._settings += (
                    "hot_standby_feedback=on",
                    "primary_slot_name=gone",
                    "wal_receiver_status_interval=1",
                )
                standby.start()
                slot = "select from pg_replication_slots where xmin is not null and active = %s"
                wait_until(lambda: connection.execute(slot, (True,)).fetchall(), "the standby holds the horizon")
                standby.stop("immediate")
                wait_until(lambda: connection.execute(slot, (False,)).fetchall(), "it is gone")
                patient = patient_of(app)
                found = await upkeep.horizon(patient)
                assert "prepared transaction 'it''s left' of werk since" in found.found
                assert "replication slot gone, which nobody reads" in found.found
                connection.execute(found.mend.encode())
                connection.execute((await upkeep.horizon(patient)).mend.encode())
                assert (await upkeep.horizon(patient)).verdict == OK
                assert "off for the whole server" in (await upkeep.autovacuum(patient)).found


async def test_workers_that_are_dead_or_silent(patient: Patient, query: Any) -> None:
    assert (await work.workers(patient)).found == "none is there"
    names = "insert into worker (name, kind, queues, concurrency, patience, state, ended_at) values"
    query(f"{names} ('crashed', 'w', '{{default}}', 1, 1, 'dead', now())")
    dead = await work.workers(patient)
    assert (dead.verdict, dead.found.endswith("their jobs were taken back: crashed")) == (WARNING, True)
    query(f"{names} ('silent', 'w', '{{default}}', 1, 0.3, 'alive', null)")
    silent = await work.workers(patient)
    assert (silent.verdict, "silent; 0 jobs are in their hands" in silent.found) == (FAILURE, True)


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


async def test_a_function_that_is_gone(app: Werk, patient: Patient) -> None:
    await app.enqueue("tests.handlers.square")  # without its argument: that is what werk check is for
    assert (await work.functions(patient)).verdict == OK
    await app.enqueue("tests.handlers.gone")
    found = await work.functions(patient)
    assert found.verdict == FAILURE
    assert "tests.handlers.gone (1 jobs)" in found.found
    assert found.mend.endswith("werk cancel --function tests.handlers.gone")


def test_the_command_says_it_to_programs_and_by_its_exit_code(shell: Shell) -> None:
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
    assert "no connection to Postgres at 127.0.0.1" in shell.refuses("doctor", "--dsn", NOWHERE)
    assert "no connection to Postgres at 127.0.0.1" in shell.refuses("doctor", "--json", "--dsn", NOWHERE)
