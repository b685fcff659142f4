"""The network between workers, producers and the server breaks in every way while jobs run and more come."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections import defaultdict
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING

import pytest
from psycopg.conninfo import make_conninfo

from pgwerk import Werk
from tests.faults.crew import PATIENCE
from tests.faults.load import QUICK, ROUNDS, Load
from tests.faults.namespace import Namespace
from tests.postgres import rows, running
from tests.proxy import Proxy
from tests.workplace import Worker, workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.faults.history.log import Log

    Fault = Callable[[Proxy], Awaitable[None]]

pytestmark = pytest.mark.timeout(3600)
SCHEMA = "pulled"
PULLED = 2.0 if ROUNDS == 1 else 25.0  # seconds at most; longer than any timeout of the network
SLOW = 0.1  # seconds, each way
LOST = 5  # answers
GREETINGS = b"NR"  # how a server's answers to a new connection begin


async def cut(proxy: Proxy) -> None:
    proxy.cut()


async def refuse(proxy: Proxy) -> None:
    await proxy.refuse()
    proxy.cut()
    await asyncio.sleep(0.5)
    await proxy.accept()


async def delay(proxy: Proxy) -> None:
    proxy.delay = SLOW
    await asyncio.sleep(0.5)
    proxy.delay = 0.0


async def lose_answers(proxy: Proxy) -> None:
    """The server has done what it was asked to, and nobody hears of it."""
    left = LOST

    def lose(data: bytes) -> bytes:
        nonlocal left
        if data[:1] in GREETINGS or not left:
            return data
        left -= 1
        raise ConnectionResetError

    proxy.on_answer = lose
    while left:
        await asyncio.sleep(0.02)
    proxy.on_answer = bytes


async def fall_silent(proxy: Proxy) -> None:
    """For less time than anybody's patience: what was held back arrives after all."""
    proxy.black_hole()
    await asyncio.sleep(PATIENCE / 3)
    proxy.heal()


async def fall_silent_for_long(proxy: Proxy) -> None:
    """Whoever is behind it is declared dead, and says what it had to say when its jobs run elsewhere."""
    proxy.black_hole()
    await asyncio.sleep(PATIENCE * 1.5)
    proxy.heal()


async def sever(proxy: Proxy) -> None:
    proxy.sever()


FOR_ALL: list[Fault] = [cut, refuse, delay, lose_answers, fall_silent]
DEADLY: list[Fault] = [fall_silent_for_long, sever]
FOR_WORKERS: list[Fault] = [*FOR_ALL, *DEADLY]


async def test_a_broken_network_loses_nothing(app: Werk, dsn: str, schema: str, log: Log, tmp_path: Path) -> None:
    recoveries: dict[str, list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(dsn)) for _ in range(3)]
        own = await stack.enter_async_context(Proxy(dsn))
        producer = await stack.enter_async_context(Werk(own.dsn, schema=schema))
        load = await stack.enter_async_context(Load(producer, log, dsn))
        crew = [Worker(proxy.dsn, schema, tmp_path / f"log.{at}", *QUICK) for at, proxy in enumerate(proxies)]
        for worker in crew:
            stack.callback(worker.kill)
        await load.recovery()
        for _ in range(ROUNDS):
            for fault in load.chance.sample(FOR_ALL, 2):
                await fault(own)
                recoveries[f"{fault.__name__} (producer)"].append(await load.recovery())
            for fault in load.chance.sample(FOR_WORKERS, len(FOR_WORKERS)):
                victim = load.chance.randrange(len(crew))
                pid = crew[victim].process.pid
                if fault in DEADLY:
                    log.fault(fault.__name__, pid)
                await fault(proxies[victim])
                recoveries[fault.__name__].append(await load.recovery(pid=pid))
        await load.drained()
        assert [await asyncio.to_thread(worker.stop) for worker in crew] == [0, 0, 0]
    print({name: f"{max(each):.1f} s" for name, each in recoveries.items()})
    print(load.prove())


def test_two_networks_of_one_process_are_apart() -> None:
    """A run that was killed leaves its own behind: packets of the next one went there."""
    with Namespace() as left_behind, Namespace() as beyond:
        assert left_behind.here != beyond.here
        with socket.create_server((beyond.here, 0)) as server:
            knock = f"import socket; socket.create_connection({server.getsockname()!r}, 10)"
            subprocess.run([*beyond.command, sys.executable, "-c", knock], check=True)


async def test_a_pulled_cable_loses_nothing(log: Log, tmp_path: Path) -> None:
    """Two workers beyond it, one on this side; without the cable no packet arrives, and nobody is told of anything."""
    recoveries = []
    with ExitStack() as stack:
        beyond = stack.enter_context(Namespace())
        server = stack.enter_context(running(tmp_path / "server" / "data", f"listen_addresses={beyond.here}"))
        with (server.folder / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {beyond.here}/30 trust\n")
        rows(server.dsn, "select pg_reload_conf()")
        far = make_conninfo(server.dsn, host=beyond.here)
        async with Werk(server.dsn, schema=SCHEMA) as app, Load(app, log, server.dsn) as load:
            near = stack.enter_context(workers(1, server.dsn, SCHEMA, tmp_path / "near", *QUICK))
            crew = stack.enter_context(workers(2, far, SCHEMA, tmp_path / "far", *QUICK, behind=beyond.command))
            for _ in range(ROUNDS):
                for worker in crew:
                    recoveries.append(await load.recovery(pid=worker.process.pid))
                    log.fault("pulled cable", worker.process.pid)
                beyond.pull()
                await asyncio.sleep(load.chance.uniform(0.2, 1) * PULLED)
                await load.recovery(pid=near[0].process.pid)
                beyond.plug_in()
            recoveries += [await load.recovery(pid=worker.process.pid) for worker in crew]
            await load.drained()
            assert [worker.stop() for worker in (*near, *crew)] == [0] * 3
        print(f"{ROUNDS} times, worst recovery {max(recoveries[2:]):.1f} s: {load.prove()}")
