"""Brings the schema up to date: numbered files, forward only, under a lock, all or nothing."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgwerk.db import run_on
from pgwerk.errors import InvalidOption, SchemaError, SchemaMissing, SchemaTooNew, SchemaTooOld, one_line
from pgwerk.sql import Migration, migrations
from pgwerk.store.schema import SchemaStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from psycopg import AsyncConnection

    from pgwerk.db import Database
    from pgwerk.wire import Call

T = TypeVar("T")

_SERVES = re.compile(r"^-- serves code from version (\d+)$", re.MULTILINE)


async def plan(database: Database) -> list[Migration]:
    """The migrations that the database still lacks."""
    async with database.loan() as connection:
        return await _missing(connection, SchemaStore(database.schema))


async def migrate(database: Database) -> list[Migration]:
    """Runs what is missing and returns it. Many processes at once are fine: one does the work, the others wait."""
    if not await plan(database):
        return []
    store = SchemaStore(database.schema)
    async with database.loan() as connection, connection.transaction():
        await run_on(connection, store.read_committed())
        await run_on(connection, store.take_time())
        await run_on(connection, store.lock())
        missing = await _missing(connection, store)
        if missing and not (await run_on(connection, store.found())).schema:
            await run_on(connection, store.create())
        for migration in missing:
            await connection.execute(migration.text.encode())
            await run_on(connection, store.record(migration, _serves(migration)))
    return missing


@contextlib.asynccontextmanager
async def temporary(database: Database) -> AsyncIterator[None]:
    """The schema is there for as long as this lasts, with all that is in it. One that was there before is refused."""
    store = SchemaStore(database.schema)
    async with database.session() as session:
        found = await session.run(store.found())
    if found.schema:
        raise InvalidOption(
            f"there is a schema {database.schema!r} already: another one runs, or was killed before it could tidy up; "
            f'drop schema "{database.schema}" cascade'
        )
    await migrate(database)
    try:
        yield
    finally:
        async with database.session() as session:
            await session.run(store.drop())


async def rehearse(database: Database, schema: str, question: Call[T]) -> T:
    """The answer beside a new schema with all migrations; nobody else ever sees it, it is rolled back."""
    async with database.loan() as connection, connection.transaction(force_rollback=True):
        await run_on(connection, SchemaStore(schema).create())
        for migration in migrations(schema):
            await connection.execute(migration.text.encode())
        return await run_on(connection, question)


async def version(database: Database) -> int:
    """0: there is no schema yet."""
    async with database.loan() as connection:
        found, _ = await _version(connection, SchemaStore(database.schema))
    return found


async def check(database: Database) -> None:
    """Refuses a database whose schema this version cannot work with."""
    schema, known = database.schema, migrations(database.schema)[-1].version
    async with database.loan() as connection:
        version, serves = await _version(connection, SchemaStore(schema))
    if version == 0:
        raise SchemaMissing(f"the database has no schema {schema!r} of pgwerk yet; run werk migrate")
    if version < known:
        raise SchemaTooOld(
            f"the schema {schema!r} is at version {version}, this pgwerk needs {known}; run werk migrate"
        )
    if serves > known:
        raise SchemaTooNew(
            f"the schema {schema!r} is at version {version} and serves code from version {serves} on, this pgwerk is "
            f"of version {known}; upgrade pgwerk"
        )


async def prepare(database: Database, *, migrates: bool) -> None:
    """For an app that connects: the schema is there and fits this code."""
    try:
        if migrates:
            await migrate(database)
        await check(database)
    except psycopg.errors.InsufficientPrivilege as error:
        async with database.loan() as connection:
            role = connection.info.user
        raise SchemaError(
            f"the role {role!r} lacks a right that the schema {database.schema!r} needs: {one_line(error)}; run werk "
            f"migrate as a role that may, and werk doctor to see what this one lacks"
        ) from error


async def _missing(connection: AsyncConnection[Any], store: SchemaStore) -> list[Migration]:
    version, _ = await _version(connection, store)
    return [migration for migration in migrations(store.schema) if migration.version > version]


async def _version(connection: AsyncConnection[Any], store: SchemaStore) -> tuple[int, int]:
    """The schema's version and the oldest that it serves; (0, 0) where there is none."""
    if not (await run_on(connection, store.found())).migrated:
        return 0, 0
    return await run_on(connection, store.version())


def _serves(migration: Migration) -> int:
    found = _SERVES.search(migration.text)
    if found is None:
        raise AssertionError(f"{migration.name} does not say which code it serves")
    return int(found[1])
