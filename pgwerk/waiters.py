"""Waiting for jobs to end: by notification, with a poll behind it that is the guarantee."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import psycopg

from pgwerk.errors import JobNotFound, NotConnected, ServerUnreachable
from pgwerk.job import Job
from pgwerk.store.control import ControlStore
from pgwerk.store.session import SessionStore

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pgwerk.db import Database
    from pgwerk.serializers import Serializer
    from pgwerk.wire import Row, Session

POLL = 1.0  # seconds between two looks at everything that is waited for
POLL_POOLED = 0.2  # where a pooler stands in between and no notification can be heard
LINGER = 5.0  # seconds that the connection outlives its last waiter, as the next one is often near
MOST_HEARD = 100_000
ENDED = re.compile(r"ended (\d+)")


class Waiters:
    """Of one event loop: they share one connection that listens."""

    def __init__(self, database: Database, serializer: Serializer) -> None:
        self._database = database
        self._serializer = serializer
        self._control = ControlStore(database.schema)
        self._waiting: dict[int, list[asyncio.Future[Job]]] = defaultdict(list)
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._heard: set[int] = set()  # ends of jobs whose enqueue has not come back yet
        self._idle_since = time.monotonic()

    async def listen(self) -> None:
        """Returns when ends are heard: whatever is enqueued from now on cannot end unnoticed."""
        self._idle_since = time.monotonic()
        self._heard.clear()
        self._start()
        await self._listening.wait()

    def _start(self) -> None:
        if self._listener is None or self._listener.done():
            self._listening.clear()
            self._listener = asyncio.create_task(self._run())

    async def ended(self, ids: Sequence[int], *, watch_for: float | None = None) -> list[Job]:
        """The jobs as they ended, in order; `JobNotFound` for one that is gone.

        Jobs that were not enqueued as waited for are to be watched: for so many seconds their end is notified.
        """
        futures = [asyncio.get_running_loop().create_future() for _ in ids]
        for job_id, future in zip(ids, futures, strict=True):
            self._waiting[job_id].append(future)
        self._start()  # the enqueue may have outlasted the listener
        try:
            if watch_for is not None or not self._heard.isdisjoint(ids):
                await self._look(ids, watch_for)
            return list(await asyncio.gather(*futures))
        finally:
            for job_id, future in zip(ids, futures, strict=True):
                self._forget(job_id, future)

    async def _look(self, ids: Sequence[int], watch_for: float | None) -> None:
        """For what ended before anybody here had a name for it."""
        async with self._database.session() as session:
            if watch_for is not None:
                await session.transact(*[self._control.wait_for(job_id, watch_for) for job_id in ids])
            await self._collect(session, ids)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        self._listening.set()
        for future in [each for futures in self._waiting.values() for each in futures if not each.done()]:
            future.set_exception(NotConnected("the app was disconnected while a job was waited for; it goes on"))

    def _forget(self, job_id: int, future: asyncio.Future[Job]) -> None:
        future.cancel()
        if future in self._waiting.get(job_id, ()):
            self._waiting[job_id].remove(future)
        if not self._waiting.get(job_id, True):
            del self._waiting[job_id]
        self._idle_since = time.monotonic()

    async def _run(self) -> None:
        while self._waiting or time.monotonic() - self._idle_since < LINGER:
            try:
                await self._hear()
            except (ServerUnreachable, psycopg.Error):
                self._listening.set()  # deaf or not, the poll finds what has ended
                await asyncio.sleep(POLL)

    async def _hear(self) -> None:
        session = await self._database.keep()
        try:
            await session.single(SessionStore(self._database.schema).listen())
            self._listening.set()
            polled = time.monotonic()
            await self._collect(session, self._waiting)
            poll = POLL if session.is_own else POLL_POOLED
            while self._waiting or time.monotonic() - self._idle_since < LINGER:
                heard = await session.notifications(poll)
                ids = {int(match[1]) for text in heard if (match := ENDED.fullmatch(text))}
                self._heard |= ids - self._waiting.keys() if len(self._heard) < MOST_HEARD else set()
                await self._collect(session, ids & self._waiting.keys())
                if time.monotonic() - polled >= poll and self._waiting:
                    polled = time.monotonic()
                    await self._collect(session, self._waiting)
        finally:
            session.close()

    async def _collect(self, session: Session, candidates: Collection[int]) -> None:
        """Hands out those that have ended; whoever has read a job is no longer waited for."""
        if not candidates:
            return
        ended = await session.run(self._control.ended_of(list(candidates)))
        if not ended:
            return
        rows, _ = await session.transact(self._control.get_jobs(list(ended)), self._control.stop_waiting(list(ended)))
        found = {row["id"]: row for row in rows}
        for job_id in ended:
            for future in self._waiting.pop(job_id, []):
                self._answer(future, job_id, found.get(job_id))

    def _answer(self, future: asyncio.Future[Job], job_id: int, row: Row | None) -> None:
        """A result that cannot be read is the affair of whoever waits for it, and of nobody else."""
        if future.done():
            return
        if row is None:
            future.set_exception(JobNotFound(f"job {job_id} is gone; it was deleted while it was waited for"))
            return
        try:
            future.set_result(Job.from_row(row, self._serializer))
        except Exception as error:  # noqa: BLE001 - it reaches the caller
            future.set_exception(error)
