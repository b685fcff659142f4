"""How jobs are written: in a batch with others, alone, many at once, or in the caller's own transaction."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection

from pgwerk.batch import Batcher
from pgwerk.db import run_on
from pgwerk.ending import Endings
from pgwerk.errors import (
    InvalidOption,
    InvalidType,
    JobNotFound,
    KeyIsHeld,
    SchemaMissing,
    TableIsLocked,
    brief,
)
from pgwerk.job import Job, JobStatus
from pgwerk.specifying import is_plain, specify_all, specify_runs
from pgwerk.store.ending import EndingStore
from pgwerk.store.enqueue import EnqueueStore
from pgwerk.store.schema import SchemaStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pgwerk.allow import Allowed
    from pgwerk.db import Database
    from pgwerk.params import EnqueueParams
    from pgwerk.serializers import Serializer
    from pgwerk.specifying import Spec
    from pgwerk.store.enqueue import Inserted
    from pgwerk.wire import Call, Saying

PAGE = 1000  # jobs in one statement: while the server writes a page, the next is looked at and put into words
TRIES = 4  # again, if somebody else takes a key just then
BULK = 10_000  # … that have keys, which are taken in their order, or other things to be known of before


class Inserter:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = EnqueueStore(database.schema)
        self._endings = Endings(database.schema)
        # what runs on its loop keeps it, and nothing keeps the loop
        self._batchers: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, Batcher] = weakref.WeakValueDictionary()
        self._checked: weakref.WeakSet[AsyncConnection[Any]] = weakref.WeakSet()

    async def insert(self, spec: Spec, connection: AsyncConnection[Any] | None = None) -> Job | None:
        (job,) = await self.insert_all([spec], connection)
        return job

    async def insert_all(
        self, specs: Sequence[Spec], connection: AsyncConnection[Any] | None = None
    ) -> list[Job | None]:
        """In order, all or nothing. A single job goes with others that are under way, unless it has a key (that may
        have to wait for somebody's open transaction, and nobody else should) or depends on others.
        """
        if connection is not None:
            await self._check(connection)
            return await self._insert_on(connection, specs) if specs else []
        if not specs:
            return []
        if len(specs) == 1 and not {"key", "depends_on"} & specs[0].columns.keys():
            try:
                return [await self._batcher().insert(specs[0])]
            except psycopg.errors.LockNotAvailable as error:
                raise _locked(specs) from error
        return await self._write(self._calls(specs, always=False), specs)

    async def insert_many(
        self, params: Sequence[EnqueueParams], serializer: Serializer, allowed: Allowed = None
    ) -> list[Job | None]:
        """In order, all or nothing. Pages of plain jobs behind the first are looked at on the way: one that is refused
        takes back the transaction of those before it.
        """
        if len(params) <= 1 or not all(map(is_plain, params)):
            return await self.insert_all(specify_all(params, serializer, allowed))
        pages = [params[start : start + PAGE] for start in range(0, len(params), PAGE)]
        first, *others = [partial(self._specified, page, serializer, allowed) for page in pages]
        return await self._write([first(), *others])

    async def close(self) -> None:
        batcher = self._batchers.pop(asyncio.get_running_loop(), None)
        if batcher is not None:
            await batcher.close()

    async def _insert_on(self, connection: AsyncConnection[Any], specs: Sequence[Spec]) -> list[Job | None]:
        calls, is_tied = self._calls(specs, always=True), _are_tied_by_key(specs)

        async def write() -> list[Inserted]:
            async with connection.transaction() if is_tied or len(calls) > 1 else contextlib.nullcontext():
                return [await run_on(connection, call) for call in calls]

        jobs = _known(await (_insist(write) if is_tied else write()))
        if upstream := _upstream(specs):
            release = EndingStore(self._database.schema).release(upstream, always_notify=True)
            released = await run_on(connection, release)
            _promote(jobs, released.promoted)
        return jobs

    async def _write(self, calls: Sequence[Saying], specs: Sequence[Spec] = ()) -> list[Job | None]:
        """What a dependency's end could not see of it while it was being written is looked at once it is. `specs` are
        those of which anything had to be known before.
        """
        async with self._batcher().lend() as session:
            try:
                jobs = _known(await _insist(partial(session.transact, *calls)))
            except psycopg.errors.LockNotAvailable as error:
                raise _locked(specs) from error
            if upstream := _upstream(specs):
                released = await self._endings.release(session, upstream)
                _promote(jobs, released.promoted)
            return jobs

    def _calls(self, specs: Sequence[Spec], *, always: bool) -> list[Call[Inserted]]:
        """In pages, but for jobs that depend on others: these may name each other by their place in the call, and one
        that names a job that does not exist must keep all the others from being written.
        """
        size = len(specs) if any("depends_on" in spec.columns for spec in specs) else BULK
        pages = [specs[start : start + size] for start in range(0, len(specs), size)]
        return [self._store.enqueue(page, always_notify=always) for page in pages]

    def _specified(self, params: Sequence[EnqueueParams], serializer: Serializer, allowed: Allowed) -> Call[Inserted]:
        return self._store.enqueue_runs(specify_runs(params, serializer, allowed), always_notify=False)

    def _batcher(self) -> Batcher:
        return self._batchers.setdefault(asyncio.get_running_loop(), Batcher(self._database, self._store))

    async def _check(self, connection: AsyncConnection[Any]) -> None:
        """The schema is asked for once a connection: a statement that fails would spoil the caller's transaction."""
        if not isinstance(connection, AsyncConnection):
            raise InvalidType(f"_conn must be a psycopg AsyncConnection, got {brief(connection)}")
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


def _known(pages: Sequence[Inserted]) -> list[Job | None]:
    unknown = next((page.unknown for page in pages if page.unknown), None)
    if unknown:
        raise JobNotFound(f"_depends_on names job {unknown[0]}, which does not exist; nothing was enqueued")
    return [job for page in pages for job in page.jobs]


def _locked(specs: Sequence[Spec]) -> KeyIsHeld | TableIsLocked:
    if any("key" in spec.columns for spec in specs):
        return KeyIsHeld("somebody's open transaction holds a key of these jobs; try again when it has ended")
    return TableIsLocked("somebody's open transaction has locked a table of jobs; try again when it has ended")


async def _insist(write: Callable[[], Awaitable[list[Inserted]]]) -> list[Inserted]:
    """Again, where a job of the call depends on one whose key somebody took just then: only whoever comes again sees
    his (enqueue.sql).
    """
    for _ in range(TRIES):
        with contextlib.suppress(psycopg.errors.NotNullViolation):
            return await write()
    return await write()


def _are_tied_by_key(specs: Sequence[Spec]) -> bool:
    """One of them depends on another one that has a key."""
    named = {edge["on_place"] for spec in specs for edge in spec.columns.get("depends_on", ())} - {None}
    return any("key" in specs[place - 1].columns for place in named)


def _promote(jobs: Sequence[Job | None], promoted: Mapping[int, str]) -> None:
    """What they depend on had ended already."""
    for job in jobs:
        if job is not None and job.id in promoted:
            job.status = JobStatus(promoted[job.id])


def _upstream(specs: Sequence[Spec]) -> list[int]:
    """The jobs that were there before, and that these depend on."""
    edges = [edge for spec in specs for edge in spec.columns.get("depends_on", ())]
    return sorted({edge["on_id"] for edge in edges if edge["on_id"] is not None})
