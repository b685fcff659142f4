"""The disk of the server is full, and has room again, while jobs run and more come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from pgwerk import Werk
from tests import handlers
from tests.faults.load import QUICK, RECOVERED, ROUNDS, Load, until
from tests.postgres import Postgres, rows, running
from tests.workplace import workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.faults.history.log import Log

SCHEMA = "full"
SIZE = "160m"
SMALL = ("restart_after_crash=off", "max_wal_size=16MB", "min_wal_size=2MB", "autovacuum=off")
LARGE = os.urandom(300_000).hex()  # it fits into no page that is there already


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """With a file system of its own, if this machine lets us have one."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system needs the right to mount one: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    with contextlib.suppress(OSError), (folder / "filling").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


def make_room(folder: Path) -> None:
    (folder / "filling").unlink()


async def refuse_jobs(_: Postgres, app: Werk) -> None:
    """The tables cannot grow."""
    with pytest.raises(psycopg.errors.DiskFull, match="No space left on device"):
        await app.enqueue(handlers.echo, LARGE)


async def go_down(server: Postgres, _: Werk) -> None:
    """The log of its writes cannot grow: it ends at once, as in a crash."""
    with contextlib.suppress(psycopg.OperationalError):
        while True:
            rows(server.dsn, "select pg_logical_emit_message(false, 'faults', repeat('x', 100000))")
    await until(lambda: not (server.folder / "postmaster.pid").exists(), "the server is gone")


@pytest.mark.parametrize("suffer", [refuse_jobs, go_down] if ROUNDS > 1 else [refuse_jobs])
async def test_a_full_disk_loses_nothing(
    log: Log, tmp_path: Path, suffer: Callable[[Postgres, Werk], Awaitable[None]]
) -> None:
    recoveries = []
    with small_disk(tmp_path / "disk") as disk, running(disk / "data", *SMALL, initdb=["--wal-segsize=1"]) as server:
        async with Werk(server.dsn, schema=SCHEMA) as app, Load(app, log, server.dsn) as load:
            with workers(2, server.dsn, SCHEMA, tmp_path / "log", *QUICK) as crew:
                for _ in range(ROUNDS):
                    recoveries.append(await load.recovery())
                    await asyncio.to_thread(fill, disk)
                    await suffer(server, app)
                    await asyncio.sleep(load.chance.uniform(0.2, 1))
                    make_room(disk)
                    if suffer is go_down:
                        await asyncio.to_thread(server.start)
                recoveries.append(await load.recovery())
                await load.drained()
                assert [worker.stop() for worker in crew] == [0, 0]
        print(f"{ROUNDS} rounds, worst recovery {max(recoveries[1:]):.1f} s: {load.prove()}")
    assert max(recoveries[1:]) <= RECOVERED
    assert "Traceback" not in "".join(worker.log.read_text() for worker in crew)
