"""The way to the server: where connections come from."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from pgwerk.errors import InvalidOption, InvalidType, ServerUnreachable, brief, one_line
from pgwerk.values import READING, as_text
from pgwerk.wire import Call, Disconnected, Row, Session, lost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from psycopg.adapt import AdaptersMap
    from psycopg_pool import AsyncConnectionPool

    Connect: TypeAlias = Callable[[], Awaitable[AsyncConnection[Any]]]

T = TypeVar("T")

# A network that died without a word is noticed in half a minute, not in two hours.
NETWORK_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "pgwerk",
    "client_encoding": "utf8",
}


def conninfo(dsn: str) -> str:
    """The DSN, with timeouts where it says nothing of them."""
    try:
        given = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        words = "like postgresql://user@host/database or key=value pairs; it is not shown, as it may hold a password"
        raise InvalidOption(f"not a DSN that Postgres understands, {words}") from error
    return make_conninfo(dsn, **{name: value for name, value in NETWORK_DEFAULTS.items() if name not in given})


class Database:
    """Where the connections come from: opened for each operation, from the user's pool, or by the user's factory."""

    def __init__(
        self,
        dsn: str,
        schema: str,
        pool: AsyncConnectionPool[Any] | None = None,
        connect: Connect | None = None,
    ) -> None:
        self.schema = schema
        self._conninfo = conninfo(dsn or _dsn_of(pool))
        self._pool = pool
        self._loop = None if pool is None else asyncio.get_running_loop()
        self._connect = connect
        self._lent: weakref.WeakKeyDictionary[AsyncConnection[Any], Session] = weakref.WeakKeyDictionary()

    @property
    def dsn(self) -> str:
        return self._conninfo

    @property
    def is_pooled(self) -> bool:
        """Connections are the user's: lent for one operation, and not to be set up in any way. A pool belongs to one
        event loop; on any other, connections are our own.
        """
        return self._pool is not None and asyncio.get_running_loop() is self._loop

    async def open(self) -> AsyncConnection[Any]:
        """A connection of one's own, for its owner to close."""
        try:
            if self._connect is not None:
                return await self._made()
            return await AsyncConnection.connect(self._conninfo, autocommit=True)
        except psycopg.OperationalError as error:
            raise ServerUnreachable(_unreachable(self._conninfo, error)) from error

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """For one operation: a short connection, or a loan from the pool."""
        async with self.loan() as connection:
            yield self._session_on(connection) if self.is_pooled else Session(connection, self.schema)

    def _session_on(self, connection: AsyncConnection[Any]) -> Session:
        """What is lent again and again keeps its session: what was prepared on it, and how its rows are read."""
        session = self._lent.get(connection)
        if session is None:
            session = self._lent[connection] = Session(connection, self.schema, is_lent=True)
        return session

    async def _made(self) -> AsyncConnection[Any]:
        try:
            made: object = await self._connect()  # type: ignore[misc]
        except ServerUnreachable:
            raise
        except Exception as error:
            raise ServerUnreachable(f"the app's own connect failed: {error!r}; it is tried again") from error
        if not isinstance(made, AsyncConnection):
            raise InvalidType(f"the app's own connect must give a psycopg AsyncConnection, got {brief(made)}")
        return made

    async def keep(self) -> Session:
        """For a worker, for as long as it likes."""
        session = Session(await self.open(), self.schema)
        try:
            await session.settle_in()
        except BaseException as error:
            session.close()
            if isinstance(error, psycopg.Error):
                raise Disconnected(lost(error)) from error
            raise
        return session

    @contextlib.asynccontextmanager
    async def loan(self) -> AsyncIterator[AsyncConnection[Any]]:
        if self._pool is not None and self.is_pooled:
            async with self._pool.connection() as connection:
                yield connection
            return
        connection = await self.open()
        try:
            yield connection
        finally:
            await connection.close()


class _Cursor(AsyncRawCursor[Row]):
    """Reads values in our way, whatever the program has registered on its connection."""

    @property
    def adapters(self) -> AdaptersMap:
        return READING.adapters


async def run_on(connection: AsyncConnection[Any], call: Call[T]) -> T:
    """On the caller's own connection, in whatever transaction it is in; nothing about it is changed."""
    async with _Cursor(connection, row_factory=dict_row) as cursor:
        await cursor.execute(call.statement.text, [as_text(value) for value in call.values], prepare=False)
        has_rows = cursor.description or connection.pgconn.pipeline_status  # a pipeline has not asked yet
        return call.read(await cursor.fetchall() if has_rows else [])


def _dsn_of(pool: AsyncConnectionPool[Any] | None) -> str:
    """A worker keeps connections of its own beside the pool, to the same database."""
    if pool is None:
        return ""
    if callable(pool.conninfo) or callable(pool.kwargs):
        raise InvalidOption(
            "a pool whose conninfo or kwargs are a function does not tell where it connects; give Werk the dsn too"
        )
    keywords = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}  # the others are psycopg's own
    given = {name: value for name, value in (pool.kwargs or {}).items() if name in keywords}
    return make_conninfo(pool.conninfo or "", **given)


def _unreachable(dsn: str, error: psycopg.Error) -> str:
    parts = conninfo_to_dict(dsn)
    where = f"{parts.get('host') or 'the default host'}, database {parts.get('dbname') or 'by default'}"
    reason = one_line(error)
    advice = "it is there, and refuses" if "FATAL:" in reason else "is it running, and is the DSN right?"
    return f"no connection to Postgres at {where}: {reason}; {advice}"
