from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from pgwerk import checks
from pgwerk.cli.exits import Exit
from pgwerk.cli.filtering import filter_options, filters_of
from pgwerk.cli.output import as_json, ask, is_terminal, number_of, say
from pgwerk.cli.target import on_app
from pgwerk.errors import InvalidOption
from pgwerk.job import FINAL, PENDING, JobStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from pgwerk.app import Werk
    from pgwerk.filters import Filters

    One = Callable[[int], Awaitable[bool]]
    Many = Callable[..., Awaitable[int]]

MOST_FOUND = 1000  # more are not counted before the question

ids = click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=1))
yes = click.option("-y", "--yes", is_flag=True, help="do not ask")


class _Act(NamedTuple):
    name: str
    one: One
    many: Many
    states: Iterable[JobStatus]
    """Of the jobs that it is for."""


def _command(act: Callable[..., Awaitable[None]]) -> click.Command:
    """By ids, or by filters after a question."""
    return click.command()(ids(filter_options()(yes(as_json(on_app(act))))))


@_command
async def retry(app: Werk, ids: tuple[int, ...], *, yes: bool, as_json: bool, **given: Any) -> None:
    """Run failed and aborted jobs again, with as many attempts as at first."""
    act = _Act("retry", app.requeue_job, app.bulk_requeue_jobs, (JobStatus.Failed, JobStatus.Aborted))
    await _steer(app, act, ids, given, yes=yes, as_json=as_json)


@_command
async def cancel(app: Werk, ids: tuple[int, ...], *, yes: bool, as_json: bool, **given: Any) -> None:
    """Abort jobs that have not started, or wait for their next attempt."""
    act = _Act("cancel", app.cancel_job, app.bulk_cancel_jobs, PENDING)
    await _steer(app, act, ids, given, yes=yes, as_json=as_json)


@_command
async def abort(app: Werk, ids: tuple[int, ...], *, yes: bool, as_json: bool, **given: Any) -> None:
    """Stop jobs that run: a coroutine is cancelled, a process killed."""
    act = _Act("abort", app.abort_job, app.bulk_abort_jobs, (JobStatus.Active,))
    await _steer(app, act, ids, given, yes=yes, as_json=as_json)


@_command
async def delete(app: Werk, ids: tuple[int, ...], *, yes: bool, as_json: bool, **given: Any) -> None:
    """Delete jobs that do not run, and everything about them."""
    act = _Act("delete", app.delete_job, app.bulk_delete_jobs, (*PENDING, *FINAL))
    await _steer(app, act, ids, given, yes=yes, as_json=as_json)


@click.command()
@click.argument("statuses", nargs=-1, required=True, type=click.Choice([*map(str, FINAL)]))
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", required=True, help="since they ended")
@yes
@as_json
@on_app
async def purge(app: Werk, statuses: tuple[str, ...], older_than: float, *, yes: bool, as_json: bool) -> None:
    """Delete jobs that ended so, and at least so many days ago."""
    since = datetime.now(UTC) - timedelta(seconds=checks.days("--older-than", older_than))
    found = await _counted(app, map(JobStatus, statuses), {"completed_until": since})
    if found and not yes:
        which = f"that ended at least {older_than:g} days ago as {' or '.join(statuses)}"
        ask(f"delete {_found(found)} {which}?", as_json=as_json)
    purge = partial(app.purge_jobs, statuses, older_than)  # by the server's clock, whatever was counted by ours
    count = await _with_a_bar("purge", found, purge) if found or yes else 0
    say(f"deleted {number_of(count)}", as_json=as_json, jobs=count)


async def _steer(
    app: Werk, act: _Act, ids: tuple[int, ...], given: dict[str, Any], *, yes: bool, as_json: bool
) -> None:
    filters = filters_of(given)
    if bool(ids) == bool(filters):
        raise InvalidOption(f"say which jobs to {act.name}: their ids, or options that find them")
    if ids:
        await _steer_named(act, ids, as_json=as_json)
    else:
        await _steer_found(app, act, filters, yes=yes, as_json=as_json)


async def _steer_named(act: _Act, ids: tuple[int, ...], *, as_json: bool) -> None:
    ids = tuple(dict.fromkeys(ids))
    done = [number for number in ids if await act.one(number)]
    words = f"{act.name}: {len(done)} of {number_of(len(ids))}{_left(ids, done)}"
    say(words, as_json=as_json, jobs=len(done), ids=done)
    if len(done) < len(ids):
        raise SystemExit(Exit.No)


async def _steer_found(app: Werk, act: _Act, filters: Filters, *, yes: bool, as_json: bool) -> None:
    found = await _counted(app, act.states, filters)
    if found and not yes:
        ask(f"{act.name} {_found(found)}?", as_json=as_json)
    count = await _with_a_bar(act.name, found, partial(act.many, **filters)) if found else 0
    say(f"{act.name}: {number_of(count)}", as_json=as_json, jobs=count)


async def _with_a_bar(name: str, found: int, many: Many) -> int:
    with click.progressbar(length=found, label=name, file=sys.stderr, hidden=not is_terminal(sys.stderr)) as bar:

        def advance(count: int) -> None:
            """Beyond what was counted the end moves along."""
            bar.length = max(found, bar.pos + count)
            bar.update(count)

        return await many(on_batch=advance)


def _found(jobs: int) -> str:
    return number_of(jobs) if jobs < MOST_FOUND else f"{MOST_FOUND} or more jobs"


def _left(ids: Iterable[int], done: Iterable[int]) -> str:
    left = sorted(set(ids) - set(done))
    return f"; the others are in another state, or gone: {', '.join(map(str, left))}" if left else ""


async def _counted(app: Werk, states: Iterable[JobStatus], filters: Filters) -> int:
    """Those that the filters find now, as far as anybody wants to count."""
    asked = filters.get("status")
    chosen = [state for state in states if asked in (None, state)]
    wanted: list[Filters] = [{**filters, "status": state} for state in chosen]
    counts = [len(await app.list_ids(limit=MOST_FOUND, **each)) for each in wanted]
    return min(sum(counts), MOST_FOUND)
