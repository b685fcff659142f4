"""Natural batching: enqueues that are under way at the same moment share one connection and one statement."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from pgwerk.wire import Disconnected, Session, is_refusal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pgwerk.db import Database
    from pgwerk.job import Job
    from pgwerk.specifying import Spec
    from pgwerk.store.enqueue import EnqueueStore

MOST_AT_ONCE = 1000
LINGER = 0.2  # seconds that a connection outlives its last enqueue: a burst is often not over


class _Entry(NamedTuple):
    spec: Spec
    answer: asyncio.Future[Job | None]


class Batcher:
    """Of one event loop. Nobody waits for a batch to fill: what came while the last one was on its way goes next.

    A connection of our own outlives its last enqueue for a moment, and prepares its statements from the second on: a
    burst of single enqueues shares it. Whoever finds it idle sends by itself, without a task in between.
    """

    def __init__(self, database: Database, store: EnqueueStore) -> None:
        self._database = database
        self._store = store
        self._pending: list[_Entry] = []
        self._is_sending = False
        self._sender: asyncio.Task[None] | None = None
        self._kept: Session | None = None
        self._lingering: asyncio.Task[None] | None = None
        self._used_at = 0.0

    async def insert(self, spec: Spec) -> Job | None:
        answer: asyncio.Future[Job | None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Entry(spec, answer))
        if not self._is_sending:
            self._is_sending = True
            if self._kept is None:
                self._pass_on()
            else:
                await self._send_one_batch(self._kept)
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
        while self._sender is not None:
            await self._sender
        self._drop()
        if self._lingering is not None:
            self._lingering.cancel()

    def _pass_on(self) -> None:
        self._sender = asyncio.create_task(self._send_all())

    async def _send_one_batch(self, session: Session) -> None:
        try:
            await session.settle_in(whole_tables="on")
            await self._send(session, self._take())
        except Exception:  # noqa: BLE001 - the caller hears of it by the answer
            self._drop()
        except BaseException:
            self._drop()
            raise
        finally:
            self._rest()

    def _rest(self) -> None:
        """What came in the meantime is not for this caller to send."""
        self._used_at = asyncio.get_running_loop().time()
        if self._pending:
            self._pass_on()
        else:
            self._is_sending = False

    async def _send_all(self) -> None:
        is_open = self._kept is not None
        try:
            async with self._session() as session:
                is_open = True
                await self._send_what_comes(session)
        except Exception as error:  # noqa: BLE001 - it has reached the callers of what was sent
            self._drop()
            if not is_open:
                _refuse(self._take(), error)
        finally:
            self._sender = None
            self._rest()

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        """A loan goes back at once, a connection of our own stays for a moment."""
        if self._database.is_pooled:
            async with self._database.session() as session:
                yield session
        else:
            yield self._kept or await self._open()

    async def _send_what_comes(self, session: Session) -> None:
        while batch := self._take():
            await self._send(session, batch)
            if self._pending and session is self._kept:
                await session.settle_in(whole_tables="on")

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
        if self._is_sending or self._kept is None:
            return None
        session, self._kept = self._kept, None
        with contextlib.suppress(Disconnected):  # nothing was sent yet: another one will do
            await session.settle_in(whole_tables="on")
            return session
        return None

    def _give_back(self, session: Session) -> None:
        self._used_at = asyncio.get_running_loop().time()
        if self._kept is None and not self._is_sending:
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
        return LINGER if self._is_sending else self._used_at + LINGER - asyncio.get_running_loop().time()

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _take(self) -> list[_Entry]:
        """The next ones, without those whose caller has gone."""
        taken, self._pending = self._pending[:MOST_AT_ONCE], self._pending[MOST_AT_ONCE:]
        return [entry for entry in taken if not entry.answer.done()] or (self._take() if self._pending else [])

    async def _send(self, session: Session, batch: Sequence[_Entry]) -> None:
        """A batch that the server refuses is halved until the culprit stands alone."""
        call = self._store.enqueue([entry.spec for entry in batch], always_notify=False)
        try:
            inserted = await session.run(call)
        except psycopg.Error as error:
            if len(batch) == 1 or not is_refusal(error):
                _refuse(batch, error)
                return
            await self._send(session, batch[: len(batch) // 2])
            await self._send(session, batch[len(batch) // 2 :])
        except BaseException as error:
            _refuse(batch, error)
            raise
        else:
            for entry, job in zip(batch, inserted.jobs, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(job)


def _refuse(batch: Sequence[_Entry], error: BaseException) -> None:
    for entry in batch:
        if entry.answer.done():
            continue
        if isinstance(error, Exception):
            entry.answer.set_exception(error)
        else:
            entry.answer.cancel()
