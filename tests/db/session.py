"""Sessions that a test steers by hand, with the real statements of the catalogue."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Self, TypeVar

from psycopg import AsyncConnection

from pgwerk.db import run_on
from pgwerk.sql import statements
from pgwerk.wire import Call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
# pg_locks is always of the moment; pg_stat_activity would be kept for the rest of the transaction
_WAITED_FOR = "select from pg_locks where not granted and pg_backend_pid() = any (pg_blocking_pids(pid))"
DEADLINE = 10.0  # seconds for a fact to come true


def framing(schema: str, name: str, **values: object) -> Call[None]:
    statement = statements(schema)[name]
    return Call(statement, statement.bind(values), lambda _: None)


class Party:
    """One side of a race: its transaction begins and ends when the test says so."""

    def __init__(self, connection: AsyncConnection[Any], schema: str) -> None:
        self.connection = connection
        self.schema = schema

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, dsn: str, schema: str) -> AsyncIterator[Self]:
        async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
            party = cls(connection, schema)
            await party.say(framing(schema, "pin", is_local=False, whole_tables="off"))
            yield party

    async def say(self, call: Call[T]) -> T:
        return await run_on(self.connection, call)

    async def begin(self) -> None:
        await self.connection.execute("begin")

    async def commit(self) -> None:
        await self.connection.execute("commit")

    async def rollback(self) -> None:
        await self.connection.execute("rollback")

    async def blocked_by(self, other: Party, call: Call[T]) -> asyncio.Task[T]:
        """Says it and returns once the server reports that it waits for the other one."""
        task = asyncio.create_task(self.say(call))
        await other.makes_wait(task)
        return task

    async def makes_wait(self, task: asyncio.Task[Any]) -> None:
        """Until a session, the one in which `task` speaks, waits for a lock of this one."""
        async with asyncio.timeout(DEADLINE):
            while not await self._is_waited_for():
                assert not task.done(), f"it did not wait: {task.result()!r}"

    async def _is_waited_for(self) -> bool:
        cursor = await self.connection.execute(_WAITED_FOR)
        return await cursor.fetchone() is not None
