"""Waiting for jobs to end: by notification, with a poll behind it that is the guarantee."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from pgwerk.errors import JobNotFound, NotConnected, ServerUnreachable, WerkError
from pgwerk.job import Job
from pgwerk.store.control import ControlStore
from pgwerk.store.session import SessionStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from pgwerk.db import Database
    from pgwerk.serializers import Serializer
    from pgwerk.wire import Row, Session

POLL = 1.0  # seconds between two looks at everything that is waited for
POLL_POOLED = 0.2  # where a pooler stands in between and no notification can be heard
LINGER = 5.0  # seconds that the connection outlives its last waiter, as the next one is often near
MOST_HEARD = 100_000
PATIENCE = 2.0  # seconds that somebody who gives up, or disconnects, may be held up by a server that does not answer
DISCONNECTED = "the app was disconnected while a job was waited for; it goes on"
ENDED = re.compile(r"ended (\d+)")


class _Wait(NamedTuple):
    row: int
    answer: asyncio.Future[Job]


class Waiters:
    """Of one event loop: they share one connection that listens.

    Each wait stands in the database with a row of its own. It is named here, so that it can be taken away whatever has
    become of its enqueue, and so that nobody takes away another's.
    """

    def __init__(self, database: Database, serializer: Serializer) -> None:
        self._database = database
        self._serializer = serializer
        self._control = ControlStore(database.schema)
        self._waiting: dict[int, list[_Wait]] = defaultdict(list)
        self._rows: set[int] = set()  # those that may stand in the database
        self._expected: set[asyncio.Future[None]] = set()  # done when their rows are gone
        self._given_up: set[int] = set()
        self._withdrawing: asyncio.Task[None] | None = None
        self._nameless: set[int] = set()  # rows of jobs whose enqueue has not come back yet
        self._heard: set[int] = set()  # ends that may be theirs
        self._listener: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()
        self._failure: Exception | None = None
        self._is_closed = False
        self._idle_since = time.monotonic()

    @contextlib.asynccontextmanager
    async def expecting(self, jobs: int) -> AsyncIterator[list[int]]:
        """A row for each job: whatever is enqueued with them cannot end unnoticed. They are gone afterwards."""
        await self._listen()
        rows = [-secrets.randbits(63) for _ in range(jobs)]  # the server's own are above zero
        self._rows.update(rows)
        self._nameless.update(rows)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected.add(gone)
        try:
            yield rows
        finally:
            self._name(rows)
            try:
                await self._withdraw(self._rows.intersection(rows))
            finally:
                self._expected.discard(gone)
                gone.set_result(None)

    async def ended(self, rows: Mapping[int, int], *, watch_for: float | None = None) -> list[Job | BaseException]:
        """The jobs as they ended, or why that is not known, in order; `rows` by job.

        Jobs that were not enqueued with their rows are to be watched: for so many seconds their end is notified.
        """
        answers: list[asyncio.Future[Job]] = [asyncio.get_running_loop().create_future() for _ in rows]
        waits = dict(zip(rows, map(_Wait, rows.values(), answers), strict=True))
        for job_id, wait in waits.items():
            self._waiting[job_id].append(wait)
        is_missed = not self._heard.isdisjoint(rows)
        self._name(rows.values())
        self._start()  # the enqueue may have outlasted the listener
        try:
            if watch_for is not None or is_missed:
                await self._look(rows, watch_for)
            return await asyncio.gather(*answers, return_exceptions=True)
        finally:
            for job_id, wait in waits.items():
                self._forget(job_id, wait)

    async def close(self) -> None:
        """Whoever waits is told, and takes its rows away itself, as they may still be on their way to the database."""
        self._is_closed = True
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        self._fail(NotConnected(DISCONNECTED))
        if self._expected:
            await asyncio.wait(self._expected, timeout=PATIENCE)

    async def _listen(self) -> None:
        self._idle_since = time.monotonic()
        self._start()
        await self._listening.wait()
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        if self._is_closed:
            self._fail(NotConnected(DISCONNECTED))
        elif self._listener is None or self._listener.done():
            self._listening.clear()
            self._failure = None
            self._listener = asyncio.create_task(self._run())

    def _name(self, rows: Iterable[int]) -> None:
        self._nameless.difference_update(rows)
        if not self._nameless:
            self._heard.clear()

    async def _look(self, rows: Mapping[int, int], watch_for: float | None) -> None:
        """For what ended before anybody here had a name for it."""
        async with self._database.session() as session:
            if watch_for is not None:
                calls = [self._control.wait_for(row, job_id, watch_for) for job_id, row in rows.items()]
                await session.transact(*calls)
            await self._collect(session, rows)

    async def _withdraw(self, rows: Collection[int]) -> None:
        """Those of waits that were given up, many at once: nobody is held up by it for long, and a second cancellation
        does not stop it.
        """
        if not rows:
            return
        self._rows.difference_update(rows)
        self._given_up.update(rows)
        if self._withdrawing is None or self._withdrawing.done():
            self._withdrawing = asyncio.create_task(self._take_away())
        await asyncio.shield(self._withdrawing)

    async def _take_away(self) -> None:
        with contextlib.suppress(TimeoutError, WerkError, psycopg.Error):
            async with asyncio.timeout(PATIENCE), self._database.session() as session:
                while self._given_up:
                    rows, self._given_up = self._given_up, set()
                    await session.run(self._control.stop_waiting(list(rows)))
                self._withdrawing = None  # what comes while the connection closes is for another one

    def _forget(self, job_id: int, wait: _Wait) -> None:
        if wait in self._waiting.get(job_id, ()):
            self._waiting[job_id].remove(wait)
        if not self._waiting.get(job_id, True):
            del self._waiting[job_id]
        self._idle_since = time.monotonic()

    def _fail(self, error: Exception) -> None:
        """For whoever waits, and whoever is about to."""
        self._failure = error
        self._listening.set()
        for wait in [each for waits in self._waiting.values() for each in waits if not each.answer.done()]:
            wait.answer.set_exception(error)

    @property
    def _is_wanted(self) -> bool:
        return bool(self._waiting) or time.monotonic() - self._idle_since < LINGER

    async def _run(self) -> None:
        try:
            while self._is_wanted:
                try:
                    await self._hear()
                except (ServerUnreachable, psycopg.Error):
                    self._listening.set()  # deaf or not, the poll finds what has ended
                    await self._poll()
        except Exception as error:  # noqa: BLE001 - it reaches the callers
            self._fail(error)

    async def _hear(self) -> None:
        session = await self._database.keep()
        try:
            await session.single(SessionStore(self._database.schema).listen())
            self._listening.set()
            polled = time.monotonic()
            await self._collect(session, self._waiting)
            poll = POLL if session.is_own else POLL_POOLED
            while self._is_wanted:
                heard = await session.notifications(poll)
                ids = {int(match[1]) for text in heard if (match := ENDED.fullmatch(text))}
                if self._nameless and len(self._heard) < MOST_HEARD:
                    self._heard |= ids - self._waiting.keys()
                await self._collect(session, ids & self._waiting.keys())
                if time.monotonic() - polled >= poll and self._waiting:
                    polled = time.monotonic()
                    await self._collect(session, self._waiting)
        finally:
            session.close()

    async def _poll(self) -> None:
        """Without a connection of one's own: a pool may get through where that does not."""
        await asyncio.sleep(POLL)
        with contextlib.suppress(ServerUnreachable, psycopg.Error):
            async with self._database.session() as session:
                await self._collect(session, self._waiting)

    async def _collect(self, session: Session, candidates: Collection[int]) -> None:
        """Hands out those that have ended; whoever has read a job is no longer waited for."""
        if not candidates:
            return
        ended = await session.run(self._control.ended_of(list(candidates)))
        if not ended:
            return
        waits = [(job_id, wait) for job_id in ended for wait in self._waiting.get(job_id, ())]
        own = [wait.row for _, wait in waits]
        rows, _ = await session.transact(self._control.get_jobs(list(ended)), self._control.stop_waiting(own))
        self._rows.difference_update(own)
        found = {row["id"]: row for row in rows}
        for job_id, wait in waits:
            self._answer(wait.answer, job_id, found.get(job_id))
            self._forget(job_id, wait)

    def _answer(self, answer: asyncio.Future[Job], job_id: int, row: Row | None) -> None:
        """A result that cannot be read is the affair of whoever waits for it, and of nobody else."""
        if answer.done():
            return
        if row is None:
            answer.set_exception(JobNotFound(f"job {job_id} is gone; it was deleted while it was waited for"))
            return
        try:
            answer.set_result(Job.from_row(row, self._serializer))
        except Exception as error:  # noqa: BLE001 - it reaches the caller
            answer.set_exception(error)
