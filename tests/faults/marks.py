"""Handlers that leave marks in the database, so that a test can see who ran when, and beside whom."""

from __future__ import annotations

import asyncio
import os
import random
from functools import cache
from typing import TYPE_CHECKING

import psycopg
from psycopg import AsyncConnection, sql

if TYPE_CHECKING:
    from typing import Any

    from pgwerk import Context

TABLES = """
create table beside (group_key text primary key);
create table mark (id bigint generated always as identity, job_id bigint, name text, worker text, attempt integer);
"""


@cache
def _connecting() -> asyncio.Task[AsyncConnection[Any]]:
    """One a process: what is slow here would be slow for the jobs."""
    return asyncio.create_task(_connect())


async def _connect() -> AsyncConnection[Any]:
    connection = await AsyncConnection.connect(os.environ["PGWERK_DSN"], autocommit=True)
    await connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(os.environ["PGWERK_SCHEMA"])))
    return connection


def make_tables(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(sql.SQL("set search_path to {}").format(sql.Identifier(schema)))
        connection.execute(TABLES)


async def alone(ctx: Context, seconds: float) -> None:
    """Fails if another one of its group runs at the same time, in whatever process."""
    connection = await _connecting()
    await connection.execute("insert into beside values (%s)", [ctx.job.group_key])
    await asyncio.sleep(seconds)
    await connection.execute(
        "with gone as (delete from beside where group_key = %s) insert into mark (job_id, name) values (%s, %s)",
        [ctx.job.group_key, ctx.job.id, ctx.job.group_key],
    )


async def mark(ctx: Context, name: str, fails: float = 0.0) -> str:
    """Takes a moment, and fails now and then."""
    connection = await _connecting()
    await asyncio.sleep(random.uniform(0, 0.02))
    await connection.execute(
        "insert into mark (job_id, name, worker, attempt) values (%s, %s, %s, %s)",
        [ctx.job.id, name, ctx.worker.name, ctx.job.attempts],
    )
    if random.random() < fails:
        raise ValueError(f"{name} fails in attempt {ctx.job.attempts}")
    return name


async def ended(ctx: Context) -> None:
    """A callback."""
    connection = await _connecting()
    await connection.execute("insert into mark (job_id, name) values (%s, %s)", [ctx.job.id, f"ended {ctx.job.status}"])
