"""The processes that a benchmark starts beside itself: `python actors.py NAME DSN [PORT]`.

Each says a line when it is ready and begins at a line of its input.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from harness import SCHEMA
from jobs import tell_time

from pgwerk import AsyncWorker, Werk
from pgwerk.db import Database
from pgwerk.execution import Outcome
from pgwerk.store.ending import EndingStore
from pgwerk.store.exchange import Claimed, ExchangeStore, Range
from pgwerk.store.workers import WorkerStore
from pgwerk.wire import Call, Session

CONCURRENCY = 10
BATCH = 100  # jobs in one exchange of the raw drain
THERE, BACK = "bench_there", "bench_back"
NOTIFY = "WITH row AS (INSERT INTO bench_probe VALUES (1)) SELECT pg_notify(%s, '')"


async def drain(dsn: str) -> None:
    """A worker, until nothing is left; then says its peak memory."""
    async with Werk(dsn) as app:
        worker = AsyncWorker(app, concurrency=CONCURRENCY, burst=True)
        wait_for_word()
        await worker.run()
    print(peak_memory(), flush=True)


def peak_memory() -> int:
    """Bytes. What `resource` tells would count the process that this one was started from."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


async def raw_drain(dsn: str) -> None:
    """The worker's own statements in its own round trips, and nothing between two of them."""
    session = await Database(dsn, SCHEMA).keep()
    worker = await session.run(WorkerStore(SCHEMA).register("raw", "raw", ["default"], BATCH, 3600.0))
    wait_for_word()
    outcomes: list[Outcome] = []
    low = 0
    for number in count(1):
        claimed = await exchange(session, worker, number, low, outcomes)
        outcomes = [
            Outcome(row.job_id, worker, number, "complete", is_grouped=False, has_sequel=False) for row in claimed
        ]
        if not claimed:
            break
        low = min(row.seq for row in claimed)
    session.close()
    print("done", flush=True)


async def exchange(session: Session, worker: int, number: int, low: int, outcomes: Sequence[Outcome]) -> list[Claimed]:
    lane = Range("default", 0, low, 2**63 - 1)
    claim = ExchangeStore(SCHEMA).claim(worker, number, BATCH, [lane], is_followed=bool(outcomes))
    settle: list[list[Call[Any]]] = [[*EndingStore(SCHEMA).end(outcomes)]] if outcomes else []
    (claimed, *_) = [successful(each) for each in await session.converse([claim], *settle)]
    return list(claimed[0])


def successful(answers: list[Any] | psycopg.Error) -> list[Any]:
    if isinstance(answers, psycopg.Error):
        raise answers
    return answers


def answer(dsn: str, port: str) -> None:
    """What two connections can do without any queue: hears, tells the time, answers; until it is terminated."""
    with psycopg.connect(dsn, autocommit=True) as hearing, psycopg.connect(dsn, autocommit=True) as answering:
        hearing.execute(f"LISTEN {THERE}")
        print("ready", flush=True)
        for _ in hearing.notifies():
            tell_time(int(port), time.monotonic())
            answering.execute(NOTIFY, [BACK])


def wait_for_word() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    if name == "answer":
        answer(*arguments)
    else:
        asyncio.run({"drain": drain, "raw_drain": raw_drain}[name](*arguments))
