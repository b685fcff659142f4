"""The primary is killed and its standby takes over, while jobs run and more come: one DSN names both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from typing import TYPE_CHECKING, Self

from psycopg.conninfo import make_conninfo

from pgwerk import Werk, embedded
from tests.faults.load import QUICK, ROUNDS, Load
from tests.postgres import DEADLINE, Postgres, rows, running, wait_until
from tests.workplace import workers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.history.log import Log

SCHEMA = "failover"
RECOVERED = 10.0 if ROUNDS > 1 else DEADLINE  # seconds after the promotion: what the guarantees promise
QUICK_RETRY = "wal_retrieve_retry_interval=200ms"  # a standby that waits for its lost primary hears of no promotion
_NUMBERED = f"select max(id) <= (select last_value from {SCHEMA}.job_id_seq) from {SCHEMA}.job"
_SYNCHRONOUS = "select from pg_stat_replication where sync_state = 'sync'"


class Pair:
    """A primary and a standby. No commit is acknowledged that only one of them has."""

    def __init__(self, primary: Postgres, folder: Path) -> None:
        self.primary = primary
        folder.parent.mkdir()
        self.standby = self.primary.clone(folder)
        self._follow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.standby, self.primary):
            with contextlib.suppress(embedded.EmbeddedError):
                server.stop("immediate")

    @property
    def dsn(self) -> str:
        ports = f"{self.primary.port},{self.standby.port}"
        return make_conninfo(
            self.primary.dsn, host="127.0.0.1,127.0.0.1", port=ports, target_session_attrs="read-write"
        )

    def lose_primary(self) -> None:
        """As when the primary's machine loses its power: none of its processes says another word."""
        pids = [pid for (pid,) in rows(self.primary.dsn, "select pid from pg_stat_activity")]
        for pid in (self.primary.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def promote(self) -> None:
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """The machine that was lost comes back as the standby."""
        self.standby.wait_until_gone()
        shutil.rmtree(self.standby.folder)
        self.standby = self.primary.clone(self.standby.folder, self.standby.port)
        self._follow()

    def _follow(self) -> None:
        rows(self.primary.dsn, "alter system set synchronous_standby_names = '*'")
        rows(self.primary.dsn, "select pg_reload_conf()")
        self.standby.start()
        wait_until(lambda: rows(self.primary.dsn, _SYNCHRONOUS), "the standby follows")


async def test_a_failover_loses_nothing(log: Log, tmp_path: Path) -> None:
    recoveries = []
    with running(tmp_path / "a" / "data", QUICK_RETRY) as server, Pair(server, tmp_path / "b" / "data") as pair:
        async with Werk(pair.dsn, schema=SCHEMA) as app, Load(app, log, pair.dsn) as load:
            with workers(3, pair.dsn, SCHEMA, tmp_path / "log", *QUICK) as crew:
                await load.recovery()
                for number in range(ROUNDS):
                    if number:
                        await asyncio.to_thread(pair.rebuild)
                    await asyncio.sleep(load.chance.uniform(0.5, 1))  # at whatever moment
                    pair.lose_primary()
                    promoted = time.monotonic()
                    await asyncio.to_thread(pair.promote)
                    recoveries.append(await load.recovery(promoted))
                    async with Werk(pair.dsn, schema=SCHEMA, auto_migrate=False):
                        assert rows(pair.dsn, _NUMBERED) == [(True,)]
                await load.drained()
                assert [worker.stop() for worker in crew] == [0, 0, 0]
        print(f"{ROUNDS} failovers, worst recovery {max(recoveries):.1f} s: {load.prove()}")
    assert max(recoveries) <= RECOVERED
    assert "Traceback" not in "".join(worker.log.read_text() for worker in crew)
