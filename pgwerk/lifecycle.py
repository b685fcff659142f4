"""An app's connection to its database, from the first use to the last."""

from __future__ import annotations

import asyncio
import copy
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pgwerk import checks, embedded, logs, migrate
from pgwerk.config import WerkConfig
from pgwerk.db import Database
from pgwerk.errors import InvalidOption, InvalidType, NotConnected, brief
from pgwerk.hooks import call_all, checked
from pgwerk.inserter import Inserter
from pgwerk.serializers import JSONSerializer, Serializer
from pgwerk.sql import check_schema
from pgwerk.waiters import Waiters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg_pool import AsyncConnectionPool

    from pgwerk.db import Connect
    from pgwerk.hooks import Hook
    from pgwerk.scheduler import Scheduler

H = TypeVar("H", bound="Hook")

_NOT_CONNECTED = "this Werk is not connected; use `async with app:` or `await app.connect()` first"


def _check(name: str, value: object, is_right: bool, words: str) -> None:
    if value is not None and not is_right:
        raise InvalidType(f"{name} must be {words}, got {brief(value)}")


def _environment(*, has_connections: bool) -> WerkConfig:
    """The connections that a program gives beat it."""
    found = WerkConfig.from_env()
    return replace(found, dsn=None) if has_connections else found


class Lifecycle:
    def __init__(
        self,
        dsn: str | None = None,
        *,
        config: WerkConfig | None = None,
        schema: str | None = None,
        serializer: Serializer | None = None,
        auto_migrate: bool | None = None,
        pool: AsyncConnectionPool[Any] | None = None,
        connect: Connect | None = None,
        allow: Sequence[str] | None = None,
        log_level: str | None = None,
        log_format: str | None = None,
    ) -> None:
        _check("config", config, isinstance(config, WerkConfig), "a WerkConfig")
        _check("serializer", serializer, isinstance(serializer, Serializer), "an object with dumps and loads")
        _check("pool", pool, hasattr(pool, "connection"), "a psycopg_pool.AsyncConnectionPool")
        _check("connect", connect, callable(connect), "a coroutine function that gives a connection")
        has_connections = pool is not None or connect is not None
        self.config = (config or _environment(has_connections=has_connections)).changed(
            dsn=dsn, schema=schema, auto_migrate=auto_migrate, allow=allow, log_level=log_level, log_format=log_format
        )
        self.serializer = JSONSerializer() if serializer is None else serializer
        self._pool, self._connect = pool, connect
        self._database: Database | None = None
        self._inserting: Inserter | None = None
        self._server: embedded.Server | None = None
        self._connecting = asyncio.Lock()
        self._users, self._is_kept = 0, False
        # what runs on its loop keeps it, and nothing keeps the loop
        self._waiters: weakref.WeakValueDictionary[asyncio.AbstractEventLoop, Waiters] = weakref.WeakValueDictionary()
        self._startup: list[Hook] = []
        self._shutdown: list[Hook] = []
        self._before_enqueue: list[Hook] = []
        self.schedulers: list[Scheduler] = []
        check_schema(self.config.schema)
        checks.text("dsn", self.config.dsn or "")
        if self.config.dsn and embedded.is_embedded(self.config.dsn):
            embedded.folder_of(self.config.dsn)
        if log_level or log_format:
            logs.configure_logging(self.config.log_level, self.config.log_format)

    @property
    def database(self) -> Database:
        if self._database is None:
            raise NotConnected(_NOT_CONNECTED)
        return self._database

    @property
    def is_connected(self) -> bool:
        return self._database is not None

    def on_startup(self, hook: H) -> H:
        """Called without arguments once the app is connected; also as a decorator."""
        self._startup.append(checked(hook))
        return hook

    def on_shutdown(self, hook: H) -> H:
        """Called without arguments before the app is disconnected; also as a decorator."""
        self._shutdown.append(checked(hook))
        return hook

    def register_before_enqueue(self, hook: Hook) -> None:
        """Called with the `EnqueueParams` of every job before anything is written: it may change them, or raise to
        refuse the job (and with it the whole call).
        """
        self._before_enqueue.append(checked(hook))

    def unregister_before_enqueue(self, hook: Hook) -> None:
        """No effect if it is not registered."""
        if hook in self._before_enqueue:
            self._before_enqueue.remove(hook)

    async def connect(self) -> None:
        """Starts the embedded server if that is what the DSN asks for, and brings the schema up to date. Again: no
        effect.
        """
        await self._open()
        self._is_kept = True

    async def _open(self) -> None:
        async with self._connecting:
            if self._database is not None:
                return
            try:
                database = await self.reach()
                await migrate.prepare(database, migrates=self.config.auto_migrate)
            except BaseException:
                self._stop_server()
                raise
            self._use(database)
        await call_all(self._startup, "the app's start")

    def _use(self, database: Database) -> None:
        self._database = database
        self._inserting = Inserter(database)

    def connect_by_dsn(self) -> None:
        """Not by the pool or the function that it was made with; before it is connected."""
        self._pool = self._connect = None

    async def reach(self) -> Database:
        """The database, whatever its schema; an embedded server runs until `disconnect()`."""
        return Database(await self._resolve(), self.config.schema, self._pool, self._connect)

    def detached(self) -> Self:
        """The same app for another process or thread: it needs no `connect()`, and opens a short connection of its own
        whenever it is used.
        """
        twin = copy.copy(self)
        twin._detach(self.database.dsn)  # noqa: SLF001 - itself
        return twin

    def _detach(self, dsn: str) -> None:
        """Hooks and whatever a subclass has stay; the start and the end are those of the app it was copied from."""
        self.config = self.config.changed(dsn=dsn)
        self._pool, self._server, self._connecting = None, None, asyncio.Lock()
        self._users, self._is_kept = 0, True
        self._waiters = weakref.WeakValueDictionary()
        self._startup, self._shutdown, self.schedulers = [], [], []
        self._use(Database(dsn, self.config.schema, connect=self._connect))

    async def disconnect(self) -> None:
        if self._database is not None:
            await call_all(self._shutdown, "the app's end")
        waiters = self._waiters.pop(asyncio.get_running_loop(), None)
        if waiters is not None:
            await waiters.close()
        if self._inserting is not None:
            await self._inserting.close()
        self._database, self._inserting, self._is_kept = None, None, False
        self._stop_server()

    def _stop_server(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def __aenter__(self) -> Self:
        """May be entered again, by a handler or a worker: the last one out disconnects what no `connect()` keeps."""
        await self._open()
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0 and not self._is_kept:
            await self.disconnect()

    @property
    def _inserter(self) -> Inserter:
        if self._inserting is None:
            raise NotConnected(_NOT_CONNECTED)
        return self._inserting

    def _waiters_here(self) -> Waiters:
        return self._waiters.setdefault(asyncio.get_running_loop(), Waiters(self.database, self.serializer))

    async def _resolve(self) -> str:
        """The DSN of a server that runs: an embedded one is started, or joined."""
        dsn = self.config.dsn or ""
        if not dsn and self._pool is None and self._connect is None:
            raise InvalidOption('there is no database to connect to; give Werk("postgresql://…") or set PGWERK_DSN')
        if not embedded.is_embedded(dsn):
            return dsn
        self._server = await asyncio.to_thread(embedded.start, embedded.folder_of(dsn))
        return self._server.dsn
