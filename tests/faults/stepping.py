"""Two sessions that a test steps through every order of their statements: the product's own operations, on a session
that asks before each statement and before each commit. Who waits for a lock is seen in `pg_blocking_pids`, not by time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.pq import TransactionStatus

from pgwerk import Werk
from pgwerk.db import Database, run_on
from pgwerk.wire import Call, Session
from tests.db.portrait import LINES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from pgwerk.wire import Saying

    Operation = Callable[["Side"], Awaitable[Any]]

GLANCE = 0.004  # seconds between two looks at whether a session waits for the other
MOST_STEPS = 80
_PATIENT = "set lock_timeout = 0; set statement_timeout = 0; set deadlock_timeout = '20ms'"
_WAITS = "select %s = any (pg_blocking_pids(%s))"
_TIME = re.compile(r"datetime\.datetime\((?:[^()]|\([^()]*\))*\)")
_WRITES = ("insert into", "delete from", "update ", "for update", "for key share")


class Stepped(Session):
    def __init__(self, side: Side) -> None:
        super().__init__(side.connection, side.schema)
        self._side = side

    async def converse(self, *transactions: Sequence[Saying]) -> list[list[Any] | psycopg.Error]:
        return [await self._transaction([_said(call) for call in calls]) for calls in transactions]

    async def single(self, call: Call[Any]) -> Any:
        return await self._ask(call)

    async def _transaction(self, calls: Sequence[Call[Any]]) -> list[Any] | psycopg.Error:
        await self._side.turn(calls[0].statement.name)
        try:
            async with self._side.connection.transaction():
                answers = [await self._ask(calls[0], asks=False)]
                answers += [await self._ask(call) for call in calls[1:]]
                if any(word in call.statement.text for call in calls for word in _WRITES):
                    await self._side.turn("commit")
        except psycopg.Error as error:
            self._side.errors.append(error)
            return error
        return answers

    async def _ask(self, call: Call[Any], *, asks: bool = True) -> Any:
        if asks:
            await self._side.turn(call.statement.name)
        make = call.make
        if make is not None:
            call = replace(call, read=lambda rows: [make(tuple(row.values())) for row in rows])
        answer = await run_on(self._side.connection, call)
        self._side.log.append((call.statement.name, _TIME.sub("", repr(answer))))
        return answer


class _Database(Database):
    """Every operation on the side's one connection, as if it were lent from a pool."""

    def __init__(self, dsn: str, side: Side) -> None:
        super().__init__(dsn, side.schema)
        self._side = side

    @property
    def is_pooled(self) -> bool:
        return True

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        yield Stepped(self._side)


@dataclass
class Side:
    name: str
    connection: AsyncConnection[Any]
    schema: str
    app: Werk = field(init=False)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    stands: asyncio.Event = field(default_factory=asyncio.Event)
    """At its next statement, or at its end; else it is under way, or waits for a lock."""

    next: str = ""
    task: asyncio.Task[Any] | None = None
    errors: list[psycopg.Error] = field(default_factory=list)
    log: list[tuple[str, str]] = field(default_factory=list)
    """What it has said in this play, and heard."""

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, name: str, app: Werk) -> AsyncIterator[Side]:
        dsn, schema = app.database.dsn, app.database.schema
        async with await AsyncConnection.connect(dsn, autocommit=True) as connection:
            await connection.execute(_PATIENT)
            await connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
            side = cls(name, connection, schema)
            side.app = Werk(dsn, schema=schema, config=app.config)
            side.app._use(_Database(dsn, side))
            yield side

    @property
    def session(self) -> Session:
        return Stepped(self)

    @property
    def is_over(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def answer(self) -> Any:
        assert self.task is not None
        return repr(self.task.exception() or self.task.result())

    async def turn(self, what: str) -> None:
        self.next = what
        self.stands.set()
        await self.gate.wait()
        self.gate.clear()

    def begin(self, operation: Operation) -> None:
        self.gate.clear()
        self.stands.clear()
        self.errors.clear()
        self.log.clear()
        self.task = asyncio.create_task(operation(self))  # type: ignore[arg-type]
        self.task.add_done_callback(lambda _: self.stands.set())

    async def view(self) -> tuple[Any, ...]:
        """All that what it does next can depend on."""
        is_open = self.connection.info.transaction_status == TransactionStatus.INTRANS
        return self.next, tuple(self.log), await look(self.connection) if is_open else ""

    def step(self) -> str:
        said, self.next = self.next, "end"
        self.stands.clear()
        self.gate.set()
        return f"{self.name} {said}"

    async def abandon(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task


@dataclass
class Play:
    """One order, played to its end or to a place that has been passed before."""

    trail: list[str] = field(default_factory=list)
    choices: list[int] = field(default_factory=list)
    branches: list[list[int]] = field(default_factory=list)
    deadlocks: int = 0
    is_known: bool = False


class Stage:
    def __init__(self, sides: tuple[Side, Side], observer: AsyncConnection[Any]) -> None:
        self.sides, self._observer = sides, observer

    async def play(
        self, operations: Sequence[Operation], order: Sequence[int], known: Callable[[], Awaitable[bool]] | None
    ) -> Play:
        """By `order` as long as it says something, then the first one that can go on. `known` tells at each fork
        whether everything from here on has been played.
        """
        play = Play()
        for side, operation in zip(self.sides, operations, strict=True):
            side.begin(operation)
        while not all([await self._settled(side) and side.is_over for side in self.sides]):
            ready = [at for at, side in enumerate(self.sides) if side.stands.is_set() and not side.is_over]
            assert len(play.trail) < MOST_STEPS, f"no end in sight: {play.trail}"
            if not ready:
                play.deadlocks += 1
                await self._somebody_stands()
                continue
            chosen = ready[0]
            if len(ready) == 2:
                if len(play.choices) < len(order):
                    chosen = order[len(play.choices)]
                elif known is not None:
                    if await known():
                        play.is_known = True
                        break
                    play.branches.append([*play.choices, 1])
                play.choices.append(chosen)
            play.trail.append(self.sides[chosen].step())
        for side in self.sides:
            await side.abandon()
        return play

    async def _settled(self, side: Side) -> bool:
        """Once it stands, or waits for the other one."""
        (other,) = [each for each in self.sides if each is not side]
        while not side.stands.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(side.stands.wait(), GLANCE)
                return True
            if other.stands.is_set() and await self._waits(side, other):
                return False
            if await self._waits(side, other) and await self._waits(other, side):
                return False
        return True

    async def _waits(self, side: Side, other: Side) -> bool:
        pids = other.connection.info.backend_pid, side.connection.info.backend_pid
        cursor = await self._observer.execute(_WAITS, pids)
        return bool((await cursor.fetchone() or [False])[0])

    async def _somebody_stands(self) -> None:
        """Both wait for each other: the server ends one of them."""
        waits = [asyncio.create_task(side.stands.wait()) for side in self.sides]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()


async def look(connection: AsyncConnection[Any]) -> str:
    """The jobs as this session sees them."""
    return repr(await (await connection.execute(LINES)).fetchall())


def _said(call: Saying) -> Call[Any]:
    return call() if isinstance(call, partial) else call
