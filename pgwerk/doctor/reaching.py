"""The way to the server."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING

from pgwerk.db import run_on
from pgwerk.doctor.finding import failure, ok, warning
from pgwerk.store.session import SessionStore

if TYPE_CHECKING:
    from psycopg import AsyncConnection

    from pgwerk.doctor.finding import Finding, Patient
    from pgwerk.store.doctor import DoctorStore
    from pgwerk.wire import Session

OLDEST = 140000  # Postgres 14, as server_version_num has it
PATIENCE = 3.0  # seconds for what takes milliseconds
APART = 1.0  # seconds between two clocks that nobody minds
HELD = 3  # connections of a worker process: its exchange, its beat, its listener
SPARE = 10  # percent of the connections that should be free


async def connection(patient: Patient) -> Finding:
    """The server is new enough, and takes writes."""
    start = time.monotonic()
    server = await patient.ask(patient.store.server())
    took = f"{(time.monotonic() - start) * 1000:.0f} ms"
    if server.number < OLDEST:
        return failure(f"Postgres {server.version} is too old", "pgwerk needs Postgres 14 or newer")
    if server.is_read_only:
        return failure(
            f"Postgres {server.version} takes no writes here: a standby, or default_transaction_read_only",
            "name the primary, or all hosts and target_session_attrs=read-write in the DSN",
        )
    return ok(f"Postgres {server.version}, database {server.database}, as {server.role}; there and back in {took}")


async def pooler(patient: Patient) -> Finding:
    """None stands between, or one in session mode, or the app does not listen. It is known by what it does."""
    store = patient.store
    async with patient.database.loan() as first, patient.database.loan() as second:
        backend = await _backend(first, store)
        if backend == first.pgconn.backend_pid:
            return ok("none stands between")
        async with asyncio.timeout(PATIENCE):
            is_shared = await _are_shared(first, second, backend, store)
    if not is_shared:
        return ok("one stands between, in session mode")
    if not patient.config.listen:
        return ok("one stands between, in transaction mode; workers poll, as listen=False says")
    return warning(
        "one stands between, in transaction mode: workers hear no notifications through it, and prepare nothing",
        "give workers the server's own address, or say listen=False",
    )


async def _are_shared(
    first: AsyncConnection[object], second: AsyncConnection[object], backend: int, store: DoctorStore
) -> bool:
    """Between two transactions of one connection, another one has its server."""
    async with second.transaction():
        if await run_on(second, store.backend()) == backend:
            return True
        return await _backend(first, store) != backend


async def _backend(connection: AsyncConnection[object], store: DoctorStore) -> int:
    async with connection.transaction():
        return await run_on(connection, store.backend())


async def notifications(patient: Patient) -> Finding:
    """What one connection notifies, another one hears; and how soon."""
    store, token = SessionStore(patient.database.schema), secrets.token_hex(8)
    listener = await patient.database.keep()
    try:
        await listener.single(store.listen())
        async with patient.database.session() as another:
            start = time.monotonic()
            await another.single(store.ping(token))
            is_heard = await _hears(listener, token)
    finally:
        listener.close()
    if is_heard:
        return ok(f"heard after {(time.monotonic() - start) * 1000:.1f} ms")
    if not patient.config.listen:
        return ok("none heard; workers poll, as listen=False says")
    return warning(
        f"none heard within {PATIENCE:g} s: workers find new jobs by polling alone, after a second or so",
        "give workers the server's own address; a pooler in transaction mode brings no notifications",
    )


async def _hears(listener: Session, token: str) -> bool:
    until = time.monotonic() + PATIENCE
    while (left := until - time.monotonic()) > 0:
        if any(text.endswith(token) for text in await listener.notifications(left)):
            return True
    return False


async def clock(patient: Patient) -> Finding:
    """This machine's and the server's are at most a second apart."""
    async with patient.database.session() as session:
        before = time.time()
        there = await session.single(patient.store.clock())
        after = time.time()
    apart, doubt = there - (before + after) / 2, (after - before) / 2
    words = f"the server's is {abs(apart):.3f} s {'ahead of' if apart > 0 else 'behind'} this machine's"
    if abs(apart) <= APART + doubt:
        return ok(f"{words}, give or take {doubt:.3f} s")
    return warning(f"{words}: times that this machine computes for _at are as far off", "let NTP set both clocks")


async def budget(patient: Patient) -> Finding:
    """A tenth of the connections are free, and enough for those of the app's worker processes that do not run yet."""
    found = await patient.ask(patient.store.connections())
    words = f"{found.used} of {found.most} connections are in use, {found.free} are left to this role"
    alive = [worker for worker in await patient.ask(patient.store.roll_call()) if worker.state == "alive"]
    to_come = max(0, patient.config.processes - len(alive))
    if found.free < HELD * to_come:
        return failure(f"{words}; {to_come} worker processes that do not run yet take {HELD * to_come}", _MORE_ROOM)
    if found.free * 100 < found.most * SPARE:
        return warning(f"{words}: {found.free // HELD} more worker processes, at {HELD} each", _MORE_ROOM)
    return ok(f"{words}: {found.free // HELD} worker processes, at {HELD} each")


_MORE_ROOM = "raise max_connections, end idle sessions, or put PgBouncer before everything but the workers"
