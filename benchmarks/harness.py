"""What the benchmarks share: a server, a fresh database on it, processes that wait for a word, and the facts."""

import argparse
import json
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict

from pgwerk import embedded

HERE = Path(__file__).resolve().parent
SCHEMA = "pgwerk"
DEADLINE = 60.0  # seconds for what ought to take one
SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
)


def options(about: str | None, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dsn", help="a server where databases may be created; otherwise one is started")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where every figure goes as well")
    return parser


def save(path: Path | None, **figures: object) -> None:
    if path:
        path.write_text(json.dumps(figures, indent=2) + "\n")


@contextmanager
def running_server(dsn: str | None) -> Iterator[str]:
    if dsn:
        yield dsn
        return
    with closing(embedded.start(HERE / ".pgwerk/postgres", durable=True)) as server:
        yield server.dsn


@contextmanager
def fresh_database(server: str, template: str = "template1") -> Iterator[str]:
    where = {name: value for name, value in conninfo_to_dict(server).items() if name != "dbname"}
    name = f"pgwerk_bench_{secrets.token_hex(4)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield uri(name, where)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def uri(database: str, where: Mapping[str, object]) -> str:
    """With everything in its query: the one form that both psycopg and asyncpg read."""
    return f"postgresql:///{database}?{urlencode(where, quote_via=quote)}"


@contextmanager
def old_snapshot(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Held as long as the context; a transaction has none before its first query."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT 1")
        yield connection


def facts(server: str) -> dict[str, str]:
    """Of the machine and the server: a figure without them says nothing."""
    machine = {
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
    }
    with psycopg.connect(server) as connection:
        rows = connection.execute("SELECT name, current_setting(name) FROM unnest(%s::text[]) name", [list(SETTINGS)])
        return machine | dict(rows.fetchall())


def print_facts(found: dict[str, str]) -> None:
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)


class Inspector:
    """A look at the database from outside, over a connection of its own."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def value(self, query: str) -> Any:
        row = self.connection.execute(query).fetchone()
        return row[0] if row else None

    def empty(self) -> None:
        """Everything but the workers; a worker that runs finds its cursor at the old places, and new ones above."""
        tables = (
            "job", "ready", "blocked", "scheduled", "waiting", "dependency", "active", "attempt", "finished", "waiter",
        )  # fmt: skip
        self.connection.execute(f"TRUNCATE {', '.join(f'{SCHEMA}.{table}' for table in tables)}")

    def checkpoint(self) -> None:
        """The first change of a page behind it writes the whole page into the WAL."""
        self.connection.execute("CHECKPOINT")

    def wal_from_here(self) -> Callable[[], float]:
        """Counts the server's bytes of WAL from now on."""
        here = self._wal()
        return lambda: self._wal() - here

    def expect_finished(self, jobs: int) -> None:
        """A drain that lost jobs, or did not end them well, is no measurement."""
        done = self.value(f"SELECT count(*) FROM {SCHEMA}.finished WHERE status = 'complete'")
        left = self.value(f"SELECT (SELECT count(*) FROM {SCHEMA}.ready) + (SELECT count(*) FROM {SCHEMA}.active)")
        if (done, left) != (jobs, 0):
            raise RuntimeError(f"{jobs} jobs were expected to complete; {done} did, {left} are left")

    def wait_for_idle_worker(self) -> None:
        wait_until(lambda: self.value(f"SELECT count(*) FROM {SCHEMA}.idle") > 0, "a worker that says it is idle")

    def _wal(self) -> float:
        return float(self.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))


def wait_until(fact: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE
    while not fact():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {DEADLINE:.0f} s: {what}")
        time.sleep(0.02)


class Actor:
    """A process of actors.py: it gets ready, waits for the word, does its part, and says how it went."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "actors.py"), *arguments]
        self._name = arguments[0]
        self._process: Any = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear()

    def tell(self) -> None:
        print(file=self._process.stdin, flush=True)

    def hear(self) -> str:
        if line := self._process.stdout.readline():
            return str(line).strip()
        raise RuntimeError(f"the process {self._name!r} ended with status {self._process.wait()}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE)
        self._process.stdin.close()
        self._process.stdout.close()


@contextmanager
def actors(count: int, *arguments: str) -> Iterator[Sequence[Actor]]:
    with ExitStack() as ending:
        yield [ending.enter_context(closing(Actor(*arguments))) for _ in range(count)]


@contextmanager
def worker_process(dsn: str, *given: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command that anybody would type."""
    command = [sys.executable, "-m", "pgwerk", "worker", "jobs:app", "--log-level", "warning", *given]
    worker = subprocess.Popen(command, cwd=HERE, env=os.environ | {"PGWERK_DSN": dsn}, process_group=0)
    try:
        yield worker
    finally:
        worker.terminate()
        if worker.wait(DEADLINE):
            raise RuntimeError(f"the worker ended with status {worker.returncode}")
