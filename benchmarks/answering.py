"""How soon: from an enqueue to the handler's first line, there and back with `apply`, and bare notifications."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median, quantiles
from typing import Any

import psycopg
from actors import BACK, NOTIFY, THERE
from harness import actors, worker_process
from jobs import noop, stamp
from place import Figures, Place
from psycopg import AsyncConnection

from pgwerk import Werk

PAUSE = 0.01  # seconds in which a worker becomes idle again
PATIENCE = 10.0  # seconds for an answer that takes milliseconds


class Ear:
    """A port on which another process tells when something happened, on the clock of this machine."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]

    async def hear(self) -> float:
        async with asyncio.timeout(PATIENCE):
            return float(await asyncio.get_running_loop().sock_recv(self._socket, 64))

    def close(self) -> None:
        self._socket.close()


async def idle_worker(place: Place) -> Figures:
    """The enqueue goes over a kept connection of the caller's; `apply` opens one for each call, as by default."""
    ear = Ear()
    with worker_process(place.dsn):
        place.inspector.wait_for_idle_worker()
        async with Werk(place.dsn) as app, await connect(place.dsn) as connection:

            async def pick_up() -> float:
                start = time.monotonic()
                await app.enqueue(stamp, ear.port, _conn=connection)
                return await ear.hear() - start

            async def apply() -> float:
                start = time.monotonic()
                await app.apply(noop, timeout=PATIENCE)
                return time.monotonic() - start

            picked_up, applied = await repeat(pick_up, place.jobs.picked_up), await repeat(apply, place.jobs.applied)
    ear.close()
    return percentiles("pick-up", picked_up) | percentiles("apply", applied)


async def raw_notification(place: Place) -> Figures:
    """An INSERT that notifies, heard in another process; and that one's answer of the same kind."""
    place.inspector.connection.execute("CREATE TABLE IF NOT EXISTS bench_probe (row int)")
    ear = Ear()
    there: list[float] = []
    with actors(1, "answer", place.dsn, str(ear.port)):
        async with await connect(place.dsn) as connection, await connect(place.dsn) as hearing:
            await hearing.execute(f"LISTEN {BACK}")

            async def round_trip() -> float:
                start = time.monotonic()
                await connection.execute(NOTIFY, [THERE])
                there.append(await ear.hear() - start)
                _ = [heard async for heard in hearing.notifies(timeout=PATIENCE, stop_after=1)]
                return time.monotonic() - start

            back = await repeat(round_trip, place.jobs.picked_up)
    ear.close()
    return percentiles("raw there", there[1:]) | percentiles("raw back", back)


async def repeat(act: Callable[[], Awaitable[float]], times: int) -> list[float]:
    await act()  # the first one prepares and connects
    seconds = []
    for _ in range(times):
        await asyncio.sleep(PAUSE)
        seconds.append(await act())
    return seconds


def percentiles(name: str, seconds: Sequence[float]) -> Figures:
    last = quantiles(seconds, n=100, method="inclusive")[98]
    return {f"{name} p50": median(seconds) * 1000, f"{name} p99": last * 1000}


async def connect(dsn: str) -> AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)
