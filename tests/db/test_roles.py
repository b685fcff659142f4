"""What a role or a database has set for itself changes nothing about the engine."""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import AsyncWorker, EnqueueParams, JobStatus, Retry, Werk
from pgwerk.db import Database
from pgwerk.sql import Statement
from pgwerk.wire import Call
from tests import handlers
from tests.db.race import misplaced
from tests.db.session import Party

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPATIENT = {"statement_timeout": "250ms", "lock_timeout": "100ms", "idle_in_transaction_session_timeout": "250ms"}
SETTINGS = [
    {"default_transaction_isolation": "repeatable read"},
    {"default_transaction_isolation": "serializable"},
    {"default_transaction_deferrable": "on"},
    IMPATIENT,
    {"client_encoding": "latin1"},
    {"search_path": "pg_catalog", "timezone": "Asia/Kathmandu", "datestyle": "German, DMY"},
    {"standard_conforming_strings": "off", "extra_float_digits": "-15", "bytea_output": "escape"},
    {"enable_indexscan": "off", "enable_nestloop": "off", "plan_cache_mode": "force_custom_plan"},
]
TEXT = "Grüße, Καλημέρα, 你好"


@pytest.fixture(params=SETTINGS, ids="-".join)
def role_dsn(request: pytest.FixtureRequest, own_dsn: str) -> Iterator[str]:
    """An ordinary role with settings of its own, which may make schemas in its database."""
    name = f"role_{secrets.token_hex(6)}"
    role = sql.Identifier(name)
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'secret'").format(role))
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("grant create on database {} to {}").format(database, role))
        for setting, value in request.param.items():
            connection.execute(
                sql.SQL("alter role {} set {} to {}").format(role, sql.Identifier(setting), sql.Literal(value))
            )
        yield make_conninfo(own_dsn, user=name, password="secret")  # noqa: S106
        connection.execute(sql.SQL("drop owned by {} cascade").format(role))
        connection.execute(sql.SQL("drop role {}").format(role))


async def test_a_role_with_settings_of_its_own_does_all_of_it(role_dsn: str, own_dsn: str) -> None:
    async with Werk(role_dsn) as app:
        await _do_all_of_it(app)
    with psycopg.connect(own_dsn, options="-c search_path=pgwerk") as connection:
        assert misplaced(lambda text: connection.execute(text).fetchall()) == []
        assert connection.execute("select payload->'args'->>0 from job where key = %s", (TEXT,)).fetchall() == [(TEXT,)]


async def _do_all_of_it(app: Werk) -> None:
    keyed = await app.enqueue(handlers.echo, TEXT, _key=TEXT)
    assert keyed is not None
    assert await app.enqueue(handlers.echo, TEXT, _key=TEXT) is None
    bulk = await app.enqueue_many([EnqueueParams(handlers.square, (3,), key=key) for key in ("a", TEXT, "b")])
    assert [job is not None for job in bulk] == [True, False, True]
    retried = await app.enqueue(handlers.fail_until, 2, _retry=Retry(2))
    later = await app.enqueue(handlers.noop, _delay=60)
    await AsyncWorker(app=app, burst=True).run()
    assert later is not None
    assert await app.cancel_job(later)
    assert (await app.get_job(keyed)).result == TEXT
    jobs = await app.list_jobs()
    assert {job.status for job in jobs} == {JobStatus.Complete, JobStatus.Aborted}
    assert retried is not None
    assert [each.status for each in await app.get_executions(retried)] == ["failed", "complete"]


OURS = {
    "default_transaction_isolation": "read committed",
    "statement_timeout": "20s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "20s",
    "idle_session_timeout": "0",
    "client_encoding": "UTF8",
}
THEIRS = {
    **IMPATIENT,
    "default_transaction_isolation": "serializable",
    "idle_session_timeout": "5s",
    "client_encoding": "latin1",
}


@pytest.mark.parametrize("setting", OURS)
async def test_a_session_that_is_kept_has_settings_of_its_own(own_dsn: str, setting: str) -> None:
    """An idle worker says nothing for seconds: whatever cuts off idle sessions would be an outage to it."""
    name = psycopg.conninfo.conninfo_to_dict(own_dsn)["dbname"]
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        for each, value in THEIRS.items():
            connection.execute(
                sql.SQL("alter database {} set {} to {}").format(
                    sql.Identifier(str(name)), sql.Identifier(each), sql.Literal(value)
                )
            )
    show = Statement("show", f"select current_setting('{setting}')", (), is_pinned=False)
    with contextlib.closing(await Database(own_dsn, "pgwerk").keep()) as session:
        found = await session.single(Call(show, (), lambda rows: rows[0]["current_setting"]))
    assert found == OURS[setting]


@pytest.fixture
def published(own_dsn: str) -> str:
    """A database all of whose tables are replicated: what cannot be identified there can be neither changed nor
    deleted."""
    with psycopg.connect(own_dsn, autocommit=True) as connection:
        connection.execute("create publication everything for all tables")
    return own_dsn


async def test_a_publication_of_all_tables_stands_in_nobodys_way(published: str) -> None:
    async with Werk(published) as app:
        await _do_all_of_it(app)


async def test_with_a_publication_of_all_tables_every_table_can_be_changed(published: str) -> None:
    async with Werk(published, schema="s") as app, Party.on(published, app.config.schema) as party:
        cursor = await party.connection.execute(
            "select c.relname, min(a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid"
            " where relnamespace = 's'::regnamespace and relkind = 'r' and attnum > 0 and attidentity = '' group by 1"
        )
        tables: list[tuple[Any, ...]] = await cursor.fetchall()
        assert len(tables) >= 10
        for table, column in tables:
            await party.connection.execute(
                sql.SQL("update s.{0} set {1} = {1}; delete from s.{0}").format(
                    sql.Identifier(table), sql.Identifier(column)
                )
            )
