from __future__ import annotations

import asyncio
import signal
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgwerk.app import Werk
from pgwerk.cli import demo_jobs
from pgwerk.cli.demo_report import Times, report
from pgwerk.cli.demo_workers import worker_processes
from pgwerk.cli.exits import Exit
from pgwerk.config import WerkConfig
from pgwerk.errors import WerkError
from pgwerk.params import EnqueueParams, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from subprocess import Popen

    from pgwerk.job import Job

PROCESSES = 2
EVERY = 40  # of so many jobs, one is made to fail once
LOOK = 0.2  # seconds between two looks at the jobs
PATIENCE = 60.0  # seconds in which some job should have ended
PAGE = 1000

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
NOT_OURS = {"site-packages", "dist-packages", "test", "tests"}


class DemoError(WerkError, RuntimeError):
    """The demo came to no end."""


@click.command()
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=".pgwerk/demo", show_default=True,
    help="where the private Postgres is kept",
)  # fmt: skip
def demo(folder: Path) -> None:
    """See it work: a private Postgres, two worker processes, a few hundred real jobs.

    The jobs measure every file of this Python's standard library. Ctrl-C stops all of it at any moment.
    """
    home = folder.resolve()
    try:
        asyncio.run(_until_interrupted(home))
    except asyncio.CancelledError:
        click.echo(f"\nstopped; nothing goes on running, and what was done so far is kept in {home}")
        raise SystemExit(Exit.Interrupted) from None


async def _until_interrupted(home: Path) -> None:
    task = asyncio.create_task(_demo(home))
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, _cancel_once, task)
    await task


def _cancel_once(task: asyncio.Task[None]) -> None:
    """The second Ctrl-C would only disturb the tidying up that the first one began."""
    if not task.cancelling():
        task.cancel()


async def _demo(home: Path) -> None:
    files = _files()
    click.echo(f"starting a private Postgres; its data is kept in {home}")
    times = Times()
    async with Werk(config=WerkConfig(dsn=f"embedded://{home}")) as app:
        times.note("server start")
        with worker_processes(app, PROCESSES, home / "workers.log") as workers:
            click.echo(f"starting {PROCESSES} worker processes; their log is {home / 'workers.log'}")
            await _hear_from(workers, app)
            times.note("workers' start")
            jobs = await app.enqueue_many(_params(files))
            times.note("enqueue")
            run = _Run(app, workers, [job for job in jobs if job is not None])
            ended = await run.watch()
        await report(app, ended, times, home)


def _files() -> list[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    found = [path for path in library.rglob("*.py") if not NOT_OURS & set(path.relative_to(library).parts)]
    if not found:
        raise DemoError(f"there are no .py files in {library} to measure")
    return sorted(found)


def _params(files: list[Path]) -> list[EnqueueParams]:
    retry = Retry(max=3, intervals=[0.5, 1])
    return [
        EnqueueParams(demo_jobs.measure, [str(path)], {"fails_first": number % EVERY == 0}, retry=retry)
        for number, path in enumerate(files)
    ]


async def _hear_from(workers: Popen[bytes], app: Werk) -> None:
    """A first job, answered by whichever worker is up first."""
    answer = asyncio.create_task(app.apply(demo_jobs.hello, timeout=PATIENCE))
    while not answer.done():
        await asyncio.wait([answer], timeout=LOOK)
        _check(workers)
    await answer


def _check(workers: Popen[bytes]) -> None:
    if workers.poll() is not None:
        raise DemoError(f"the workers ended early, with exit status {workers.returncode}; see their log")


@dataclass(slots=True)
class _Run:
    """The jobs of this run; older ones may stand in the same folder."""

    app: Werk
    workers: Popen[bytes]
    jobs: list[Job]

    async def watch(self) -> list[Job]:
        """A progress bar until all have ended; the jobs as they ended."""
        click.echo(f"{len(self.jobs)} jobs: checksum and line count of each file of the standard library")
        ended: list[Job] = []
        moved = time.monotonic()
        with click.progressbar(length=len(self.jobs), label="jobs", show_pos=True) as bar:
            while len(ended) < len(self.jobs):
                await asyncio.sleep(LOOK)
                before, ended = len(ended), await self._ended()
                bar.update(len(ended) - before)
                moved = time.monotonic() if len(ended) > before else moved
                self._check(moved)
        return ended

    def _check(self, moved: float) -> None:
        _check(self.workers)
        if time.monotonic() - moved > PATIENCE:
            raise DemoError(f"no job has ended for {PATIENCE:g} s; see the workers' log")

    async def _ended(self) -> list[Job]:
        ours, found = {job.id for job in self.jobs}, [job async for job in self._newest()]
        return [job for job in found if job.id in ours and job.status.is_final]

    async def _newest(self) -> AsyncIterator[Job]:
        """Down to the first of ours."""
        first = min(job.id for job in self.jobs)
        page = await self.app.list_jobs(limit=PAGE)
        while page:
            for job in page:
                yield job
            page = await self.app.list_jobs(before=page[-1], limit=PAGE) if page[-1].id > first else []
