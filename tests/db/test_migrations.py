"""Many at once, schemas with odd names, versions that do not fit, and rights that are few."""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import AsyncWorker, JobStatus, Werk, migrate
from pgwerk.db import Database
from pgwerk.errors import InvalidOption, SchemaError, SchemaMissing, SchemaTooNew, SchemaTooOld
from pgwerk.sql import Migration, migrations
from tests import handlers

if TYPE_CHECKING:
    from collections.abc import Iterator

KNOWN = migrations("pgwerk")[-1].version
ODD = [
    "with some spaces", "Capitals", "übergröße", "调度", "a.b", "a-b", "a$1", "100%s", "a--b", "select",
    "pgwerk pgwerk", "x" * 63, "{}", "a;b", ":worker_id", "a :worker_id b",
]  # fmt: skip
REFUSED = ["", "pg_temp", "\ud800", "x" * 64, "ü" * 32, 'a"b', "a'b", "a\\b", "a\nb", "a\0b"]
OPEN = """
import asyncio, sys
from pgwerk import Werk
async def main():
    async with Werk(sys.argv[1], schema=sys.argv[2]):
        print("connected")
asyncio.run(main())
"""


def newer(serves: int, text: str = "select 1") -> Migration:
    return Migration(KNOWN + 1, f"{KNOWN + 1:04}_newer", f"-- serves code from version {serves}\n{text}")


@pytest.fixture
def unborn(dsn: str, schema: str) -> Iterator[Database]:
    """The schema is not there yet."""
    yield Database(dsn, schema)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets this code know one migration more than there is."""

    def know(migration: Migration) -> None:
        monkeypatch.setattr(migrate, "migrations", lambda schema: (*migrations(schema), migration))

    return know


async def test_many_tasks_at_once_migrate_once(unborn: Database, query: Any, schema: str) -> None:
    done = await asyncio.gather(*(migrate.migrate(unborn) for _ in range(8)))
    assert sorted(map(len, done)) == [0] * 7 + [len(migrations(schema))]
    assert query("select version from migration order by 1") == [(each.version,) for each in migrations(schema)]


async def test_many_processes_at_once_migrate_once(unborn: Database, dsn: str, schema: str, query: Any) -> None:
    command = (sys.executable, "-c", OPEN, dsn, schema)
    processes = [await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(4)]
    said = [(await process.communicate())[0] for process in processes]
    assert said == [b"connected\n"] * 4
    assert query("select count(*) from migration") == [(len(migrations(schema)),)]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_many_at_once_migrate_once_whatever_the_default_isolation(
    unborn: Database, dsn: str, schema: str, isolation: str
) -> None:
    """The one that waited for the lock must not look with a snapshot from before."""
    strict = Database(
        make_conninfo(dsn, options=f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}"), schema
    )
    done = await asyncio.gather(*(migrate.migrate(strict) for _ in range(8)), return_exceptions=True)
    assert [each for each in done if isinstance(each, BaseException)] == []
    assert sorted(len(each) for each in done if isinstance(each, list)) == [0] * 7 + [len(migrations(schema))]


async def test_again_nothing_is_left_to_do(unborn: Database) -> None:
    assert await migrate.plan(unborn) == list(migrations(unborn.schema))
    assert await migrate.migrate(unborn) == list(migrations(unborn.schema))
    assert await migrate.plan(unborn) == []
    assert await migrate.migrate(unborn) == []
    await migrate.check(unborn)


@pytest.mark.parametrize("name", ODD)
async def test_a_schema_may_have_an_odd_name(own_dsn: str, name: str) -> None:
    async with Werk(own_dsn, schema=name) as app:
        job = await app.enqueue(handlers.square, 3)
        assert job is not None
        await AsyncWorker(app=app, burst=True).run()
        assert (await app.get_job(job)).result == 9
    with psycopg.connect(own_dsn) as connection:
        found = connection.execute(
            "select nspname from pg_namespace where nspname !~ '^(pg_|information_schema|public)'"
        )
        assert found.fetchall() == [(name,)]


@pytest.mark.parametrize("name", REFUSED)
def test_a_schemas_name_that_cannot_be_is_refused_at_once(dsn: str, name: str) -> None:
    with pytest.raises(InvalidOption, match="schema's name"):
        Werk(dsn, schema=name)


async def test_without_leave_to_migrate_a_missing_schema_is_named(dsn: str, schema: str) -> None:
    with pytest.raises(SchemaMissing, match=f"no schema '{schema}'.*werk migrate"):
        await Werk(dsn, schema=schema, auto_migrate=False).connect()


async def test_a_schema_of_somebody_else_counts_as_missing(unborn: Database, query: Any, schema: str) -> None:
    query(sql.SQL("create schema {}").format(sql.Identifier(schema)))
    with pytest.raises(SchemaMissing):
        await migrate.check(unborn)
    assert await migrate.migrate(unborn)


async def test_without_leave_to_migrate_an_old_schema_is_refused(
    app: Werk, dsn: str, schema: str, one_more: Any
) -> None:
    one_more(newer(1))
    with pytest.raises(SchemaTooOld, match=f"at version {KNOWN}, this pgwerk needs {KNOWN + 1}"):
        await Werk(dsn, schema=schema, auto_migrate=False).connect()
    async with Werk(dsn, schema=schema):
        assert await migrate.plan(app.database) == []


async def test_a_schema_whose_newest_record_is_gone_is_too_old(app: Werk, query: Any, one_more: Any) -> None:
    one_more(newer(1))
    await migrate.migrate(app.database)
    query("delete from migration where version > %s", KNOWN)
    with pytest.raises(SchemaTooOld):
        await migrate.check(app.database)


async def test_a_newer_schema_that_still_serves_this_code_is_taken(
    app: Werk, dsn: str, schema: str, query: Any
) -> None:
    query("insert into migration (version, name, serves) values (%s, 'newer', %s)", KNOWN + 5, KNOWN)
    async with Werk(dsn, schema=schema) as other:
        assert await other.enqueue(handlers.noop) is not None


async def test_a_newer_schema_that_no_longer_serves_this_code_is_refused(
    app: Werk, dsn: str, schema: str, query: Any
) -> None:
    query("insert into migration (version, name, serves) values (%s, 'newer', %s)", KNOWN + 5, KNOWN + 2)
    with pytest.raises(SchemaTooNew, match=f"version {KNOWN + 5} and serves code from version {KNOWN + 2} on"):
        await Werk(dsn, schema=schema).connect()


async def test_a_migration_that_fails_leaves_nothing_behind(app: Werk, query: Any, one_more: Any, schema: str) -> None:
    one_more(newer(1, f'create table "{schema}".half_done (id int); select 1 / 0'))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate.migrate(app.database)
    assert query("select max(version), to_regclass('half_done') from migration") == [(KNOWN, None)]


async def test_a_first_migration_that_fails_leaves_no_schema(
    unborn: Database, query: Any, one_more: Any, schema: str
) -> None:
    one_more(newer(1, "select 1 / 0"))
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate.migrate(unborn)
    assert query("select to_regnamespace(%s)", schema) == [(None,)]


@pytest.fixture
def owner_dsn(own_dsn: str, schema: str) -> Iterator[str]:
    """A role that owns its schema and may do nothing else: no superuser, no schemas of its own making."""
    name = f"owner_{secrets.token_hex(6)}"
    role = sql.Identifier(name)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute("revoke all on schema public from public")
        connection.execute(sql.SQL("create role {} login password 'secret'").format(role))
        connection.execute(sql.SQL("create schema {} authorization {}").format(sql.Identifier(schema), role))
        yield make_conninfo(own_dsn, user=name, password="secret")  # noqa: S106
        connection.execute(sql.SQL("drop owned by {} cascade").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


async def test_the_owner_of_a_schema_needs_no_other_right(owner_dsn: str, schema: str) -> None:
    with psycopg.connect(owner_dsn) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("create schema another")
    async with Werk(owner_dsn, schema=schema) as app:
        job = await app.enqueue(handlers.square, 3, _key="k")
        later = await app.enqueue(handlers.noop, _delay=60)
        assert job is not None
        assert later is not None
        await AsyncWorker(app=app, burst=True).run()
        assert (await app.get_job(job)).status == JobStatus.Complete
        assert await app.cancel_job(later)


@pytest.fixture
def stranger_dsn(own_dsn: str) -> Iterator[str]:
    """A role that has no rights but to connect."""
    name = f"stranger_{secrets.token_hex(6)}"
    role = sql.Identifier(name)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'secret'").format(role))
        yield make_conninfo(own_dsn, user=name, password="secret")  # noqa: S106
        connection.execute(sql.SQL("drop owned by {} cascade").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


async def test_a_role_that_cannot_migrate_is_told_what_it_lacks_and_who_can(
    own_dsn: str, stranger_dsn: str, schema: str, one_more: Any
) -> None:
    role = str(psycopg.conninfo.conninfo_to_dict(stranger_dsn)["user"])
    way_out = "run werk migrate as a role that may, and werk doctor to see what this one lacks"

    async def refused(lack: str, **options: Any) -> None:
        words = f"^the role '{role}' lacks a right that the schema '{schema}' needs: {lack}; {way_out}$"
        with pytest.raises(SchemaError, match=words):
            await Werk(stranger_dsn, schema=schema, **options).connect()

    await refused("permission denied for database .*")
    await migrate.migrate(Database(own_dsn, schema))
    for auto_migrate in (True, False):
        await refused(f"permission denied for schema {schema}", auto_migrate=auto_migrate)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        names = {"schema": sql.Identifier(schema), "role": sql.Identifier(role)}
        connection.execute(sql.SQL("grant usage on schema {schema} to {role}").format(**names))
        connection.execute(sql.SQL("grant select on all tables in schema {schema} to {role}").format(**names))
    await Werk(stranger_dsn, schema=schema).connect()
    one_more(newer(1, f'alter table "{schema}".job add more integer'))
    await refused("must be owner of table job")
