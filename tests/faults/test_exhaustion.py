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
from tests.postgres import rows, running
from tests.workplace import Worker, workers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.faults.history.log import Log

SCHEMA = "exhausted"
ALL_CONNECTIONS, FOR_SUPERUSERS = 30, 3
HASTY = {"statement_timeout": "100ms", "lock_timeout": "100ms", "idle_in_transaction_session_timeout": "500ms"}
_THEIRS = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgwerk'"


async def test_a_server_without_connections_left_loses_nothing(log: Log, tmp_path: Path) -> None:
    recoveries = []
    with running(tmp_path / "server" / "data", f"max_connections={ALL_CONNECTIONS}") as server:
        dsn = _of_a_role(server.dsn)
        async with Werk(dsn, schema=SCHEMA) as app, Load(app, log, server.dsn) as load:
            with workers(2, dsn, SCHEMA, tmp_path / "log", *QUICK) as crew:
                for _ in range(ROUNDS):
                    recoveries.append(await load.recovery())
                    async with _stranger(dsn) as connections:
                        await until(partial(_has_all, connections, server.dsn), "nobody else has a connection")
                        with pytest.raises(ServerUnreachable, match="remaining connection slots"):
                            await Werk(dsn, schema=SCHEMA).connect()
                        await asyncio.sleep(load.chance.uniform(0.2, 1))
                recoveries.append(await load.recovery())
                await load.drained()
                assert [worker.stop() for worker in crew] == [0, 0]
        print(f"{ROUNDS} rounds, worst recovery {max(recoveries[1:]):.1f} s: {load.prove()}")
    assert max(recoveries[1:]) <= RECOVERED
    assert "Traceback" not in _text(crew)


async def test_a_server_in_a_hurry_loses_nothing(log: Log, tmp_path: Path) -> None:
    """The role has hardly any time for a statement, for a lock and for a transaction; and somebody holds locks."""
    with running(tmp_path / "server" / "data") as server:
        dsn = _of_a_role(server.dsn, **HASTY)
        async with Werk(dsn, schema=SCHEMA) as app, Load(app, log, server.dsn) as load:
            with workers(2, dsn, SCHEMA, tmp_path / "log", *QUICK) as crew:
                for _ in range(ROUNDS):
                    await load.recovery()
                    await _hold(server.dsn, load.chance.choice(["job", "finished", "active", "ready", "worker"]))
                await load.drained()
                assert [worker.stop() for worker in crew] == [0, 0]
        print(f"{ROUNDS} rounds: {load.prove()}")
    assert "failed" not in _text(crew)


async def _hold(dsn: str, table: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as stranger:
        await stranger.execute(sql.SQL("lock table {}").format(sql.Identifier(SCHEMA, table)))
        await asyncio.sleep(0.3)


def _of_a_role(dsn: str, **settings: str) -> str:
    """One that owns the schema and is no superuser, for whom connections are kept."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("create role worker login")
        connection.execute("grant create on database postgres to worker")
        for name, value in settings.items():
            connection.execute(sql.SQL("alter role worker set {} = {}").format(sql.Identifier(name), value))
    return make_conninfo(dsn, user="worker")


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
