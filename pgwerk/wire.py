"""How a session speaks: conversations of whole transactions in one round trip.

It is written on libpq's pipeline mode itself: a statement costs some 10 µs of Python there instead of 60, and the
statements of a transaction, and the next transaction, leave together.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import psycopg
from psycopg import pq, waiting
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

from pgwerk.errors import ServerUnreachable
from pgwerk.pipeline import DEADLINE, flush, next_result, received, whole_result
from pgwerk.sql import Statement, statements
from pgwerk.values import PATIENT, READING, as_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from psycopg import AsyncConnection
    from psycopg.pq.abc import PGconn, PGresult

    from pgwerk.pipeline import Steps

    Saying: TypeAlias = "Call[Any] | partial[Call[Any]]"
    """A statement, or what makes it when its turn comes: the server is at work on those before it by then."""

    Said: TypeAlias = tuple["Call[Any]", bytes | None]
    """A statement on its way, and what tells its answer (`_send`)."""

    Framing: TypeAlias = Callable[[Sequence[Saying]], Sequence[Saying]]

T = TypeVar("T")
Row = dict[str, Any]

_LOOK = 1.0  # seconds between two looks at the deadline
_TRIES = 5
_UNPREPARED = (psycopg.errors.InvalidSqlStatementName, psycopg.errors.DuplicatePreparedStatement)
_GAVE_WAY = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
_BINARY = pq.Format.BINARY
_DONE = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A statement with its values, and how to read its rows: by name, or (`make`) from the values in their order."""

    statement: Statement
    values: Sequence[object]
    read: Callable[[list[Any]], T]
    make: Callable[[Sequence[Any]], Any] | None = None


def is_refusal(error: psycopg.Error) -> bool:
    """The server will not take these values, however often they are sent: somebody's value is wrong, not the moment."""
    return (error.sqlstate or "").startswith(("22", "23", "54"))


def gave_way(error: psycopg.Error) -> bool:
    """To another transaction: nothing of this one was done, and it can be tried again at once."""
    return isinstance(error, _GAVE_WAY)


class Disconnected(ServerUnreachable):
    """The connection broke or fell silent on the way: what was sent may or may not have been done."""


class Session:
    """A connection that speaks in whole transactions. What goes wrong on the way closes it: its state is unknown."""

    def __init__(self, connection: AsyncConnection[Any], schema: str, *, is_lent: bool = False) -> None:
        """One that is lent is its owner's to keep, and prepares its statements if its owner lets psycopg prepare."""
        self.pgconn: PGconn = connection.pgconn
        self._transformer = Transformer(READING)  # it knows by now how to read what it has read before
        self._schema = schema
        self.backend: int | None = None
        """The server's process, where nothing stands in between."""

        self.has_settled = False
        self.prepared: set[bytes] | None = None
        """The statements that are prepared on it; None: nothing is to be, or not yet."""

        if is_lent:
            self.prepared = None if connection.prepare_threshold is None else set()
        else:
            self._connection = connection  # it closes itself when nobody refers to it
            _sessions.add(self)

    @property
    def is_own(self) -> bool:
        return self.backend is not None

    async def settle_in(self, *, whole_tables: str = "off") -> None:
        """For a session that is kept. If nothing stands between it and the server, it prepares its statements, and
        what frames each transaction elsewhere is said once. `whole_tables` is "on" for plans that may read them.
        """
        if self.has_settled:
            return
        self.has_settled = True
        who = await self.single(self._frame("whoami", lambda rows: rows[0]["pg_backend_pid"]))
        if who == self.pgconn.backend_pid:
            await self.single(self._frame("pin", _nothing, is_local=False, whole_tables=whole_tables))
            self.backend, self.prepared = who, set()

    async def transact(self, *calls: Saying) -> list[Any]:
        """One transaction, one round trip; the answers in order, or the server's error.

        A transaction that had to give way to another one is tried again: nothing of it was done. So is one that a
        pooler let down, or somebody who discarded what was prepared, and from then on nothing is.
        """
        for _ in range(_TRIES):
            (answers,) = await self.converse(calls)
            if isinstance(answers, _UNPREPARED) and not self.is_own:
                self.prepared = None
            elif not isinstance(answers, _GAVE_WAY):
                break
        if isinstance(answers, psycopg.Error):
            raise answers
        return answers

    async def run(self, *calls: Call[T]) -> T:
        """A transaction of which only the last call's answer matters."""
        answers: list[T] = await self.transact(*calls)
        return answers[-1]

    async def single(self, call: Call[T]) -> T:
        """A statement by itself, in no transaction block."""
        return await self._drive(self._single(call))

    async def converse(self, *transactions: Sequence[Saying]) -> list[list[Any] | psycopg.Error]:
        """Several transactions in one round trip; each gives its answers or its error, one error ends the rest."""
        return await self._drive(self._transactions(transactions))

    async def notifications(self, seconds: float) -> list[str]:
        """Payloads as soon as there are any; none after so many seconds."""
        return await self._drive(self._notifications(seconds), look=seconds)

    def close(self) -> None:
        """At once, without a word to the server: whoever gave up on it waits for nothing."""
        self.pgconn.finish()

    def hang_up(self) -> None:
        """Ends what is said over it, now or next, as a network does that is known to be broken."""
        if self.pgconn.status == pq.ConnStatus.OK:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.pgconn.socket)) as line:
                line.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """In the child of a fork: what is said or closed here must not reach the server that its parent talks with."""
        if self.pgconn.status == pq.ConnStatus.OK:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self.pgconn.socket, inheritable=False)
            os.close(nothing)

    async def _drive(self, steps: Steps[T], look: float = _LOOK) -> T:
        try:
            return await waiting.wait_async(steps, self.pgconn.socket, interval=max(look, 0.001))
        except psycopg.OperationalError as error:
            if self.pgconn.status == pq.ConnStatus.OK and error.sqlstate:
                raise
            self.close()
            raise Disconnected(lost(error)) from error
        except BaseException:
            self.close()
            raise

    def _transactions(self, transactions: Sequence[Sequence[Saying]]) -> Steps[list[list[Any] | psycopg.Error]]:
        answers: list[list[Any] | psycopg.Error] = []
        # a pooler may give the server to somebody else after each transaction, in the middle of the next one
        for together in [transactions] if self.is_own else [[each] for each in transactions]:
            answers += yield from self._exchange(together, self._framed)
        if self.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            yield from self._rollback()
        return answers

    def _framed(self, calls: Sequence[Saying]) -> Sequence[Saying]:
        """Where every transaction has to say for itself what it is. In a session of our own, each sync ends one."""
        known = [call.statement for call in calls if isinstance(call, Call)]
        if self.is_own or (len(calls) == 1 and all(statement.is_bare for statement in known)):
            return calls
        whole_tables = "off" if any(statement.is_pinned for statement in known) else "on"
        frame = partial(self._frame, read=_nothing, is_local=True, whole_tables=whole_tables)
        return [frame("begin"), frame("pin"), *calls, frame("commit")]

    def _frame(self, name: str, read: Callable[[list[Row]], T], **values: object) -> Call[T]:
        statement = statements(self._schema)[name]
        return Call(statement, statement.bind(values), read)

    def _single(self, call: Call[T]) -> Steps[T]:
        (answers,) = yield from self._exchange([[call]], lambda calls: calls)
        if isinstance(answers, psycopg.Error):
            raise answers
        answer: T = answers[0]
        return answer

    def _exchange(self, groups: Sequence[Sequence[Saying]], framed: Framing) -> Steps[list[list[Any] | psycopg.Error]]:
        """Sends all of it, then reads all of it: one round trip. The first answers are read into Python while the
        server is still at work on the next.
        """
        pgconn, deadline = self.pgconn, time.monotonic() + DEADLINE
        pgconn.enter_pipeline_mode()
        sent = []
        for calls in groups:
            sent.append([self._say(call) for call in framed(calls)])
            pgconn.pipeline_sync()
        yield from flush(pgconn, deadline)
        answers = []
        for calls, group in zip(groups, sent, strict=True):
            answers.append((yield from self._answers(group, len(calls))))
            yield from next_result(pgconn, time.monotonic() + DEADLINE)
        pgconn.exit_pipeline_mode()
        return answers

    def _say(self, call: Saying) -> Said:
        said = call() if isinstance(call, partial) else call
        return said, self._send(said)

    def _send(self, call: Call[Any]) -> bytes | None:
        """The statement's name, where it had to be prepared first and so has one more result to come."""
        values = [as_wire(value) for value in call.values]
        if self.prepared is None:
            self.pgconn.send_query_params(call.statement.wire, values, result_format=_BINARY)
            return None
        name = call.statement.identity
        fresh = name not in self.prepared
        if fresh:
            self.prepared.add(name)
            self.pgconn.send_prepare(name, call.statement.wire)
        self.pgconn.send_query_prepared(name, values, result_format=_BINARY)
        return name if fresh else None

    def _receive(self, prepared: bytes | None, deadline: float) -> Steps[PGresult]:
        result = yield from whole_result(self.pgconn, deadline)
        if prepared is None:
            return result
        executed = yield from whole_result(self.pgconn, deadline)
        if result.status in _DONE:
            return executed
        if self.prepared is not None:
            self.prepared.discard(prepared)
        return result

    def _answers(self, group: Sequence[Said], wanted: int) -> Steps[list[Any] | psycopg.Error]:
        """Of one transaction; the frame around what was wanted has no answers."""
        answers: list[Any] = []
        error: psycopg.Error | None = None
        for call, prepared in group:
            result = yield from self._receive(prepared, time.monotonic() + DEADLINE)
            if error is None and result.status in _DONE:
                answers.append(call.read(self._rows(call, result)))
            else:
                error = error or error_from_result(result)
        first = 2 if len(group) > wanted else 0  # behind begin and pin
        return error or answers[first : first + wanted]

    def _rows(self, call: Call[Any], result: PGresult) -> list[Any]:
        make = call.make or _by_name(result)
        self._transformer.set_pgresult(result)
        try:
            rows = self._transformer.load_rows(0, result.ntuples, make)
        except psycopg.DataError:
            patient = Transformer(PATIENT)
            patient.set_pgresult(result)
            rows = patient.load_rows(0, result.ntuples, make)
        self._transformer.set_pgresult(None)  # it may be large, and the next one far
        return rows

    def _rollback(self) -> Steps[None]:
        deadline = time.monotonic() + DEADLINE
        self.pgconn.send_query(b"rollback")
        yield from flush(self.pgconn, deadline)
        yield from whole_result(self.pgconn, deadline)

    def _notifications(self, seconds: float) -> Steps[list[str]]:
        until = time.monotonic() + seconds
        while not (found := list(received(self.pgconn))) and time.monotonic() < until:
            yield waiting.Wait.R
            self.pgconn.consume_input()
        return found


_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _let_go() -> None:
    for session in list(_sessions):
        session.let_go()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_let_go)


def _nothing(_: list[Row]) -> None:
    return None


def _by_name(result: PGresult) -> Callable[[Sequence[Any]], Row]:
    names = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
    return lambda values: dict(zip(names, values, strict=True))


def lost(error: psycopg.Error) -> str:
    return f"the connection to Postgres was lost: {' '.join(str(error).split())}"
