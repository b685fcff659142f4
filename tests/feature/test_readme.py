"""The words that a new user types, as they stand: the README's files, and the smallest whole program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.postgres import Postgres, rows, running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

README = Path(__file__).parents[2] / "README.md"

SMALLEST = """\
import asyncio
from pgwerk import Werk, AsyncWorker
app = Werk("postgresql://user:pass@localhost/mydb")
async def greet(name: str) -> str:
    return f"Hello, {name}!"
async def main():
    async with app:
        await app.enqueue(greet, name="world")
        worker = AsyncWorker(app=app, queues=["default"], concurrency=5)
        await worker.run()
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def shop_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with the user, the password and the database that the words name."""
    with running(tmp_path_factory.mktemp("shop") / "server" / "data") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute("create role \"user\" login password 'pass'")
            connection.execute('create database mydb owner "user"')
        yield server


def _environment(server: Postgres) -> dict[str, str]:
    """The port is the one thing that the words leave to the machine."""
    return os.environ | {"PGPORT": str(server.port), "PGWERK_DSN": "postgresql://user:pass@localhost/mydb"}


def _mydb(server: Postgres) -> str:
    return f"{server.dsn} dbname=mydb"


def _interrupt(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    return output


def test_the_smallest_program_runs_its_job_and_ends_at_ctrl_c(shop_server: Postgres, tmp_path: Path) -> None:
    script = tmp_path / "smallest.py"
    script.write_text(SMALLEST)
    process = subprocess.Popen(
        [sys.executable, str(script)], text=True, cwd=tmp_path, env=_environment(shop_server),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    done = "select result from pgwerk.jobs where status = 'complete' and function = '__main__.greet'"
    wait_until(lambda: process.poll() is not None or _asked(shop_server, done), "the job has run")
    output = _interrupt(process)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert rows(_mydb(shop_server), done) == [("Hello, world!",)]


def test_the_readme_tells_the_truth(shop_server: Postgres, tmp_path: Path) -> None:
    for name, text in re.findall(r"```python file=(\S+)\n(.*?)```", README.read_text(), re.DOTALL):
        (tmp_path / name).write_text(text)
    environment = _environment(shop_server)
    (command,) = re.findall(r"^\$ werk (worker .*)$", README.read_text(), re.MULTILINE)
    worker = subprocess.Popen(
        [sys.executable, "-m", "pgwerk", *command.split()], text=True, cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for script in ("orders.py", "transaction.py"):
            ran = subprocess.run(
                [sys.executable, script], cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=60
            )
            assert ran.returncode == 0, ran.stderr
        assert _asked(shop_server, "select * from orders") == [(9,)]
        (query,) = re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
        wait_until(
            lambda: [row[2] for row in rows(_mydb(shop_server), query) if "shop." in row[1]] == ["complete"] * 5,
            "every job is done",
        )
    finally:
        output = _interrupt(worker)
    assert worker.returncode == 0, output
    assert "Traceback" not in output
    assert "attempt 1" in output


def _asked(server: Postgres, query: str) -> list[tuple[object, ...]]:
    """Nothing yet, where the tables are still to come."""
    try:
        return rows(_mydb(server), query)
    except psycopg.errors.UndefinedTable:
        return []
