"""A real Postgres for every run: the tests bring up their own, or take the one in PGWERK_TEST_DSN."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import Werk, WerkConfig, embedded
from pgwerk.db import Database
from pgwerk.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c() -> None:
    """A shell's background ignores it, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The DSN of a server on which this run may make databases and roles."""
    given = os.environ.get("PGWERK_TEST_DSN")
    if given:
        yield given
        return
    own = embedded.start(tmp_path_factory.mktemp("postgres"), durable=False)
    yield own.dsn
    own.close()


@pytest.fixture(scope="session")
def dsn(server: str) -> Iterator[str]:
    """One database for the run; each test has a schema of its own in it."""
    yield from _database(server)


@pytest.fixture
def own_dsn(server: str) -> Iterator[str]:
    """A database for this test alone, for what is not a schema's own affair."""
    yield from _database(server)


@pytest.fixture
def migrated_dsn(own_dsn: str) -> str:
    """The same, with the schema that commands look for."""
    asyncio.run(migrate(Database(own_dsn, WerkConfig().schema)))
    return own_dsn


@pytest.fixture
def schema() -> str:
    return f"test_{secrets.token_hex(6)}"


@pytest.fixture
async def app(dsn: str, schema: str) -> AsyncIterator[Werk]:
    """Connected, in a schema that is gone after the test."""
    async with Werk(dsn, schema=schema) as connected:
        yield connected
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))


@pytest.fixture
def database(app: Werk) -> Database:
    return app.database


@pytest.fixture
def query(dsn: str, schema: str) -> Iterator[Any]:
    """`query("select … from job")`: rows as tuples, with the test's schema in the search path, each in its own
    transaction."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))

        def run(text: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(text, values or None)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def port() -> int:
    """Free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    return number


def _database(server: str) -> Iterator[str]:
    name = f"pgwerk_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield make_conninfo(server, dbname=name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
