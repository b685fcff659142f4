"""What producers, handlers and faults did, noted in a database of its own that no fault touches.

A note is committed before what it tells of goes on, so the order of the notes is the order of what happened; no clock
is asked for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.types.json import Jsonb

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "PGWERK_TEST_LOG"

TABLES = """
create sequence tick;
-- one row a call of a producer; what it asks for is a list of Asked
create table asked (
    tick bigint default nextval('tick'), at timestamptz default clock_timestamp(), call text primary key, jobs jsonb);
-- what is known of its outcome: the ids (null: its key was taken), or no list at all: rolled back. No row: unknown
create table answered (
    tick bigint default nextval('tick'), at timestamptz default clock_timestamp(), call text primary key, ids bigint[]);
-- one row a start of a handler; `callback_of` is the job that a callback was told of, by its name
create table run (
    tick bigint primary key default nextval('tick'), at timestamptz default clock_timestamp(),
    name text, job_id bigint, attempt integer, worker_id bigint, callback_of bigint);
create table ended (
    tick bigint default nextval('tick'), at timestamptz default clock_timestamp(), run bigint primary key, how text);
create table fault (
    tick bigint default nextval('tick'), at timestamptz default clock_timestamp(), what text, pid integer);
"""


class Log:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._connections: dict[int, psycopg.Connection[Any]] = {}

    @classmethod
    def made(cls, dsn: str) -> Self:
        """In an empty database."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(TABLES)
        return cls(dsn)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def asked(self, call: str, jobs: Sequence[dict[str, Any]]) -> None:
        self._note("insert into asked (call, jobs) values (%s, %s)", call, Jsonb(jobs))

    def committed(self, call: str, ids: Sequence[int | None]) -> None:
        self._note("insert into answered (call, ids) values (%s, %s)", call, list(ids))

    def rolled_back(self, call: str) -> None:
        self._note("insert into answered (call) values (%s)", call)

    def started(self, name: str | None, worker_id: int | None, job_id: int, attempt: int) -> int:
        """The number of this run: what its handler is to return."""
        return self._note(
            "insert into run (name, worker_id, job_id, attempt) values (%s, %s, %s, %s) returning tick",
            name, worker_id, job_id, attempt,
        )  # fmt: skip

    def told(self, name: str, worker_id: int | None, callback_of: int) -> int:
        """The same of a callback, which does not know its own number."""
        return self._note(
            "insert into run (name, worker_id, callback_of) values (%s, %s, %s) returning tick",
            name, worker_id, callback_of,
        )  # fmt: skip

    def ended(self, run: int, how: str) -> None:
        self._note("insert into ended (run, how) values (%s, %s)", run, how)

    def fault(self, what: str, pid: int | None = None) -> None:
        """`pid` is that of a worker which others may take for dead from now on."""
        self._note("insert into fault (what, pid) values (%s, %s)", what, pid)

    def _note(self, text: str, *values: Any) -> int:
        """Blocking: nobody can be cancelled between what happens and its note."""
        cursor = self._connection().execute(text, values)
        return int(cursor.fetchone()[0]) if cursor.description else 0  # type: ignore[index]

    def _connection(self) -> psycopg.Connection[Any]:
        """One a process: what is slow here would be slow for the jobs."""
        pid = os.getpid()
        if pid not in self._connections:
            self._connections[pid] = psycopg.connect(self.dsn, autocommit=True)
        return self._connections[pid]
