"""Natural batching: enqueues that are under way at the same moment share one connection and one statement."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from pgwerk.wire import is_refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgwerk.db import Database
    from pgwerk.params import Spec
    from pgwerk.store.enqueue import EnqueueStore, Inserted
    from pgwerk.wire import Session

MOST_AT_ONCE = 1000
LINGER = 0.2  # seconds that a connection outlives its last enqueue: a burst is often not over


class _Entry(NamedTuple):
    columns: dict[str, Any]
    answer: asyncio.Future[Inserted]


class Batcher:
    """Of one event loop. Nobody waits for a batch to fill: what came while the last one was on its way goes next."""

    def __init__(self, database: Database, store: EnqueueStore) -> None:
        self._database = database
        self._store = store
        self._pending: list[_Entry] = []
        self._arrived = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._is_closing = False

    async def insert(self, spec: Spec) -> Inserted:
        answer: asyncio.Future[Inserted] = asyncio.get_running_loop().create_future()
        self._pending.append(_Entry(spec.columns, answer))
        self._arrived.set()
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await answer

    async def close(self) -> None:
        """What is under way is sent; then nobody waits for more."""
        if self._sender is not None:
            self._is_closing = True
            self._arrived.set()
            await self._sender

    async def _send_all(self) -> None:
        is_open = False
        try:
            async with self._database.session() as session:
                is_open = True
                await self._send(session, self._take())
                while batch := await self._next(session):
                    await self._send(session, batch)
        except Exception as error:  # noqa: BLE001 - it has reached the callers of what was sent
            if not is_open:
                _refuse(self._take(), error)
        finally:
            self._sender = None
            if self._pending:  # they came while the connection was being closed
                self._sender = asyncio.create_task(self._send_all())

    async def _next(self, session: Session) -> list[_Entry]:
        """What has come. On a connection of our own also what comes in a moment: a burst of single enqueues shares it,
        and prepares its statement from the second on.
        """
        if not self._database.is_pooled:
            await self._linger()
            if self._pending:
                await session.settle_in(whole_tables="on")
        return self._take()

    async def _linger(self) -> None:
        if not self._pending and not self._is_closing:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER):
                    await self._arrived.wait()

    def _take(self) -> list[_Entry]:
        """The next ones, without those whose caller has gone."""
        taken, self._pending = self._pending[:MOST_AT_ONCE], self._pending[MOST_AT_ONCE:]
        return [entry for entry in taken if not entry.answer.done()] or (self._take() if self._pending else [])

    async def _send(self, session: Session, batch: Sequence[_Entry]) -> None:
        """A batch that the server refuses is halved until the culprit stands alone."""
        call = self._store.enqueue([entry.columns for entry in batch], always_notify=False)
        try:
            answers = await session.run(call)
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
            for entry, answer in zip(batch, answers, strict=True):
                if not entry.answer.done():
                    entry.answer.set_result(answer)


def _refuse(batch: Sequence[_Entry], error: BaseException) -> None:
    for entry in batch:
        if not entry.answer.done():
            entry.answer.set_exception(error)
