"""Natural batching: enqueues that are under way at the same moment share one connection and one statement."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from pgwerk.wire import Disconnected, Session, is_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pgwerk.db import Database
    from pgwerk.job import Job
    from pgwerk.specifying import Spec
    from pgwerk.store.enqueue import EnqueueStore, Inserted
    from pgwerk.wire import Call

MOST_AT_ONCE = 1000
LINGER = 0.2  # seconds that a connection outlives its last enqueue: a burst is often not over


class _Entry(NamedTuple):
    spec: Spec
    answer: asyncio.Future[Job | None]


class Batcher:
    """Of one event loop. Nobody waits for a batch to fill: what came while the last one was on its way goes next.

    A connection of our own outlives its last enqueue for a moment, and prepares its statements from the second on: a
    burst of single enqueues shares it. Whoever finds it idle sends by itself, without a task in between; what others
    wait for goes by a task, which nobody's cancellation reaches.
    """

    def __init__(self, database: Database, store: EnqueueStore) -> None:
        self._database = database
        self._store = store
        self._pending: list[_Entry] = []
        self._sending: asyncio.Future[None] | None = None
        self._kept: Session | None = None
        self._lingering: asyncio.Task[None] | None = None
        self._used_at = 0.0

    async def insert(self, spec: Spec) -> Job | None:
        if self._sending is None and (session := self._in_its_time()) is not None and session.has_settled:
            return await self._send_alone(session, spec)
        answer: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Entry(spec, answer))
        if self._sending is None:
            self._pass_on()
        return await answer

    @contextlib.asynccontextmanager
    async def lend(self) -> AsyncIterator[Session]:
        """To one caller, for what nobody should share a statement with: the connection that is kept, unless it is busy,
        or a new one. What comes meanwhile opens its own.
        """
        if self._database.is_pooled:
            async with self._database.session() as session:
                yield session
            return
        session = await self._withdraw() or await self._connect()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        self._give_back(session)

    async def close(self) -> None:
        """What is under way is sent; then nobody waits for more."""
        while self._sending is not None:
            await asyncio.wait([self._sending])
        self._drop()
        if self._lingering is not None:
            self._lingering.cancel()

    async def _send_alone(self, session: Session, spec: Spec) -> Job | None:
        self._sending = sending = asyncio.get_running_loop().create_future()
        try:
            (job,) = (await session.run(self._call([spec]))).jobs
        except BaseException:
            self._drop()
            raise
        finally:
            sending.set_result(None)
            self._rest()
        return job

    def _pass_on(self) -> None:
        self._sending = asyncio.create_task(self._send_all())

    def _rest(self) -> None:
        """What came in the meantime is not for this caller to send."""
        self._used_at = time.monotonic()
        self._sending = None
        self._pending = _still_wanted(self._pending)
        if self._pending:
            self._pass_on()

    async def _send_all(self) -> None:
        batch: list[_Entry] | None = None
        try:
            async with self._session() as session:
                while batch := self._take():
                    await self._send(session, batch)
                    if self._pending and session is self._kept:
                        await session.settle_in(whole_tables="on")
        except BaseException as error:
            self._drop()
            _refuse(self._take() if batch is None else batch, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._rest()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A loan goes back at once, a connection of our own stays for a moment."""
        if self._database.is_pooled:
            async with self._database.session() as session:
                yield session
        else:
            yield await _settled(self._in_its_time()) or await self._open()

    async def _open(self) -> Session:
        session = await self._connect()
        self._keep(session)
        return session

    async def _connect(self) -> Session:
        return Session(await self._database.open(), self._database.schema)

    def _keep(self, session: Session) -> None:
        self._kept = session
        self._lingering = asyncio.create_task(self._linger(session))

    async def _withdraw(self) -> Session | None:
        if self._sending is not None:
            return None
        session, self._kept = self._in_its_time(), None
        return await _settled(session)

    def _give_back(self, session: Session) -> None:
        self._used_at = time.monotonic()
        if self._kept is None and self._sending is None:
            self._keep(session)
        else:
            session.close()

    async def _linger(self, session: Session) -> None:
        """A task, so that a loop that ends takes the connection with it."""
        try:
            while session is self._kept and (rest := self._rest_of_linger()) > 0:  # noqa: ASYNC110 - an event costs
                await asyncio.sleep(rest)
        finally:
            if session is self._kept:
                self._drop()

    def _rest_of_linger(self) -> float:
        """Seconds."""
        return LINGER if self._sending is not None else self._used_at + LINGER - time.monotonic()

    def _in_its_time(self) -> Session | None:
        """The connection that is kept. One that is still there only because the loop was held up may be dead by now."""
        if self._used_at + LINGER <= time.monotonic():
            self._drop()
        return self._kept

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _take(self) -> list[_Entry]:
        """The next ones, without those whose caller has gone."""
        taken, self._pending = self._pending[:MOST_AT_ONCE], self._pending[MOST_AT_ONCE:]
        return _still_wanted(taken) or (self._take() if self._pending else [])

    async def _send(self, session: Session, batch: Sequence[_Entry]) -> None:
        """A batch that the server refuses is halved until the culprit stands alone."""
        try:
            inserted = await session.run(self._call([entry.spec for entry in batch]))
        except psycopg.Error as error:
            if len(batch) == 1 or not is_refusal(error):
                _refuse(batch, error)
                return
            await self._send(session, batch[: len(batch) // 2])
            await self._send(session, batch[len(batch) // 2 :])
        else:
            for entry, job in zip(batch, inserted.jobs, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(job)

    def _call(self, specs: Sequence[Spec]) -> Call[Inserted]:
        return self._store.enqueue(specs, always_notify=False)


async def _settled(session: Session | None) -> Session | None:
    """None where it broke: nothing was sent yet, another one will do."""
    if session is not None:
        try:
            await session.settle_in(whole_tables="on")
        except (Disconnected, psycopg.Error):
            session.close()
        else:
            return session
    return None


def _still_wanted(entries: Sequence[_Entry]) -> list[_Entry]:
    return [entry for entry in entries if not entry.answer.done()]


def _refuse(batch: Sequence[_Entry], error: BaseException) -> None:
    for entry in _still_wanted(batch):
        if isinstance(error, Exception):
            entry.answer.set_exception(error)
        else:
            entry.answer.cancel()
