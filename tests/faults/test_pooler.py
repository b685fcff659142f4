"""PgBouncer in transaction mode stands between everybody and the server, and is restarted while jobs run."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING, Self

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgwerk import Werk, embedded
from tests.faults.load import QUICK, RECOVERED, ROUNDS, Load, until
from tests.postgres import free_port, wait_until
from tests.workplace import workers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.history.log import Log

CONFIG = """
[databases]
* = host={host} port={port} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 6
max_client_conn = 200
"""

DEAF = "hears no notifications"

needs_pgbouncer = pytest.mark.skipif(
    shutil.which("pgbouncer") is None, reason="there is no pgbouncer: apt-get install pgbouncer"
)


class Pooler:
    def __init__(self, dsn: str, folder: Path, mode: str = "transaction") -> None:
        parts = conninfo_to_dict(dsn)
        port = free_port()
        self._config, self._log = folder / "pgbouncer.ini", folder / "pgbouncer.log"
        named = {"host": parts["host"], "port": parts.get("port", 5432), "user": parts["user"]}
        self._config.write_text(CONFIG.format(**named, own_port=port, mode=mode))
        self.dsn = make_conninfo(dsn, host="127.0.0.1", port=port)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        prefix = embedded._find_tools().prefix  # it does not run as root either
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*prefix, "pgbouncer", str(self._config)], stdout=log, stderr=log)
        wait_until(self._answers, "the pooler is there")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(20)

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.dsn):
            return True
        return False


@needs_pgbouncer
async def test_a_pooler_that_is_restarted_loses_nothing(
    app: Werk, dsn: str, schema: str, log: Log, tmp_path: Path
) -> None:
    """Two of the workers would like to listen, and find out that they cannot."""
    recoveries = []
    with contextlib.ExitStack() as stack:
        pooler = stack.enter_context(Pooler(dsn, tmp_path))
        listening = stack.enter_context(workers(2, pooler.dsn, schema, tmp_path / "listening", *QUICK))
        others = stack.enter_context(workers(2, pooler.dsn, schema, tmp_path / "other", *QUICK, "--no-listen"))
        async with Werk(pooler.dsn, schema=schema) as producer, Load(producer, log, dsn) as load:
            await until(lambda: all(DEAF in worker.log.read_text() for worker in listening), "they know it")
            for _ in range(ROUNDS):
                await asyncio.sleep(load.chance.uniform(0.3, 1))
                pooler.kill()
                await asyncio.sleep(load.chance.uniform(0, 0.5))
                await asyncio.to_thread(pooler.start)
                recoveries.append(await load.recovery())
            await load.drained()
            assert [worker.stop() for worker in (*listening, *others)] == [0] * 4
    print(f"{ROUNDS} restarts, worst recovery {max(recoveries):.1f} s: {load.prove()}")
    assert max(recoveries) <= RECOVERED
    logs = [worker.log.read_text() for worker in (*listening, *others)]
    assert [text.count(DEAF) for text in logs] == [1, 1, 0, 0]
    assert not [text for text in logs if "Traceback" in text or "bind message" in text]
