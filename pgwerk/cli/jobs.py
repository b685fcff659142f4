from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pgwerk import checks
from pgwerk.app import result_of
from pgwerk.cli.completing import QUEUE
from pgwerk.cli.filtering import filter_options, filters_of
from pgwerk.cli.output import arguments_of, as_json, say, say_json, show, show_fields
from pgwerk.cli.target import on_app, on_new_app
from pgwerk.control import MOST_LISTED
from pgwerk.errors import headline, printable
from pgwerk.params import EnqueueParams

if TYPE_CHECKING:
    from pgwerk.app import Werk
    from pgwerk.job import Job

FOR_EVER = 86400.0 * 365  # seconds
_OF_THE_JOB = ("job_id", "attempt")  # said already where its attempts are shown

job_id = click.argument("job_id", metavar="ID", type=click.IntRange(1, checks.LARGEST_ID))


@click.command()
@click.argument("function", metavar="PATH.TO.FUNCTION")
@click.argument("arguments", metavar="[JSON]", default="{}")
@click.option("--queue", type=QUEUE, default="default", show_default=True)
@click.option("--priority", type=int, default=0, show_default=True, help="higher runs first")
@click.option("--delay", type=float, metavar="SECONDS", help="not before that")
@click.option("--retry", type=int, default=1, show_default=True, help="attempts in all")
@click.option("--timeout", type=float, metavar="SECONDS", help="of an attempt")
@click.option("--key", help="no second job with the same")
@click.option("--group", help="of whose jobs one runs at a time")
@click.option("--wait", is_flag=True, help="for its end, and print the result as JSON")
@as_json
@on_new_app
async def enqueue(app: Werk, function: str, arguments: str, *, wait: bool, as_json: bool, **options: Any) -> None:
    """Enqueue a job.

    The arguments are a JSON object (by name) or list (by place).
    """
    given = arguments_of(arguments)
    chosen = {name: value for name, value in options.items() if value is not None}
    params = EnqueueParams(function, **given, **chosen)
    if wait:
        say_json(await _result(app, params))
        return
    (job,) = await app.enqueue_many([params])
    if job is None:
        say(f"nothing was done: the key {options['key']!r} is taken", as_json=as_json, id=None)
    else:
        say(f"enqueued job {job.id}", as_json=as_json, id=job.id)


async def _result(app: Werk, params: EnqueueParams) -> Any:
    jobs: list[Job] = []
    try:
        (ended,) = await app.enqueue_and_wait([params], FOR_EVER, enqueued=jobs.append)
    except asyncio.CancelledError:
        for job in jobs:
            click.echo(f"job {job.id} goes on", err=True)
        raise
    return result_of(ended)


@click.command()
@filter_options()
@click.option("--limit", type=click.IntRange(1, MOST_LISTED), default=20, show_default=True)
@click.option("--before", type=click.IntRange(min=1), metavar="ID", help="the page behind this job")
@as_json
@on_app
async def jobs(app: Werk, limit: int, before: int | None, *, as_json: bool, **given: Any) -> None:
    """The newest jobs, or the newest that the options find."""
    found = await app.list_jobs(limit=limit, before=before, **filters_of(given))
    rows = [asdict(job) if as_json else _line(job) for job in found]
    show(rows, as_json=as_json, none="there are no such jobs", cuts=True)


@click.command()
@job_id
@as_json
@on_app
async def job(app: Werk, job_id: int, *, as_json: bool) -> None:
    """All about one job.

    What was asked, its attempts, what it depends on, and why it is where it is.
    """
    explanation = await app.explain_job(job_id)
    attempts = [asdict(each) for each in await app.get_executions(job_id)]
    depends_on = [asdict(each) for each in await app.get_job_dependencies(job_id)]
    found, reasons = asdict(explanation.job), explanation.reasons
    if as_json:
        say_json({**found, "executions": attempts, "depends_on": depends_on, "why": reasons})
        return
    show_fields({name: value for name, value in found.items() if value is not None} | {"why": "; ".join(reasons)})
    for each in attempts:
        click.echo(f"\nattempt {each['attempt']}")
        show_fields({name: value for name, value in each.items() if name not in _OF_THE_JOB and value is not None})
    if depends_on:
        click.echo("\ndepends on")
        show(depends_on, as_json=False, none="")


@click.command()
@job_id
@as_json
@on_app
async def why(app: Werk, job_id: int, *, as_json: bool) -> None:
    """Why a job does not run, where it runs, or how it ended."""
    reasons = (await app.explain_job(job_id)).reasons
    say_json(reasons) if as_json else click.echo(printable("\n".join(reasons)))


def _line(job: Job) -> dict[str, Any]:
    return {
        "id": job.id, "status": job.status, "since": job.completed_at or job.started_at or job.enqueued_at,
        "function": job.function, "queue": job.queue, "attempts": f"{job.attempts} of {job.max_attempts}",
        "error": headline(job.error) or None,
    }  # fmt: skip
