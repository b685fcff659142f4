"""What the demo says at its end."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from pgwerk.job import JobStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pgwerk.app import Werk
    from pgwerk.job import Job

LOOK_IN_PYTHON = """\
import asyncio, pgwerk
async def look():
    async with pgwerk.Werk({dsn}) as app:
        for job in await app.list_jobs(limit=10):
            print(job.id, job.status, job.attempts, job.payload, job.result)
asyncio.run(look())"""

LOOK_IN_PSQL = """\
import pathlib, subprocess
from pgwerk import embedded
subprocess.call(["psql", embedded.start(pathlib.Path({home})).dsn])"""

GO_ON = """\
import asyncio
from pgwerk import Werk

app = Werk("embedded:")  # or the DSN of your Postgres

def greet(name):
    return f"Hello, {name}!"

async def main():
    async with app:
        print(await app.apply("tasks.greet", "world"))

if __name__ == "__main__":
    asyncio.run(main())"""


class Times:
    """What this process waited for, in order."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.seconds: dict[str, float] = {}

    def note(self, what: str) -> None:
        now = time.monotonic()
        self.seconds[what], self._last = now - self._last, now


async def report(app: Werk, jobs: Sequence[Job], times: Times, home: Path) -> None:
    complete = [job for job in jobs if job.status == JobStatus.Complete]
    _say_result(jobs, complete)
    _say_counts(jobs, complete)
    _say_times(times, await _waits(app, complete), [_seconds(job.started_at, job.completed_at) for job in complete])
    _say_where_the_rows_are(home)
    _title("to go on, put this into tasks.py")
    click.echo(GO_ON)
    python = shlex.quote(sys.executable)
    click.echo(f"\nand run   {python} -m pgwerk worker tasks:app   in one terminal,\n{python} tasks.py   in another")


def _say_result(jobs: Sequence[Job], complete: Sequence[Job]) -> None:
    size, lines = (sum(job.result[what] for job in complete) for what in ("bytes", "lines"))
    _title("the result")
    click.echo(f"  {size:,} bytes and {lines:,} lines in {len(complete)} of {len(jobs)} files")


def _say_counts(jobs: Sequence[Job], complete: Sequence[Job]) -> None:
    retries = sum(job.attempts - 1 for job in jobs)
    ends = [job.completed_at for job in jobs if job.completed_at]
    seconds = _seconds(min(job.enqueued_at for job in jobs), max(ends))
    _title("the jobs")
    click.echo(f"  {len(complete)} complete, {len(jobs) - len(complete)} failed, {retries} retries")
    click.echo(f"  {len(jobs) / seconds:,.0f} jobs/s: {seconds:.2f} s from enqueue to the last end, with the retries")


def _say_times(times: Times, waits: list[float], runs: list[float]) -> None:
    _title("where the time went")
    for what, seconds in times.seconds.items():
        click.echo(f"  {what:<28}{_shown(seconds)}")
    click.echo(f"  {'of each job':<28}{'median':>10}{'95 %':>10}{'longest':>10}")
    for what, values in {"waiting for a worker": waits, "claimed to result stored": runs}.items():
        values.sort()
        marks = (values[len(values) // 2], values[len(values) * 95 // 100], values[-1]) if values else ()
        click.echo(f"  {what:<28}" + "".join(map(_shown, marks)))


def _say_where_the_rows_are(home: Path) -> None:
    _title("to look at the rows (it starts the server again, for as long as it runs)")
    click.echo(_command(LOOK_IN_PYTHON.format(dsn=json.dumps(f"embedded://{home}"))))
    if shutil.which("psql"):
        click.echo("\nor in psql, where the view is pgwerk.jobs:")
        click.echo(_command(LOOK_IN_PSQL.format(home=json.dumps(str(home)))))


async def _waits(app: Werk, jobs: Sequence[Job]) -> list[float]:
    """Until the first start; a job's own `started_at` is that of its latest attempt."""
    retried = {job.id: (await app.get_executions(job))[0].started_at for job in jobs if job.attempts > 1}
    return [_seconds(job.enqueued_at, retried.get(job.id, job.started_at)) for job in jobs]


def _seconds(start: datetime | None, end: datetime | None) -> float:
    return (end - start).total_seconds() if start and end else 0.0


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:>7,.0f} ms"


def _command(script: str) -> str:
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(script)}"


def _title(text: str) -> None:
    click.secho(f"\n{text}", bold=True)
