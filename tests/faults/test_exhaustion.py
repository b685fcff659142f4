"""The server has no connections left, or no time for anybody, while jobs run and more come."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgwerk import Werk
from pgwerk.errors import ServerUnreachable
from tests.faults.load import QUICK, RECOVERED, ROUNDS, Load, until
from tests.postgres import rows
from tests.workplace import Worker, workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.faults.history.log import Log
    from tests.postgres import Postgres

ALL_CONNECTIONS, FOR_SUPERUSERS = 100, 3
HASTY = {"statement_timeout": "500ms", "lock_timeout": "500ms", "idle_in_transaction_session_timeout": "1s"}
HELD = 0.7  # seconds
_THEIRS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgwerk'"


async def test_a_server_without_connections_left_loses_nothing(
    postgres: Postgres, schema: str, log: Log, tmp_path: Path
) -> None:
    recoveries = []
    dsn = _of_a_role(postgres.dsn, schema)
    async with Werk(dsn, schema=schema) as app, Load(app, log, postgres.dsn) as load:
        with workers(2, dsn, schema, tmp_path / "log", *QUICK) as crew:
            await until(
                lambda: _text(crew).count(" runs up to ") == len(crew), "each worker has begun: none may lack a server"
            )
            for _ in range(ROUNDS):
                recoveries.append(await load.recovery())
                async with _stranger(dsn) as connections:
                    await until(partial(_has_all, connections, postgres.dsn), "nobody else has a connection")
                    with pytest.raises(ServerUnreachable, match="remaining connection slots"):
                        await Werk(dsn, schema=schema).connect()
                    await asyncio.sleep(load.chance.uniform(0.2, 1))
            recoveries.append(await load.recovery())
            await load.drained()
            assert [worker.stop() for worker in crew] == [0, 0]
    print(f"{ROUNDS} rounds, worst recovery {max(recoveries[1:]):.1f} s: {load.prove()}")
    assert max(recoveries[1:]) <= RECOVERED
    assert "Traceback" not in _text(crew)


async def test_a_server_in_a_hurry_loses_nothing(postgres: Postgres, schema: str, log: Log, tmp_path: Path) -> None:
    """The role has hardly any time for a statement, for a lock and for a transaction; and somebody holds locks."""
    dsn = _of_a_role(postgres.dsn, schema, **HASTY)
    async with Werk(dsn, schema=schema) as app, Load(app, log, postgres.dsn) as load:
        with workers(2, dsn, schema, tmp_path / "log", *QUICK) as crew:
            for _ in range(ROUNDS):
                await load.recovery()
                table = load.chance.choice(["job", "finished", "active", "ready", "worker"])
                async with await psycopg.AsyncConnection.connect(postgres.dsn) as stranger:
                    await stranger.execute(sql.SQL("lock table {}").format(sql.Identifier(schema, table)))
                    await asyncio.sleep(HELD)
            await load.drained()
            assert [worker.stop() for worker in crew] == [0, 0]
    print(f"{ROUNDS} rounds: {load.prove()}")
    assert "failed" not in _text(crew)


def _of_a_role(dsn: str, name: str, **settings: str) -> str:
    """One that owns the schema and is no superuser, for whom connections are kept."""
    role = sql.Identifier(name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login").format(role))
        connection.execute(sql.SQL("grant create on database postgres to {}").format(role))
        for setting, value in settings.items():
            connection.execute(sql.SQL("alter role {} set {} = {}").format(role, sql.Identifier(setting), value))
    return make_conninfo(dsn, user=name)


@contextlib.asynccontextmanager
async def _stranger(dsn: str) -> AsyncIterator[list[psycopg.AsyncConnection[Any]]]:
    """Takes every connection that there is."""
    connections: list[psycopg.AsyncConnection[Any]] = []

    async def take() -> None:
        while True:
            try:
                connections.append(await psycopg.AsyncConnection.connect(dsn))
            except psycopg.OperationalError:
                await asyncio.sleep(0.01)

    taking = asyncio.create_task(take())
    yield connections
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    for connection in connections:
        await connection.close()


def _has_all(connections: list[psycopg.AsyncConnection[Any]], dsn: str) -> bool:
    rows(dsn, _THEIRS)
    return len(connections) == ALL_CONNECTIONS - FOR_SUPERUSERS


def _text(crew: list[Worker]) -> str:
    return "".join(worker.log.read_text() for worker in crew)
