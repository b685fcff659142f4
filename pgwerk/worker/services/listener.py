"""Hearing of new jobs. A notification is a hint, polling is the truth: a listener that hears nothing (a pooler in
between, a connection that died silently) finds out by a round trip to itself, and then says so once.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from pgwerk import events
from pgwerk.errors import ServerUnreachable, one_line
from pgwerk.store.session import SessionStore
from pgwerk.wire import Disconnected

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pgwerk.db import Database
    from pgwerk.wire import Session

TEST = 15.0  # seconds of silence after which the listener calls itself
PATIENCE = 3.0  # seconds for that call to come back
RETRY = 1.0  # seconds after a lost connection
RETRY_DEAF = 60.0  # seconds: whoever put a pooler in between will not take it away at once
READY, PING, ABORT = "ready ", "ping ", "abort "


class Listener:
    """`is_listening` is true while it is proven that notifications arrive; `on_change` is called when it changes,
    `on_ready` when a job has come for one of the queues, `on_abort` when somebody wants to end some job.
    """

    def __init__(
        self, database: Database, name: str, queues: Collection[str],
        on_ready: Callable[[], None], on_change: Callable[[], None], on_abort: Callable[[], None],
    ) -> None:  # fmt: skip
        self._database, self._name = database, name
        self._wanted = {READY + queue for queue in queues}
        self._store = SessionStore(database.schema)
        self._on_ready, self._on_change, self._on_abort = on_ready, on_change, on_abort
        self._was_deaf = False
        self.is_listening = False

    async def run(self) -> None:
        while True:
            try:
                await self._over_one_connection()
            except ServerUnreachable:
                pause = RETRY  # the worker's own conversation tells of the outage
            except Exception as error:  # noqa: BLE001 - polling goes on, and so must this
                events.emit(events.DutyFailed("listening", one_line(error)))
                pause = RETRY
            else:
                pause = RETRY_DEAF
            self._note(is_listening=False)
            await asyncio.sleep(pause)

    async def _over_one_connection(self) -> None:
        """Returns when a call to itself has not come back."""
        session = await self._database.keep()
        try:
            await session.single(self._store.listen())
            while await self._hears_itself(session):
                self._note(is_listening=True)
                while heard := await session.notifications(TEST):
                    self._pass_on(heard)
            self._say_deaf()
        finally:
            session.close()

    async def _hears_itself(self, session: Session) -> bool:
        """From another connection: a server tells a session of its own notifications at once, even where a pooler would
        never bring it those of others.
        """
        token = secrets.token_hex(4)
        async with self._database.session() as another:
            await another.single(self._store.ping(token))
        loop = asyncio.get_running_loop()
        until = loop.time() + PATIENCE
        while (left := until - loop.time()) > 0:
            heard = await session.notifications(left)
            self._pass_on(heard)
            if PING + token in heard:
                return True
        if self.is_listening:
            raise Disconnected("the listener's connection has gone silent")
        return False

    def _pass_on(self, heard: Collection[str]) -> None:
        if not self._wanted.isdisjoint(heard):
            self._on_ready()
        if any(text.startswith(ABORT) for text in heard):
            self._on_abort()

    def _note(self, *, is_listening: bool) -> None:
        if self.is_listening != is_listening:
            self.is_listening = is_listening
            self._on_change()

    def _say_deaf(self) -> None:
        if not self._was_deaf:
            self._was_deaf = True
            events.emit(events.ListenerDeaf(self._name))
