"""A server that a test may stop, kill and start again; and facts that a test can wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psycopg

from pgwerk import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE = 40.0  # seconds; a fact that has not come by then will not come


class Postgres:
    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._tools = embedded._find_tools()
        self.folder = folder
        self._sockets = folder.parent
        folder.parent.mkdir(exist_ok=True)
        self._tools.run("initdb", "-D", str(folder), "-U", "werk", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.dsn = f"host={self._sockets} port={self.port} user=werk dbname=postgres"

    def start(self) -> None:
        options = f"-k {self._sockets} -p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100"
        log = str(self.folder / "server.log")
        subprocess.run(
            self._tools.command("pg_ctl", "start", "-w", "-s", "-D", str(self.folder), "-l", log, "-o", options),
            check=True, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """As a crash. Its backends notice when they look up, and until then it cannot be started again."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _exists(pid), "the server is gone")

    def restart_after_crash(self) -> None:
        wait_until(self._starts, "the server starts again")

    def _starts(self) -> bool:
        try:
            self.start()
        except subprocess.CalledProcessError:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        self._tools.run("pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", str(self.folder))


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Postgres]:
    server = Postgres(folder)
    server.start()
    try:
        yield server
    finally:
        with contextlib.suppress(embedded.EmbeddedError):
            server.stop("immediate")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number: int = taken.getsockname()[1]
    return number


def wait_until(fact: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """Polls for a fact; what it was called stands in the failure."""
    until = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


def rows(dsn: str, text: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(text, values or None).fetchall()
