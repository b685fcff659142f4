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
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

DEADLINE = 40.0  # seconds; a fact that has not come by then will not come


class Postgres:
    """`settings` are of the server ("max_connections=10"), beside those that all have."""

    def __init__(self, folder: Path, *settings: str, port: int | None = None, initdb: Sequence[str] = ()) -> None:
        self.port = port or free_port()
        self._tools = embedded._find_tools()
        self.folder, self._settings = folder, settings
        self._sockets = folder.parent
        folder.parent.mkdir(exist_ok=True)
        if not folder.exists():
            self._tools.run(
                "initdb", "-D", str(folder), "-U", "werk", "-A", "trust", "-E", "UTF8", "--no-sync", *initdb
            )
        self.dsn = f"host={self._sockets} port={self.port} user=werk dbname=postgres"

    def start(self) -> None:
        own = ("listen_addresses=127.0.0.1", "fsync=off", "max_connections=100", *self._settings)
        options = f"-k {self._sockets} -p {self.port} " + " ".join(f"-c {setting}" for setting in own)
        subprocess.run(
            self._tools.command("pg_ctl", "start", "-w", "-s", "-D", str(self.folder), "-l", self._log, "-o", options),
            check=True, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """As a crash. Its backends notice when they look up, and until then it cannot be started again."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_until_gone()

    def wait_until_gone(self) -> None:
        """A killed process holds its server's locks until somebody has collected it."""
        pid = self.pid
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

    def clone(self, folder: Path, port: int | None = None) -> Postgres:
        """A standby that follows this server as soon as it is started."""
        copying = self._with_basebackup()
        copying.run("pg_basebackup", "-d", self.dsn, "-D", str(folder), "-c", "fast", "--no-sync")
        (folder / "standby.signal").touch()
        with (folder / "postgresql.auto.conf").open("a") as settings:  # -R writes words that older servers do not know
            settings.write(f"primary_conninfo = '{self.dsn}'\n")
        return Postgres(folder, *self._settings, port=port)

    def _with_basebackup(self) -> embedded._Tools:
        """The npm packages of the matrix leave it out; one of a newer version copies an older server too."""
        folders = [self._tools.folder, *embedded._usual_folders()]
        return self._tools._replace(folder=next(each for each in folders if (each / "pg_basebackup").exists()))

    def promote(self) -> None:
        self._tools.run("pg_ctl", "promote", "-w", "-s", "-D", str(self.folder))

    @property
    def _log(self) -> str:
        return str(self.folder / "server.log")


@contextlib.contextmanager
def running(folder: Path, *settings: str, initdb: Sequence[str] = ()) -> Iterator[Postgres]:
    server = Postgres(folder, *settings, initdb=initdb)
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


def free_port() -> int:
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
        cursor = connection.execute(text, values or None)
        return cursor.fetchall() if cursor.rownumber is not None else []
