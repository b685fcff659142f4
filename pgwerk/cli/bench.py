from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import TYPE_CHECKING

import click

from pgwerk.app import Werk
from pgwerk.cli import bench_jobs
from pgwerk.cli.bench_jobs import meter
from pgwerk.cli.output import as_json, show
from pgwerk.cli.target import on_database
from pgwerk.config import WerkConfig
from pgwerk.migrate import temporary
from pgwerk.params import EnqueueParams
from pgwerk.worker.worker import AsyncWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pgwerk.db import Database

SCHEMA = "pgwerk_bench"
SECONDS = 1.5  # for each measure
BULK = 1000  # jobs of one call
BACKLOG = 20_000  # jobs at most that a drain starts with
LEAST_SAMPLES, MOST_SAMPLES = 3, 50
PAUSE = 0.02  # seconds in which a worker becomes idle again
PATIENCE = 5.0  # seconds for a start that takes milliseconds


@dataclass(frozen=True, slots=True)
class Figure:
    measure: str
    value: float
    unit: str


@click.command()
@as_json
@on_database
async def bench(app: Werk, database: Database, *, as_json: bool) -> None:
    """What this server does with jobs, in ten seconds.

    Jobs that do nothing are enqueued and run in a schema of its own, pgwerk_bench, which is dropped at
    the end, and by Ctrl-C too. Everything runs in this one process. Compare figures of the same machine
    and the same hour only.
    """
    own = Werk(config=WerkConfig(dsn=database.dsn, schema=SCHEMA, listen=app.config.listen), connect=database.open)
    reached = await own.reach()
    async with temporary(reached), own:
        figures = [figure async for figure in _figures(own)]
    show([asdict(each) if as_json else _row(each) for each in figures], as_json=as_json, none="")


async def _figures(app: Werk) -> AsyncIterator[Figure]:
    yield Figure("enqueue, one by one", await _rate(lambda: _one(app), 1), "jobs/s")
    yield Figure(f"enqueue, {BULK} at once", await _rate(lambda: _bulk(app, "bulk"), BULK), "jobs/s")
    for concurrency in (10, 100):
        yield Figure(f"run, {concurrency} at a time", await _drain(app, concurrency), "jobs/s")
    seconds = await _pick_ups(app)
    yield Figure("from enqueue to start, an idle worker, median", median(seconds) * 1000, "ms")
    yield Figure("from enqueue to start, an idle worker, 95 %", quantiles(seconds, n=20)[-1] * 1000, "ms")


async def _one(app: Werk) -> None:
    await app.enqueue(bench_jobs.noop, _queue="one")


async def _bulk(app: Werk, queue: str) -> None:
    await app.enqueue_many([EnqueueParams(bench_jobs.noted, queue=queue)] * BULK)


async def _rate(act: Callable[[], Awaitable[None]], jobs: int) -> float:
    await act()  # the first one is not like the others
    start, done = time.monotonic(), 0
    while (took := time.monotonic() - start) < SECONDS or not done:
        await act()
        done += jobs
    return done / took if took else 0.0


async def _drain(app: Werk, concurrency: int) -> float:
    queue, until = f"drain {concurrency}", time.monotonic() + SECONDS
    for _ in range(BACKLOG // BULK):
        if time.monotonic() < until:
            await _bulk(app, queue)
    meter.reset()
    async with _working(AsyncWorker(app, [queue], concurrency, burst=True)) as running:
        await _first(running)
        await asyncio.wait([running], timeout=SECONDS)
    return meter.rate


async def _pick_ups(app: Werk) -> list[float]:
    seconds: list[float] = []
    async with _working(AsyncWorker(app, ["pick-up"])) as running:
        until = time.monotonic() + SECONDS
        while not running.done() and len(seconds) < MOST_SAMPLES:
            seconds.append(await _pick_up(app, running))
            await asyncio.sleep(PAUSE)
            if len(seconds) > LEAST_SAMPLES and time.monotonic() > until:
                break
    return seconds[1:]  # the worker began with the first


async def _pick_up(app: Werk, running: asyncio.Task[None]) -> float:
    meter.reset()
    start = time.monotonic()
    await app.enqueue(bench_jobs.noted, _queue="pick-up")
    await _first(running)
    return (meter.first or time.monotonic()) - start


async def _first(running: asyncio.Task[None]) -> None:
    """Until a job has started, or the worker has ended."""
    noted = asyncio.create_task(meter.noted.wait())
    await asyncio.wait({noted, running}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    noted.cancel()


@contextlib.asynccontextmanager
async def _working(worker: AsyncWorker) -> AsyncIterator[asyncio.Task[None]]:
    """A worker takes Ctrl-C for itself; here it ends the bench too."""
    running = asyncio.create_task(worker.run())
    try:
        yield running
    finally:
        is_interrupted = worker.is_stopping
        if not is_interrupted:
            worker.stop()
        await running
        if is_interrupted:
            raise KeyboardInterrupt


def _row(figure: Figure) -> dict[str, str]:
    value = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.1f}"  # noqa: PLR2004 - three digits
    return {"measure": figure.measure, "": f"{value} {figure.unit}"}
