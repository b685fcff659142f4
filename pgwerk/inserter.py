"""How jobs are written: in a batch with others, alone, many at once, or in the caller's own transaction."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection

from pgwerk.batch import Batcher
from pgwerk.db import run_on
from pgwerk.errors import InvalidOption, InvalidType, KeyIsHeld, SchemaMissing
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.store.schema import SchemaStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.db import Database
    from pgwerk.params import Spec
    from pgwerk.store.enqueue import Inserted
    from pgwerk.wire import Call

BULK = 10_000  # specs in one statement


class Inserter:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = EnqueueStore(database.schema)
        self._batchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Batcher] = weakref.WeakKeyDictionary()
        self._checked: weakref.WeakSet[AsyncConnection[Any]] = weakref.WeakSet()

    async def insert(self, spec: Spec, connection: AsyncConnection[Any] | None = None) -> Inserted:
        (inserted,) = await self.insert_all([spec], connection)
        return inserted

    async def insert_all(self, specs: Sequence[Spec], connection: AsyncConnection[Any] | None = None) -> list[Inserted]:
        """In order, all or nothing. A single job goes with others that are under way, unless it has a key: that may
        have to wait for somebody's open transaction, and nobody else should.
        """
        if connection is not None:
            await self._check(connection)
            return [inserted for call in self._calls(specs, always=True) for inserted in await run_on(connection, call)]
        if len(specs) == 1 and specs[0].columns["key"] is None:
            return [await self._batcher().insert(specs[0])]
        return await self._insert_alone(specs) if specs else []

    async def close(self) -> None:
        batcher = self._batchers.pop(asyncio.get_running_loop(), None)
        if batcher is not None:
            await batcher.close()

    async def _insert_alone(self, specs: Sequence[Spec]) -> list[Inserted]:
        try:
            async with self._database.session() as session:
                pages = await session.transact(*self._calls(specs, always=False))
        except psycopg.errors.LockNotAvailable as error:
            words = "somebody's open transaction holds a key of these jobs; try again when it has ended"
            raise KeyIsHeld(words) from error
        return [inserted for page in pages for inserted in page]

    def _calls(self, specs: Sequence[Spec], *, always: bool) -> list[Call[list[Inserted]]]:
        pages = [specs[start : start + BULK] for start in range(0, len(specs), BULK)]
        return [self._store.enqueue([spec.columns for spec in page], always_notify=always) for page in pages]

    def _batcher(self) -> Batcher:
        return self._batchers.setdefault(asyncio.get_running_loop(), Batcher(self._database, self._store))

    async def _check(self, connection: AsyncConnection[Any]) -> None:
        """The schema is asked for once a connection: a statement that fails would spoil the caller's transaction."""
        if not isinstance(connection, AsyncConnection):
            raise InvalidType(f"_conn must be a psycopg AsyncConnection, got {connection!r:.80}")
        if connection.closed:
            raise InvalidOption("_conn is closed; give an open connection")
        if connection in self._checked:
            return
        if not (await run_on(connection, SchemaStore(self._database.schema).found())).migrated:
            raise SchemaMissing(
                f"the database of _conn has no schema {self._database.schema!r} of pgwerk; give a connection to the "
                f"app's own database"
            )
        self._checked.add(connection)
