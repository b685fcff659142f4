"""libpq's pipeline mode in steps that a loop drives: what is sent leaves together, what comes is taken in order."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

import psycopg
from psycopg import waiting

if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeAlias

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult

    Steps: TypeAlias = PQGen["T"]

T = TypeVar("T")

DEADLINE = 30.0  # seconds for a conversation: a proxy that still acknowledges defeats every network timeout


def flush(pgconn: PGconn, deadline: float) -> Steps[None]:
    while pgconn.flush():
        ready = yield waiting.Wait.RW
        if ready & waiting.Ready.R:
            pgconn.consume_input()
        elif not ready:
            _check(deadline)


def whole_result(pgconn: PGconn, deadline: float) -> Steps[PGresult]:
    """The result of the statement whose turn it is, and the empty one that ends it."""
    found = yield from next_result(pgconn, deadline)
    if found is None:
        raise psycopg.OperationalError("the server's answers are out of step")
    yield from next_result(pgconn, deadline)
    return found


def next_result(pgconn: PGconn, deadline: float) -> Steps[PGresult | None]:
    while pgconn.is_busy():
        if not (yield waiting.Wait.R):
            _check(deadline)
        pgconn.consume_input()
    return pgconn.get_result()


def received(pgconn: PGconn) -> Generator[str]:
    while (notification := pgconn.notifies()) is not None:
        yield notification.extra.decode(errors="replace")


def _check(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise psycopg.OperationalError(f"the server has not answered for {DEADLINE:.0f} s")
